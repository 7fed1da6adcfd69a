//! A type's name stands for one type in the whole crate.

use std::collections::BTreeMap;

use super::syntax::{Reader, code_tokens};

/// What every room may have of its own.
const COMMON: &[&str] = &["Error", "Settings", "Args"];

#[test]
fn every_type_has_a_name_of_its_own() {
    let doubled = doubled(&super::sources());
    assert!(doubled.is_empty(), "{}", doubled.join("\n"));
}

#[test]
fn a_name_of_two_types_is_noticed() {
    let one =
        "pub struct Error;\npub struct Range { to: u64 }\nimpl I for Range { type Item = u8; }";
    let count = |other: &str| {
        let sources = [("src/a.rs", one), ("src/b.rs", other)];
        let owned = sources.map(|(path, text)| (path.to_owned(), text.to_owned()));
        doubled(&owned).len()
    };
    for other in [
        "enum Range {}",
        "trait Range {}",
        "union Range {}",
        "type Range = u8;",
    ] {
        assert_eq!(count(other), 1, "{other}");
    }
    for other in [
        "pub enum Error {}\nstruct Ranges;\nimpl I for Ranges { type Item = u8; }",
        "// struct Range;\nconst TEXT: &str = \"struct Range;\";",
        "#[cfg(test)]\nmod tests {\n    struct Range;\n}",
    ] {
        assert_eq!(count(other), 0, "{other}");
    }
}

/// One complaint for each name that stands for several types.
fn doubled(sources: &[(String, String)]) -> Vec<String> {
    let mut places = BTreeMap::<String, Vec<&str>>::new();
    let is_test = |path: &str| path.ends_with("tests.rs") || path.contains("/tests/");
    for (path, text) in sources.iter().filter(|(path, _)| !is_test(path)) {
        for name in Reader::new(path, &code_tokens(text)).types {
            places.entry(name).or_default().push(path);
        }
    }
    places
        .into_iter()
        .filter(|(name, places)| places.len() > 1 && !COMMON.contains(&name.as_str()))
        .map(|(name, places)| format!("`{name}` stands for types in {places:?}"))
        .collect()
}
