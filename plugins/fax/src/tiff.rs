//! Whether a TIFF file can go over the telephone as it is: Class F (RFC 2301, profile S and F), black
//! and white, 1,728 dots wide, CCITT group 3 or 4, every page in the same resolution.
//!
//! Reads directories alone, never pictures, and trusts no offset: a file that points outside of
//! itself, or in circles, is refused.

use schemars::JsonSchema;
use serde::Deserialize;

/// Dots in a line of A4, at 204 dots per inch.
pub(crate) const WIDTH: u32 = 1728;
/// Longest page, in lines: two of A4 in fine resolution.
const LONGEST: u32 = 2 * 2292;

/// Lines per inch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Resolution {
    /// 204 × 98: half the time on the telephone; small print suffers.
    Standard,
    /// 204 × 196.
    #[default]
    Fine,
}

impl Resolution {
    /// Lines per inch.
    pub(crate) fn lines(self) -> u32 {
        match self {
            Self::Standard => 98,
            Self::Fine => 196,
        }
    }

    /// Lines of a page of A4.
    pub(crate) fn page(self) -> u32 {
        match self {
            Self::Standard => 1146,
            Self::Fine => 2292,
        }
    }
}

/// What a file is that can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) pages: u32,
    pub(crate) resolution: Resolution,
}

/// Why a file cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It has more pages than the limit, how many was not counted.
    TooManyPages,
    /// It is no file for a fax: why.
    Unfit(&'static str),
}

/// Checks a file of at most `most` pages.
pub(crate) fn check(file: &[u8], most: u32) -> Result<Checked, Refused> {
    let reader = Reader::new(file).ok_or(Refused::Unfit("it is no TIFF file"))?;
    let cut = Refused::Unfit("it is cut off or damaged");
    let mut at = reader.long(4).ok_or(cut.clone())?;
    let mut pages = 0;
    let mut resolution = None;
    while at != 0 {
        if pages == most {
            return Err(Refused::TooManyPages);
        }
        let directory = Directory::read(&reader, at).ok_or(cut.clone())?;
        let lines = directory.check().map_err(Refused::Unfit)?;
        if *resolution.get_or_insert(lines) != lines {
            return Err(Refused::Unfit("its pages differ in resolution"));
        }
        pages += 1;
        at = directory.next;
    }
    let resolution = resolution.ok_or(Refused::Unfit("it has no pages"))?;
    Ok(Checked { pages, resolution })
}

/// Reads numbers in the order of bytes of the file.
struct Reader<'a> {
    file: &'a [u8],
    little: bool,
}

impl<'a> Reader<'a> {
    fn new(file: &'a [u8]) -> Option<Self> {
        let little = match file.get(..2)? {
            b"II" => true,
            b"MM" => false,
            _ => return None,
        };
        let reader = Self { file, little };
        (reader.short(2)? == 42).then_some(reader)
    }

    fn bytes<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let at = usize::try_from(at).ok()?;
        self.file.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn short(&self, at: u32) -> Option<u32> {
        let bytes = self.bytes(at)?;
        Some(u32::from(if self.little {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        }))
    }

    fn long(&self, at: u32) -> Option<u32> {
        let bytes = self.bytes(at)?;
        Some(if self.little {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        })
    }
}

/// One page.
struct Directory<'a> {
    reader: &'a Reader<'a>,
    at: u32,
    entries: u32,
    /// Where the next page is; 0 after the last.
    next: u32,
}

/// The fields of TIFF that matter here.
mod tag {
    pub(super) const WIDTH: u32 = 256;
    pub(super) const LENGTH: u32 = 257;
    pub(super) const BITS_PER_SAMPLE: u32 = 258;
    pub(super) const COMPRESSION: u32 = 259;
    pub(super) const STRIP_OFFSETS: u32 = 273;
    pub(super) const SAMPLES_PER_PIXEL: u32 = 277;
    pub(super) const STRIP_BYTES: u32 = 279;
    pub(super) const Y_RESOLUTION: u32 = 283;
    pub(super) const RESOLUTION_UNIT: u32 = 296;
}

impl<'a> Directory<'a> {
    fn read(reader: &'a Reader<'a>, at: u32) -> Option<Self> {
        let entries = reader.short(at)?;
        let end = at.checked_add(2 + entries * 12)?;
        let next = reader.long(end)?;
        Some(Self {
            reader,
            at,
            entries,
            next,
        })
    }

    /// Type, count and where the values are of a field.
    fn field(&self, tag: u32) -> Option<(u32, u32, u32)> {
        let entry = (0..self.entries)
            .map(|n| self.at + 2 + n * 12)
            .find(|entry| self.reader.short(*entry) == Some(tag))?;
        let (sort, count) = (self.reader.short(entry + 2)?, self.reader.long(entry + 4)?);
        let size = match sort {
            3 => 2,
            4 => 4,
            5 => 8,
            _ => return None,
        };
        // Up to four bytes lie in the entry itself.
        let values = if count.checked_mul(size)? <= 4 {
            entry + 8
        } else {
            self.reader.long(entry + 8)?
        };
        Some((sort, count, values))
    }

    fn value(&self, tag: u32, index: u32) -> Option<u32> {
        let (sort, count, values) = self.field(tag)?;
        match sort {
            _ if index >= count => None,
            3 => self.reader.short(values.checked_add(index * 2)?),
            4 => self.reader.long(values.checked_add(index.checked_mul(4)?)?),
            _ => None,
        }
    }

    fn number(&self, tag: u32, default: u32) -> u32 {
        self.value(tag, 0).unwrap_or(default)
    }

    /// Lines per inch.
    fn lines(&self) -> Option<f64> {
        let (5, 1, at) = self.field(tag::Y_RESOLUTION)? else {
            return None;
        };
        let (above, below) = (self.reader.long(at)?, self.reader.long(at.checked_add(4)?)?);
        let per_unit = f64::from(above) / f64::from(below);
        match self.number(tag::RESOLUTION_UNIT, 2) {
            2 => Some(per_unit),
            3 => Some(per_unit * 2.54),
            _ => None,
        }
    }

    fn check(&self) -> Result<Resolution, &'static str> {
        if self.number(tag::BITS_PER_SAMPLE, 1) != 1 || self.number(tag::SAMPLES_PER_PIXEL, 1) != 1
        {
            return Err("a page is not black and white");
        }
        if !matches!(self.number(tag::COMPRESSION, 1), 3 | 4) {
            return Err("a page is not compressed by CCITT group 3 or 4");
        }
        if self.number(tag::WIDTH, 0) != WIDTH {
            return Err("a page is not 1728 dots wide");
        }
        if !(1..=LONGEST).contains(&self.number(tag::LENGTH, 0)) {
            return Err("a page is empty or too long");
        }
        if !self.strips_are_inside() {
            return Err("it is cut off or damaged");
        }
        // 98 and 196 by the book, 100 and 200 in the field.
        match self.lines() {
            Some(lines) if (95.0..=102.0).contains(&lines) => Ok(Resolution::Standard),
            Some(lines) if (190.0..=204.0).contains(&lines) => Ok(Resolution::Fine),
            _ => Err("a page has neither 98 nor 196 lines per inch"),
        }
    }

    fn strips_are_inside(&self) -> bool {
        let Some((_, count, _)) = self.field(tag::STRIP_OFFSETS) else {
            return false;
        };
        let inside = |index| {
            let at = self.value(tag::STRIP_OFFSETS, index)?;
            let bytes = self.value(tag::STRIP_BYTES, index)?;
            let end = usize::try_from(at.checked_add(bytes)?).ok()?;
            Some(bytes > 0 && end <= self.reader.file.len())
        };
        (1..=LONGEST).contains(&count) && (0..count).all(|index| inside(index) == Some(true))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file with pages of these lines per inch, each of one strip of four bytes.
    pub(crate) fn file(pages: &[u32]) -> Vec<u8> {
        with(pages, &[])
    }

    /// The same with other values in fields.
    fn with(pages: &[u32], changed: &[(u32, u32)]) -> Vec<u8> {
        let mut file = b"II*\0\x08\0\0\0".to_vec();
        for (index, lines) in pages.iter().enumerate() {
            let at = u32::try_from(file.len()).unwrap();
            let fields = [
                (tag::WIDTH, 4, WIDTH),
                (tag::LENGTH, 4, 1000),
                (tag::BITS_PER_SAMPLE, 3, 1),
                (tag::COMPRESSION, 3, 4),
                (tag::STRIP_OFFSETS, 4, 0),
                (tag::SAMPLES_PER_PIXEL, 3, 1),
                (tag::STRIP_BYTES, 4, 4),
                (tag::Y_RESOLUTION, 5, 0),
                (tag::RESOLUTION_UNIT, 3, 2),
            ];
            let end = at + 2 + 12 * u32::try_from(fields.len()).unwrap() + 4;
            file.extend(u16::try_from(fields.len()).unwrap().to_le_bytes());
            for (tag, sort, value) in fields {
                let value = match tag {
                    tag::STRIP_OFFSETS => end + 8,
                    tag::Y_RESOLUTION => end,
                    _ => value,
                };
                let other = changed.iter().find(|(changed, _)| *changed == tag);
                let value = other.map_or(value, |(_, value)| *value);
                file.extend(u16::try_from(tag).unwrap().to_le_bytes());
                file.extend(u16::try_from(sort).unwrap().to_le_bytes());
                file.extend(1_u32.to_le_bytes());
                file.extend(value.to_le_bytes());
            }
            let last = index + 1 == pages.len();
            file.extend(if last { 0 } else { end + 12 }.to_le_bytes());
            file.extend(lines.to_le_bytes());
            file.extend(1_u32.to_le_bytes());
            file.extend([0x26, 0xa0, 0x00, 0x10]);
        }
        file
    }

    #[test]
    fn pages_are_counted() {
        let fine = Checked {
            pages: 3,
            resolution: Resolution::Fine,
        };
        assert_eq!(check(&file(&[196, 196, 196]), 3), Ok(fine));
        let standard = Checked {
            pages: 1,
            resolution: Resolution::Standard,
        };
        assert_eq!(check(&file(&[98]), 3), Ok(standard));
        assert_eq!(check(&file(&[100]), 3), Ok(standard));
        assert_eq!(check(&file(&[196; 4]), 3), Err(Refused::TooManyPages));
    }

    #[test]
    fn what_no_fax_can_send_is_refused() {
        for (changed, why) in [
            ((tag::WIDTH, 2480), "a page is not 1728 dots wide"),
            ((tag::LENGTH, 0), "a page is empty or too long"),
            ((tag::BITS_PER_SAMPLE, 8), "a page is not black and white"),
            (
                (tag::COMPRESSION, 5),
                "a page is not compressed by CCITT group 3 or 4",
            ),
            ((tag::STRIP_OFFSETS, 4000), "it is cut off or damaged"),
            ((tag::STRIP_BYTES, u32::MAX), "it is cut off or damaged"),
            (
                (tag::RESOLUTION_UNIT, 1),
                "a page has neither 98 nor 196 lines per inch",
            ),
        ] {
            assert_eq!(
                check(&with(&[196], &[changed]), 9),
                Err(Refused::Unfit(why))
            );
        }
        let mixed = Refused::Unfit("its pages differ in resolution");
        assert_eq!(check(&file(&[196, 98]), 9), Err(mixed));
        for (bytes, why) in [
            (&b"%PDF-1.7"[..], "it is no TIFF file"),
            (b"", "it is no TIFF file"),
            (b"II*\0\0\0\0\0", "it has no pages"),
            (b"II*\0\xff\xff\xff\xff", "it is cut off or damaged"),
        ] {
            assert_eq!(check(bytes, 9), Err(Refused::Unfit(why)));
        }
    }

    #[test]
    fn circles_end() {
        let mut file = file(&[196]);
        // The directory has 9 fields; what comes after it leads back to it.
        let next = 8 + 2 + 9 * 12;
        file[next] = 8;
        assert_eq!(check(&file, 50), Err(Refused::TooManyPages));
    }

    proptest! {
        #[test]
        fn nothing_panics(cut in 0_usize..300, at in 0_usize..300, byte: u8) {
            let mut file = file(&[196, 196]);
            let last = file.len() - 1;
            file[at.min(last)] = byte;
            file.truncate(cut);
            let _ = check(&file, 5);
        }
    }
}
