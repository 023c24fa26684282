//! SMTP as bytes: lines, mails and paths.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// What a read ended with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole,
    /// Read to its end, but cut at the limit.
    TooLong,
    /// The client is gone.
    Eof,
}

/// What came after `DATA`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mail {
    Whole(Vec<u8>),
    TooLarge,
    /// It has a CR or LF that is not part of a line end.
    BareLineEnd,
    Eof,
}

/// A connection. Replies are collected and go out when there is nothing more to read,
/// which is what pipelining is for.
#[derive(Debug)]
pub(super) struct Wire {
    stream: BufReader<TcpStream>,
    out: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream: BufReader::with_capacity(64 << 10, stream),
            out: Vec::new(),
        }
    }

    pub(super) fn reply(&mut self, code: u16, text: &str) {
        self.out
            .extend_from_slice(format!("{code} {text}\r\n").as_bytes());
    }

    /// A reply of several lines.
    pub(super) fn replies(&mut self, code: u16, lines: &[String]) {
        let (last, others) = lines.split_last().expect("a reply has at least one line");
        for line in others {
            self.out
                .extend_from_slice(format!("{code}-{line}\r\n").as_bytes());
        }
        self.reply(code, last);
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        if !self.out.is_empty() {
            self.stream.get_mut().write_all(&self.out).await?;
            self.out.clear();
        }
        Ok(())
    }

    /// Reads up to the next CR LF, line end included. A bare LF ends nothing.
    pub(super) async fn line(&mut self, line: &mut Vec<u8>, limit: usize) -> io::Result<Line> {
        line.clear();
        let mut last = 0;
        let mut cut = false;
        loop {
            if self.stream.buffer().is_empty() {
                self.flush().await?;
            }
            let chunk = self.stream.fill_buf().await?;
            if chunk.is_empty() {
                return Ok(Line::Eof);
            }
            let length = match chunk.iter().position(|&byte| byte == b'\n') {
                Some(end) => end + 1,
                None => chunk.len(),
            };
            let part = &chunk[..length];
            let before = if length > 1 { part[length - 2] } else { last };
            last = part[length - 1];
            let room = limit - line.len();
            cut |= length > room;
            line.extend_from_slice(&part[..length.min(room)]);
            self.stream.consume(length);
            if last == b'\n' && before == b'\r' {
                return Ok(if cut { Line::TooLong } else { Line::Whole });
            }
        }
    }

    /// Reads a mail up to its final dot, always to its end.
    pub(super) async fn mail(&mut self, limit: usize) -> io::Result<Mail> {
        let mut mail = Vec::new();
        let mut line = Vec::new();
        let (mut too_large, mut bare) = (false, false);
        loop {
            match self.line(&mut line, limit.saturating_add(3)).await? {
                Line::Eof => return Ok(Mail::Eof),
                Line::TooLong => {
                    too_large = true;
                    continue;
                }
                Line::Whole => {}
            }
            if line == b".\r\n" {
                break;
            }
            let text = line.strip_prefix(b".").unwrap_or(&line);
            let content = text.strip_suffix(b"\r\n").unwrap_or(text);
            bare |= content.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
            too_large |= mail.len() + text.len() > limit;
            if too_large {
                // Refused anyway: give the memory back.
                mail = Vec::new();
            } else {
                mail.extend_from_slice(text);
            }
        }
        Ok(if too_large {
            Mail::TooLarge
        } else if bare {
            Mail::BareLineEnd
        } else {
            Mail::Whole(mail)
        })
    }
}

/// Splits `FROM:<address> PARAM=1 …` into address and parameters; `keyword` is `FROM:` or
/// `TO:`. The address may be empty, and may have `>` in a quoted part.
pub(super) fn path<'a>(argument: &'a str, keyword: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let start = argument.get(..keyword.len())?;
    if !start.eq_ignore_ascii_case(keyword) {
        return None;
    }
    // A blank after the colon is wrong, but common enough.
    let inner = argument[keyword.len()..].trim_start().strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    let end = inner.find(|c| {
        if std::mem::take(&mut escaped) {
            return false;
        }
        match c {
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '>' => return !quoted,
            _ => {}
        }
        false
    })?;
    let rest = &inner[end + 1..];
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    Some((&inner[..end], rest.split_ascii_whitespace().collect()))
}

/// The `Message-ID` of a mail, angle brackets included.
pub(super) fn message_id(mail: &[u8]) -> Option<String> {
    let mut lines = mail
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        // An empty line ends the header.
        .take_while(|line| !line.is_empty());
    const NAME: &[u8] = b"message-id:";
    let first = lines.by_ref().find(|line| {
        line.get(..NAME.len())
            .is_some_and(|name| name.eq_ignore_ascii_case(NAME))
    })?;
    // A long id stands alone on the next line.
    let folded = lines
        .next()
        .filter(|line| line.starts_with(b" ") || line.starts_with(b"\t"));
    let value = [&first[NAME.len()..], folded.unwrap_or_default()].concat();
    let value = String::from_utf8_lossy(&value).trim().to_owned();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let from = |text| path(text, "FROM:");
        assert_eq!(
            from("FROM:<a@b.example> SIZE=12 SMTPUTF8"),
            Some(("a@b.example", vec!["SIZE=12", "SMTPUTF8"]))
        );
        assert_eq!(from("from: <>"), Some(("", vec![])));
        assert_eq!(from(r#"FROM:<"a>\"b"@x>"#), Some((r#""a>\"b"@x"#, vec![])));
        for wrong in [
            "FROM:a@b",
            "FROM:<a@b",
            "TO:<a@b>",
            "FROM",
            "",
            "FROM:<a>x",
            "ÄÖÜ:<a>",
        ] {
            assert_eq!(from(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn message_ids() {
        let id = |text: &str| message_id(text.as_bytes());
        assert_eq!(
            id("A: b\r\nMessage-Id: <1@x>\r\n\r\n"),
            Some("<1@x>".into())
        );
        assert_eq!(
            id("MESSAGE-ID:\r\n <1@x>\r\nTo: y\r\n\r\n"),
            Some("<1@x>".into())
        );
        assert_eq!(id("A: b\r\n\r\nMessage-ID: <1@x>\r\n"), None);
        assert_eq!(id(""), None);
    }
}
