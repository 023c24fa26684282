//! The shipped letter, its measures, and templates that are wrong or hostile.

use typst::layout::{Frame, FrameItem, Point};

use super::*;
use crate::shipped::OFFER_LETTER_DE;

/// A piece of text on a page: what, and where its baseline begins, in mm from the
/// top left corner of the paper.
#[derive(Debug)]
struct Placed {
    page: usize,
    x: f64,
    y: f64,
    text: String,
}

fn letter() -> DocumentTemplate {
    DocumentTemplate::compile(OFFER_LETTER_DE).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn lay_out(template: &DocumentTemplate, data: &OfferData) -> Vec<Placed> {
    let world = DocumentWorld::new(&template.source, inputs(data).unwrap());
    let document = typst::compile::<PagedDocument>(&world).output.unwrap();
    let mut placed = Vec::new();
    for (index, page) in document.pages().iter().enumerate() {
        collect(&page.frame, Point::zero(), index + 1, &mut placed);
    }
    placed
}

fn collect(frame: &Frame, origin: Point, page: usize, placed: &mut Vec<Placed>) {
    for (position, item) in frame.items() {
        let at = origin + *position;
        match item {
            FrameItem::Group(group) => {
                let shift = Point::new(group.transform.tx, group.transform.ty);
                collect(&group.frame, at + shift, page, placed);
            }
            FrameItem::Text(text) => placed.push(Placed {
                page,
                x: at.x.to_mm(),
                y: at.y.to_mm(),
                text: text.text.to_string(),
            }),
            _ => {}
        }
    }
}

/// All text of a page with single spaces and without break opportunities.
fn text(placed: &[Placed], page: usize) -> String {
    let pieces = placed
        .iter()
        .filter(|p| p.page == page)
        .map(|p| p.text.as_str());
    let joined = pieces.collect::<Vec<_>>().join(" ").replace('\u{200b}', "");
    joined.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn find<'a>(placed: &'a [Placed], page: usize, text: &str) -> &'a Placed {
    placed
        .iter()
        .find(|p| p.page == page && p.text.starts_with(text))
        .unwrap_or_else(|| panic!("{text:?} is not on page {page}: {placed:#?}"))
}

#[test]
fn the_letter_keeps_the_measures_of_din_5008_b() {
    let placed = lay_out(&letter(), &OfferData::sample());
    let within = |page, text: &str, x: f64, y: std::ops::Range<f64>| {
        let found = find(&placed, page, text);
        assert!((found.x - x).abs() < 0.5, "{text}: {found:?}");
        assert!(y.contains(&found.y), "{text}: {found:?}");
    };
    for (page, sender, recipient) in [
        (1, "Lahnstrom Energie", "Frau Dr. Eva-Maria"),
        (2, "Dr. Eva-Maria", "Lahnstrom Energie GmbH"),
    ] {
        within(page, sender, 25.0, 45.0..62.7);
        let recipient = placed
            .iter()
            .find(|p| {
                p.page == page && (62.7..90.0).contains(&p.y) && p.text.starts_with(recipient)
            })
            .expect("the recipient is in the address zone");
        assert!((recipient.x - 25.0).abs() < 0.5, "{recipient:?}");
    }
    within(1, "35578 Wetzlar", 25.0, 62.7..90.0);
    within(1, "Kundennummer", 125.0, 50.0..98.0);
    within(1, "Ihr persönliches", 25.0, 98.5..105.0);
    within(1, "Mit freundlichen", 25.0, 105.0..260.0);
    assert!(
        placed
            .iter()
            .all(|p| p.x >= 25.0 && p.x < 190.0 && p.y < 290.0),
        "{placed:#?}"
    );
}

#[test]
fn the_letter_says_what_the_offer_is() {
    let placed = lay_out(&letter(), &OfferData::sample());
    let first = text(&placed, 1);
    for part in [
        "Ihr persönliches Strom-Angebot: Lahn Ökostrom Fix 24",
        "Sehr geehrte Frau Dr. Müller,",
        "132,00 € pro Jahr",
        "29,84 ct pro kWh",
        "3.500 kWh",
        "1.176,40 €",
        "31. Dezember 2026",
        "Seite 1 von 2",
        "USt-IdNr. DE123456789",
    ] {
        assert!(first.contains(part), "{part} in {first}");
    }
    let second = text(&placed, 2);
    for part in [
        "Ja, ich nehme das Angebot an.",
        "Nein, ich nehme",
        "Unterschrift",
        "A-2026-004711",
    ] {
        assert!(second.contains(part), "{part} in {second}");
    }
    assert_eq!(placed.iter().map(|p| p.page).max(), Some(2));
}

#[test]
fn the_letter_lives_without_anything_that_may_be_missing() {
    let mut data = OfferData::sparse_sample();
    let first = text(&lay_out(&letter(), &data), 1);
    assert!(first.contains("Stahlbau Özdemir & Söhne GmbH"), "{first}");
    assert!(first.contains("Sehr geehrte Damen und Herren,"), "{first}");
    assert!(
        first.contains("Gas-Angebot") && !first.contains("none"),
        "{first}"
    );
    data.customer = crate::model::Customer::default();
    data.contract = crate::model::Contract::default();
    data.brand = crate::model::Brand::default();
    assert_eq!(letter().render(&data).unwrap().pages, 2);
}

const HOSTILE: [&str; 9] = [
    "#panic()",
    "#eval(\"1\") $x$ *a* _b_ `c` @d <e> \\ #{",
    "{{ 7*7 }} {% raw %}",
    "<script>alert('1')</script>",
    "\"); panic(\"x",
    "🦊👩‍👩‍👧 e\u{301}",
    "\u{202e}שלום עולם مرحبا",
    "a\u{0}b\r\nc\u{2028}d\u{7}",
    "https://example.org/#x",
];

#[test]
fn hostile_data_is_printed_and_never_run() {
    let template = letter();
    for value in HOSTILE {
        let mut data = OfferData::sample();
        data.customer.last_name = value.into();
        data.customer.salutation_line = value.into();
        data.offer.product_name = value.into();
        data.brand.name = value.into();
        data.contract.division = value.into();
        let pdf = template
            .render(&data)
            .unwrap_or_else(|error| panic!("{value}: {error}"));
        assert_eq!(pdf.pages, 2, "{value}");
    }
    let mut data = OfferData::sample();
    data.customer.salutation_line = HOSTILE[1].into();
    let first = text(&lay_out(&template, &data), 1);
    assert!(first.contains(HOSTILE[1]), "{first}");
}

#[test]
fn long_names_stay_in_their_fields() {
    let words = "Langenscheidt-Wittgenstein ".repeat(19);
    for name in [words.as_str(), &"W".repeat(500), &"ö".repeat(500)] {
        let mut data = OfferData::sample();
        data.customer.last_name = name.into();
        data.customer.company_name = name.into();
        data.customer.street = name.into();
        data.customer.number = name.into();
        data.brand.legal_name = name.into();
        data.brand.name = name.into();
        data.brand.return_address_line = name.into();
        data.brand.email = name.into();
        data.offer.product_name = name.into();
        let placed = lay_out(&letter(), &data);
        for piece in &placed {
            assert!((24.9..190.0).contains(&piece.x), "{piece:?}");
        }
        let subject = placed.iter().filter(|p| p.text.contains("persönliches"));
        assert!(
            subject.into_iter().all(|p| (98.5..105.0).contains(&p.y)),
            "{name}"
        );
    }
}

#[test]
fn the_same_data_gives_the_same_bytes_on_every_thread() {
    let template = letter();
    let data = OfferData::sample();
    let first = template.render(&data).unwrap();
    let again = std::thread::scope(|scope| {
        let work = || {
            scope.spawn(|| {
                DocumentTemplate::compile(OFFER_LETTER_DE)
                    .unwrap()
                    .render(&data)
            })
        };
        let threads: Vec<_> = (0..4).map(|_| work()).collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap().unwrap())
            .collect::<Vec<_>>()
    });
    comemo::evict(0);
    assert!(again.iter().all(|pdf| *pdf == first));
    assert_eq!(template.render(&data).unwrap(), first);
    assert_eq!(first.sha256, <[u8; 32]>::from(Sha256::digest(&first.bytes)));
    let mut other = data.clone();
    other.offer.number.push('1');
    assert_ne!(template.render(&other).unwrap().sha256, first.sha256);
}

fn contains(bytes: &[u8], what: &str) -> bool {
    bytes.windows(what.len()).any(|w| w == what.as_bytes())
}

#[test]
fn the_pdf_carries_the_offers_date() {
    let pdf = letter().render(&OfferData::sample()).unwrap();
    assert!(pdf.bytes.starts_with(b"%PDF-1.7"));
    assert!(contains(&pdf.bytes, "D:20261102000000"));
}

#[test]
fn letters_are_for_archives() {
    use hayro_syntax::object::{Array, Dict, Name, Object, Stream};
    for data in OfferData::samples() {
        let pdf = letter().render(&data).unwrap();
        assert_eq!(pdf.standard, Standard::Archival);
        let reader = hayro_syntax::Pdf::new(pdf.bytes).unwrap();
        let catalog: Dict<'_> = reader.xref().get(reader.xref().root_id()).unwrap();
        let metadata: Stream<'_> = catalog.get(b"Metadata").unwrap();
        let metadata = metadata.raw_data();
        assert!(contains(&metadata, "<pdfaid:part>2</pdfaid:part>"));
        assert!(contains(
            &metadata,
            "<pdfaid:conformance>B</pdfaid:conformance>"
        ));
        let intents: Array<'_> = catalog.get(b"OutputIntents").unwrap();
        let intent = intents.iter::<Dict<'_>>().next().unwrap();
        assert_eq!(&*intent.get::<Name<'_>>(b"S").unwrap(), b"GTS_PDFA1");
        assert!(intent.get::<Stream<'_>>(b"DestOutputProfile").is_some());

        let mut fonts = 0;
        for object in reader.objects() {
            let Object::Dict(dict) = object else { continue };
            let kind = dict.get::<Name<'_>>(b"Type");
            if kind.is_some_and(|kind| &*kind == b"FontDescriptor") {
                fonts += 1;
                let file = |key: &[u8]| dict.get::<Stream<'_>>(key).is_some();
                assert!(file(b"FontFile2") || file(b"FontFile3"), "not embedded");
            }
        }
        assert!(fonts >= 2, "{fonts}");
        assert!(!reader.pages().is_empty());
    }
}

#[test]
fn what_no_font_can_show_is_no_reason_to_send_no_letter() {
    let mut data = OfferData::sample();
    data.customer.last_name = "張偉".into();
    let pdf = letter().render(&data).unwrap();
    assert_eq!((pdf.standard, pdf.pages), (Standard::Plain, 2));
    assert_eq!(letter().render(&data).unwrap(), pdf);
    assert!(!contains(&pdf.bytes, "pdfaid:part"));
    let cannot = DocumentTemplate::compile("張偉").unwrap();
    assert!(!cannot.warnings().is_empty());
}

/// Set in the process that the test starts: its own program, which only prints.
const PRINTS: &str = "ANKLANG_TEST_PRINTS_ITS_HASH";

#[test]
fn the_same_data_gives_the_same_bytes_in_every_process() {
    let own = format!(
        "sha256={:02x?}",
        letter().render(&OfferData::sample()).unwrap().sha256
    );
    if std::env::var_os(PRINTS).is_some() {
        println!("{own}");
        return;
    }
    let this = "document::tests::the_same_data_gives_the_same_bytes_in_every_process";
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .env(PRINTS, "1")
        .args(["--exact", this, "--nocapture"])
        .output()
        .unwrap();
    let told = String::from_utf8(run.stdout).unwrap();
    assert!(told.contains(&own), "{own} in {told}");
}

#[test]
fn a_document_has_its_limits() {
    fails(
        "#for _ in range(201) { pagebreak() }",
        1,
        1,
        "more than 200 pages",
    );
    let source = "#let n = if sys.inputs.offer.number == \"many\" { 300 } else { 1 }\n\
                  #for _ in range(n) { pagebreak() }";
    let template = DocumentTemplate::compile(source).unwrap();
    let mut data = OfferData::sample();
    data.offer.number = "many".into();
    let Err(RenderError::Template(errors)) = template.render(&data) else {
        panic!("too many pages");
    };
    assert!(errors[0].message.contains("pages"), "{errors:?}");
}

/// Line, column and message of every error.
fn failures(source: &str) -> Vec<(u32, u32, String)> {
    let errors = DocumentTemplate::compile(source).unwrap_err();
    assert!(errors.iter().all(|e| e.part == Part::TypstSource));
    errors
        .into_iter()
        .map(|e| (e.line, e.column, e.message))
        .collect()
}

#[track_caller]
fn fails(source: &str, line: u32, column: u32, message: &str) {
    let found = failures(source);
    let expected =
        |(l, c, m): &(u32, u32, String)| (*l, *c) == (line, column) && m.contains(message);
    assert!(found.iter().any(expected), "{found:?}");
}

#[test]
fn all_syntax_errors_come_at_once() {
    let found = failures("Größe\n#let = 1\ntext\n  #(1 +\n");
    let lines: Vec<_> = found.iter().map(|f| f.0).collect();
    assert!(lines.contains(&2) && lines.contains(&4), "{found:?}");
}

#[test]
fn errors_say_where_they_are() {
    fails("ü #nope", 1, 4, "unknown variable: nope");
    fails("\n#sys.inputs.offer.nubmer", 2, 19, "nubmer");
    fails("#let a = 1\nä #(a + \"x\")", 2, 5, "cannot add");
    fails("#sys.inputs.campaign.name", 1, 22, "none");
    fails("#datetime.today()", 1, 2, "unable to get the current date");
    fails(
        "#import \"/anklang/de.typ\": money\n\n#money(\"x\")",
        3,
        2,
        "",
    );
}

#[test]
fn templates_are_sealed() {
    fails(
        "#import \"@preview/tablex:0.0.8\": x",
        1,
        9,
        "packages are not available",
    );
    fails("a\n#include \"other.typ\"", 2, 10, "can only import");
    fails(
        "#let p = \"@preview/a:1.0.0\"\n#import p: x",
        2,
        9,
        "packages are not available",
    );
    fails("#read(\"/etc/passwd\")", 1, 7, "cannot read files");
    fails("#image(\"../../x.png\")", 1, 8, "");
    fails("#eval(\"1\")", 1, 2, "unknown variable: eval");
    fails("#std.eval(\"1\")", 1, 6, "eval");
    fails("#plugin(bytes((0,)))", 1, 2, "unknown variable: plugin");
}

#[test]
fn endless_templates_stop() {
    fails("#let x = 0\n#while x >= 0 { x += 1 }", 2, 2, "infinite");
    let recursion = "#let f(x) = f(x + 1)\n#f(1)";
    assert!(failures(recursion)[0].2.contains("depth exceeded"));
    assert!(
        failures(&"#(".repeat(5_000))
            .iter()
            .any(|f| f.2.contains("depth"))
    );
    let long = " ".repeat(crate::error::MAX_SOURCE_BYTES + 1);
    assert!(failures(&long)[0].2.contains("longer than"));
}

#[test]
fn a_template_may_fail_for_some_data_only() {
    let source = "#assert(sys.inputs.customer.number.len() < 10, message: \"long\")\n#sys.inputs.offer.number";
    let template = DocumentTemplate::compile(source).unwrap();
    assert_eq!(template.render(&OfferData::sample()).unwrap().pages, 1);
    let mut data = OfferData::sample();
    data.customer.number = "1".repeat(10);
    let Err(RenderError::Template(errors)) = template.render(&data) else {
        panic!("the assertion must fail");
    };
    assert_eq!((errors[0].line, errors[0].column), (1, 2), "{errors:?}");
}

#[test]
fn warnings_are_kept() {
    let template = DocumentTemplate::compile("#set text(font: \"Comic Sans MS\")\nx").unwrap();
    assert!(
        template.warnings()[0]
            .message
            .contains("unknown font family")
    );
    assert_eq!(template.warnings()[0].line, 1);
    assert_eq!(letter().warnings(), []);
}

#[test]
fn a_panic_becomes_an_error() {
    let result = guarded(|| panic!("number {}", 1));
    assert_eq!(result, Err::<(), _>(RenderError::Engine("number 1".into())));
}
