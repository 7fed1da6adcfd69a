//! What `archive` and `inspect` are given: files, URLs, and `-` for standard input.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::output::CommandFailure;
use crate::error::{Error, Result};
use crate::signed_url::SignedUrl;

/// More than any provider sends; an input of this size is something else by mistake.
const MAX_INPUT_BYTES: u64 = 16 * 1024 * 1024;

/// One thing to archive or inspect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Event(Bytes),
    Url(SignedUrl),
    /// A playlist's text, and what it was read from.
    Playlist(Bytes, String),
}

/// Reads an argument; a file or standard input may hold several events (one a line, or one after the
/// other) or several URLs (one a line).
///
/// # Errors
/// `invalid` when it can't be read, is too large or empty.
pub(super) fn read(argument: &OsStr) -> Result<Vec<Input>> {
    let text = argument.to_str();
    if text == Some("-") {
        let name = "standard input";
        return Ok(split(read_limited(io::stdin().lock(), name)?, name));
    }
    if let Some(text) = text
        && is_url(text)
    {
        return Ok(vec![Input::Url(SignedUrl::new(text))]);
    }
    let path = Path::new(argument);
    let name = path.display().to_string();
    let unreadable = |error| Error::invalid(format!("read {name}")).with_source(error);
    if path.is_dir() {
        return Err(Error::invalid(format!("read {name}: it is a folder")));
    }
    let file = File::open(path).map_err(unreadable)?;
    Ok(split(read_limited(file, &name)?, &name))
}

/// Reads each argument in turn; what can't be read stands in its place.
pub(super) fn read_all(arguments: &[OsString]) -> Vec<Result<Input>> {
    let mut inputs = Vec::new();
    for argument in arguments {
        match read(argument) {
            Ok(several) => inputs.extend(several.into_iter().map(Ok)),
            Err(error) => inputs.push(Err(error)),
        }
    }
    inputs
}

/// Refuses URLs that nothing could ever be fetched from.
///
/// # Errors
/// Wrong usage, naming the URL and what is taken instead.
pub(super) fn check_urls(arguments: &[OsString]) -> Result<(), CommandFailure> {
    let urls = arguments.iter().filter_map(|argument| argument.to_str());
    for url in urls.filter(|text| is_url(text)) {
        let scheme = url.split("://").next().unwrap_or_default();
        let is_scheme = |known: &&str| scheme.eq_ignore_ascii_case(known);
        if ["http", "https"].iter().any(is_scheme) {
            continue;
        }
        let advice = match is_scheme(&"file") {
            true => "give the file's path instead",
            false => "give a file's path, an http or https URL, or - for standard input",
        };
        let shown = SignedUrl::new(url);
        return Err(CommandFailure::Usage(format!(
            "{shown} is no URL that is taken: {advice}"
        )));
    }
    Ok(())
}

/// UTF-8's byte order mark.
const BOM: &[u8] = &[0xef, 0xbb, 0xbf];

fn is_url(text: &str) -> bool {
    let scheme = text.split("://").next().unwrap_or_default();
    text.contains("://")
        && !scheme.is_empty()
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn read_limited(reader: impl Read, name: &str) -> Result<Bytes> {
    let mut body = Vec::new();
    reader
        .take(MAX_INPUT_BYTES + 1)
        .read_to_end(&mut body)
        .map_err(|error| Error::invalid(format!("read {name}")).with_source(error))?;
    if body.len() as u64 > MAX_INPUT_BYTES {
        return Err(Error::invalid(format!(
            "read {name}: it is larger than 16 MiB, which no event is"
        )));
    }
    if body.trim_ascii().is_empty() {
        return Err(Error::invalid(format!("read {name}: it is empty")));
    }
    Ok(body.into())
}

fn split(body: Bytes, name: &str) -> Vec<Input> {
    // What else begins with `#` is no input of ours: as a playlist it gets an error with its line.
    let mark = body.trim_ascii_start();
    if mark.strip_prefix(BOM).unwrap_or(mark).starts_with(b"#") {
        return vec![Input::Playlist(body, name.to_owned())];
    }
    let text = std::str::from_utf8(&body).unwrap_or_default().trim();
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    if !text.is_empty() && lines().all(is_url) {
        return lines().map(|url| Input::Url(SignedUrl::new(url))).collect();
    }
    documents(body).into_iter().map(Input::Event).collect()
}

/// The JSON documents in `body`, byte for byte. What can't be read stays as the last one, so
/// that its error is told; a body of one document is handed on whole.
fn documents(body: Bytes) -> Vec<Bytes> {
    let mut found = Vec::new();
    let mut stream = serde_json::Deserializer::from_slice(&body).into_iter::<&RawValue>();
    let mut good_until = 0;
    while let Some(document) = stream.next() {
        match document {
            Ok(raw) => {
                found.push(body.slice_ref(raw.get().as_bytes()));
                good_until = stream.byte_offset();
            }
            Err(_) => {
                found.push(body.slice(good_until..));
                break;
            }
        }
    }
    match found.len() {
        0 | 1 => vec![body],
        _ => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &'static str) -> Vec<String> {
        split(Bytes::from(text), "f")
            .into_iter()
            .map(|input| match input {
                Input::Event(body) => String::from_utf8(body.to_vec()).unwrap(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn one_document_is_kept_byte_for_byte() {
        assert_eq!(events(" {\"a\": 1}\n"), [" {\"a\": 1}\n"]);
    }

    #[test]
    fn several_documents_are_told_apart() {
        assert_eq!(
            events("{\"a\": 1}\n{\"b\":2} {}\n"),
            ["{\"a\": 1}", "{\"b\":2}", "{}"]
        );
    }

    #[test]
    fn what_can_not_be_read_is_kept_for_its_error() {
        assert_eq!(events("not json"), ["not json"]);
        assert_eq!(events("{} {\"a\":"), ["{}", " {\"a\":"]);
    }

    #[test]
    fn urls_come_one_a_line() {
        assert_eq!(
            split(Bytes::from("https://a/b?c\n\nhttps://d/e\n"), "f"),
            [
                Input::Url(SignedUrl::new("https://a/b?c")),
                Input::Url(SignedUrl::new("https://d/e"))
            ]
        );
        let playlist = Bytes::from("#EXTM3U\n");
        assert_eq!(
            split(playlist.clone(), "f"),
            [Input::Playlist(playlist, "f".to_owned())]
        );
    }

    #[test]
    fn a_path_is_no_url() {
        assert!(is_url("https://a"));
        assert!(is_url("s3://a"));
        assert!(!is_url("./event.json"));
        assert!(!is_url("/a/b://c"));
    }
}
