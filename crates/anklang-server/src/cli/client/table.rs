//! Many messages as a table, that is written page by page and as wide as the terminal.

use std::io::{self, Write};

use console::{Alignment, measure_text_width, pad_str};
use prost_reflect::{DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage};

use super::columns::{self, Column};
use super::text::{self, Cell, cell};

/// What stands between two columns.
pub const GAP: &str = "  ";
/// The least width to which a column is cut.
const NARROWEST: usize = 8;
/// What stands at the end of a text that was cut.
const CUT: &str = "…";

/// A table that is written page by page, so that it may be of any length.
pub struct Table {
    columns: Vec<Column>,
    /// Whether the columns are all that the messages have, and not chosen.
    all: bool,
    begun: bool,
    /// The widest text of each column, and whether it is set to the right.
    widths: Vec<(usize, bool)>,
    indent: usize,
    width: Option<usize>,
}

impl Table {
    /// A table of messages of this type; with `width` it is cut to fit.
    pub fn new(of: &MessageDescriptor, indent: usize, width: Option<usize>) -> Self {
        let declared = columns::declared(of.full_name());
        Table {
            all: declared.is_none(),
            columns: declared.unwrap_or_else(|| every(of)),
            begun: false,
            widths: Vec::new(),
            indent,
            width,
        }
    }

    /// Writes more rows.
    pub fn page(&mut self, out: &mut impl Write, rows: &[DynamicMessage]) -> io::Result<()> {
        let Some(first) = rows.first() else {
            return Ok(());
        };
        if !self.begun {
            // What nobody has needs no column. This is for tables of one page: lists choose theirs.
            let somebody_has = |column: &Column| rows.iter().any(|row| has(row, &column.path));
            let all = self.all;
            self.columns.retain(|column| !all || somebody_has(column));
            let heading = |column: &Column| {
                let number = at(first, &column.path).number;
                (measure_text_width(&column.heading), number)
            };
            self.widths = self.columns.iter().map(heading).collect();
        }
        if self.columns.is_empty() {
            for row in rows {
                let json = text::json(row).map_err(io::Error::other)?;
                writeln!(out, "{:indent$}{json}", "", indent = self.indent)?;
            }
            return Ok(());
        }
        let cells: Vec<Vec<Cell>> = rows.iter().map(|row| self.cells(row)).collect();
        for row in &cells {
            for ((width, number), cell) in self.widths.iter_mut().zip(row) {
                *width = measure_text_width(&cell.text).max(*width);
                *number |= cell.number;
            }
        }
        let room = self.width.map(|width| width.saturating_sub(self.indent));
        let widths = fitted(&self.widths, room);
        if !self.begun {
            self.begun = true;
            let headings = self
                .columns
                .iter()
                .map(|column| column.heading.to_uppercase());
            self.line(out, &widths, headings)?;
        }
        for row in cells {
            self.line(out, &widths, row.into_iter().map(|cell| cell.text))?;
        }
        Ok(())
    }

    fn cells(&self, row: &DynamicMessage) -> Vec<Cell> {
        let cells = self.columns.iter().map(|column| {
            let mut cell = at(row, &column.path);
            if column.last {
                cell.text = last_part(&cell.text);
            }
            cell
        });
        cells.collect()
    }

    fn line(
        &self,
        out: &mut impl Write,
        widths: &[usize],
        texts: impl Iterator<Item = String>,
    ) -> io::Result<()> {
        let columns = widths.iter().zip(&self.widths);
        let texts: Vec<String> = texts
            .zip(columns)
            .map(|(text, (width, (_, number)))| {
                let side = if *number {
                    Alignment::Right
                } else {
                    Alignment::Left
                };
                pad_str(&text, *width, side, Some(CUT)).into_owned()
            })
            .collect();
        let line = texts.join(GAP);
        writeln!(
            out,
            "{:indent$}{}",
            "",
            line.trim_end(),
            indent = self.indent
        )
    }
}

/// The widths of columns in so much room: texts are cut, the widest most; numbers and the first column, by which
/// a row is known, stay as they are.
fn fitted(widths: &[(usize, bool)], room: Option<usize>) -> Vec<usize> {
    let mut fitted: Vec<usize> = widths.iter().map(|(width, _)| *width).collect();
    let gaps = GAP.len() * widths.len().saturating_sub(1);
    let mut over = room.map_or(0, |room| {
        (fitted.iter().sum::<usize>() + gaps).saturating_sub(room)
    });
    while over > 0 {
        let texts = fitted.iter_mut().zip(widths).skip(1);
        let texts = texts.filter(|(width, (_, number))| !number && **width > NARROWEST);
        let Some((widest, _)) = texts.max_by_key(|(width, _)| **width) else {
            break;
        };
        *widest -= 1;
        over -= 1;
    }
    fitted
}

/// All fields of a kind of message that are one text.
fn every(of: &MessageDescriptor) -> Vec<Column> {
    let fields = of.fields().filter(|field| text::is_leaf(&field.kind()));
    let column = |field: FieldDescriptor| Column {
        heading: label(&field),
        path: field.name().to_owned(),
        last: false,
    };
    fields.map(column).collect()
}

pub fn label(field: &FieldDescriptor) -> String {
    field.name().replace('_', " ")
}

/// What is at the end of a way; nothing when something on it is not set.
fn at(message: &DynamicMessage, path: &str) -> Cell {
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let Some(field) = message.descriptor().get_field_by_name(first) else {
        return Cell::default();
    };
    match rest {
        None => cell(message, &field),
        Some(rest) if message.has_field(&field) => {
            let value = message.get_field(&field);
            let inner = value.as_message().and_then(text::unpacked);
            inner.map_or_else(Cell::default, |inner| at(&inner, rest))
        }
        Some(_) => Cell::default(),
    }
}

fn has(message: &DynamicMessage, field: &str) -> bool {
    let field = message.descriptor().get_field_by_name(field);
    field.is_some_and(|field| message.has_field(&field))
}

/// The last part of a resource's name, as people write it.
fn last_part(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    let last = percent_encoding::percent_decode_str(last).decode_utf8_lossy();
    text::clean(&last).into_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use anklang_proto::anklang::customers::v1::Customer;
    use anklang_proto::anklang::offers::v1 as offers;
    use anklang_proto::google::r#type::{Date, Money};
    use prost::{Message, Name};

    use super::*;

    pub fn pages<M: Message + Name>(pages: &[&[M]], width: Option<usize>) -> Vec<String> {
        let mut out = Vec::new();
        let mut table = None;
        for rows in pages {
            let dynamic = |row: &M| text::dynamic(row).expect("ours");
            let rows: Vec<DynamicMessage> = rows.iter().map(dynamic).collect();
            let Some(first) = rows.first() else { continue };
            let table = table.get_or_insert_with(|| Table::new(&first.descriptor(), 0, width));
            table.page(&mut out, &rows).expect("memory");
        }
        lines(&out)
    }

    pub fn lines(out: &[u8]) -> Vec<String> {
        let text = std::str::from_utf8(out).expect("UTF-8");
        text.lines().map(str::to_owned).collect()
    }

    pub fn customer(number: &str, last_name: &str) -> Customer {
        Customer {
            name: format!("customers/{number}"),
            kind: 1,
            last_name: last_name.into(),
            ..Default::default()
        }
    }

    #[test]
    fn numbers_amounts_and_dates_are_set_to_the_right() {
        let offer = |number: &str, units, date| offers::Offer {
            name: format!("offers/{number}"),
            state: offers::OfferState::Open.into(),
            annual_amount: Some(Money {
                currency_code: "EUR".into(),
                units,
                nanos: 0,
            }),
            valid_until_date: date,
            ..Default::default()
        };
        let day = Some(Date {
            year: 2027,
            month: 1,
            day: 31,
        });
        let lines = pages(
            &[&[offer("A-1", 12, None), offer("A-22", 1_234, day)]],
            None,
        );
        assert_eq!(
            lines,
            [
                "OFFER  CUSTOMER  CONTRACT  PRODUCT  STATE        A YEAR  VALID UNTIL  ANSWERED",
                "A-1                                 open      12.00 EUR",
                "A-22                                open   1,234.00 EUR   2027-01-31",
            ]
        );
    }

    #[test]
    fn a_table_is_as_wide_as_the_terminal_and_keeps_ids_whole() {
        let long = customer("a-number-that-is-long", &"Müller-Lüdenscheidt ".repeat(5));
        let lines = pages(&[&[long]], Some(90));
        let row = &lines[1];
        assert!(
            lines.iter().all(|line| measure_text_width(line) <= 90),
            "{lines:#?}"
        );
        assert!(row.starts_with("a-number-that-is-long  person "), "{row}");
        assert!(row.contains("Müller") && row.contains(CUT), "{row}");
    }

    #[test]
    fn wide_letters_count_twice() {
        let in_place = |number, last_name| Customer {
            city: "Lindenau".into(),
            ..customer(number, last_name)
        };
        let lines = pages(&[&[in_place("1", "日本"), in_place("2", "abcd")]], None);
        let places = lines[1..]
            .iter()
            .filter_map(|line| line.split_once("Lindenau"));
        let widths: Vec<usize> = places
            .map(|(before, _)| measure_text_width(before))
            .collect();
        assert!(widths.len() == 2 && widths[0] == widths[1], "{lines:#?}");
    }

    #[test]
    fn later_pages_have_no_heading_and_columns_do_not_become_narrower() {
        let (first, second) = ([customer("1", "Lang-Name")], [customer("2", "K")]);
        let lines = pages(&[&first[..], &second[..]], None);
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert!(lines[0].starts_with("CUSTOMER  KIND"), "{lines:#?}");
    }
}
