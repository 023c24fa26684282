//! PDF documents from Typst templates.
//!
//! A template finds the fields of [`OfferData`] in `sys.inputs` and can import
//! `/anklang/de.typ` (German numbers and dates) and `/anklang/din5008.typ` (the
//! business letter). It has the fonts that Typst embeds: Libertinus Serif, New
//! Computer Modern, DejaVu Sans Mono.
//!
//! # Archives
//! Documents are PDF/A-2b: what is shown is in the file, fonts and colours included, and
//! nothing that a reader decades from now might not have. Of the parts of PDF/A the second
//! is the newest that archives and printers take everywhere and that allows transparency;
//! level b asks nothing of templates that Typst does not do by itself (a and u ask for
//! alternative texts and for the meaning of every glyph). A document that cannot be one,
//! as when a name has a character that no font has, is plain PDF 1.7 and says so
//! ([`Pdf::standard`]): a customer with such a name gets an offer as well.
//!
//! # Guarantees
//! - **Deterministic**: the same template and data give the same bytes. The PDF's
//!   creation date is the offer's date, its identifier a hash of template and data.
//! - **Data is not code**: values reach the template as values, and `eval` is not
//!   there to change that.
//! - **Sealed**: no files, packages, network, clock or WebAssembly.
//! - **Bounded**: at most [`MAX_PAGES`] pages and [`MAX_PDF_BYTES`] bytes.
//! - **Parallel**: rendering takes `&self` and shares parsed sources, fonts and
//!   the standard library between all threads.
//! - **Bounded memory** over any number of documents: Typst's caches are swept
//!   every [`SWEEP_INTERVAL`] documents, keeping what all of them share.
//!
//! # Limits, and what remains
//! Typst stops a `while` loop after 10,000 rounds, calls deeper than 80, show
//! rules deeper than 64, layout deeper than 72, source nested deeper than 256,
//! and layout that does not settle after five passes; a panic inside of Typst
//! becomes [`RenderError::Engine`]. What Typst cannot do is stop after a time or
//! an amount of memory: nested loops, recursion that branches, or
//! `range(1000000000)` run as long and grow as large as they are written, and a
//! thread cannot be killed. Every template is rendered with samples when it is
//! compiled, and one that is written so shows itself there. One that loops over
//! its data does not: `range` of a contract's quantity ends with the samples, and
//! not with every contract. Whoever renders sets the time: it waits for its thread
//! no longer than that, and begins no others with that template. The memory of a
//! document stays unbounded: whoever accepts templates from people it does not
//! trust gives the process a limit of memory.
//! Every distinct path that a template tries to import takes one of 65,535 file
//! ids for the life of the process, so templates with literal paths other than
//! the modules above are refused before they run.

mod data;
mod diagnostics;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};
use typst::comemo;
use typst::diag::{SourceResult, Warned};
use typst::foundations::{Datetime, Smart};
use typst::syntax::Source;
use typst_layout::PagedDocument;
use typst_pdf::{PdfOptions, PdfStandard, PdfStandards, Timestamp};

use crate::error::{Part, RenderError, TemplateError};
use crate::model::OfferData;
pub use data::inputs;
use diagnostics::{errors, refused_imports};
use world::DocumentWorld;

/// Documents between two sweeps of Typst's caches. One letter leaves 2.6 MB behind,
/// so that with the sweeps that entries survive the caches hold some 60 MB; at 32
/// documents they held 300 MB.
pub const SWEEP_INTERVAL: usize = 8;

/// Sweeps that an unused cache entry survives.
const SWEEPS_SURVIVED: usize = 2;

/// The most pages of a document; a letter has two.
pub const MAX_PAGES: usize = 200;

/// The most bytes of a document: 16 MiB. A letter has some 50 KB.
pub const MAX_PDF_BYTES: usize = 16 * 1024 * 1024;

static RENDERED: AtomicUsize = AtomicUsize::new(0);

static ARCHIVAL: LazyLock<PdfStandards> = LazyLock::new(|| {
    PdfStandards::new(&[PdfStandard::A_2b]).expect("a single standard goes with itself")
});

/// What a PDF conforms to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standard {
    /// PDF/A-2b, ISO 19005-2: complete in itself, for archives.
    Archival,
    /// PDF 1.7, ISO 32000-1.
    Plain,
}

impl Standard {
    /// Its usual name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Archival => "PDF/A-2b",
            Self::Plain => "PDF 1.7",
        }
    }
}

/// A finished document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pdf {
    /// The PDF file.
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`.
    pub sha256: [u8; 32],
    /// Number of pages, at least 1.
    pub pages: usize,
    /// What it conforms to.
    pub standard: Standard,
}

/// A checked document template. Cheap to clone, safe to share between threads.
#[derive(Debug, Clone)]
pub struct DocumentTemplate {
    source: Source,
    warnings: Vec<TemplateError>,
}

impl DocumentTemplate {
    /// Parses the source and renders it with [`OfferData::samples`].
    ///
    /// # Errors
    /// All syntax errors, or else whatever Typst reports for the samples, ordered
    /// by line and column. An error inside of an imported module is reported where
    /// the template calls it; one without any place at line 1, column 1.
    pub fn compile(typst_source: &str) -> Result<Self, Vec<TemplateError>> {
        if let Some(error) = TemplateError::too_long(Part::TypstSource, typst_source) {
            return Err(vec![error]);
        }
        let source = world::parse(typst_source);
        let refused = refused_imports(&source);
        if !refused.is_empty() {
            return Err(refused);
        }
        let mut template = Self {
            source,
            warnings: Vec::new(),
        };
        let mut found = Vec::new();
        for sample in OfferData::samples() {
            match template.check(&sample) {
                Ok(warnings) => template.warnings.extend(warnings),
                Err(errors) => found.extend(errors),
            }
        }
        if !found.is_empty() {
            return Err(unique(found));
        }
        template.warnings = unique(template.warnings);
        Ok(template)
    }

    /// What Typst warned about when the template was checked, for example a font
    /// that is not there; and why its documents cannot be PDF/A.
    #[must_use]
    pub fn warnings(&self) -> &[TemplateError] {
        &self.warnings
    }

    /// Renders one document. Takes milliseconds of computation: call it from a
    /// thread that may block, from as many threads as there are cores.
    ///
    /// # Errors
    /// [`RenderError::Template`] if the template fails with this data or makes a document
    /// that is too large,
    /// [`RenderError::Data`] if a value cannot be shown, [`RenderError::Engine`]
    /// if Typst panicked.
    pub fn render(&self, data: &OfferData) -> Result<Pdf, RenderError> {
        let (ident, timestamp) = (self.identifier(data)?, creation_time(data)?);
        let options = |standards: &PdfStandards| PdfOptions {
            ident: Smart::Custom(ident.clone()),
            timestamp: Some(Timestamp::new_utc(timestamp)),
            creator: Smart::Custom(Some("Anklang".to_owned())),
            standards: standards.clone(),
            ..PdfOptions::default()
        };
        let world = DocumentWorld::new(&self.source, inputs(data)?);
        let result = guarded(|| -> SourceResult<_> {
            let document = typst::compile::<PagedDocument>(&world).output?;
            if document.pages().len() > MAX_PAGES {
                return Ok((Vec::new(), document.pages().len(), Standard::Plain));
            }
            let (bytes, standard) = match typst_pdf::pdf(&document, &options(&ARCHIVAL)) {
                Ok(bytes) => (bytes, Standard::Archival),
                Err(_) => {
                    let plain = options(&PdfStandards::default());
                    (typst_pdf::pdf(&document, &plain)?, Standard::Plain)
                }
            };
            Ok((bytes, document.pages().len(), standard))
        });
        sweep();
        let (bytes, pages, standard) =
            result?.map_err(|diagnostics| RenderError::Template(errors(&world, &diagnostics)))?;
        check_size(pages, bytes.len()).map_err(|error| RenderError::Template(vec![error]))?;
        Ok(Pdf {
            sha256: Sha256::digest(&bytes).into(),
            bytes,
            pages,
            standard,
        })
    }

    /// The warnings for one sample, or its errors.
    fn check(&self, sample: &OfferData) -> Result<Vec<TemplateError>, Vec<TemplateError>> {
        let whole = |error: RenderError| match error {
            RenderError::Template(errors) => errors,
            other => vec![TemplateError::at(
                Part::TypstSource,
                "",
                0,
                other.to_string(),
            )],
        };
        let world = DocumentWorld::new(&self.source, inputs(sample).map_err(whole)?);
        let Warned { output, warnings } =
            guarded(|| typst::compile::<PagedDocument>(&world)).map_err(whole)?;
        let document = output.map_err(|diagnostics| errors(&world, &diagnostics))?;
        let pages = document.pages().len();
        check_size(pages, 0).map_err(|error| vec![error])?;
        let export = |standards: &PdfStandards| {
            let options = PdfOptions {
                timestamp: creation_time(sample).ok().map(Timestamp::new_utc),
                standards: standards.clone(),
                ..PdfOptions::default()
            };
            guarded(|| typst_pdf::pdf(&document, &options)).map_err(whole)
        };
        let mut warnings = errors(&world, &warnings);
        let bytes = match export(&ARCHIVAL)? {
            Ok(bytes) => bytes,
            // It may be good enough without: see the module's documentation.
            Err(diagnostics) => {
                warnings.extend(errors(&world, &diagnostics));
                export(&PdfStandards::default())?
                    .map_err(|diagnostics| errors(&world, &diagnostics))?
            }
        };
        check_size(pages, bytes.len()).map_err(|error| vec![error])?;
        Ok(warnings)
    }

    /// Identifies the document by what it is made of.
    fn identifier(&self, data: &OfferData) -> Result<String, RenderError> {
        let data = serde_json::to_vec(data).map_err(|e| RenderError::Data(e.to_string()))?;
        let mut hash = Sha256::new();
        hash.update(Sha256::digest(self.source.text()));
        hash.update(data);
        Ok(hash
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }
}

/// The error of a document that is too large, if it is.
fn check_size(pages: usize, bytes: usize) -> Result<(), TemplateError> {
    let message = if pages > MAX_PAGES {
        format!("the document has more than {MAX_PAGES} pages")
    } else if bytes > MAX_PDF_BYTES {
        format!("the document has more than {MAX_PDF_BYTES} bytes")
    } else {
        return Ok(());
    };
    Err(TemplateError::at(Part::TypstSource, "", 0, message))
}

/// Midnight (UTC) of the offer's date.
fn creation_time(data: &OfferData) -> Result<Datetime, RenderError> {
    let day = data::datetime(data.offer.date)?;
    day.year()
        .zip(day.month())
        .zip(day.day())
        .and_then(|((year, month), day)| Datetime::from_ymd_hms(year, month, day, 0, 0, 0))
        .ok_or_else(|| RenderError::Data(format!("date {} is out of range", data.offer.date)))
}

/// Keeps a panic in one document from taking its thread with it. Typst's state
/// that outlives a call are caches, whose entries are written when complete.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, RenderError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        RenderError::Engine(text.unwrap_or("panic").to_owned())
    })
}

/// Counts a document and sweeps the caches when it is time. What was not used
/// since the sweep before the last one goes; fonts, modules and the layout of
/// text that all letters share stay.
fn sweep() {
    let count = RENDERED.fetch_add(1, Ordering::Relaxed);
    if count % SWEEP_INTERVAL == SWEEP_INTERVAL - 1 {
        comemo::evict(SWEEPS_SURVIVED);
    }
}

fn unique(mut errors: Vec<TemplateError>) -> Vec<TemplateError> {
    errors.sort();
    errors.dedup();
    errors
}

#[cfg(test)]
mod tests;
