//! Cuts a stream of CSV bytes into records, whatever the pieces it comes in, and knows the line on
//! which each begins.

use csv_core::ReadRecordResult;

/// The byte order mark of UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// The longest record in bytes: a quote that is not closed would otherwise hold the rest of the
/// file in memory.
const MAX_RECORD: usize = 1 << 20;
/// The most fields in a record.
const MAX_FIELDS: usize = 1_000;

/// A place in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: i64,
    /// Bytes before it.
    pub offset: i64,
}

/// A record: a line, or several when a quoted value has line breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it begins.
    pub place: Place,
    data: Vec<u8>,
    ends: Vec<usize>,
}

impl Record {
    /// Its values, unquoted.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.ends.len()).map(|i| {
            let start = i.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.data[start..self.ends[i]]
        })
    }
}

/// A record is longer than 1 MiB or has more than 1,000 fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the record that begins on line {0} does not end within 1 MiB or 1,000 values; is a closing quote missing?"
)]
pub struct TooLong(pub i64);

/// Cuts bytes into records.
pub struct Splitter {
    reader: csv_core::Reader,
    /// The first bytes, until it is known whether they are a byte order mark.
    head: Option<Vec<u8>>,
    /// The next byte.
    next: Place,
    after_cr: bool,
    /// Where the record under way begins.
    record: Option<Place>,
    data: Vec<u8>,
    data_len: usize,
    ends: Vec<usize>,
    ends_len: usize,
}

impl Splitter {
    /// For values separated by `delimiter`.
    pub fn new(delimiter: u8) -> Self {
        Splitter {
            reader: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            head: Some(Vec::new()),
            next: Place { line: 1, offset: 0 },
            after_cr: false,
            record: None,
            data: vec![0; 1024],
            data_len: 0,
            ends: vec![0; 32],
            ends_len: 0,
        }
    }

    /// For the rest of a file that was read up to a place: see [`Splitter::place`].
    pub fn resumed(delimiter: u8, at: Place) -> Self {
        Splitter {
            head: None,
            next: at,
            ..Splitter::new(delimiter)
        }
    }

    /// Where the first record begins that is not complete: all before are.
    pub fn place(&self) -> Place {
        let Place { line, offset } = self.record.unwrap_or(self.next);
        if self.record.is_none() && self.after_cr {
            // In the middle of CR LF, perhaps: the rest begins with the whole of it, which is an
            // empty line.
            return Place {
                line: line - 1,
                offset: offset - 1,
            };
        }
        Place { line, offset }
    }

    /// Takes the next bytes and adds the records that they complete.
    pub fn push(&mut self, bytes: &[u8], records: &mut Vec<Record>) -> Result<(), TooLong> {
        let Some(mut head) = self.head.take() else {
            return self.split(bytes, records);
        };
        head.extend_from_slice(bytes);
        if head.len() < BOM.len() && BOM.starts_with(&head) {
            self.head = Some(head);
            return Ok(());
        }
        let text = head.strip_prefix(BOM).unwrap_or(&head);
        self.next.offset += length(head.len() - text.len());
        self.split(text, records)
    }

    /// Adds the last record, when the file does not end with a line break.
    pub fn finish(&mut self, records: &mut Vec<Record>) -> Result<(), TooLong> {
        if let Some(head) = self.head.take() {
            self.split(&head, records)?;
        }
        while let Some(place) = self.record {
            self.step(&[], place, records)?;
        }
        Ok(())
    }

    fn split(&mut self, mut bytes: &[u8], records: &mut Vec<Record>) -> Result<(), TooLong> {
        while !bytes.is_empty() {
            let place = match self.record {
                Some(place) => place,
                None => {
                    // Empty lines; the reader would skip them as well, but not count them.
                    let breaks = bytes
                        .iter()
                        .take_while(|b| matches!(b, b'\r' | b'\n'))
                        .count();
                    self.count(&bytes[..breaks]);
                    bytes = &bytes[breaks..];
                    if bytes.is_empty() {
                        break;
                    }
                    *self.record.insert(self.next)
                }
            };
            let read = self.step(bytes, place, records)?;
            self.count(&bytes[..read]);
            bytes = &bytes[read..];
        }
        Ok(())
    }

    /// Reads on in the record that began at `place`; gives the number of bytes read.
    fn step(
        &mut self,
        bytes: &[u8],
        place: Place,
        records: &mut Vec<Record>,
    ) -> Result<usize, TooLong> {
        let (result, read, written, ended) = self.reader.read_record(
            bytes,
            &mut self.data[self.data_len..],
            &mut self.ends[self.ends_len..],
        );
        self.data_len += written;
        self.ends_len += ended;
        match result {
            ReadRecordResult::InputEmpty => {}
            ReadRecordResult::OutputFull if self.data.len() < MAX_RECORD => {
                self.data.resize(self.data.len() * 2, 0);
            }
            ReadRecordResult::OutputEndsFull if self.ends.len() < MAX_FIELDS => {
                self.ends.resize(self.ends.len() * 2, 0);
            }
            ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                return Err(TooLong(place.line));
            }
            ReadRecordResult::Record => {
                records.push(Record {
                    place,
                    data: self.data[..self.data_len].to_vec(),
                    ends: self.ends[..self.ends_len].to_vec(),
                });
                self.end();
            }
            ReadRecordResult::End => self.end(),
        }
        Ok(read)
    }

    fn end(&mut self) {
        self.record = None;
        self.data_len = 0;
        self.ends_len = 0;
    }

    /// Counts bytes and line breaks: LF, CR LF or CR.
    fn count(&mut self, bytes: &[u8]) {
        self.next.offset += length(bytes.len());
        for &byte in bytes {
            if byte == b'\r' || (byte == b'\n' && !self.after_cr) {
                self.next.line += 1;
            }
            self.after_cr = byte == b'\r';
        }
    }
}

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).expect("memory is smaller")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines and values of a CSV that comes in pieces of `size` bytes.
    fn split(csv: &[u8], size: usize) -> Vec<(i64, Vec<String>)> {
        let (mut splitter, mut records) = (Splitter::new(b';'), Vec::new());
        for piece in csv.chunks(size) {
            splitter.push(piece, &mut records).expect("short records");
        }
        splitter.finish(&mut records).expect("short records");
        records
            .iter()
            .map(|r| {
                let text = |f: &[u8]| String::from_utf8_lossy(f).into_owned();
                (r.place.line, r.fields().map(text).collect())
            })
            .collect()
    }

    #[test]
    fn records_know_their_lines_whatever_the_pieces_and_line_breaks() {
        let csv = "\u{feff}a;b\n\n1;\"x\ny\"\"\n\"\n\n2;\n\"3\";z";
        let expected: Vec<(i64, Vec<String>)> = [
            (1, ["a", "b"]),
            (3, ["1", "x\ny\"\n"]),
            (7, ["2", ""]),
            (8, ["3", "z"]),
        ]
        .map(|(line, values)| (line, values.map(String::from).to_vec()))
        .to_vec();
        for size in 1..=csv.len() {
            assert_eq!(split(csv.as_bytes(), size), expected, "{size}");
            let crlf = csv.replace('\n', "\r\n");
            let lines = |r: Vec<(i64, Vec<String>)>| r.into_iter().map(|r| r.0).collect::<Vec<_>>();
            assert_eq!(
                lines(split(crlf.as_bytes(), size)),
                [1, 3, 7, 8],
                "CR LF, {size}"
            );
            let cr = csv.replace('\n', "\r");
            assert_eq!(
                lines(split(cr.as_bytes(), size)),
                [1, 3, 7, 8],
                "CR, {size}"
            );
        }
        assert_eq!(split(b"", 1), []);
        assert_eq!(split(b"\xef\xbb", 1).len(), 1);
    }

    #[test]
    fn a_file_can_be_read_on_from_the_place_of_any_record() {
        let csv = "\u{feff}a;b\n\n1;\"x\ny\"\n\n2;ü\n3;z\n";
        for breaks in ["\n", "\r\n", "\r"] {
            let csv = csv.replace('\n', breaks);
            let (mut whole, mut all) = (Splitter::new(b';'), Vec::new());
            whole.push(csv.as_bytes(), &mut all).expect("short records");
            assert_eq!(all.len(), 4);
            for size in 1..=csv.len() {
                let (mut first, mut before) = (Splitter::new(b';'), Vec::new());
                first
                    .push(&csv.as_bytes()[..size], &mut before)
                    .expect("short records");
                let place = first.place();
                if place.offset == 0 {
                    continue;
                }
                let at = usize::try_from(place.offset).expect("from the beginning");
                let mut rest = Splitter::resumed(b';', place);
                rest.push(&csv.as_bytes()[at..], &mut before)
                    .expect("short records");
                rest.finish(&mut before).expect("short records");
                assert_eq!(before, all, "{breaks:?} {size}");
            }
        }
    }

    #[test]
    fn long_records_grow_up_to_a_limit() {
        let long = format!("{};{}\n1;2\n", "x".repeat(900_000), ";".repeat(500));
        let records = split(long.as_bytes(), 1 << 16);
        assert_eq!(
            (records.len(), records[0].1.len(), records[1].0),
            (2, 502, 2)
        );

        let (mut splitter, mut records) = (Splitter::new(b','), Vec::new());
        let open = format!("a,b\n1,\"{}", "x,y\n".repeat(1 << 19));
        assert_eq!(
            splitter.push(open.as_bytes(), &mut records),
            Err(TooLong(2))
        );
        assert_eq!(records.len(), 1);
    }
}
