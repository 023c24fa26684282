//! What hfaxd answers, line by line: the replies of FTP (RFC 959, section 4.2).

/// Longest line, in bytes, and most lines of one reply.
pub(crate) const LONGEST_LINE: usize = 4096;
const MOST_LINES: usize = 1000;
/// Longest text of a server that is passed on, in characters.
const LONGEST_DETAIL: usize = 300;

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Three digits; the first says how it went: 1 goes on, 2 done, 3 say more, 4 not now, 5 no.
    pub(crate) code: u16,
    /// Its last line, without the code.
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn class(&self) -> u16 {
        self.code / 100
    }

    /// The server takes leave, whatever it was asked: it shuts down, or waited for too long.
    pub(crate) fn is_farewell(&self) -> bool {
        matches!(self.code, 221 | 420 | 421)
    }

    /// Code and text, for people.
    pub(crate) fn detail(&self) -> String {
        let text: String = self.text.chars().take(LONGEST_DETAIL).collect();
        format!("{} {}", self.code, masked(&text))
    }
}

/// Puts the lines of a reply together.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    /// The code of a reply of several lines that has begun.
    code: Option<u16>,
    lines: usize,
}

impl Assembly {
    /// Takes a line, without its end. Gives the reply that it completes; an error is a line that
    /// no server of this protocol says.
    pub(crate) fn line(&mut self, line: &str) -> Result<Option<Reply>, &'static str> {
        self.lines += 1;
        if self.lines > MOST_LINES {
            return Err("the reply has no end");
        }
        let code = code(line);
        let more = line.as_bytes().get(3) == Some(&b'-');
        match (self.code, code) {
            // Between the first and the last line, anything may be.
            (Some(begun), Some(code)) if begun == code && !more => {}
            (Some(_), _) => return Ok(None),
            (None, Some(code)) if more => {
                self.code = Some(code);
                return Ok(None);
            }
            (None, Some(_)) => {}
            (None, None) => return Err("the line does not begin with a code"),
        }
        *self = Self::default();
        let text = line.get(4..).unwrap_or_default();
        Ok(code.map(|code| Reply {
            code,
            text: text.trim().to_owned(),
        }))
    }
}

/// The code at the beginning of a line.
fn code(line: &str) -> Option<u16> {
    let digits = line.get(..3)?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit())
        && matches!(line.as_bytes().get(3), None | Some(b' ' | b'-'));
    digits
        .parse()
        .ok()
        .filter(|code| plain && (100..600).contains(code))
}

/// A string as a parameter of a command: in quotes, on one line.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The text with what may be a telephone number hidden: details are shown and logged.
pub(crate) fn masked(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut digits = String::new();
    // Something that is no digit at the end, so that the last digits come out as well.
    for c in text.chars().map(Some).chain([None]) {
        match c {
            Some(c) if c.is_ascii_digit() => digits.push(c),
            c => {
                match digits.len() {
                    0..=5 => shown.push_str(&digits),
                    _ => shown.push('…'),
                }
                digits.clear();
                shown.extend(c);
            }
        }
    }
    shown
}

/// The number that follows `mark`, as in "jobid: 12".
pub(crate) fn number_after(text: &str, mark: &str) -> Option<u32> {
    let (_, rest) = text.split_once(mark)?;
    let digits: String = rest
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

/// The path in "FILE: /tmp/doc5.tif (Opening new data connection)."
pub(crate) fn file(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("FILE: ")?;
    let path = rest.split_whitespace().next()?.trim_end_matches(").");
    path.starts_with('/').then(|| path.to_owned())
}

/// The port in "227 Entering passive mode (127,0,0,1,200,15)" or in "229 … (|||51215|)".
pub(crate) fn passive_port(reply: &Reply) -> Option<u16> {
    let (_, rest) = reply.text.rsplit_once('(')?;
    let (inside, _) = rest.split_once(')')?;
    if reply.code == 229 {
        return inside.trim_matches('|').parse().ok();
    }
    let parts: Vec<u8> = inside
        .split(',')
        .map(|part| part.trim().parse().ok())
        .collect::<Option<_>>()?;
    let [_, _, _, _, high, low] = parts[..] else {
        return None;
    };
    Some(u16::from_be_bytes([high, low])).filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply(code: u16, text: &str) -> Reply {
        Reply {
            code,
            text: text.to_owned(),
        }
    }

    fn read(lines: &[&str]) -> Result<Vec<Reply>, &'static str> {
        let mut assembly = Assembly::default();
        let mut replies = Vec::new();
        for line in lines {
            replies.extend(assembly.line(line)?);
        }
        Ok(replies)
    }

    #[test]
    fn replies_of_one_and_of_many_lines() {
        let lines = [
            "130 Warning, no inverse address mapping.",
            "220 host server (HylaFAX (tm) Version 6.0.7) ready.",
            "217-Job state: jobid 5 groupid 5",
            "    STATE: DONE",
            "217-still",
            "500 not the end",
            "217 End of job 5 state.",
            "230",
        ];
        let expected = [
            reply(130, "Warning, no inverse address mapping."),
            reply(220, "host server (HylaFAX (tm) Version 6.0.7) ready."),
            reply(217, "End of job 5 state."),
            reply(230, ""),
        ];
        assert_eq!(read(&lines), Ok(expected.to_vec()));
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for line in [
            "",
            "hello",
            "22",
            "2200 ready",
            "999 x",
            "099 x",
            "SSH-2.0-x",
            "2é0 x",
        ] {
            assert!(read(&[line]).is_err(), "{line}");
        }
        let mut assembly = Assembly::default();
        let endless = (0..2 * MOST_LINES).map(|_| assembly.line("200-more"));
        assert!(endless.into_iter().any(|read| read.is_err()));
    }

    #[test]
    fn strings_stay_one_string() {
        assert_eq!(quoted("Angebot"), "\"Angebot\"");
        assert_eq!(quoted("a\"b\\c\r\nJKILL 1\0"), "\"a\\\"b\\\\c  JKILL 1 \"");
    }

    #[test]
    fn values_are_found() {
        let text = "New job created: jobid: 12 groupid: 12.";
        assert_eq!(number_after(text, "jobid:"), Some(12));
        assert_eq!(number_after("nothing", "jobid:"), None);
        let text = "FILE: /tmp/doc5.tif (Opening new data connection).";
        assert_eq!(file(text).as_deref(), Some("/tmp/doc5.tif"));
        assert_eq!(
            file("Transfer complete (FILE: /tmp/doc5.tif).").as_deref(),
            Some("/tmp/doc5.tif")
        );
        assert_eq!(file("FILE: doc5.tif"), None);
        let passive = reply(227, "Entering passive mode (127,0,0,1,200,15)");
        assert_eq!(passive_port(&passive), Some(51215));
        let extended = reply(229, "Entering Extended Passive Mode (|||51215|)");
        assert_eq!(passive_port(&extended), Some(51215));
        for wrong in [
            "(127,0,0,1,200)",
            "(1,2,3,4,5,600)",
            "(1,2,3,4,0,0)",
            "none",
            "(",
            ")(",
        ] {
            assert_eq!(passive_port(&reply(227, wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn numbers_are_hidden() {
        assert_eq!(
            masked("Job 12345 to 0561123456 failed"),
            "Job 12345 to … failed"
        );
        assert_eq!(masked("495611234567"), "…");
    }

    proptest! {
        #[test]
        fn nothing_panics(line in ".{0,40}") {
            let _ = read(&[&line]);
            let _ = passive_port(&reply(227, &line));
            let _ = (file(&line), number_after(&line, ":"), masked(&line));
            let quoted = quoted(&line);
            prop_assert!(!quoted.contains(['\r', '\n', '\0']));
        }
    }
}
