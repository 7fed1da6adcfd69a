//! Attribute lists (RFC 8216 section 4.2) with the place of each value in its line.

use std::ops::Range;

use super::MAX_ATTRIBUTES;

/// Characters of a playlist that a message repeats.
const MAX_QUOTED: usize = 40;

/// One `NAME=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attribute<'a> {
    pub(super) name: &'a str,
    /// Without its quotes.
    pub(super) value: &'a str,
    /// Where the value stands in the line, without its quotes.
    pub(super) span: Range<usize>,
}

/// The attributes of one tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TagAttributes<'a>(Vec<Attribute<'a>>);

impl<'a> TagAttributes<'a> {
    /// Reads `line` from `start` on. White space around names and values is forgiven.
    pub(super) fn read(line: &'a str, start: usize) -> Result<TagAttributes<'a>, String> {
        let mut list: Vec<Attribute<'a>> = Vec::new();
        let mut at = start;
        loop {
            at += leading_space(&line[at..]);
            if at >= line.len() {
                return Ok(TagAttributes(list));
            }
            let length = line[at..].find('=').ok_or("an attribute has no value")?;
            let name = line[at..at + length].trim();
            let is_name = !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            if !is_name {
                return Err("an attribute's name is not one".to_owned());
            }
            at += length + 1;
            at += leading_space(&line[at..]);
            let (span, next) = value(line, at)?;
            if list.len() >= MAX_ATTRIBUTES {
                return Err(format!("it has more than {MAX_ATTRIBUTES} attributes"));
            }
            if list.iter().any(|known| known.name == name) {
                return Err(format!("attribute {name} stands there twice"));
            }
            list.push(Attribute {
                name,
                value: &line[span.clone()],
                span,
            });
            at = next;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Attribute<'a>> {
        self.0.iter()
    }

    pub(super) fn get(&self, name: &str) -> Option<&Attribute<'a>> {
        self.0.iter().find(|attribute| attribute.name == name)
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.get(name).map(|attribute| attribute.value)
    }
}

/// The value at `at`, and where the next attribute begins.
fn value(line: &str, at: usize) -> Result<(Range<usize>, usize), String> {
    if line[at..].starts_with('"') {
        let length = line[at + 1..]
            .find('"')
            .ok_or("a quoted value does not end")?;
        let end = at + 1 + length;
        let rest = &line[end + 1..];
        let space = leading_space(rest);
        return match rest[space..].chars().next() {
            None => Ok((at + 1..end, line.len())),
            Some(',') => Ok((at + 1..end, end + 1 + space + 1)),
            Some(_) => Err("there is no comma after a quoted value".to_owned()),
        };
    }
    let end = line[at..].find(',').map_or(line.len(), |comma| at + comma);
    let trimmed = at + line[at..end].trim_end().len();
    Ok((at..trimmed, (end + 1).min(line.len())))
}

/// Text of a playlist for a message: short, and nothing in it that a terminal would obey.
pub fn quoted(text: &str) -> String {
    let short: String = text.chars().take(MAX_QUOTED).collect();
    let more = if short.len() < text.len() { "..." } else { "" };
    format!("{}{more}", short.escape_debug())
}

fn leading_space(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_with_their_place() {
        let line = "#EXT-X-KEY:METHOD=AES-128, URI=\"a,b=c\" ,IV=0x0";
        let list = TagAttributes::read(line, 11).unwrap();
        assert_eq!(list.text("METHOD"), Some("AES-128"));
        let uri = list.get("URI").unwrap();
        assert_eq!((uri.value, &line[uri.span.clone()]), ("a,b=c", "a,b=c"));
        assert_eq!(list.text("IV"), Some("0x0"));
        assert_eq!(list.text("KEYFORMAT"), None);
    }

    #[test]
    fn a_quotation_is_short_and_obeyed_by_no_terminal() {
        assert_eq!(quoted("AES-128"), "AES-128");
        assert_eq!(quoted("a\u{1b}[31m\u{202e}\r"), "a\\u{1b}[31m\\u{202e}\\r");
        assert_eq!(quoted(&"x".repeat(41)), format!("{}...", "x".repeat(40)));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (text, why) in [
            ("A", "no value"),
            ("A=1,A=2", "twice"),
            ("A=\"x", "does not end"),
            ("A=\"x\"y", "no comma"),
            ("=1", "name"),
            ("A B=1", "name"),
        ] {
            let error = TagAttributes::read(text, 0).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        let many: String = (0..257).map(|n| format!("A{n}=,")).collect();
        assert!(TagAttributes::read(&many, 0).unwrap_err().contains("256"));
        assert_eq!(TagAttributes::read("", 0), Ok(TagAttributes::default()));
        assert!(TagAttributes::read("A=,", 0).is_ok());
    }
}
