//! Readers for values that may also come as text, since every environment variable is text.
//!
//! Their errors say what was expected and never repeat the value, which may be a secret in the wrong place.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use secrecy::SecretString;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// One value, by its own type or as text.
struct Scalar<T>(T);

/// What a scalar can be read from.
trait FromToml: Sized {
    const EXPECTED: &'static str;
    fn from_text(text: &str) -> Option<Self>;
    fn from_bool(_: bool) -> Option<Self> {
        None
    }
    fn from_integer(_: i64) -> Option<Self> {
        None
    }
}

impl FromToml for bool {
    const EXPECTED: &'static str = "expected true or false";
    fn from_text(text: &str) -> Option<bool> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        }
    }
    fn from_bool(value: bool) -> Option<bool> {
        Some(value)
    }
}

impl FromToml for u32 {
    const EXPECTED: &'static str = "expected a whole number";
    fn from_text(text: &str) -> Option<u32> {
        text.trim().parse().ok()
    }
    fn from_integer(value: i64) -> Option<u32> {
        value.try_into().ok()
    }
}

impl FromToml for SecretString {
    const EXPECTED: &'static str = "expected text in quotes";
    fn from_text(text: &str) -> Option<SecretString> {
        Some(text.to_owned().into())
    }
}

impl FromToml for String {
    const EXPECTED: &'static str = "expected text in quotes";
    fn from_text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }
}

impl FromToml for ipnet::IpNet {
    const EXPECTED: &'static str = "expected a network such as \"10.0.0.0/8\"";
    fn from_text(text: &str) -> Option<ipnet::IpNet> {
        let address = || std::net::IpAddr::from_str(text).ok().map(Into::into);
        ipnet::IpNet::from_str(text).ok().or_else(address)
    }
}

struct ScalarVisitor<T>(PhantomData<T>);

fn or_expected<T: FromToml, E: Error>(value: Option<T>) -> Result<T, E> {
    value.ok_or_else(|| E::custom(T::EXPECTED))
}

impl<'de, T: FromToml> Visitor<'de> for ScalarVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED.trim_start_matches("expected "))
    }
    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        or_expected(T::from_bool(value))
    }
    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        or_expected(T::from_integer(value))
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<T, E> {
        or_expected(None)
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<T, E> {
        or_expected(T::from_text(value))
    }
}

impl<'de, T: FromToml> Deserialize<'de> for Scalar<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(ScalarVisitor(PhantomData))
            .map(Scalar)
    }
}

struct ListVisitor<T>(PhantomData<T>);

impl<'de, T: FromToml> Visitor<'de> for ListVisitor<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, or text with commas")
    }
    fn visit_str<E: Error>(self, value: &str) -> Result<Vec<T>, E> {
        value
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| or_expected(T::from_text(item)))
            .collect()
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(Scalar(item)) = items.next_element::<Scalar<T>>()? {
            list.push(item);
        }
        Ok(list)
    }
    fn visit_bool<E: Error>(self, _: bool) -> Result<Vec<T>, E> {
        Err(E::custom("expected a list, or text with commas"))
    }
    fn visit_i64<E: Error>(self, _: i64) -> Result<Vec<T>, E> {
        Err(E::custom("expected a list, or text with commas"))
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<Vec<T>, E> {
        Err(E::custom("expected a list, or text with commas"))
    }
}

pub(super) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Scalar::deserialize(deserializer).map(|Scalar(value)| value)
}

pub(super) fn optional_boolean<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<bool>, D::Error> {
    boolean(deserializer).map(Some)
}

pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    Scalar::deserialize(deserializer).map(|Scalar(value)| value)
}

pub(super) fn optional_number<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u32>, D::Error> {
    number(deserializer).map(Some)
}

pub(super) fn secret<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SecretString>, D::Error> {
    Scalar::deserialize(deserializer).map(|Scalar(value)| Some(value))
}

pub(super) fn secrets<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SecretString>, D::Error> {
    deserializer.deserialize_any(ListVisitor(PhantomData))
}

pub(super) fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_any(ListVisitor(PhantomData))
}

pub(super) fn networks<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<ipnet::IpNet>, D::Error> {
    deserializer.deserialize_any(ListVisitor(PhantomData))
}
