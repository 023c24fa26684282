//! Cases as lines of a spreadsheet: separators, encodings, languages, and no formulas.

use anklang_domain::Violations;
use anklang_domain::winback::german_date;
use anklang_proto::anklang::winback::v1 as pb;
use anklang_store::winback::case::Case;
use chrono::NaiveDate;
use rust_decimal::Decimal;

/// The mark by which spreadsheets know UTF-8.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// How lines are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sheet {
    separator: u8,
    is_windows: bool,
    is_german: bool,
}

/// What stands in a cell.
enum Cell<'a> {
    Text(&'a str),
    /// A text of ours, with its German.
    Word(&'a str, &'static str),
    Number(Decimal),
    Estimate(f64),
    Date(NaiveDate),
    Flag(bool),
    Nothing,
}

/// A column.
struct Column {
    name: &'static str,
    german: &'static str,
    cell: for<'a> fn(&'a Case) -> Cell<'a>,
}

macro_rules! columns {
    ($($name:literal $german:literal: |$case:ident| $cell:expr),+ $(,)?) => {
        &[$(Column {
            name: $name,
            german: $german,
            cell: |$case| $cell,
        }),+]
    };
}

/// All columns, in their order.
const COLUMNS: &[Column] = columns! {
    "customer_number" "Kundennummer": |c| Cell::Text(&c.customer_number),
    "customer_name" "Name": |c| Cell::Text(&c.customer_name),
    "customer_group" "Kundengruppe": |c| Cell::Text(&c.customer_group),
    "state" "Status": |c| Cell::Word(&c.state, german(&c.state)),
    "open_date" "Gefunden am": |c| Cell::Date(c.opened_on),
    "due_date" "Wiedervorlage am": |c| date(c.due_on),
    "revenue_then" "Umsatz vorher": |c| Cell::Number(c.revenue_then),
    "revenue_now" "Umsatz jetzt": |c| Cell::Number(c.revenue_now),
    "expected_revenue" "Umsatz erwartet": |c| Cell::Number(c.expected),
    "actual_revenue" "Umsatz vergleichbar": |c| Cell::Number(c.actual),
    "revenue_drop" "Rückgang": |c| Cell::Number(c.drop_amount),
    "drop_percent" "Rückgang in %": |c| Cell::Number(c.drop_percent),
    "last_order_date" "Letzte Bestellung am": |c| Cell::Date(c.last_order),
    "last_order_number" "Letzte Bestellung": |c| text(&c.last_order_number),
    "last_order_brand" "Firma": |c| text(&c.last_order_brand),
    "last_order_group" "Warengruppe": |c| Cell::Text(&c.last_order_group),
    "lost_group_share" "Anteil verlorener Warengruppen": |c| Cell::Estimate(c.lost_share),
    "alive" "Wahrscheinlichkeit noch Kunde": |c| estimate(c.alive),
    "expected_purchases" "Erwartete Käufe": |c| estimate(c.purchases),
    "order_value" "Wert eines Kaufs": |c| estimate(c.order_value),
    "at_stake" "Umsatz in Gefahr": |c| number(c.at_stake),
    "currency_code" "Währung": |c| Cell::Text(&c.currency),
    "standard_mail_date" "Standardmail am": |c| date(c.standard_on),
    "voucher_mail_date" "Gutscheinmail am": |c| date(c.voucher_on),
    "contact_date" "Letzter Kontakt am": |c| date(c.contacted_on),
    "no_interest_reason" "Grund": |c| word(&c.no_interest),
    "close_date" "Geschlossen am": |c| date(c.closed_on),
    "held_by" "In Arbeit bei": |c| text(&c.held_by),
    "won_order_number" "Bestellung der Rückgewinnung": |c| text(&c.won_order),
    "won_after_contact" "Nach Kontakt": |c| c.won_contacted.map_or(Cell::Nothing, Cell::Flag),
    "won_revenue" "Umsatz der Rückgewinnung": |c| number(c.won_revenue),
    "offer_number" "Angebot": |c| text(&c.offer_number),
};

fn text(text: &Option<String>) -> Cell<'_> {
    text.as_deref().map_or(Cell::Nothing, Cell::Text)
}

fn word(word: &Option<String>) -> Cell<'_> {
    let cell = |word| Cell::Word(word, german(word));
    word.as_deref().map_or(Cell::Nothing, cell)
}

fn date(date: Option<NaiveDate>) -> Cell<'static> {
    date.map_or(Cell::Nothing, Cell::Date)
}

fn number(number: Option<Decimal>) -> Cell<'static> {
    number.map_or(Cell::Nothing, Cell::Number)
}

fn estimate(number: Option<f64>) -> Cell<'static> {
    number.map_or(Cell::Nothing, Cell::Estimate)
}

/// A state or reason of the ledger in German.
fn german(word: &str) -> &'static str {
    match word {
        "declining" => "Umsatzrückgang",
        "reminder" => "Wiedervorlage",
        "offer_requested" => "Angebot angefordert",
        "mailed" => "Angeschrieben",
        "no_interest" => "Kein weiteres Interesse",
        "won_back" => "Zurückgewonnen",
        "price" => "Preis",
        "competitor" => "Wettbewerber",
        "quality" => "Qualität",
        "service" => "Service",
        "no_need" => "Kein Bedarf",
        "gone" => "Geschäft aufgegeben oder verstorben",
        "no_contact" => "Wünscht keinen Kontakt",
        _ => "Sonstiges",
    }
}

impl Sheet {
    /// How a request wants it.
    pub(super) fn read(
        request: &pb::ExportWinbackCasesRequest,
        violations: &mut Violations,
    ) -> Sheet {
        let separator = pb::CsvSeparator::try_from(request.separator);
        let separator = violations.check("separator", separator.map_err(|_| "is no separator"));
        let encoding = pb::CsvEncoding::try_from(request.encoding);
        let encoding = violations.check("encoding", encoding.map_err(|_| "is no encoding"));
        let language = pb::CsvLanguage::try_from(request.language);
        let language = violations.check("language", language.map_err(|_| "is no language"));
        Sheet {
            separator: match separator {
                Some(pb::CsvSeparator::Comma) => b',',
                _ => b';',
            },
            is_windows: encoding == Some(pb::CsvEncoding::Windows1252),
            is_german: language != Some(pb::CsvLanguage::Plain),
        }
    }

    /// Lines of cases, after the headings if they begin the file.
    pub(super) fn lines(self, begins: bool, cases: &[Case]) -> csv::Result<Vec<u8>> {
        let mut writer = csv::WriterBuilder::new()
            .delimiter(self.separator)
            .terminator(csv::Terminator::CRLF)
            .from_writer(Vec::new());
        if begins {
            let heading = |column: &Column| match self.is_german {
                true => column.german,
                false => column.name,
            };
            writer.write_record(COLUMNS.iter().map(heading))?;
        }
        for case in cases {
            for column in COLUMNS {
                writer.write_field(self.written(&(column.cell)(case)))?;
            }
            writer.write_record(None::<&[u8]>)?;
        }
        let text = writer.into_inner().map_err(|e| e.into_error())?;
        // What was written is text.
        let text = String::from_utf8_lossy(&text);
        Ok(match (self.is_windows, begins) {
            (true, _) => windows(&text),
            (false, true) => format!("{BYTE_ORDER_MARK}{text}").into_bytes(),
            (false, false) => text.into_owned().into_bytes(),
        })
    }

    fn written(self, cell: &Cell<'_>) -> String {
        let number = |plain: String| match self.is_german {
            true => plain.replace('.', ","),
            false => plain,
        };
        match cell {
            Cell::Nothing => String::new(),
            Cell::Text(text) => defused(text),
            Cell::Word(_, german) if self.is_german => (*german).to_owned(),
            Cell::Word(word, _) => word.to_ascii_uppercase(),
            Cell::Number(value) => number(value.to_string()),
            Cell::Estimate(value) => number(format!("{value:.4}")),
            Cell::Date(day) if self.is_german => german_date(*day),
            Cell::Date(day) => day.to_string(),
            Cell::Flag(flag) => match (self.is_german, flag) {
                (true, true) => "ja".into(),
                (true, false) => "nein".into(),
                (false, flag) => flag.to_string(),
            },
        }
    }
}

/// A text that no spreadsheet takes for a formula: those of which it would begin with an apostrophe. Blanks
/// in front are left out by some.
fn defused(text: &str) -> String {
    let begin = text.trim_start_matches(' ');
    match begin.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        true => format!("'{text}"),
        false => text.to_owned(),
    }
}

/// The bytes of a text in Windows-1252, with question marks for what it does not have.
fn windows(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut buffer = [0; 4];
    for character in text.chars() {
        let one = &*character.encode_utf8(&mut buffer);
        let (encoded, _, is_unknown) = encoding_rs::WINDOWS_1252.encode(one);
        match is_unknown {
            true => bytes.push(b'?'),
            false => bytes.extend_from_slice(&encoded),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::{defused, windows};

    #[test]
    fn formulas_are_texts() {
        for text in [
            "=1+1", "+49 30", "-5", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1",
        ] {
            assert_eq!(defused(text), format!("'{text}"));
        }
        for text in ["", "1=1", "Müller", "'=1", "a\t=1", " a"] {
            assert_eq!(defused(text), text);
        }
    }

    #[test]
    fn windows_has_western_letters_and_asks_about_others() {
        assert_eq!(windows("Müller 5 €"), b"M\xfcller 5 \x80");
        assert_eq!(windows("Łódź 東京"), b"?\xf3d? ??");
    }
}
