//! Segmented WebVTT joined into one file on one clock (RFC 8216 section 3.5).
//!
//! Each segment tells by X-TIMESTAMP-MAP which instant of the media clock its own zero is. The joined
//! file counts from the media clock's first instant, as a player does.

use std::collections::HashSet;
use std::fmt::Write as _;

/// Ticks of the MPEG-2 clock in a millisecond, and the bits after which it starts anew.
const TICKS_PER_MS: i64 = 90;
const CLOCK_BITS: u32 = 33;

/// Joins segments in order. `media_start` is the media clock's reading (90 kHz) at the beginning of the
/// presentation; `None` takes that of the first segment's map.
pub fn join_webvtt<'a>(
    segments: impl IntoIterator<Item = &'a str>,
    media_start: Option<u64>,
) -> String {
    let mut out = String::from("WEBVTT\n");
    let mut seen = HashSet::new();
    let mut start = media_start;
    for segment in segments {
        let segment = segment.trim_start_matches('\u{feff}').replace("\r\n", "\n");
        let segment = segment.replace('\r', "\n");
        let mut shift_ms = 0;
        for (index, block) in segment.split("\n\n").enumerate() {
            let block = block.trim_matches('\n');
            if index == 0 && block.starts_with("WEBVTT") {
                if let Some((local_ms, ticks)) = timestamp_map(block) {
                    let start = *start.get_or_insert(ticks);
                    shift_ms = clock_distance(start, ticks) / TICKS_PER_MS - local_ms;
                }
                continue;
            }
            if block.trim().is_empty() || block.starts_with("NOTE") {
                continue;
            }
            let block = shifted(block, shift_ms);
            // A cue that reaches over a border stands in both segments.
            if seen.insert(block.clone()) {
                let _ = write!(out, "\n{block}\n");
            }
        }
    }
    out
}

/// LOCAL in milliseconds and MPEGTS in ticks.
fn timestamp_map(header: &str) -> Option<(i64, u64)> {
    let map = header
        .lines()
        .find_map(|line| line.strip_prefix("X-TIMESTAMP-MAP="))?;
    let mut local = None;
    let mut ticks = None;
    for pair in map.split(',') {
        match pair.trim().split_once(':') {
            Some(("LOCAL", time)) => local = read_time(time),
            Some(("MPEGTS", number)) => ticks = number.trim().parse().ok(),
            _ => {}
        }
    }
    Some((local?, ticks?))
}

/// From `start` to `ticks` on a clock that starts anew: the shorter way.
fn clock_distance(start: u64, ticks: u64) -> i64 {
    let period = 1i64 << CLOCK_BITS;
    let modulo = |value: u64| i64::try_from(value % (1 << CLOCK_BITS)).unwrap_or(0);
    let distance = modulo(ticks) - modulo(start);
    if distance > period / 2 {
        distance - period
    } else if distance < -period / 2 {
        distance + period
    } else {
        distance
    }
}

/// A block with its cue times moved; one that is no cue stays as it is.
fn shifted(block: &str, shift_ms: i64) -> String {
    let lines = block.lines().map(|line| {
        let times = line.split_once("-->").and_then(|(start, rest)| {
            let rest = rest.trim_start();
            let (end, settings) =
                rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
            Some((read_time(start)?, read_time(end)?, settings))
        });
        match times {
            Some((start, end, settings)) => {
                let (start, end) = (write_time(start + shift_ms), write_time(end + shift_ms));
                format!("{start} --> {end}{settings}")
            }
            None => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// `[hh:]mm:ss.mmm` in milliseconds.
fn read_time(text: &str) -> Option<i64> {
    let (whole, fraction) = text.trim().split_once('.')?;
    let fraction: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let mut seconds = 0i64;
    for part in whole.split(':') {
        let number: i64 = part.parse().ok().filter(|number| *number >= 0)?;
        seconds = seconds.checked_mul(60)?.checked_add(number)?;
    }
    seconds.checked_mul(1000)?.checked_add(fraction)
}

fn write_time(ms: i64) -> String {
    let ms = ms.max(0);
    let (seconds, ms) = (ms / 1000, ms % 1000);
    let (minutes, seconds) = (seconds / 60, seconds % 60);
    let (hours, minutes) = (minutes / 60, minutes % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}.{ms:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_with_clocks_of_their_own_become_one() {
        let first = "\u{feff}WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:900000\n\n\
                     1\n00:01.000 --> 00:07.000 align:start\nhello\n";
        let second = "WEBVTT\r\nX-TIMESTAMP-MAP=MPEGTS:1440000,LOCAL:00:00:00.000\r\n\r\n\
                      00:00:02.500 --> 00:00:03.000\r\nworld\r\n";
        assert_eq!(
            join_webvtt([first, second], None),
            "WEBVTT\n\n1\n00:00:01.000 --> 00:00:07.000 align:start\nhello\n\n\
             00:00:08.500 --> 00:00:09.000\nworld\n"
        );
        assert!(
            join_webvtt([first], Some(891_000)).contains("00:00:01.100 --> 00:00:07.100"),
            "the media began 0.1 s before"
        );
    }

    #[test]
    fn a_cue_in_two_segments_stands_once_and_the_clock_may_start_anew() {
        let cue = "00:05.000 --> 00:07.000\nsame\n";
        let same = format!("WEBVTT\n\n{cue}");
        assert_eq!(
            join_webvtt([&*same, &*same], None).matches("same").count(),
            1
        );
        let last = (1u64 << 33) - 90_000;
        let first = format!("WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:{last}\n\n{cue}");
        let second = format!("WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:90000\n\n{cue}");
        let joined = join_webvtt([&*first, &*second], None);
        assert!(joined.contains("00:00:07.000 --> 00:00:09.000"), "{joined}");
    }
}
