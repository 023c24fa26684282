//! Our rendering against Typst alone, on one thread.
//!
//! `cargo bench -p anklang-render` prints the time per letter of both and fails if
//! ours is more than a tenth slower. "Typst alone" is what a program does that
//! calls Typst in a loop the straightforward way: a library with the inputs, a
//! compilation, an export, caches swept as Typst's own `watch` command does.
//! Ours converts the data, hashes the result and sweeps its caches on top.
//!
//! Both run in turns, so that a busy machine slows both alike.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anklang_render::document::inputs;
use anklang_render::model::OfferData;
use anklang_render::{DocumentTemplate, shipped};
use typst::diag::{FileError, FileResult};
use typst::foundations::{Bytes, Datetime, Dict};
use typst::syntax::{FileId, RootedPath, Source, VirtualPath, VirtualRoot};
use typst::text::{Font, FontBook};
use typst::utils::LazyHash;
use typst::{Library, LibraryExt, World, comemo};
use typst_kit::fonts::{FontStore, embedded};
use typst_layout::PagedDocument;
use typst_pdf::PdfOptions;

const TURNS: usize = 12;
const LETTERS_PER_TURN: usize = 50;

/// Sweep age of Typst's command line tool.
const TYPST_SWEEP_AGE: usize = 10;

fn main() -> ExitCode {
    let template = DocumentTemplate::compile(shipped::OFFER_LETTER_DE).expect("it is checked");
    let typst = TypstAlone::new();
    let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
    for turn in 0..=TURNS {
        let letters: Vec<_> = (0..LETTERS_PER_TURN).map(|n| letter(turn, n)).collect();
        let our_turn = time(|| {
            for data in &letters {
                template.render(data).expect("the letter renders");
            }
        });
        let their_turn = time(|| {
            for data in &letters {
                typst.render(data);
                comemo::evict(TYPST_SWEEP_AGE);
            }
        });
        if turn > 0 {
            // The first turn loads fonts and fills caches.
            ours += our_turn;
            theirs += their_turn;
        }
    }
    let per_letter =
        |total: Duration| total.as_secs_f64() * 1e3 / (TURNS * LETTERS_PER_TURN) as f64;
    let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
    println!("ours        {:.2} ms per letter", per_letter(ours));
    println!("Typst alone {:.2} ms per letter", per_letter(theirs));
    println!("ratio       {ratio:.2} (1 = as fast as Typst alone, at least 0.90 wanted)");
    if ratio >= 0.9 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// A letter that differs from all others where real ones do.
fn letter(turn: usize, index: usize) -> OfferData {
    let mut data = OfferData::sample();
    let number = turn * LETTERS_PER_TURN + index;
    data.offer.number = format!("A-2026-{number:06}");
    data.offer.annual_quantity_kwh = (2_000 + number).into();
    data.offer.annual_amount = data.offer.base_price_per_year
        + data.offer.unit_price_per_kwh * data.offer.annual_quantity_kwh;
    data.customer.number = format!("{}", 100_000 + number);
    data.customer.last_name = format!("Müller-{number}");
    data.customer.house_number = format!("{number}");
    data.contract.number = format!("V-{number}");
    data.customer = data.customer.with_salutation_line();
    data
}

struct TypstAlone {
    fonts: FontStore,
    sources: Vec<Source>,
}

impl TypstAlone {
    fn new() -> Self {
        let mut fonts = FontStore::new();
        fonts.extend(embedded());
        let source = |path: &str, text: &str| {
            let path = VirtualPath::new(path).expect("the path is valid");
            let id = RootedPath::new(VirtualRoot::Project, path).intern();
            Source::new(id, text.to_owned())
        };
        let sources = vec![
            source("/alone.typ", shipped::OFFER_LETTER_DE),
            source(
                "/anklang/de.typ",
                include_str!("../templates/anklang/de.typ"),
            ),
            source(
                "/anklang/din5008.typ",
                include_str!("../templates/anklang/din5008.typ"),
            ),
        ];
        Self { fonts, sources }
    }

    fn render(&self, data: &OfferData) -> Vec<u8> {
        let dict: Dict = inputs(data).expect("the data can be shown");
        let library = LazyHash::new(Library::builder().with_inputs(dict).build());
        let world = AloneWorld {
            alone: self,
            library,
        };
        let document = typst::compile::<PagedDocument>(&world)
            .output
            .expect("it compiles");
        typst_pdf::pdf(&document, &PdfOptions::default()).expect("it can be exported")
    }
}

struct AloneWorld<'a> {
    alone: &'a TypstAlone,
    library: LazyHash<Library>,
}

impl World for AloneWorld<'_> {
    fn library(&self) -> &LazyHash<Library> {
        &self.library
    }

    fn book(&self) -> &LazyHash<FontBook> {
        self.alone.fonts.book()
    }

    fn main(&self) -> FileId {
        self.alone.sources[0].id()
    }

    fn source(&self, id: FileId) -> FileResult<Source> {
        let found = self.alone.sources.iter().find(|source| source.id() == id);
        found.cloned().ok_or(FileError::AccessDenied)
    }

    fn file(&self, _: FileId) -> FileResult<Bytes> {
        Err(FileError::AccessDenied)
    }

    fn font(&self, index: usize) -> Option<Font> {
        self.alone.fonts.font(index)
    }

    fn today(&self, _: Option<typst::foundations::Duration>) -> Option<Datetime> {
        None
    }
}
