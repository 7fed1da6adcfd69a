//! A length of time as people write it: `15m`, `2h`, `1d`.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};

/// A length of time of at least a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval(pub Duration);

impl Interval {
    fn parse(text: &str) -> Option<Interval> {
        let text = text.trim();
        let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(unit_at);
        let unit_seconds = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        let number: u32 = number.parse().ok()?;
        let seconds = u64::from(number) * unit_seconds;
        (seconds > 0).then(|| Interval(Duration::from_secs(seconds)))
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str =
            "expected a length of time in quotes, such as \"15m\", \"2h\" or \"1d\"";
        let text = String::deserialize(deserializer).map_err(|_| D::Error::custom(EXPECTED))?;
        Interval::parse(&text).ok_or_else(|| D::Error::custom(EXPECTED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_are_read_and_nothing_else() {
        for (text, seconds) in [("15m", 900), ("90 s", 90), (" 2h ", 7_200), ("1d", 86_400)] {
            assert_eq!(
                Interval::parse(text).unwrap().0.as_secs(),
                seconds,
                "{text}"
            );
        }
        for text in ["", "15", "m", "0m", "-1m", "1.5h", "1w", "99999999999s"] {
            assert!(Interval::parse(text).is_none(), "{text}");
        }
    }
}
