//! Where and why a TOML text is wrong.

use std::path::Path;

use crate::error::Error;

/// What is wrong with `text`, and where. The error's own Display quotes the line, which may hold a secret.
pub(super) fn explain(path: &Path, text: &str, error: &toml::de::Error) -> Error {
    let (line, column) = position(text, error.span().map_or(0, |span| span.start));
    let message = plain(error.message());
    Error::invalid(format!("{}:{line}:{column}: {message}", path.display()))
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..offset.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before
        .iter()
        .rev()
        .take_while(|byte| **byte != b'\n')
        .count()
        + 1;
    (line, column)
}

pub(super) fn plain(message: &str) -> String {
    message
        .replace("unknown field", "unknown key")
        .replace('\n', " ")
}
