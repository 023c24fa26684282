//! `anklang audit`: exports the audit log, and checks its chain on this side of the server.

mod line;
mod part;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anklang_domain::TenantId;
use anklang_domain::audit::{Entry, Head};
use anklang_proto::anklang::audit::v1 as pb;
use anyhow::Context;
use chrono::{SecondsFormat, Utc};
use pb::audit_service_client::AuditServiceClient;
use tempfile::Builder;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};

use super::client::call::refusal;
use super::client::text::{clean, clean_json, clean_lines};
use super::client::{self, AuditList};
use super::import::Broken;
use super::server_args::{Connection, ServerArgs};
use crate::grpc::TENANT_KEY;
use line::{Line, digest};
use part::{Part, Since, since};

/// The chain is broken.
const EXIT_BROKEN: u8 = 1;
/// The log could not be read to its end.
const EXIT_FAILED: u8 = 2;
/// There are no entries, so nothing was checked.
const EXIT_EMPTY: u8 = 3;
/// Sealing takes a second or two; after so many seconds nobody seems to do it.
const UNSEALED: i64 = 60;
/// What whoever gives no head has not found out.
const UNCOMPARED: &str = "not compared with a noted head (--head): whether its end was cut off, or all of it made \
                          anew, was not checked";
/// What whoever gives the head of an entry that is gone has not found out.
const GONE: &str = "not compared with the noted head (--head): its entry went as it was old; compare with a later one";
/// What whoever gives the head of an entry before the part that was checked has not found out.
const NOT_LOOKED_AT: &str =
    "not compared with the noted head (--head): its entry is before those that were checked";
/// So many calls without an entry more, and reading is given up.
const TRIES: u32 = 8;
/// The wait before another call.
const WAIT: Duration = Duration::from_secs(2);

/// List and export the audit log, and check that nothing in it was changed (docs/audit.md).
#[derive(clap::Subcommand)]
pub enum AuditCommand {
    // What it says of itself stands with the other commands that call a server.
    #[command(name = "list")]
    List(AuditList),
    /// Write all sealed entries as JSON, one on each line.
    Export(ExportArgs),
    /// Check the chain of a server's log, or of an exported file, from its beginning.
    ///
    /// Tells how many entries of which tenant there are and the head to be noted, or the first entry that is broken
    /// and why. Exit code: 0 the chain is whole, 1 it is broken, 2 the log could not be read, 3 it has no entries, 64
    /// wrong usage.
    Verify(VerifyArgs),
}

// No doc comments: they would be those of the commands.
#[derive(clap::Args)]
pub struct ExportArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The tenant, by its slug.
    #[arg(long, env = "ANKLANG_TENANT")]
    tenant: String,
    /// Where to, a file that is there when it is whole; otherwise to standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// The tenant, by its slug.
    #[arg(long, env = "ANKLANG_TENANT", required_unless_present = "file")]
    tenant: Option<String>,
    /// A head that was noted: the chain must lead to it.
    #[arg(long, value_name = "SEQ:HASH", value_parser = head)]
    head: Option<Head>,
    /// Only from this entry on, by its number, or from the first one of this time on (2027-01-31T10:00:00+01:00); the
    /// hash before it is taken for granted.
    #[arg(long, value_name = "SEQ|TIME", value_parser = since)]
    from: Option<Since>,
    /// An exported file; otherwise what the server has is checked.
    file: Option<PathBuf>,
}

fn head(text: &str) -> Result<Head, String> {
    let parts = text.split_once(':').and_then(|(seq, hash)| {
        let seq = seq.parse().ok().filter(|seq: &i64| *seq >= 0)?;
        let hash = digest(hash).ok()?;
        Some(Head { seq, hash })
    });
    parts.ok_or_else(|| "must be a number, a colon and 64 hexadecimal digits".to_owned())
}

/// Runs the command.
pub async fn run(command: AuditCommand) -> anyhow::Result<ExitCode> {
    let code = match command {
        AuditCommand::List(AuditList(asked)) => return client::run(asked).await,
        AuditCommand::Export(args) => export(args).await.map(|()| ExitCode::SUCCESS),
        AuditCommand::Verify(args) => verify(args).await,
    };
    Ok(code.unwrap_or_else(|error| {
        eprintln!("anklang: {}", clean_lines(&format!("{error:#}")));
        ExitCode::from(EXIT_FAILED)
    }))
}

async fn export(args: ExportArgs) -> anyhow::Result<()> {
    let Some(path) = &args.out else {
        return write(&args, &mut BufWriter::new(std::io::stdout())).await;
    };
    // A link stays one.
    let path = path.canonicalize().unwrap_or_else(|_| path.clone());
    let at = || path.display().to_string();
    anyhow::ensure!(!path.exists() || path.is_file(), "{} is no file", at());
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // Beside it, so that it can be renamed; until then what was there stays.
    let file = Builder::new().prefix(".audit-").tempfile_in(folder);
    let mut file = file.with_context(at)?;
    write(&args, &mut BufWriter::new(&mut file)).await?;
    file.as_file().sync_all().with_context(at)?;
    file.persist(&path).map_err(|e| e.error).with_context(at)?;
    let folder = File::open(folder).and_then(|folder| folder.sync_all());
    folder.with_context(at)
}

/// Writes all sealed entries.
async fn write(args: &ExportArgs, out: &mut impl Write) -> anyhow::Result<()> {
    read_server(&args.server, &args.tenant, 0, &mut |entry| {
        let line = serde_json::to_string(&Line::of(entry)?)?;
        writeln!(out, "{}", clean_json(&line))?;
        Ok(true)
    })
    .await?;
    out.flush()?;
    Ok(())
}

async fn verify(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let mut part = Part::new(args.from, args.head);
    let mut found = Ok(());
    match (&args.file, &args.tenant) {
        (Some(path), _) => {
            read_file(path, |read| {
                found = part.look(read);
                found.is_ok()
            })
            .with_context(|| path.display().to_string())?;
        }
        (None, Some(tenant)) => {
            // From the entry before on, whose hash the first one follows.
            let after = match args.from {
                Some(since) => first_of(&args.server, tenant, since)
                    .await?
                    .saturating_sub(2),
                None => 0,
            };
            read_server(&args.server, tenant, after, &mut |entry| {
                found = part.look(Line::of(entry)?.read());
                Ok(found.is_ok())
            })
            .await?;
            match newest(&args.server, tenant).await {
                Ok(newest) => {
                    let warning = warning(&newest, Utc::now().timestamp());
                    warning.into_iter().for_each(|said| eprintln!("{said}"));
                }
                Err(error) => {
                    let error = clean_lines(&format!("{error:#}"));
                    eprintln!("whether all is sealed is not known: {error}");
                }
            }
        }
        (None, None) => anyhow::bail!("a file or a tenant is needed"),
    }
    let (check, before) = part.checked();
    let (tenant, removed) = (check.tenant(), check.removed());
    let head = match found.and_then(|()| check.finish().map_err(|broken| broken.to_string())) {
        Ok(head) => head,
        Err(why) => {
            eprintln!("anklang: the audit log is broken: {}", clean(&why));
            return Ok(ExitCode::from(EXIT_BROKEN));
        }
    };
    let Some(TenantId(tenant)) = tenant else {
        eprintln!("anklang: the audit log has no entries");
        return Ok(ExitCode::from(EXIT_EMPTY));
    };
    let Head { seq, hash } = head;
    let gone = removed.map_or(0, |removed| removed.until.seq);
    let there = seq.saturating_sub(gone.max(before));
    match before {
        0 => println!("{there} entries of tenant {tenant}, the chain is whole"),
        _ => {
            println!("{there} entries of tenant {tenant}, the chain is whole behind entry {before}")
        }
    }
    println!("head {seq}:{}", hex::encode(hash));
    if let Some(removed) = removed {
        let at = removed.at.to_rfc3339_opts(SecondsFormat::Secs, true);
        println!(
            "entries 1 to {gone} went as they were old (audit.keep_days), as an entry of {at} says"
        );
    }
    match args.head {
        None => eprintln!("{UNCOMPARED}"),
        Some(noted) if noted.seq < gone => eprintln!("{GONE}"),
        Some(noted) if noted.seq <= before => eprintln!("{NOT_LOOKED_AT}"),
        Some(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Gives the lines of a file to `each`, while it wants more.
fn read_file(
    path: &Path,
    mut each: impl FnMut(Result<(Entry, Head), String>) -> bool,
) -> anyhow::Result<()> {
    for text in BufReader::new(File::open(path)?).lines() {
        if !each(Line::parse(&text?)) {
            break;
        }
    }
    Ok(())
}

/// Gives the sealed entries of a server behind a number to `each`, while it wants more. When the connection is lost, it
/// goes on where it was.
async fn read_server(
    server: &ServerArgs,
    tenant: &str,
    after: i64,
    each: &mut impl FnMut(pb::AuditEntry) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let connection = server.connect(None).await?;
    let slug: MetadataValue<Ascii> = tenant.parse().context("the tenant is no slug")?;
    let mut cursor = match after {
        ..=0 => String::new(),
        after => after.to_string(),
    };
    let mut tries = 0;
    loop {
        let before = cursor.clone();
        match call(&connection, &slug, &mut cursor, each).await {
            Ok(()) => return Ok(()),
            Err(Broken::Failed(error)) => return Err(error),
            Err(Broken::Lost(error)) => {
                tries = if cursor == before { tries + 1 } else { 1 };
                if tries >= TRIES {
                    return Err(error.context("the connection was lost again and again"));
                }
            }
        }
        tokio::time::sleep(WAIT).await;
    }
}

/// The number of the entry from which on is checked, of a server's log; a number that none has yet, when there is none.
async fn first_of(server: &ServerArgs, tenant: &str, since: Since) -> anyhow::Result<i64> {
    let at = match since {
        Since::Seq(seq) => return Ok(seq),
        Since::Time(at) => at.to_rfc3339_opts(SecondsFormat::Micros, true),
    };
    let connection = server.connect(None).await?;
    let slug: MetadataValue<Ascii> = tenant.parse().context("the tenant is no slug")?;
    let mut request = Request::new(pb::ListAuditEntriesRequest {
        filter: format!("create_time >= \"{at}\" AND seq > 0"),
        order_by: "seq".into(),
        page_size: 1,
        ..Default::default()
    });
    request.metadata_mut().insert(TENANT_KEY, slug);
    let listed = AuditServiceClient::new(connection)
        .list_audit_entries(request)
        .await;
    let listed = listed.map_err(|status| refusal(&status))?.into_inner();
    Ok(listed
        .audit_entries
        .first()
        .map_or(i64::MAX, |first| first.seq))
}

/// The end of a server's chain, and what is not sealed yet.
async fn newest(server: &ServerArgs, tenant: &str) -> anyhow::Result<pb::AuditHead> {
    let connection = server.connect(None).await?;
    let slug: MetadataValue<Ascii> = tenant.parse().context("the tenant is no slug")?;
    let mut request = Request::new(pb::GetAuditHeadRequest {});
    request.metadata_mut().insert(TENANT_KEY, slug);
    let mut audit = AuditServiceClient::new(connection);
    let newest = audit.get_audit_head(request).await;
    let newest = newest.map_err(|status| refusal(&status))?;
    Ok(newest.into_inner())
}

/// What is to be said when entries wait too long to be sealed.
fn warning(newest: &pb::AuditHead, now: i64) -> Option<String> {
    let oldest = newest.oldest_unsealed_time.as_ref()?.seconds;
    let age = now.saturating_sub(oldest);
    (age > UNSEALED).then(|| {
        format!(
            "{} entries are not sealed, the oldest for {age} seconds: they were not checked, and nobody seems to seal",
            newest.unsealed_count
        )
    })
}

/// One call, from the cursor on; it moves behind what `each` was given.
async fn call(
    connection: &Connection,
    tenant: &MetadataValue<Ascii>,
    cursor: &mut String,
    each: &mut impl FnMut(pb::AuditEntry) -> anyhow::Result<bool>,
) -> Result<(), Broken> {
    let mut request = Request::new(pb::ExportAuditEntriesRequest {
        cursor: cursor.clone(),
    });
    request.metadata_mut().insert(TENANT_KEY, tenant.clone());
    let mut client = AuditServiceClient::new(connection.clone());
    let parts = client.export_audit_entries(request).await;
    let mut parts = parts.map_err(Broken::of)?.into_inner();
    while let Some(part) = parts.message().await.map_err(Broken::of)? {
        for entry in part.audit_entries {
            if !each(entry)? {
                return Ok(());
            }
        }
        *cursor = part.cursor;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_too_long_to_be_sealed_is_told() {
        let newest = |oldest: Option<i64>| pb::AuditHead {
            unsealed_count: 7,
            oldest_unsealed_time: oldest.map(|seconds| prost_types::Timestamp {
                seconds,
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(warning(&newest(None), 1_000), None);
        assert_eq!(warning(&newest(Some(940)), 1_000), None);
        let said = warning(&newest(Some(900)), 1_000).expect("a warning");
        assert!(
            said.starts_with("7 entries are not sealed, the oldest for 100 seconds"),
            "{said}"
        );
    }

    #[test]
    fn heads_are_a_number_and_a_hash() {
        let hash = "0a".repeat(32);
        let read = head(&format!("17:{hash}"));
        let expected = Head {
            seq: 17,
            hash: [10; 32],
        };
        assert_eq!(read, Ok(expected));
        for wrong in [
            "",
            "17",
            "17:",
            &hash,
            &format!("-1:{hash}"),
            "17:0a",
            &format!("x:{hash}"),
        ] {
            assert!(head(wrong).is_err(), "{wrong}");
        }
    }
}
