//! Writes the offer letter of the sample data as a PDF.
//!
//! `cargo run -p anklang-render --example letter -- letter.pdf`

use std::process::ExitCode;

use anklang_render::model::OfferData;
use anklang_render::{DocumentTemplate, shipped};

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: letter <path of the PDF>");
        return ExitCode::FAILURE;
    };
    let template = match DocumentTemplate::compile(shipped::OFFER_LETTER_DE) {
        Ok(template) => template,
        Err(errors) => {
            errors.iter().for_each(|error| eprintln!("{error}"));
            return ExitCode::FAILURE;
        }
    };
    let written = template
        .render(&OfferData::sample())
        .map_err(|error| error.to_string())
        .and_then(|pdf| std::fs::write(&path, pdf.bytes).map_err(|error| error.to_string()));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
