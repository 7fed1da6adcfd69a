//! Text of others made safe to show. Names, messages and addresses may come from guests, providers and origins,
//! and a terminal acts on some characters instead of showing them.

/// Whether a terminal or a viewer acts on `c`: C0 and C1 controls, marks that reorder a line, and separators
/// that begin a new one.
fn is_acting(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` as one line without control characters, terminal escapes and marks that reorder it.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if matches!(c, '\n' | '\t') { ' ' } else { c })
        .filter(|c| !is_acting(*c))
        .collect()
}

/// As [`printable`], for text of our own that has several lines: their ends stay.
pub fn printable_lines(text: &str) -> String {
    text.chars()
        .filter(|c| matches!(c, '\n' | '\t') || !is_acting(*c))
        .collect()
}

/// `text` as one line of a log: nothing is dropped, what a terminal would act on is spelled (`\r`, `\u{1b}`).
pub fn spelled(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match is_acting(c) {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

/// The JSON document `json`, of the same value, without a character that a terminal acts on. JSON has them
/// inside of strings only, where they can be spelled.
pub fn spelled_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match is_acting(c) {
            true => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    // S12
    #[test]
    fn what_a_terminal_acts_on_is_not_shown() {
        assert_eq!(
            printable("a\u{1b}[2Jb\r\n\u{202e}c\u{9b}d\u{61c}e\u{2028}f\u{2029}g"),
            "a[2Jb cdefg"
        );
        assert_eq!(printable_lines("a\r\n\u{1b}b\n\u{2028}"), "a\nb\n");
    }

    #[test]
    fn a_log_line_spells_what_it_can_not_show() {
        assert_eq!(
            spelled("a\rb\nc\u{9b}d\u{2028}é"),
            "a\\rb\\nc\\u{9b}d\\u{2028}é"
        );
    }

    #[test]
    fn json_keeps_its_value() {
        let value = serde_json::json!({"a": "\u{1b}\u{9b}\u{2028}\u{202e}é\u{7f}"});
        let text = spelled_json(&value.to_string());
        assert!(!text.chars().any(is_acting), "{text}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }
}
