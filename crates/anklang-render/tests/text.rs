//! What a reader finds in the bytes of the PDF, with poppler's `pdftotext`.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use anklang_render::model::OfferData;
use anklang_render::{DocumentTemplate, shipped};

#[test]
fn the_text_of_the_pdf_can_be_read() {
    let template = DocumentTemplate::compile(shipped::OFFER_LETTER_DE).unwrap();
    let pdf = template.render(&OfferData::sample()).unwrap();
    let spawned = Command::new("pdftotext")
        .args(["-layout", "-", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut reader) = spawned else {
        eprintln!("skipped: pdftotext (poppler-utils) is not installed");
        return;
    };
    reader.stdin.take().unwrap().write_all(&pdf.bytes).unwrap();
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout)
        .unwrap()
        .replace('\u{a0}', " ");
    for part in [
        "Frau Dr. Eva-Maria Müller",
        "Gießener Straße 12a",
        "Ihr persönliches Strom-Angebot: Lahn Ökostrom Fix 24",
        "Sehr geehrte Frau Dr. Müller,",
        "1.176,40 €",
        "Unterschrift",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}
