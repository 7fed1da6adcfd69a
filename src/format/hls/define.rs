//! Variables (EXT-X-DEFINE) and their replacement, bounded.

use std::collections::BTreeMap;
use std::ops::Range;

use percent_encoding::percent_decode_str;
use url::Url;

use super::attributes::TagAttributes;
use super::{MAX_LINE_BYTES, MAX_VARIABLE_BYTES, MAX_VARIABLES};

/// One EXT-X-DEFINE and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DefineTag {
    pub(super) name: String,
    /// Whether its value is of the query of the playlist's own URL.
    pub(super) is_query: bool,
    /// The whole line.
    pub(super) span: Range<usize>,
}

impl DefineTag {
    /// What stands in its place in an archived copy, of which `rest` is the text without it: a value that is
    /// already put in wherever it belongs is not needed, and it may be a token.
    pub(super) fn archived(&self, rest: &str) -> Option<String> {
        let is_used = rest.contains(&format!("{{${}}}", self.name));
        (self.is_query || !is_used)
            .then(|| format!("#EXT-X-DEFINE:NAME=\"{}\",VALUE=\"\"", self.name))
    }
}

/// The variables of one playlist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Takes in one EXT-X-DEFINE. `imported` are the variables of the multivariant playlist that named
    /// this one, `base` is the URL that it was read from. Gives the variable's name.
    pub(super) fn define<'t>(
        &mut self,
        attributes: &TagAttributes<'t>,
        imported: Option<&Variables>,
        base: &Url,
    ) -> Result<&'t str, String> {
        let named = ["NAME", "IMPORT", "QUERYPARAM"]
            .into_iter()
            .find_map(|way| attributes.text(way));
        if named.is_some_and(|name| !is_name(name)) {
            return Err("a variable's name holds other than letters, digits, - and _".to_owned());
        }
        let (name, value) = if let Some(name) = attributes.text("NAME") {
            let value = attributes
                .text("VALUE")
                .ok_or("EXT-X-DEFINE has a NAME and no VALUE")?;
            // The only value that may name other variables: those that are defined by then (RFC 8216bis, 4.3).
            (name, self.expand(value)?)
        } else if let Some(name) = attributes.text("IMPORT") {
            let value = imported.and_then(|imported| imported.0.get(name));
            let value =
                value.ok_or_else(|| format!("variable {name} is imported and not defined"))?;
            (name, value.clone())
        } else if let Some(name) = attributes.text("QUERYPARAM") {
            let value = query_parameter(base, name)
                .ok_or_else(|| format!("the playlist's URL has no query parameter {name}"))?;
            (name, value)
        } else {
            return Err("EXT-X-DEFINE has neither NAME nor IMPORT nor QUERYPARAM".to_owned());
        };
        if self.0.len() >= MAX_VARIABLES {
            return Err(format!("there are more than {MAX_VARIABLES} variables"));
        }
        if self.0.contains_key(name) {
            return Err(format!("variable {name} is defined twice"));
        }
        let held: usize = self.0.values().map(String::len).sum();
        if held + value.len() > MAX_VARIABLE_BYTES {
            return Err(format!(
                "the variables hold more than {MAX_VARIABLE_BYTES} bytes"
            ));
        }
        self.0.insert(name.to_owned(), value);
        Ok(name)
    }

    /// Bytes of the longest value.
    pub(super) fn longest(&self) -> usize {
        self.0.values().map(String::len).max().unwrap_or(0)
    }

    /// `text` with every `{$name}` replaced, once: what a value holds is not looked at again.
    pub(super) fn expand(&self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("{$") {
            out.push_str(&rest[..start]);
            let after = &rest[start + 2..];
            let name = after.find('}').map(|end| &after[..end]);
            let name = name.filter(|name| is_name(name));
            let Some(name) = name else {
                out.push_str("{$");
                rest = after;
                continue;
            };
            let value = self
                .0
                .get(name)
                .ok_or_else(|| format!("variable {name} is not defined"))?;
            out.push_str(value);
            if out.len() > MAX_LINE_BYTES {
                return Err(format!(
                    "with its variables it is longer than {MAX_LINE_BYTES} bytes"
                ));
            }
            rest = &after[name.len() + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
}

/// Escapes are undone and nothing else: a plus is a plus in a URL, and a space only in a form.
fn query_parameter(url: &Url, name: &str) -> Option<String> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let mut pairs = url.query()?.split('&');
    pairs.find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key) == name).then(|| decoded(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_once_and_within_values_only_by_those_before() {
        let mut variables = Variables::default();
        let base = Url::parse("https://h/p?x=1&token=t%20k+{$a}").unwrap();
        let mut define = |text: &str| {
            let attributes = TagAttributes::read(text, 0).unwrap();
            variables
                .define(&attributes, None, &base)
                .map(str::to_owned)
        };
        let error = define("NAME=\"a\",VALUE=\"{$a}\"").unwrap_err();
        assert_eq!(error, "variable a is not defined");
        define("QUERYPARAM=\"token\"").unwrap();
        define("NAME=\"a\",VALUE=\"{$token}/\"").unwrap();
        assert!(
            define("NAME=\"a\",VALUE=\"\"")
                .unwrap_err()
                .contains("twice")
        );
        assert!(define("IMPORT=\"b\"").unwrap_err().contains("not defined"));
        assert!(define("QUERYPARAM=\"none\"").is_err());
        assert!(define("VALUE=\"x\"").is_err());
        assert!(define("NAME=a\"b,VALUE=x").unwrap_err().contains("name"));
        assert!(define("IMPORT=\"\u{202e}\"").unwrap_err().contains("name"));
        let long = format!("NAME=\"long\",VALUE=\"{}\"", "x".repeat(60_000));
        define(&long).unwrap();
        let expanded = variables.expand("{$a}/{$token}{").unwrap();
        assert_eq!(expanded, "t k+{$a}//t k+{$a}{");
        assert_eq!(variables.expand("{$ }").unwrap(), "{$ }");
        assert!(variables.expand("{$b}").is_err());
        let bomb = "{$long}".repeat(1000);
        assert!(variables.expand(&bomb).unwrap_err().contains("longer"));
    }

    #[test]
    fn t17_what_variables_hold_is_bounded_in_all() {
        let base = Url::parse("https://h/p").unwrap();
        let mut variables = Variables::default();
        let value = "x".repeat(60_000);
        let ended = (0..MAX_VARIABLES).find_map(|number| {
            let text = format!("NAME=\"v{number}\",VALUE=\"{value}\"");
            let attributes = TagAttributes::read(&text, 0).unwrap();
            variables.define(&attributes, None, &base).err()
        });
        assert_eq!(ended.unwrap(), "the variables hold more than 262144 bytes");
    }
}
