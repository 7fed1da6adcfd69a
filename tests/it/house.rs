//! Rules about the code itself: who may import whom, which crate lives in which room, no clock but one,
//! no fixture that nothing uses, no path of somebody's machine.

use std::fs;
use std::path::{Path, PathBuf};

mod circles;
mod docs;
mod faults;
mod length;
mod syntax;
mod types;

/// Known to everybody.
const BASE: &[&str] = &[
    "model",
    "error",
    "clock",
    "signed_url",
    "tls",
    "http1",
    "schedule",
];

/// Who may import whom, besides itself and the base. `None`: everything.
const ROOMS: &[(&str, Option<&[&str]>)] = &[
    ("model", Some(&[])),
    ("error", Some(&[])),
    ("clock", Some(&[])),
    ("signed_url", Some(&[])),
    ("tls", Some(&[])),
    ("http1", Some(&[])),
    // What a source of one's own means is ingest's to say.
    ("config", Some(&["ingest"])),
    ("ingest", Some(&[])),
    ("store", Some(&[])),
    // What the files of recordings look like inside.
    ("format", Some(&[])),
    ("schedule", Some(&[])),
    ("source", Some(&[])),
    ("object", Some(&[])),
    ("report", Some(&[])),
    ("transfer", Some(&["source", "object", "format"])),
    (
        "worker",
        Some(&["store", "transfer", "ingest", "source", "object"]),
    ),
    ("server", Some(&["ingest", "store", "report"])),
    ("app", None),
    ("cli", None),
    ("demo", None),
    ("main", None),
    ("lib", None),
];

/// What is only known in one place: a path or call, and where it may stand.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("sqlx::", &["src/store/sqlite/"]),
    ("aws_sdk_s3::", &["src/object/"]),
    ("aws_config::", &["src/object/"]),
    ("aws_sigv4::", &["src/object/"]),
    ("aws_smithy_runtime_api::", &["src/object/"]),
    ("aws_smithy_types::", &["src/object/"]),
    ("s3s::", &["src/object/"]),
    ("axum::", &["src/server/", "src/demo/"]),
    ("clap::", &["src/cli/", "src/demo/"]),
    (
        "indicatif::",
        &["src/report/terminal.rs", "src/report/terminal_tests.rs"],
    ),
    ("Client::builder", &["src/source/client.rs", "src/http1.rs"]),
    (
        "http1::client",
        &["src/source/client.rs", "src/object/s3/connect.rs"],
    ),
    ("Client::new", &["src/source/client.rs"]),
    ("ClientBuilder::new", &["src/source/client.rs"]),
    ("Timestamp::now", &["src/clock.rs"]),
    ("Zoned::now", &["src/clock.rs"]),
    ("SystemTime::now", &["src/clock.rs"]),
];

#[test]
fn every_room_imports_only_those_below_it() {
    let complaints: Vec<_> = sources()
        .iter()
        .flat_map(|(path, text)| check_imports(path, text))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_library_and_the_clock_live_in_one_place() {
    let complaints: Vec<_> = sources()
        .iter()
        .flat_map(|(path, text)| check_places(path, text))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_fixture_is_used() {
    let mut texts = String::new();
    for folder in ["src", "tests", "benches", "examples", "fixtures"] {
        for (path, text) in texts_under(folder) {
            let is_index = !path.starts_with("fixtures/") || is_index(&path);
            if is_index {
                texts.push_str(&text);
            }
        }
    }
    let unused: Vec<_> = files_under("fixtures")
        .into_iter()
        .filter(|path| !is_index(path) && !is_named(path, &texts))
        .collect();
    assert!(unused.is_empty(), "nothing uses {unused:?}");
}

#[test]
fn no_file_names_a_path_of_somebodys_machine() {
    let folders = [
        "src", "tests", "benches", "examples", "fixtures", "deploy", "docs",
    ];
    let of_root = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"];
    let of_root = of_root.map(|path| {
        (
            path.to_owned(),
            fs::read_to_string(root().join(path)).unwrap(),
        )
    });
    let complaints: Vec<_> = folders
        .iter()
        .flat_map(|folder| texts_under(folder))
        .chain(of_root)
        .flat_map(|(path, text)| check_machine_paths(&path, &text))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_broken_rule_is_noticed() {
    let check = |path: &str, text: &str| {
        let mut complaints = check_imports(path, text);
        complaints.extend(check_places(path, text));
        complaints.len()
    };
    for (path, text) in [
        ("src/store/mod.rs", "use crate::object::ObjectStore;"),
        ("src/store/mod.rs", "use crate::{error::Error, worker};"),
        (
            "src/store/mod.rs",
            "use crate::{\n    error::{Error, Result},\n    worker::Worker,\n};",
        ),
        (
            "src/store/sqlite/mod.rs",
            "fn f() { crate::server::listen(); }",
        ),
        ("src/report/mod.rs", "use super::store::Filter;"),
        ("src/report/board.rs", "use super::super::store::Filter;"),
        ("src/newroom/mod.rs", "use crate::error::Error;"),
        ("src/worker/mod.rs", "fn f() { sqlx::query(\"\"); }"),
        ("src/report/board.rs", "use indicatif::ProgressBar;"),
        ("src/cli/run.rs", "let now = Timestamp::now();"),
        (
            "src/source/http.rs",
            "let client = reqwest::Client::builder();",
        ),
    ] {
        assert_eq!(check(path, text), 1, "{path}: {text}");
    }
    for (path, text) in [
        (
            "src/store/mod.rs",
            "use crate::error::Error;\nuse crate::store::sqlite;",
        ),
        (
            "src/store/mod.rs",
            "/// See [`crate::worker`].\n// crate::worker is not here",
        ),
        (
            "src/store/mod.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::worker::Worker;\n}",
        ),
        ("src/report/board.rs", "use super::terminal::paint;"),
        ("src/store/sqlite/mod.rs", "use sqlx::Row;"),
        (
            "src/transfer/mod.rs",
            "use crate::{object::Payload, source};",
        ),
        ("src/object/embedded/mod.rs", "let x = notsqlx::y();"),
    ] {
        assert_eq!(check(path, text), 0, "{path}: {text}");
    }
    let home = concat!("let path = \"/ho", "me/me/x\";");
    assert_eq!(check_machine_paths("src/x.rs", home).len(), 1);
}

fn check_imports(path: &str, text: &str) -> Vec<String> {
    let room = room(path);
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!(
            "{path}: the room `{room}` is not in the plan of the house"
        )];
    };
    let Some(allowed) = allowed else {
        return Vec::new();
    };
    rooms_named(path, &production_code(text))
        .into_iter()
        .filter(|name| ROOMS.iter().any(|(room, _)| room == name))
        .filter(|name| *name != room && !BASE.contains(&name.as_str()))
        .filter(|name| !allowed.contains(&name.as_str()))
        .map(|name| format!("{path}: `{room}` may not know `{name}`"))
        .collect()
}

fn check_places(path: &str, text: &str) -> Vec<String> {
    let code = production_code(text);
    ONLY_IN
        .iter()
        .filter(|(word, places)| {
            names(&code, word) && !places.iter().any(|place| path.starts_with(place))
        })
        .map(|(word, places)| format!("{path}: `{word}` may only stand in {places:?}"))
        .collect()
}

fn check_machine_paths(path: &str, text: &str) -> Vec<String> {
    // Put together here so that this file does not complain about itself.
    let folders = [
        ["/ho", "me/"],
        ["/ro", "ot/"],
        ["/wo", "rk/"],
        ["/Us", "ers/"],
    ];
    folders
        .iter()
        .map(|halves| halves.concat())
        .filter(|folder| {
            text.match_indices(folder.as_str()).any(|(at, _)| {
                !text[..at].ends_with(|c: char| c.is_alphanumeric() || "._-}".contains(c))
            })
        })
        .map(|folder| format!("{path}: names {folder}"))
        .collect()
}

/// The room that a file is in: `src/store/sqlite/mod.rs` is in `store`.
fn room(path: &str) -> String {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    let first = inside.split('/').next().unwrap_or_default();
    first.trim_end_matches(".rs").to_owned()
}

/// How many modules deep a file is: `src/store/mod.rs` is 1, `src/store/sqlite/open.rs` is 3.
fn depth(path: &str) -> usize {
    let inside = path.strip_prefix("src/").unwrap_or(path);
    inside.split('/').filter(|part| *part != "mod.rs").count()
}

/// The code without comments and without what is only there for tests. A test module is the last
/// thing in its file; another item for tests is one line.
fn production_code(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            match lines.next() {
                Some(next) if next.contains("mod ") && next.ends_with('{') => break,
                _ => continue,
            }
        }
        code.push_str(line.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

/// The rooms that paths in `code` lead to: after `crate::`, in `crate::{..}`, or up with `super::`.
fn rooms_named(path: &str, code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for start in starts(code, "crate::") {
        rooms.extend(heads(&code[start..]));
    }
    for start in starts(code, "super::") {
        let mut rest = &code[start..];
        let mut ups = 1;
        while let Some(further) = rest.strip_prefix("super::") {
            rest = further;
            ups += 1;
        }
        if ups >= depth(path) && !code[..start - "super::".len()].ends_with("super::") {
            rooms.extend(heads(rest));
        }
    }
    rooms
}

/// The places right after each `word` that is not the end of a longer one.
fn starts(code: &str, word: &str) -> Vec<usize> {
    code.match_indices(word)
        .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, _)| at + word.len())
        .collect()
}

fn names(code: &str, word: &str) -> bool {
    !starts(code, word).is_empty()
}

/// The first names of a path, several for a group in braces.
fn heads(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return vec![identifier(path)];
    };
    let mut heads = Vec::new();
    let mut depth = 1;
    let mut rest = group;
    let mut is_head = true;
    while depth > 0 {
        let Some(c) = rest.chars().next() else { break };
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => is_head = true,
            c if is_head && (c.is_alphanumeric() || c == '_') => {
                heads.push(identifier(rest));
                is_head = false;
            }
            _ => {}
        }
        rest = &rest[c.len_utf8()..];
    }
    heads
}

fn identifier(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// Lists and scripts say what fixtures are; they are not fixtures themselves.
fn is_index(path: &str) -> bool {
    [".md", ".sh", ".py", "INDEX.json"]
        .iter()
        .any(|end| path.ends_with(end))
}

fn is_named(path: &str, texts: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.split('.').next().unwrap_or(name);
    texts.contains(name) || texts.contains(&format!("\"{stem}\""))
}

fn sources() -> Vec<(String, String)> {
    let sources = texts_under("src");
    assert!(sources.len() > 20, "the checker does not find the sources");
    sources
}

fn texts_under(folder: &str) -> Vec<(String, String)> {
    files_under(folder)
        .into_iter()
        .filter_map(|path| {
            let text = fs::read_to_string(root().join(&path)).ok()?;
            Some((path, text))
        })
        .collect()
}

fn files_under(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        // A folder that a later issue brings is not there yet.
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(relative(&path)),
            }
        }
    }
    files.sort();
    files
}

fn relative(path: &Path) -> String {
    let path = path.strip_prefix(root()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The names of tests and metrics between backticks: words with underscores.
fn names_in(text: &str) -> Vec<&str> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| {
            word.contains('_')
                && word
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
