//! Variables (EXT-X-DEFINE) and their replacement, bounded.

use std::collections::BTreeMap;

use url::Url;

use super::attributes::Attributes;
use super::{MAX_LINE_BYTES, MAX_VARIABLES};

/// The variables of one playlist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Takes in one EXT-X-DEFINE. `imported` are the variables of the multivariant playlist that named
    /// this one, `base` is the URL that it was read from.
    pub(super) fn define(
        &mut self,
        attributes: &Attributes<'_>,
        imported: Option<&Variables>,
        base: &Url,
    ) -> Result<(), String> {
        let (name, value) = if let Some(name) = attributes.text("NAME") {
            let value = attributes
                .text("VALUE")
                .ok_or("EXT-X-DEFINE has a NAME and no VALUE")?;
            (name, value.to_owned())
        } else if let Some(name) = attributes.text("IMPORT") {
            let value = imported.and_then(|imported| imported.0.get(name));
            let value =
                value.ok_or_else(|| format!("variable {name} is imported and not defined"))?;
            (name, value.clone())
        } else if let Some(name) = attributes.text("QUERYPARAM") {
            let mut pairs = base.query_pairs();
            let value = pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()));
            let value =
                value.ok_or_else(|| format!("the playlist's URL has no query parameter {name}"))?;
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
        self.0.insert(name.to_owned(), value);
        Ok(())
    }

    /// `text` with every `{$name}` replaced, once: what a value holds is not looked at again.
    pub(super) fn expand(&self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("{$") {
            out.push_str(&rest[..start]);
            let after = &rest[start + 2..];
            let name = after.find('}').map(|end| &after[..end]).filter(|name| {
                name.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
            });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacement_happens_once_and_has_an_end() {
        let mut variables = Variables::default();
        let base = Url::parse("https://h/p?token=t%20k").unwrap();
        let mut define = |text: &str| {
            let attributes = Attributes::read(text, 0).unwrap();
            variables.define(&attributes, None, &base)
        };
        define("NAME=\"a\",VALUE=\"{$a}\"").unwrap();
        define("QUERYPARAM=\"token\"").unwrap();
        assert!(
            define("NAME=\"a\",VALUE=\"\"")
                .unwrap_err()
                .contains("twice")
        );
        assert!(define("IMPORT=\"b\"").unwrap_err().contains("not defined"));
        assert!(define("QUERYPARAM=\"none\"").is_err());
        assert!(define("VALUE=\"x\"").is_err());
        let long = format!("NAME=\"long\",VALUE=\"{}\"", "x".repeat(60_000));
        define(&long).unwrap();
        assert_eq!(variables.expand("{$a}/{$token}{").unwrap(), "{$a}/t k{");
        assert_eq!(variables.expand("{$ }").unwrap(), "{$ }");
        assert!(variables.expand("{$b}").is_err());
        let bomb = "{$long}".repeat(1000);
        assert!(variables.expand(&bomb).unwrap_err().contains("longer"));
    }
}
