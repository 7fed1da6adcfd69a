//! Text with values of the event in it: `Bearer {$.download_token}`, `{@.recording_type}.{format}`.

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::Value;

use super::path::{At, Path};

/// Text with places for values.
#[derive(Clone, Debug)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
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
                pieces.push(Piece::Literal(literal.to_owned()));
            }
            let is_path = after.starts_with(['$', '@']);
            let is_word = after.starts_with(|c: char| c.is_ascii_lowercase());
            if !is_path && !is_word {
                // A brace of the text itself, as in JSON.
                pieces.push(Piece::Literal("{".to_owned()));
                rest = after;
                continue;
            }
            let (inside, after) = after
                .split_once('}')
                .ok_or_else(|| format!("`{text}` has a `{{` without its `}}`"))?;
            pieces.push(match is_path {
                true => Piece::Value(Path::parse(inside)?),
                false => Piece::Word(inside.to_owned()),
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        Ok(Template(pieces))
    }

    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Word(word) => Some(word.as_str()),
            Piece::Literal(_) | Piece::Value(_) => None,
        })
    }

    pub(super) fn literals(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Literal(text) => Some(text.as_str()),
            Piece::Word(_) | Piece::Value(_) => None,
        })
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Value(path) => Some(path),
            Piece::Literal(_) | Piece::Word(_) => None,
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
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Word(name) => text.push_str(&word(name)?),
                Piece::Value(path) => text.push_str(&shape(path.first(at)?)?),
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
