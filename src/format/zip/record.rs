//! The records of a ZIP archive, as bytes.

pub(super) const LOCAL: u32 = 0x0403_4b50;
pub(super) const CENTRAL: u32 = 0x0201_4b50;
pub(super) const DESCRIPTOR: u32 = 0x0807_4b50;
pub(super) const END: u32 = 0x0605_4b50;
pub(super) const END_64: u32 = 0x0606_4b50;
pub(super) const LOCATOR_64: u32 = 0x0706_4b50;

/// How long a record is, as far as its beginning tells.
pub(super) fn record_length(record: &[u8]) -> Result<usize, String> {
    if record.len() < 4 {
        return Ok(4);
    }
    let fixed = match u32_at(record, 0) {
        LOCAL => 30,
        CENTRAL => 46,
        END => 22,
        END_64 => 56,
        LOCATOR_64 => 20,
        _ => return Err("what follows an entry is neither another one nor a directory".to_owned()),
    };
    if record.len() < fixed {
        return Ok(fixed);
    }
    let length = |at| usize::from(u16_at(record, at));
    Ok(match u32_at(record, 0) {
        LOCAL => fixed + length(26) + length(28),
        CENTRAL => fixed + length(28) + length(30) + length(32),
        END => fixed + length(20),
        END_64 => {
            let told = usize::try_from(u64_at(record, 4)).unwrap_or(usize::MAX);
            // No more than a header's extra field may have.
            let told = told
                .checked_add(12)
                .filter(|told| (56..=65_535).contains(told));
            told.ok_or("its end record has an impossible length")?
        }
        _ => fixed,
    })
}

/// How many entries the end record of an archive tells, of which `tail` is the end; `None` where it tells so many
/// that another record has the number, or where there is no end record.
pub fn told_entries(tail: &[u8]) -> Option<u16> {
    let last = tail.len().checked_sub(22)?;
    let at = (0..=last).rev().find(|at| {
        let record = &tail[*at..];
        u32_at(record, 0) == END && usize::from(u16_at(record, 20)) == record.len() - 22
    })?;
    Some(u16_at(&tail[at..], 10)).filter(|told| *told != u16::MAX)
}

/// The length and the packed length, from the extra field where 32 bits were not enough.
pub(super) fn real_sizes(sizes: [u32; 2], extra: &[u8]) -> Result<(u64, u64), String> {
    let [bytes, packed, _] = real_numbers([sizes[0], sizes[1], 0], extra)?;
    Ok((bytes, packed))
}

/// Numbers of 32 bits, each of which may stand in the ZIP64 extra field instead, in this order.
pub(super) fn real_numbers(short: [u32; 3], extra: &[u8]) -> Result<[u64; 3], String> {
    let mut wide = zip64(extra);
    let mut numbers = [0; 3];
    for (number, short) in numbers.iter_mut().zip(short) {
        *number = u64::from(short);
        if short == u32::MAX {
            let (value, rest) = wide
                .split_first_chunk::<8>()
                .ok_or("a length of 64 bits is missing")?;
            *number = u64::from_le_bytes(*value);
            wide = rest;
        }
    }
    Ok(numbers)
}

/// The content of the ZIP64 extra field; empty without one.
fn zip64(mut extra: &[u8]) -> &[u8] {
    while extra.len() >= 4 {
        let length = usize::from(u16_at(extra, 2));
        let Some(content) = extra.get(4..4 + length) else {
            break;
        };
        if u16_at(extra, 0) == 1 {
            return content;
        }
        extra = &extra[4 + length..];
    }
    &[]
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |value| u16::from_le_bytes(*value))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |value| u32::from_le_bytes(*value))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map_or(0, |value| u64::from_le_bytes(*value))
}
