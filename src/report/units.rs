//! Times and sizes as people read them.

use jiff::{SignedDuration, Timestamp};

/// How long a deadline leaves, in words; `None` without one.
pub fn time_left(deadline: Option<Timestamp>, now: Timestamp) -> Option<String> {
    let left = deadline?.duration_since(now);
    if left.is_negative() {
        return Some("deadline passed".to_owned());
    }
    Some(format!("{} left", duration(left)))
}

/// A length of time in its two largest units: `6d 23h`, `4m 10s`, `0s`.
pub fn duration(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let first = units.iter().position(|(n, _)| *n > 0).unwrap_or(3);
    let shown: Vec<_> = units[first..]
        .iter()
        .take(2)
        .enumerate()
        .filter(|(at, (n, _))| *at == 0 || *n > 0)
        .map(|(_, (n, unit))| format!("{n}{unit}"))
        .collect();
    shown.join(" ")
}

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// A number of bytes in a unit that people read: `13.3 MiB`.
pub fn bytes(count: u64) -> String {
    let unit = unit_of(count);
    format!("{} {}", in_unit(count, unit), UNITS[unit])
}

/// A part of a number of bytes, both in the unit of the whole: `1.5/13.3 MiB`.
pub fn bytes_of(done: u64, total: u64) -> String {
    let unit = unit_of(total.max(done));
    let (done, total) = (in_unit(done, unit), in_unit(total, unit));
    format!("{done}/{total} {}", UNITS[unit])
}

fn unit_of(count: u64) -> usize {
    let mut value = count as f64;
    let mut unit = 0;
    // What would be shown as 1024.0 is 1.0 of the next.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    unit
}

fn in_unit(count: u64, unit: usize) -> String {
    match unit {
        0 => count.to_string(),
        _ => format!("{:.1}", count as f64 / 1024f64.powi(unit as i32)),
    }
}
