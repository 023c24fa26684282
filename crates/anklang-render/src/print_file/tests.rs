//! Print files of real letters.

use super::*;
use crate::model::OfferData;
use crate::{DocumentTemplate, Pdf, shipped};

fn letters(count: usize) -> Vec<Pdf> {
    let template = DocumentTemplate::compile(shipped::OFFER_LETTER_DE).unwrap();
    let letter = |n: usize| {
        let mut data = OfferData::sample();
        data.offer.number = format!("A-{n:08}");
        template.render(&data).unwrap()
    };
    (1..=count).map(letter).collect()
}

fn info() -> Info {
    Info {
        title: "Ökostrom <für> alle & jeden".into(),
        date: NaiveDate::from_ymd_opt(2026, 11, 22).unwrap(),
    }
}

fn merge(letters: &[Pdf]) -> (Vec<u8>, Vec<Place>, Standard) {
    let mut out = Vec::new();
    let mut file = PrintFile::new(info(), &mut out);
    let places = letters
        .iter()
        .map(|pdf| {
            let place = file.add(pdf.bytes.clone(), pdf.standard, &mut out).unwrap();
            assert_eq!(file.size(), out.len() as u64);
            place
        })
        .collect();
    let standard = file.finish(&mut out);
    (out, places, standard)
}

fn count(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).filter(|w| w == &what).count()
}

#[test]
fn pages_follow_one_another_and_show_what_the_letters_show() {
    let letters = letters(70);
    let (bytes, places, standard) = merge(&letters);
    assert_eq!(standard, Standard::Archival);
    let mut next = 1;
    for (place, letter) in places.iter().zip(&letters) {
        assert_eq!(
            (place.first_page, place.pages as usize),
            (next, letter.pages)
        );
        next += place.pages;
    }
    let merged = Reader::new(bytes).unwrap();
    let mut pages = merged.pages().iter();
    for letter in letters {
        let single = Reader::new(letter.bytes).unwrap();
        for page in single.pages().iter() {
            let other = pages.next().unwrap();
            assert_eq!(other.page_stream(), page.page_stream());
            let size = |p: &hayro_syntax::page::Page<'_>| p.base_dimensions();
            assert_eq!(size(other), size(page));
            let fonts = |p: &hayro_syntax::page::Page<'_>| {
                let fonts: Dict<'_> = p.raw().get::<Dict<'_>>(RESOURCES)?.get(b"Font")?;
                let names = fonts.entries().map(|(name, _)| {
                    let font: Dict<'_> = fonts.get(&*name).unwrap();
                    format!(
                        "{:?} {:?}",
                        &*name,
                        font.get::<hayro_syntax::object::Name<'_>>(b"BaseFont")
                    )
                });
                Some(names.collect::<Vec<_>>())
            };
            assert!(fonts(page).is_some_and(|f| !f.is_empty()));
            assert_eq!(fonts(other), fonts(page));
        }
    }
    assert!(pages.next().is_none());
}

#[test]
fn the_file_says_that_it_is_for_archives_only_if_all_letters_are() {
    let mut letters = letters(2);
    let (bytes, ..) = merge(&letters);
    assert_eq!(count(&bytes, b"<pdfaid:part>2</pdfaid:part>"), 1);
    assert_eq!(count(&bytes, b"/GTS_PDFA1"), 1);
    assert_eq!(
        count(&bytes, "Ökostrom &lt;für&gt; alle &amp; jeden".as_bytes()),
        1
    );
    letters[1].standard = Standard::Plain;
    let (bytes, _, standard) = merge(&letters);
    assert_eq!(standard, Standard::Plain);
    assert_eq!(count(&bytes, b"pdfaid:part"), 0);
    assert_eq!(count(&bytes, b"/OutputIntents"), 0);
}

#[test]
fn the_same_letters_give_the_same_bytes_and_share_what_is_the_same() {
    let letters = letters(20);
    let (bytes, ..) = merge(&letters);
    assert_eq!(merge(&letters).0, bytes);
    let single: usize = letters.iter().map(|l| l.bytes.len()).sum();
    assert!(bytes.len() < single / 2, "{} of {single}", bytes.len());
    assert_ne!(merge(&letters[1..]).0, bytes);
}

#[test]
fn what_is_no_pdf_is_refused() {
    let mut out = Vec::new();
    let mut file = PrintFile::new(info(), &mut out);
    let refused = file.add(b"no PDF".to_vec(), Standard::Plain, &mut out);
    assert_eq!(refused, Err(MergeError::Document("it is no PDF")));
}

#[test]
fn readers_of_others_read_it() {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let spawned = Command::new("pdftotext")
        .args(["-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = spawned else {
        eprintln!("skipped: pdftotext (poppler-utils) is not installed");
        return;
    };
    let (bytes, ..) = merge(&letters(3));
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    for number in 1..=3 {
        assert!(text.contains(&format!("A-{number:08}")), "{number}");
    }
}
