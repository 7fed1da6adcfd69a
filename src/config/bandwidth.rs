//! `limits.bandwidth`: one rate, or rates by time of day.

use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::ByteSize;

/// The slowest rate that is accepted, in bytes per second: with less no recording would come before its URL's end.
pub(super) const MIN_BANDWIDTH: u64 = 64 * 1024;

const MINUTES: u16 = 24 * 60;

/// Bytes a second for all downloads together; none outside of its windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth(pub Vec<BandwidthWindow>);

/// A time of day (UTC) and what holds in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BandwidthWindow {
    /// The first minute of the day.
    pub from_minute: u16,
    /// The minute after the last one; before `from_minute` when it ends the next day.
    pub to_minute: u16,
    /// Bytes per second.
    pub rate: ByteSize,
}

impl BandwidthWindow {
    /// `08:00-18:00 2 MiB`, or the rate alone for the whole day.
    fn parse(text: &str) -> Option<BandwidthWindow> {
        let text = text.trim();
        let (from_minute, to_minute, rate) = match text.split_once('-') {
            None => (0, MINUTES, text),
            Some((from, rest)) => {
                let (to, rate) = rest.trim_start().split_once(' ')?;
                (minute(from)?, minute(to)?, rate)
            }
        };
        let is_empty = from_minute == to_minute;
        let rate: ByteSize = rate.parse().ok()?;
        (!is_empty).then_some(BandwidthWindow {
            from_minute,
            to_minute,
            rate,
        })
    }
}

/// Minutes since midnight; `24:00` is the end of the day.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let at = hour.checked_mul(60)?.checked_add(minute)?;
    (minute < 60 && at <= MINUTES).then_some(at)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum BandwidthText {
    Number(u64),
    Text(String),
    List(Vec<String>),
}

impl<'de> Deserialize<'de> for Bandwidth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "expected bytes a second such as \"10 MiB\", or a list such as [\"08:00-18:00 2 MiB\"] (UTC)";
        let expected = || D::Error::custom(EXPECTED);
        let texts = match BandwidthText::deserialize(deserializer).map_err(|_| expected())? {
            BandwidthText::Number(number) => vec![number.to_string()],
            // As the environment writes a list.
            BandwidthText::Text(text) => text.split(',').map(str::to_owned).collect(),
            BandwidthText::List(texts) => texts,
        };
        let texts = texts.iter().filter(|text| !text.trim().is_empty());
        let windows: Option<Vec<_>> = texts.map(|text| BandwidthWindow::parse(text)).collect();
        windows.map(Bandwidth).ok_or_else(expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<Vec<(u16, u16, u64)>> {
        #[derive(Deserialize)]
        struct Table {
            bandwidth: Bandwidth,
        }
        let table: Table = toml::from_str(&format!("bandwidth = {value}")).ok()?;
        let windows = table.bandwidth.0.iter();
        Some(
            windows
                .map(|w| (w.from_minute, w.to_minute, w.rate.0))
                .collect(),
        )
    }

    #[test]
    fn one_rate_or_rates_by_time_of_day() {
        for (value, windows) in [
            ("1048576", vec![(0, 1440, 1 << 20)]),
            ("\"1 MiB\"", vec![(0, 1440, 1 << 20)]),
            ("\"\"", vec![]),
            (
                "[\"08:00-18:30 2 MiB\", \"22:00-6:00 4MiB\"]",
                vec![(480, 1110, 2 << 20), (1320, 360, 4 << 20)],
            ),
            (
                "\"08:00-18:00 2 MiB, 18:00-24:00 1 MiB\"",
                vec![(480, 1080, 2 << 20), (1080, 1440, 1 << 20)],
            ),
        ] {
            assert_eq!(read(value), Some(windows), "{value}");
        }
        for value in [
            "\"fast\"",
            "\"8-18 1 MiB\"",
            "\"08:00-08:00 1 MiB\"",
            "\"08:00-25:00 1 MiB\"",
            "[1]",
            "true",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
    }
}
