//! The index of a bundle: a line of CSV for each letter in the print files, in their order.
//!
//! No cell can be taken for a formula by a spreadsheet: customers' and contracts' numbers are in
//! resource names, as in all exports, and file names begin with a letter, a digit or `_`.

use anklang_domain::{TenantId, name};
use anklang_store::bundle::Outbound;
use anklang_store::document::{self, Document};
use object_store::path::Path;

use super::file_name;
use crate::documents::Stored;
use crate::work::App;
use crate::work::launch::store_trouble;
use crate::work::operations::Interrupted;

/// Lines that are read at once; about 500 KB.
const LINES: i64 = 2_000;

const HEADER: [&str; 10] = [
    "offer",
    "contract",
    "customer",
    "file_name",
    "sha256",
    "size_bytes",
    "pages",
    "standard",
    "print_file",
    "first_page",
];

/// Writes the index, and says how many lines it has without its header.
pub(super) async fn write(
    app: &App,
    tenant: TenantId,
    outbound: &Outbound,
    path: &Path,
) -> Result<(Stored, usize), Interrupted> {
    let mut writing = app.documents.write(path).await.map_err(store_trouble)?;
    let (mut after, mut count) = (0, 0);
    let mut part = csv(&[], true)?;
    loop {
        writing.append(part).await.map_err(store_trouble)?;
        let mut tx = app.store.begin_work(tenant).await?;
        let lines = document::printed(&mut tx, tenant, outbound.phase(), after, LINES).await?;
        tx.commit().await?;
        let Some(last) = lines.last() else { break };
        after = last.seq;
        count += lines.len();
        part = csv(&lines, false)?;
    }
    let stored = writing.finish().await.map_err(store_trouble)?;
    Ok((stored, count))
}

fn csv(lines: &[Document], header: bool) -> Result<Vec<u8>, Interrupted> {
    let broken = |e: csv::Error| Interrupted::Other(e.to_string());
    let mut csv = csv::Writer::from_writer(Vec::new());
    if header {
        csv.write_record(HEADER).map_err(broken)?;
    }
    for line in lines {
        csv.write_record(record(line)).map_err(broken)?;
    }
    csv.into_inner()
        .map_err(|e| Interrupted::Other(e.to_string()))
}

fn record(d: &Document) -> [String; 10] {
    let number = |n: Option<i32>| n.unwrap_or_default();
    [
        name::format(&[("offers", &d.offer_number)]),
        name::format(&[("contracts", &d.contract_number)]),
        name::format(&[("customers", &d.customer_number)]),
        pdf_name(&d.offer_number),
        hex::encode(&d.sha256),
        d.size_bytes.to_string(),
        d.pages.to_string(),
        d.standard.clone(),
        file_name(number(d.print_file)),
        number(d.print_page).to_string(),
    ]
}

/// What to call the document of an offer: its number, with `_` for what a file cannot be called
/// everywhere. Numbers of a tenant end in digits that no two share, so names differ.
pub fn pdf_name(offer_number: &str) -> String {
    let safe = |(place, c): (usize, char)| match c {
        'A'..='Z' | 'a'..='z' | '0'..='9' | '_' => c,
        '-' | '.' if place > 0 => c,
        _ => '_',
    };
    let name: String = offer_number.chars().enumerate().map(safe).collect();
    format!("{name}.pdf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_names_everywhere_and_no_formulas() {
        for (number, name) in [
            ("A-00000042", "A-00000042.pdf"),
            ("2026/07.00000001", "2026_07.00000001.pdf"),
            ("-00000001", "_00000001.pdf"),
            (
                "../00000001",
                "_.._00000001.pdf".replace("_..", "_.").as_str(),
            ),
            ("=1+1", "_1_1.pdf"),
        ] {
            assert_eq!(pdf_name(number), name);
        }
    }
}
