//! What host and plugin process say to each other: a header of fixed size, then bytes.
//!
//! Both ends are the same program, so there is no version in it. Each side bounds what it takes,
//! and takes nothing else than what it knows: anything else is [`Garbage`], with which the
//! process ends.

use std::io::{self, Read};

/// Bytes of a header: length, kind, code, id, little-endian.
pub(crate) const HEADER: usize = 20;
/// Most bytes of one call that go to the plugin: a batch of mails with their documents.
pub(crate) const LARGEST_REQUEST: usize = 256 << 20;
/// Most bytes of a reply or an event that come from it: words about messages, not messages.
pub(crate) const LARGEST_REPLY: usize = 16 << 20;
/// The status of an open that failed in the plugin's initialisation; no status of the interface.
pub(crate) const INIT_FAILED: i32 = -1;
/// The code of a [`Kind::Credit`] that tells that nobody takes events any more.
pub(crate) const NO_MORE_EVENTS: i32 = -1;
/// The only instance of a process has this name there.
pub(crate) const INSTANCE: u64 = 1;

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To the process: take these limits (JSON), load the library, answer its manifest.
    Load = 1,
    /// To the process: open the instance with this configuration.
    Open = 2,
    /// To the process: a call; the code is the operation.
    Call = 3,
    /// To the process: drain, with the deadline in milliseconds as eight bytes.
    Drain = 4,
    /// To the process: close the instance and end.
    Close = 5,
    /// To the process: give a sign of life.
    Ping = 6,
    /// To the process: so many more events may come; the code is the number.
    Credit = 7,
    /// To the process: run a check of the conformance suite; the code says which.
    Check = 8,
    /// From the process: the call of this id was not taken; the code is the status.
    Refused = 9,
    /// From the process: the call of this id is over; the code is the status.
    Completed = 10,
    /// From the process: an event; the code is its kind.
    Event = 11,
    /// From the process: its counters.
    Counters = 12,
}

impl Kind {
    const ALL: [Kind; 12] = [
        Kind::Load,
        Kind::Open,
        Kind::Call,
        Kind::Drain,
        Kind::Close,
        Kind::Ping,
        Kind::Credit,
        Kind::Check,
        Kind::Refused,
        Kind::Completed,
        Kind::Event,
        Kind::Counters,
    ];

    fn to_process(self) -> bool {
        (self as u32) < Kind::Refused as u32
    }
}

/// Bytes that are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no frame: {0}")]
pub(crate) struct Garbage(pub(crate) String);

impl From<Garbage> for io::Error {
    fn from(garbage: Garbage) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, garbage)
    }
}

/// Which end reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The host.
    Host,
    /// The plugin's process.
    Process,
}

/// What stands before the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) code: i32,
    pub(crate) id: u64,
    /// Bytes that follow.
    pub(crate) len: usize,
}

impl Header {
    /// Its bytes. The length must be within its bound.
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let len = u32::try_from(self.len).expect("bounded far below 4 GiB");
        bytes[0..4].copy_from_slice(&len.to_le_bytes());
        bytes[4..8].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes[8..12].copy_from_slice(&self.code.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.id.to_le_bytes());
        bytes
    }

    /// Reads one, at that end.
    pub(crate) fn decode(bytes: &[u8; HEADER], at: End) -> Result<Self, Garbage> {
        let word = |from: usize| {
            let four = bytes[from..from + 4].try_into().expect("four bytes");
            u32::from_le_bytes(four)
        };
        let number = word(4);
        let kind = Kind::ALL.into_iter().find(|kind| *kind as u32 == number);
        let Some(kind) = kind.filter(|kind| kind.to_process() == (at == End::Process)) else {
            return Err(Garbage(format!("kind {number}")));
        };
        let most = match at {
            End::Host => LARGEST_REPLY,
            End::Process => LARGEST_REQUEST,
        };
        let len = usize::try_from(word(0)).expect("as large as 32 bits");
        if len > most {
            return Err(Garbage(format!("{len} bytes, more than {most}")));
        }
        let id = bytes[12..20].try_into().expect("eight bytes");
        Ok(Self {
            kind,
            code: i32::from_le_bytes(bytes[8..12].try_into().expect("four bytes")),
            id: u64::from_le_bytes(id),
            len,
        })
    }
}

/// Header and bytes in one piece.
pub(crate) fn whole(kind: Kind, code: i32, id: u64, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        kind,
        code,
        id,
        len: payload.len(),
    };
    let mut bytes = Vec::with_capacity(HEADER + payload.len());
    bytes.extend_from_slice(&header.encode());
    bytes.extend_from_slice(payload);
    bytes
}

/// Reads a frame; `None` at the end of the stream. The memory it takes grows with what arrives.
pub(crate) fn read(from: &mut impl Read, at: End) -> io::Result<Option<(Header, Vec<u8>)>> {
    let mut bytes = [0; HEADER];
    if from.by_ref().take(1).read(&mut bytes)? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut bytes[1..])?;
    let header = Header::decode(&bytes, at)?;
    let mut payload = Vec::new();
    from.by_ref()
        .take(header.len as u64)
        .read_to_end(&mut payload)?;
    if payload.len() < header.len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((header, payload)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = [
            whole(Kind::Completed, -7, u64::MAX, b"abc"),
            whole(Kind::Event, 1, 0, b""),
        ]
        .concat();
        let from = &mut &bytes[..];
        let (header, payload) = read(from, End::Host).unwrap().unwrap();
        assert_eq!((header.kind, header.code), (Kind::Completed, -7));
        assert_eq!((header.id, &payload[..]), (u64::MAX, &b"abc"[..]));
        let (header, payload) = read(from, End::Host).unwrap().unwrap();
        assert_eq!((header.kind, payload.len()), (Kind::Event, 0));
        assert!(read(from, End::Host).unwrap().is_none());
    }

    #[test]
    fn garbage_is_refused_before_anything_is_stored() {
        let refused = |bytes: &[u8], at| read(&mut &bytes[..], at).unwrap_err().kind();
        let invalid = io::ErrorKind::InvalidData;
        assert_eq!(refused(&[0xff; 64], End::Host), invalid);
        assert_eq!(refused(&[0; 64], End::Host), invalid);
        // Of the wrong direction.
        assert_eq!(refused(&whole(Kind::Ping, 0, 1, b""), End::Host), invalid);
        assert_eq!(
            refused(&whole(Kind::Event, 1, 1, b""), End::Process),
            invalid
        );
        // Too long.
        let mut long = whole(Kind::Event, 1, 1, b"");
        let len = u32::try_from(LARGEST_REPLY + 1).unwrap();
        long[0..4].copy_from_slice(&len.to_le_bytes());
        assert_eq!(refused(&long, End::Host), invalid);
        // Cut off.
        let cut = whole(Kind::Event, 1, 1, b"abc");
        for end in 1..cut.len() {
            let cut = refused(&cut[..end], End::Host);
            assert_eq!(cut, io::ErrorKind::UnexpectedEof, "{end}");
        }
    }
}
