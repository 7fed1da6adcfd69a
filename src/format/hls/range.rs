//! Byte ranges and other numbers as playlists write them: exact, or refused.

use super::playlist::SubRange;

/// A range as written: the offset may have to be worked out.
#[derive(Clone, Copy)]
pub(super) struct WrittenRange {
    pub(super) length: u64,
    pub(super) offset: Option<u64>,
}

impl WrittenRange {
    /// `length` or `length@offset`.
    pub(super) fn read(text: &str) -> Result<WrittenRange, String> {
        let text = text.trim();
        let (length, offset) = match text.split_once('@') {
            Some((length, offset)) => (length, Some(offset)),
            None => (text, None),
        };
        let wrong = || "a byte range is no numbers of 64 bits".to_owned();
        let length = integer(length)
            .filter(|length| *length > 0)
            .ok_or_else(wrong)?;
        let offset = match offset {
            Some(offset) => Some(integer(offset).ok_or_else(wrong)?),
            None => None,
        };
        Ok(WrittenRange { length, offset })
    }

    /// The range with its offset: its own, else where the range before ended, if that was of the same file.
    pub(super) fn settle(
        self,
        url: &str,
        before: Option<&(String, u64)>,
    ) -> Result<SubRange, String> {
        let offset = match (self.offset, before) {
            (Some(offset), _) => offset,
            (None, Some((same, end))) if same == url => *end,
            (None, _) => {
                return Err(
                    "a byte range without an offset does not follow a range of the same resource"
                        .to_owned(),
                );
            }
        };
        offset
            .checked_add(self.length)
            .ok_or("a byte range ends beyond 64 bits")?;
        Ok(SubRange {
            offset,
            length: self.length,
        })
    }
}

pub(super) fn integer(text: &str) -> Option<u64> {
    let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_digits.then(|| text.parse().ok())?
}

pub(super) fn decimal(text: &str, why: &str) -> Result<f64, String> {
    let number: Option<f64> = text.trim().parse().ok();
    number
        .filter(|number| number.is_finite())
        .ok_or_else(|| why.to_owned())
}

/// A number of up to 128 bits: `0x` and hexadecimal digits.
pub(super) fn is_iv(text: &str) -> bool {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    digits.is_some_and(|digits| {
        (1..=32).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit())
    })
}
