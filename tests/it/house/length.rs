//! No file of production code over 450 lines, unless its first line says why.

/// Lines that a file may have without a reason.
const LINES_MAX: usize = 450;

#[test]
fn every_long_file_says_why() {
    let complaints: Vec<_> = super::sources()
        .iter()
        .filter_map(|(path, text)| complaint(path, text))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_long_file_without_a_reason_is_noticed() {
    let lines = "\n".repeat(LINES_MAX);
    let without = format!("//! The list.\n{lines}");
    let with = format!("//! The list. Long: one table.\n{lines}");
    let reasonless = format!("//! The list. Long: \n{lines}");
    assert!(complaint("src/a.rs", &without).is_some());
    assert!(complaint("src/a.rs", &reasonless).is_some());
    assert!(complaint("src/a.rs", &with).is_none());
    assert!(complaint("src/a.rs", &lines).is_none());
    assert!(complaint("src/a_tests.rs", &without).is_none());
    let needless = "//! The list. Long: one table.";
    assert!(complaint("src/a.rs", needless).is_some());
}

fn complaint(path: &str, text: &str) -> Option<String> {
    if path.ends_with("tests.rs") || path.contains("/tests/") || !path.ends_with(".rs") {
        return None;
    }
    let lines = text.lines().count();
    let first = text.lines().next().unwrap_or_default();
    let reason = first.split_once(" Long: ").map_or("", |(_, reason)| reason);
    match (lines > LINES_MAX, !reason.trim().is_empty()) {
        (true, false) => Some(format!("{path}: {lines} lines, and no reason in the first")),
        (false, true) => Some(format!("{path}: its first line gives a reason for nothing")),
        _ => None,
    }
}
