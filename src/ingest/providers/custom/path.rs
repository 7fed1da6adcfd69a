//! Where a value stands in an event: JSONPath (RFC 9535), from the event (`$`) or from one item of a list (`@`).

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::Value;
use serde_json_path::JsonPath;

/// A longer one is a mistake, and each event pays for it.
const PATH_MAX_BYTES: usize = 512;

/// A path into an event.
#[derive(Clone, Debug)]
pub(super) struct Path {
    path: JsonPath,
    text: String,
    is_of_item: bool,
}

/// An event and the item of it that is looked at; the event itself where no list is walked.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) event: &'a Value,
    pub(super) item: &'a Value,
}

impl<'a> At<'a> {
    pub(super) fn event(event: &'a Value) -> At<'a> {
        At { event, item: event }
    }
}

impl Path {
    pub(super) fn parse(text: &str) -> Result<Path, String> {
        if text.len() > PATH_MAX_BYTES {
            return Err(format!("a path has at most {PATH_MAX_BYTES} characters"));
        }
        let is_of_item = text.starts_with('@');
        let from_root = match text.strip_prefix('@') {
            Some(rest) => format!("${rest}"),
            None => text.to_owned(),
        };
        let path = JsonPath::parse(&from_root).map_err(|error| {
            format!("`{text}` is no JSONPath beginning with $ (the event) or @ (the item): {error}")
        })?;
        Ok(Path {
            path,
            text: text.to_owned(),
            is_of_item,
        })
    }

    /// The path as it was written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it begins at an item.
    pub(super) fn is_of_item(&self) -> bool {
        self.is_of_item
    }

    /// What stands there, nulls left out.
    pub(super) fn all<'a>(&self, at: At<'a>) -> impl Iterator<Item = &'a Value> {
        let nodes = self.path.query(self.root(at)).all();
        nodes.into_iter().filter(|value| !value.is_null())
    }

    /// The first of what stands there.
    pub(super) fn first<'a>(&self, at: At<'a>) -> Option<&'a Value> {
        self.all(at).next()
    }

    /// JSON pointers from its root to what stands there.
    pub(super) fn pointers(&self, root: &Value) -> Vec<String> {
        let nodes = self.path.query_located(root);
        nodes
            .locations()
            .map(|location| location.to_json_pointer())
            .collect()
    }

    fn root<'a>(&self, at: At<'a>) -> &'a Value {
        if self.is_of_item { at.item } else { at.event }
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Path::parse(&text).map_err(D::Error::custom)
    }
}
