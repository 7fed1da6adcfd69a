//! How much a JSON text becomes in memory, counted over its bytes before anything is built of them.
//!
//! Seven bytes (`{"":0},`) become a map of some 700: a body of a few MiB would take gigabytes. One pass that knows
//! nothing but brackets and strings is enough for an upper bound of the tree, and for its depth.

use crate::error::{Error, Result};

/// Levels of lists and objects. The deepest event or answer that a provider documents has seven.
pub const JSON_DEPTH_MAX: usize = 32;

/// What the tree of one text may take at most, whoever sent it.
pub const JSON_TREE_MAX_BYTES: usize = 128 << 20;

/// An item of a list: 32 bytes, of which a growing list holds up to three times as many for a moment.
const ITEM_BYTES: usize = 96;

/// A list that is not empty has room for four items.
const LIST_BYTES: usize = 128;

/// A node of an object's B-tree, which holds eleven fields.
const OBJECT_BYTES: usize = 640;

/// Nodes are at least half full.
const FIELDS_OF_NODE: u32 = 6;
const FIELD_BYTES: usize = 112;

/// What a short text takes beside its bytes.
const STRING_BYTES: usize = 16;

/// The measure of a JSON text. Of a text that is no JSON it says nothing in particular, but is as quick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonWeight {
    /// Levels of lists and objects.
    pub depth: usize,
    /// Bytes that a tree of it takes at most, with the texts in it.
    pub tree_bytes: usize,
}

impl JsonWeight {
    /// Measures `text` in one pass.
    pub fn of(text: &[u8]) -> JsonWeight {
        let mut weight = JsonWeight {
            depth: 0,
            tree_bytes: text.len(),
        };
        let mut open: Vec<JsonContainer> = Vec::new();
        let mut bytes = text.iter();
        while let Some(byte) = bytes.next() {
            match byte {
                b'"' => {
                    skip_string(&mut bytes);
                    weight.tree_bytes += STRING_BYTES;
                }
                b'{' | b'[' => {
                    weight.tree_bytes += match byte {
                        b'{' => OBJECT_BYTES,
                        _ => LIST_BYTES,
                    };
                    weight.depth = weight.depth.max(open.len() + 1);
                    if open.len() >= JSON_DEPTH_MAX {
                        // Too deep already: nobody is going to build it.
                        return weight;
                    }
                    open.push(JsonContainer {
                        is_list: *byte == b'[',
                        fields: 0,
                    });
                }
                b'}' | b']' => {
                    open.pop();
                }
                b',' if open.last().is_some_and(|container| container.is_list) => {
                    weight.tree_bytes += ITEM_BYTES;
                }
                b':' => {
                    if let Some(object) = open.last_mut() {
                        object.fields = object.fields.saturating_add(1);
                        if object.fields > FIELDS_OF_NODE {
                            weight.tree_bytes += FIELD_BYTES;
                        }
                    }
                }
                _ => {}
            }
        }
        weight
    }

    /// Whether it is nested deeper than [`JSON_DEPTH_MAX`].
    pub fn is_too_deep(self) -> bool {
        self.depth > JSON_DEPTH_MAX
    }

    /// Whether such a text may be built into a tree of at most `tree_max_bytes`, and never more than
    /// [`JSON_TREE_MAX_BYTES`].
    ///
    /// # Errors
    /// `invalid`, saying which limit it breaks.
    pub fn check(self, tree_max_bytes: usize) -> Result<()> {
        if self.is_too_deep() {
            return Err(Error::invalid(format!(
                "its JSON is nested deeper than {JSON_DEPTH_MAX} levels"
            )));
        }
        let limit = tree_max_bytes.min(JSON_TREE_MAX_BYTES);
        if self.tree_bytes > limit {
            return Err(Error::invalid(format!(
                "its JSON has so many small values that they could take {} MiB of memory: the limit is {} MiB",
                self.tree_bytes >> 20,
                limit >> 20
            )));
        }
        Ok(())
    }
}

struct JsonContainer {
    is_list: bool,
    fields: u32,
}

/// Passes over the rest of a string.
fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_texts_count_for_nothing() {
        let plain = JsonWeight::of(br#"{"a":"x","b":["y"]}"#);
        let tricky = JsonWeight::of(br#"{"a":"[[{\"\\\\","b":["]"]}"#);
        assert_eq!((plain.depth, tricky.depth), (2, 2));
        assert_eq!(plain.tree_bytes + 9, tricky.tree_bytes + 1);
    }

    #[test]
    fn what_is_nested_too_deep_is_refused_before_it_is_read_to_its_end() {
        let fits = "[".repeat(JSON_DEPTH_MAX);
        assert!(JsonWeight::of(fits.as_bytes()).check(usize::MAX).is_ok());
        let deep = "[".repeat(4 << 20);
        let weight = JsonWeight::of(deep.as_bytes());
        assert_eq!(weight.depth, JSON_DEPTH_MAX + 1);
        let error = weight.check(usize::MAX).unwrap_err().full_message();
        assert!(error.contains("32 levels"), "{error}");
    }

    // S1: seven bytes are a map of some 670.
    #[test]
    fn small_maps_weigh_what_they_take_and_the_words_of_a_long_meeting_fit() {
        let maps = format!("[{}0]", r#"{"":0},"#.repeat(500_000));
        let weight = JsonWeight::of(maps.as_bytes());
        assert!(weight.tree_bytes > 500_000 * 670, "{weight:?}");
        assert!(weight.check(usize::MAX).is_err());

        // Ten hours at 130 words a minute.
        let word = r#"{"word":"recording","start":12345.678901,"end":12346.123456},"#;
        let words = format!("[{}0]", word.repeat(10 * 60 * 130));
        let weight = JsonWeight::of(words.as_bytes());
        assert!(weight.check(usize::MAX).is_ok(), "{weight:?}");
    }
}
