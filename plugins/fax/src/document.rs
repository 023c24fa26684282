//! From the document of a message to pages that a fax can send.
//!
//! A PDF is drawn by Ghostscript as a process of its own, with bounds on time, memory and the size of
//! what it writes, without the environment of the host, and without any file but the one that it is
//! given (`-dSAFER`). A TIFF goes as it is, if [`tiff::check`] finds it fit.
//!
//! Why not in Rust: pure renderers of PDF are young, and whoever sends an offer by fax wants the same
//! picture that everybody else's fax server makes of it. Why not leave it to HylaFAX, which has the
//! same Ghostscript: a document that cannot be drawn, or has too many pages, is told here, before
//! anything is submitted, and the pages can be counted. The price is a process of some 50 ms for
//! each fax, which then takes a minute on the telephone.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anklang_plugin_sdk::{Attachment, Outcome, Reason};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::tiff::{self, Checked, Refused, Resolution, WIDTH};

/// Largest file that Ghostscript may write: many more than the pages of one fax.
const LARGEST_FILE: u64 = 256 << 20;

/// How documents are made ready.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConvertOptions {
    /// Ghostscript: a path, or a name to be looked for.
    #[serde(default = "default_program")]
    program: PathBuf,
    /// Longest time for one document, in seconds.
    #[serde(default = "default_seconds")]
    #[schemars(range(min = 1, max = 600))]
    seconds: u32,
    /// Most memory for one document, in MiB.
    #[serde(default = "default_memory")]
    #[schemars(range(min = 128, max = 16_384))]
    memory_mib: u32,
    /// Documents at the same time.
    #[serde(default = "default_at_once")]
    #[schemars(range(min = 1, max = 64))]
    at_once: u32,
}

fn default_program() -> PathBuf {
    "gs".into()
}

fn default_seconds() -> u32 {
    60
}

fn default_memory() -> u32 {
    1024
}

fn default_at_once() -> u32 {
    2
}

impl Default for ConvertOptions {
    fn default() -> Self {
        Self {
            program: default_program(),
            seconds: default_seconds(),
            memory_mib: default_memory(),
            at_once: default_at_once(),
        }
    }
}

/// Makes documents ready.
pub(crate) struct Converter {
    program: PathBuf,
    patience: Duration,
    memory: u64,
    resolution: Resolution,
    max_pages: u32,
    places: Semaphore,
}

/// Pages that a fax can send.
pub(crate) struct Pages {
    pub(crate) tiff: Vec<u8>,
    pub(crate) checked: Checked,
}

impl Converter {
    pub(crate) fn new(options: ConvertOptions, resolution: Resolution, max_pages: u32) -> Self {
        Self {
            program: options.program,
            patience: Duration::from_secs(options.seconds.max(1).into()),
            memory: u64::from(options.memory_mib.max(128)) << 20,
            resolution,
            max_pages,
            places: Semaphore::new(options.at_once.max(1) as usize),
        }
    }

    /// Makes pages of a document; an error is the outcome of the message.
    pub(crate) async fn pages(&self, document: &Attachment) -> Result<Pages, Outcome> {
        let tiff = match sort(document)? {
            Sort::Tiff => document.content.clone(),
            Sort::Pdf => {
                let _place = self.places.acquire().await.expect("is never closed");
                self.draw(&document.content).await?
            }
        };
        let checked = tiff::check(&tiff, self.max_pages).map_err(|refused| match refused {
            Refused::TooManyPages => too_many_pages(self.max_pages),
            Refused::Unfit(why) => unreadable(format!("the document cannot be sent: {why}")),
        })?;
        Ok(Pages { tiff, checked })
    }

    /// Whether Ghostscript can be run.
    pub(crate) async fn probe(&self) -> Result<(), String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let mut command = Command::new(&self.program);
        command.arg("--version");
        let run = self.run(command, folder.path()).await;
        match run {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("Ghostscript: {status}")),
            Err(NotRun::NotStarted(error)) => Err(format!("Ghostscript: {error}")),
            Err(NotRun::TooLong) => Err("Ghostscript does not answer".to_owned()),
        }
    }

    async fn draw(&self, pdf: &[u8]) -> Result<Vec<u8>, Outcome> {
        let disk = |error: io::Error| Outcome::transient("CONVERT", format!("no folder: {error}"));
        let folder = tempfile::tempdir().map_err(disk)?;
        let (input, output) = (folder.path().join("in.pdf"), folder.path().join("out.tif"));
        tokio::fs::write(&input, pdf).await.map_err(disk)?;
        let mut command = Command::new(&self.program);
        command
            .args(["-q", "-dBATCH", "-dNOPAUSE", "-dSAFER", "-dPDFSTOPONERROR"])
            // One strip for each page, as HylaFAX wants it.
            .args(["-sDEVICE=tiffg4", "-dMaxStripSize=0"])
            .arg(format!("-r204x{}", self.resolution.lines()))
            .arg(format!("-g{WIDTH}x{}", self.resolution.page()))
            .args(["-dFIXEDMEDIA", "-dPDFFitPage"])
            // One more than allowed is enough to know.
            .arg(format!("-dLastPage={}", self.max_pages.saturating_add(1)))
            .arg(format!("-sOutputFile={}", output.display()))
            .arg("-f")
            .arg(&input);
        match self.run(command, folder.path()).await {
            Ok(status) if status.success() => tokio::fs::read(&output)
                .await
                .map_err(|_| unreadable("the document has no pages".to_owned())),
            Ok(status) if status.code().is_some() => Err(unreadable(format!(
                "Ghostscript cannot read the document: {status}"
            ))),
            // The machine ended it, or a bound did.
            Ok(status) => Err(Outcome::transient(
                "CONVERT",
                format!("Ghostscript: {status}"),
            )),
            Err(NotRun::NotStarted(error)) => Err(Outcome::transient(
                "CONFIG",
                format!("Ghostscript: {error}"),
            )),
            Err(NotRun::TooLong) => Err(Outcome::transient(
                "CONVERT",
                format!("Ghostscript was not done within {:?}", self.patience),
            )),
        }
    }

    async fn run(&self, mut command: Command, folder: &Path) -> Result<ExitStatus, NotRun> {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TMPDIR", folder)
            .current_dir(folder)
            .stdin(Stdio::null())
            // It says on both what it thinks of the document: not for logs.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(NotRun::NotStarted)?;
        self.bound(&child).map_err(NotRun::NotStarted)?;
        match timeout(self.patience, child.wait()).await {
            Ok(status) => status.map_err(NotRun::NotStarted),
            Err(_) => Err(NotRun::TooLong),
        }
    }

    /// Bounds memory, computing time and files of a process that has just begun.
    fn bound(&self, child: &Child) -> io::Result<()> {
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        // It is over already.
        let Some(pid) = pid else { return Ok(()) };
        let limits = [
            (Resource::As, self.memory),
            (Resource::Cpu, self.patience.as_secs()),
            (Resource::Fsize, LARGEST_FILE),
            (Resource::Core, 0),
        ];
        for (resource, most) in limits {
            let limit = Rlimit {
                current: Some(most),
                maximum: Some(most),
            };
            match prlimit(Some(pid), resource, limit) {
                Ok(_) => {}
                // Not yet waited for, but over.
                Err(rustix::io::Errno::SRCH) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

enum NotRun {
    NotStarted(io::Error),
    TooLong,
}

/// What documents there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Pdf,
    Tiff,
}

/// What a document is, by what it says and by what it is: a PostScript program that claims to be a
/// PDF would be run by Ghostscript.
pub(crate) fn sort(document: &Attachment) -> Result<Sort, Outcome> {
    let said = document.media_type.split(';').next().unwrap_or_default();
    let is_tiff = |start: &[u8]| start.starts_with(b"II*\0") || start.starts_with(b"MM\0*");
    match said.trim().to_ascii_lowercase().as_str() {
        "application/pdf" if document.content.starts_with(b"%PDF-") => Ok(Sort::Pdf),
        "image/tiff" if is_tiff(&document.content) => Ok(Sort::Tiff),
        "application/pdf" | "image/tiff" => Err(unreadable(
            "the document is not what it says to be".to_owned(),
        )),
        _ => Err(Outcome::permanent(
            Reason::Content,
            "MEDIA_TYPE_INVALID",
            "the document is neither application/pdf nor image/tiff",
        )),
    }
}

pub(crate) fn too_many_pages(most: u32) -> Outcome {
    Outcome::permanent(
        Reason::Content,
        "TOO_MANY_PAGES",
        format!("the document has more than {most} pages"),
    )
}

pub(crate) fn unreadable(detail: String) -> Outcome {
    Outcome::permanent(Reason::Content, "UNREADABLE", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment(media_type: &str, content: &[u8]) -> Attachment {
        Attachment {
            filename: "Angebot".to_owned(),
            media_type: media_type.to_owned(),
            content: content.to_vec(),
        }
    }

    #[test]
    fn documents_are_what_they_say() {
        for (media_type, content, sort_of) in [
            ("application/pdf", &b"%PDF-1.7"[..], Ok(Sort::Pdf)),
            ("Application/PDF; version=1.7", b"%PDF-1.7", Ok(Sort::Pdf)),
            ("image/tiff", b"II*\0", Ok(Sort::Tiff)),
            ("image/tiff", b"MM\0*", Ok(Sort::Tiff)),
            ("application/pdf", b"%!PS (x) run", Err("UNREADABLE")),
            ("image/tiff", b"%PDF-1.7", Err("UNREADABLE")),
            ("application/postscript", b"%!PS", Err("MEDIA_TYPE_INVALID")),
        ] {
            let found = sort(&attachment(media_type, content));
            match (found, sort_of) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(outcome), Err(code)) => {
                    assert!(format!("{outcome:?}").contains(code), "{outcome:?}");
                }
                (found, expected) => panic!("{found:?}, not {expected:?}"),
            }
        }
    }
}
