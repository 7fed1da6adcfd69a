//! The numbers in names of tests are those of `docs/faults.md`.

use std::collections::BTreeSet;

use super::{names_in, read, texts_under};

#[test]
fn the_list_of_faults_and_the_names_of_tests_agree() {
    let tests = test_names();
    let numbered: BTreeSet<&str> = tests
        .iter()
        .map(String::as_str)
        .filter(|name| fault_of(name).is_some())
        .collect();
    assert!(numbered.len() > 100, "{numbered:?}");
    let mut complaints = Vec::new();
    let list = read("docs/faults.md");
    let mut listed = BTreeSet::new();
    for section in list.split("\n### ").skip(1) {
        let heading = section.lines().next().unwrap();
        let named = names_in(section);
        assert!(!named.is_empty(), "docs/faults.md: {heading} names no test");
        for name in named {
            if !tests.contains(name) {
                complaints.push(format!("under {heading}: there is no test `{name}`"));
            }
            if fault_of(name).is_some_and(|fault| fault != heading) {
                complaints.push(format!("under {heading}: `{name}` is of another number"));
            }
            listed.insert(name);
        }
    }
    let unlisted = numbered.difference(&listed);
    complaints.extend(unlisted.map(|name| format!("add `{name}`")));
    assert!(complaints.is_empty(), "docs/faults.md: {complaints:#?}");
}

/// `f34` of `f34_a_body_that_stalls`, `t15` of `t15_no_secret` and of `threat_15_errors`.
fn fault_of(name: &str) -> Option<String> {
    let name = name
        .strip_prefix("threat_")
        .map_or_else(|| name.to_owned(), |rest| format!("t{rest}"));
    let (fault, _) = name.split_once('_')?;
    let number = fault.strip_prefix(['f', 't'])?;
    let is_number = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
    is_number.then(|| fault.to_owned())
}

/// The names of all functions that are marked as tests, and of the cases of the store's contract.
pub(super) fn test_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for folder in ["src", "tests"] {
        for (_, text) in texts_under(folder) {
            let mut lines = text.lines().map(str::trim);
            while let Some(line) = lines.next() {
                if line.starts_with("on_every_backend! {") {
                    let cases = lines.by_ref().take_while(|line| *line != "}");
                    names.extend(cases.map(|case| case.trim_end_matches(',').to_owned()));
                }
                if !line.starts_with("#[test]") && !line.starts_with("#[tokio::test") {
                    continue;
                }
                let function = lines.find_map(|line| {
                    let line = line.strip_prefix("async ").unwrap_or(line);
                    line.strip_prefix("fn ")
                });
                let name = function.and_then(|function| function.split(['(', '<']).next());
                names.extend(name.map(str::to_owned));
            }
        }
    }
    names
}

#[test]
fn a_number_is_found_in_the_name_of_a_test() {
    assert_eq!(fault_of("f34_a_body").as_deref(), Some("f34"));
    assert_eq!(fault_of("threat_15_errors").as_deref(), Some("t15"));
    assert_eq!(fault_of("fast_a_body"), None);
}
