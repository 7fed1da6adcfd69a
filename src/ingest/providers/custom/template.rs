//! Text with values of the event in it: `Bearer {$.download_token}`, `{@.recording_type}.{format}`.

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::Value;

use super::path::{At, Path};

/// Text with places for values.
#[derive(Clone, Debug)]
pub(super) struct Template(Vec<TemplatePiece>);

#[derive(Clone, Debug)]
enum TemplatePiece {
    Literal(String),
    /// A word that the caller knows a value for.
    Word(String),
    Value(Path),
}

impl Template {
    fn parse(text: &str) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            if !literal.is_empty() {
                pieces.push(TemplatePiece::Literal(literal.to_owned()));
            }
            let is_path = after.starts_with(['$', '@']);
            let is_word = after.starts_with(|c: char| c.is_ascii_lowercase());
            if !is_path && !is_word {
                // A brace of the text itself, as in JSON.
                pieces.push(TemplatePiece::Literal("{".to_owned()));
                rest = after;
                continue;
            }
            let (inside, after) = after
                .split_once('}')
                .ok_or_else(|| format!("`{text}` has a `{{` without its `}}`"))?;
            pieces.push(match is_path {
                true => TemplatePiece::Value(Path::parse(inside)?),
                false => TemplatePiece::Word(inside.to_owned()),
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(TemplatePiece::Literal(rest.to_owned()));
        }
        Ok(Template(pieces))
    }

    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            TemplatePiece::Word(word) => Some(word.as_str()),
            TemplatePiece::Literal(_) | TemplatePiece::Value(_) => None,
        })
    }

    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            TemplatePiece::Literal(text) => Some(text.as_str()),
            TemplatePiece::Word(_) | TemplatePiece::Value(_) => None,
        })
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter_map(|piece| match piece {
            TemplatePiece::Value(path) => Some(path),
            TemplatePiece::Literal(_) | TemplatePiece::Word(_) => None,
        })
    }

    /// The text with its values; `None` when one of them is missing. `word` knows the words, `shape` makes a
    /// value of the event fit for its place.
    pub(super) fn fill(
        &self,
        at: At<'_>,
        word: impl Fn(&str) -> Option<String>,
        shape: impl Fn(&Value) -> Option<String>,
    ) -> Option<String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                TemplatePiece::Literal(literal) => text.push_str(literal),
                TemplatePiece::Word(name) => text.push_str(&word(name)?),
                TemplatePiece::Value(path) => text.push_str(&shape(path.first(at)?)?),
            }
        }
        Some(text)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Template::parse(&text).map_err(D::Error::custom)
    }
}
