//! Our rendering against Typst alone, on one thread and on all cores; and print files.
//!
//! `cargo bench -p anklang-render` prints letters per second of both and fails if ours
//! makes less than nine tenths of what Typst alone makes. "Typst alone" is what a program
//! does that calls Typst in a loop the straightforward way: a library with the inputs, a
//! compilation, an export as PDF/A, caches swept as Typst's own `watch` command does.
//! Ours converts the data, hashes the result and sweeps its caches on top, as a launch
//! does; a launch puts documents into the store while others are being rendered.
//!
//! Both run in turns, so that a busy machine slows both alike. A share of a few percent
//! is noise: run it on a machine that does nothing else.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anklang_render::document::inputs;
use anklang_render::model::OfferData;
use anklang_render::print_file::Info;
use anklang_render::{DocumentTemplate, PrintFile, shipped};
use typst::diag::{FileError, FileResult};
use typst::foundations::{Bytes, Datetime, Dict};
use typst::syntax::{FileId, RootedPath, Source, VirtualPath, VirtualRoot};
use typst::text::{Font, FontBook};
use typst::utils::LazyHash;
use typst::{Library, LibraryExt, World, comemo};
use typst_kit::fonts::{FontStore, embedded};
use typst_layout::PagedDocument;
use typst_pdf::{PdfOptions, PdfStandard, PdfStandards, Timestamp};

const TURNS: usize = 12;
const LETTERS_PER_TURN: usize = 50;

/// Sweep age of Typst's command line tool.
const TYPST_SWEEP_AGE: usize = 10;

fn main() -> ExitCode {
    let template = DocumentTemplate::compile(shipped::OFFER_LETTER_DE).expect("it is checked");
    let typst = TypstAlone::new();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut fast_enough = compare(&template, &typst, 1);
    if cores > 1 {
        fast_enough &= compare(&template, &typst, cores);
    }
    print_files(&template);
    if fast_enough {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Whether ours is at least nine tenths as fast on so many threads.
fn compare(template: &DocumentTemplate, typst: &TypstAlone, threads: usize) -> bool {
    let (mut ours, mut theirs) = (Duration::ZERO, Duration::ZERO);
    for turn in 0..=TURNS {
        let letters: Vec<_> = (0..LETTERS_PER_TURN).map(|n| letter(turn, n)).collect();
        let our_turn = on_threads(threads, &letters, |data| {
            template.render(data).expect("the letter renders");
        });
        let their_turn = on_threads(threads, &letters, |data| {
            typst.render(data);
            comemo::evict(TYPST_SWEEP_AGE);
        });
        if turn > 0 {
            // The first turn loads fonts and fills caches.
            ours += our_turn;
            theirs += their_turn;
        }
    }
    let rate = |total: Duration| (TURNS * LETTERS_PER_TURN) as f64 / total.as_secs_f64();
    let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
    println!("on {threads} threads");
    println!("  ours        {:.0} letters per second", rate(ours));
    println!("  Typst alone {:.0} letters per second", rate(theirs));
    println!("  ratio       {ratio:.2} (1 = as fast as Typst alone, at least 0.90 wanted)");
    ratio >= 0.9
}

/// Does something with each letter, shared out among threads.
fn on_threads(threads: usize, letters: &[OfferData], work: impl Fn(&OfferData) + Sync) -> Duration {
    let next = AtomicUsize::new(0);
    time(|| {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(data) = letters.get(next.fetch_add(1, Ordering::Relaxed)) {
                        work(data);
                    }
                });
            }
        });
    })
}

/// Copies letters into a print file, on one thread as a bundle does.
fn print_files(template: &DocumentTemplate) {
    let render = |n| template.render(&letter(0, n)).expect("the letter renders");
    let letters: Vec<_> = (0..LETTERS_PER_TURN).map(render).collect();
    let single: usize = letters.iter().map(|pdf| pdf.bytes.len()).sum();
    let info = Info {
        title: "Ökostrom".into(),
        date: OfferData::sample().offer.date,
    };
    let (mut out, mut size) = (Vec::new(), 0);
    let mut file = PrintFile::new(info, &mut out);
    let took = time(|| {
        for pdf in letters.iter().cycle().take(LETTERS_PER_TURN * TURNS) {
            let added = file.add(pdf.bytes.clone(), pdf.standard, &mut out);
            added.expect("a letter can be copied");
            size = file.size();
            out.clear();
        }
    });
    println!("print files");
    println!(
        "  {:.0} letters per second, {} bytes of a letter of {} are new",
        (TURNS * LETTERS_PER_TURN) as f64 / took.as_secs_f64(),
        size / (TURNS * LETTERS_PER_TURN) as u64,
        single / LETTERS_PER_TURN,
    );
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
        let options = PdfOptions {
            timestamp: Datetime::from_ymd_hms(2026, 11, 2, 0, 0, 0).map(Timestamp::new_utc),
            standards: PdfStandards::new(&[PdfStandard::A_2b]).expect("there is one"),
            ..PdfOptions::default()
        };
        typst_pdf::pdf(&document, &options).expect("it can be exported")
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
