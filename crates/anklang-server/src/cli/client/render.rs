//! Messages for people: many as a table, one as lines of its fields; or any of them as JSON.

use std::io::{self, Write};

use console::Term;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value,
};

use super::table::{GAP, Table, label};
use super::text::{self, cell};

/// What stands before fields of a field.
const INDENT: usize = 2;

/// Standard output, and how it is written to.
pub struct Show {
    json: bool,
    width: Option<usize>,
    table: Option<Table>,
}

impl Show {
    /// As JSON, or for people: in a terminal as wide as that.
    pub fn new(json: bool) -> Self {
        let terminal = Term::stdout();
        let size = terminal
            .is_term()
            .then(|| terminal.size_checked())
            .flatten();
        Show {
            json,
            width: size.map(|(_, columns)| columns.into()),
            table: None,
        }
    }

    /// Whether JSON was asked for.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Whether somebody is looking.
    pub fn is_terminal(&self) -> bool {
        self.width.is_some()
    }

    /// One message.
    pub fn message(&self, message: &DynamicMessage) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", text::json(message)?)?;
        } else {
            let mut page = Vec::new();
            details(&mut page, message, 0, self.width)?;
            match (page.is_empty(), message.descriptor().full_name()) {
                (false, _) => out.write_all(&page)?,
                (true, "google.protobuf.Empty") => writeln!(out, "done")?,
                (true, _) => writeln!(out, "nothing")?,
            }
        }
        Ok(out.flush()?)
    }

    /// A page of a list; the next one goes on with the same table.
    pub fn rows(&mut self, of: &MessageDescriptor, rows: &[DynamicMessage]) -> anyhow::Result<()> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        if self.json {
            for row in rows {
                writeln!(out, "{}", text::json(row)?)?;
            }
        } else {
            let table = self
                .table
                .get_or_insert_with(|| Table::new(of, 0, self.width));
            table.page(&mut out, rows)?;
        }
        Ok(out.flush()?)
    }
}

/// A message field by field: first what is one text, then messages and tables.
fn details(
    out: &mut Vec<u8>,
    message: &DynamicMessage,
    indent: usize,
    width: Option<usize>,
) -> io::Result<()> {
    let descriptor = message.descriptor();
    let (leaves, others): (Vec<_>, Vec<_>) = descriptor
        .fields()
        .partition(|field| text::is_leaf(&field.kind()));
    let told: Vec<(String, String)> = leaves
        .iter()
        .filter(|field| message.has_field(field) || is_count(field))
        .map(|field| (label(field), cell(message, field).text))
        .collect();
    let widest = told.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    for (label, text) in told {
        writeln!(out, "{:indent$}{label:widest$}{GAP}{text}", "")?;
    }
    for field in others.iter().filter(|field| message.has_field(field)) {
        let value = message.get_field(field);
        if indent == 0 && !out.is_empty() {
            writeln!(out)?;
        }
        writeln!(out, "{:indent$}{}", "", label(field))?;
        match value.as_ref() {
            Value::Message(inner) => {
                let inner = text::unpacked(inner);
                inner.map_or(Ok(()), |inner| details(out, &inner, indent + INDENT, width))?;
            }
            Value::List(all) => {
                let rows: Vec<DynamicMessage> =
                    all.iter().filter_map(Value::as_message).cloned().collect();
                if let Kind::Message(of) = field.kind() {
                    Table::new(&of, indent + INDENT, width).page(out, &rows)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a field counts something, so that 0 says something too.
fn is_count(field: &FieldDescriptor) -> bool {
    field.kind() == Kind::Int64 && !field.is_list() && !field.supports_presence()
}

#[cfg(test)]
mod tests {
    use anklang_proto::anklang::campaigns::v1 as campaigns;
    use anklang_proto::anklang::operations::v1::OperationMetadata;
    use anklang_proto::google::longrunning::Operation;
    use prost::{Message, Name};

    use super::super::table::tests::{customer, lines, pages};
    use super::*;

    fn detailed<M: Message + Name>(message: &M) -> Vec<String> {
        let mut out = Vec::new();
        let message = text::dynamic(message).expect("ours");
        details(&mut out, &message, 0, None).expect("memory");
        lines(&out)
    }

    #[test]
    fn data_cannot_command_the_terminal() {
        let evil = customer("%1B%5D0;x%07", "\u{1b}]0;x\u{7}\r\n\u{9b}2J");
        for line in pages(&[std::slice::from_ref(&evil)], None)
            .iter()
            .chain(&detailed(&evil))
        {
            assert!(!line.contains(char::is_control), "{line:?}");
        }
    }

    #[test]
    fn one_message_has_a_line_for_each_field_and_zeros_of_counts() {
        let figures = campaigns::Infoboard {
            campaign: "campaigns/x".into(),
            total: Some(campaigns::InfoboardFigures {
                offers: Some(campaigns::OfferFigures {
                    made: 1_000,
                    ..Default::default()
                }),
                ..Default::default()
            }),
            days: vec![campaigns::DayFigures {
                offers_made: 1_000,
                ..Default::default()
            }],
            ..Default::default()
        };
        assert_eq!(
            detailed(&figures),
            [
                "campaign  campaigns/x",
                "",
                "total",
                "  offers",
                "    made         1,000",
                "    outstanding  0",
                "    accepted     0",
                "    rejected     0",
                "    expired      0",
                "    withdrawn    0",
                "",
                "days",
                "  OFFERS MADE",
                "        1,000",
            ]
        );
    }

    #[test]
    fn what_an_any_holds_is_shown() {
        let metadata = OperationMetadata {
            kind: "LaunchCampaign".into(),
            done: 3,
            ..Default::default()
        };
        let operation = Operation {
            name: "operations/1".into(),
            metadata: Some(prost_types::Any {
                type_url: format!("type.googleapis.com/{}", OperationMetadata::full_name()),
                value: metadata.encode_to_vec(),
            }),
            ..Default::default()
        };
        let lines = pages(&[std::slice::from_ref(&operation)], None);
        assert!(lines[1].contains("LaunchCampaign"), "{lines:#?}");
        assert!(
            lines[0].contains("DONE") && lines[1].contains('3'),
            "{lines:#?}"
        );
        let lines = detailed(&operation);
        assert!(
            lines.iter().any(|line| line.trim() == "done    3"),
            "{lines:#?}"
        );
    }
}
