//! No circle of files: of two files at most one knows the other, directly or by way of others.

use std::collections::{BTreeMap, BTreeSet};

use super::syntax::{Reader, code_tokens};

/// Arrows (a file, one that it knows) that close a circle today, each with the reason why it still stands.
const KNOWN: &[(&str, &str, &str)] = &[
    (
        "src/transfer/download/lanes.rs",
        "src/transfer/attempt.rs",
        ATTEMPT,
    ),
    (
        "src/transfer/upload/open.rs",
        "src/transfer/attempt.rs",
        ATTEMPT,
    ),
    (
        "src/transfer/upload/complete.rs",
        "src/transfer/attempt.rs",
        ATTEMPT,
    ),
    (
        "src/transfer/upload/invalid_part.rs",
        "src/transfer/attempt.rs",
        ATTEMPT,
    ),
    ("src/transfer/resume.rs", "src/transfer/attempt.rs", ATTEMPT),
    (
        "src/transfer/hls/context.rs",
        "src/transfer/hls/piece.rs",
        HLS,
    ),
    ("src/transfer/hls/put.rs", "src/transfer/hls/piece.rs", HLS),
    (
        "src/transfer/hls/earlier.rs",
        "src/transfer/hls/piece.rs",
        HLS,
    ),
    (
        "src/transfer/hls/cipher.rs",
        "src/transfer/hls/ladder.rs",
        HLS,
    ),
    (
        "src/transfer/hls/cipher.rs",
        "src/transfer/hls/plan.rs",
        HLS,
    ),
    (
        "src/transfer/hls/ladder.rs",
        "src/transfer/hls/follow.rs",
        HLS,
    ),
    (
        "src/store/sqlite/work.rs",
        "src/store/sqlite/durable.rs",
        WRITER,
    ),
    (
        "src/store/sqlite/disk.rs",
        "src/store/sqlite/open.rs",
        WRITER,
    ),
    (
        "src/store/sqlite/lost_write.rs",
        "src/store/sqlite/open.rs",
        WRITER,
    ),
    (
        "src/transfer/hls/ladder.rs",
        "src/transfer/hls/plan.rs",
        HLS,
    ),
];

const ATTEMPT: &str = "The steps of an attempt are its methods, and take all of it.";
const HLS: &str = "A file to carry and the plan that it stands in are not two things yet.";
const WRITER: &str = "The writer's thread, its queue and its open files share their types.";

#[test]
fn no_files_know_each_other_in_a_circle() {
    let arrows = arrows(&super::sources());
    assert!(arrows.len() > 500, "the checker does not find the arrows");
    let mut complaints: Vec<_> = KNOWN
        .iter()
        .filter(|(from, to, _)| !leads(&arrows, to, from) || !has(&arrows, from, to))
        .map(|(from, to, _)| format!("{from} -> {to} closes no circle any more: off the list"))
        .collect();
    let mut rest = arrows;
    rest.retain(|(from, to), _| !KNOWN.iter().any(|known| (known.0, known.1) == (from, to)));
    complaints.extend(circles(&rest));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_circle_is_noticed() {
    let two = [
        ("src/lib.rs", "mod a;\nmod b;"),
        ("src/a.rs", "use crate::b::B;\npub struct A;"),
        ("src/b.rs", "pub struct B;\nfn f() { super::a::A; }"),
    ];
    let three = [
        ("src/lib.rs", "mod a;\nmod b;\nmod d;"),
        ("src/a/mod.rs", "mod c;\npub use c::C;"),
        ("src/a/c.rs", "use crate::b::{B as Other};\npub struct C;"),
        (
            "src/b.rs",
            "use crate::{d::{self}, x::Y};\nfn f() { d::D::new(); }",
        ),
        ("src/d.rs", "pub struct D { c: super::a::C }"),
    ];
    for (sources, files) in [(&two[..], 2), (&three[..], 3)] {
        let found = circles(&arrows(&owned(sources)));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].matches(" -> ").count(), files, "{found:?}");
    }
    let none = [
        ("src/lib.rs", "pub mod a;\npub mod b;\npub use a::A;"),
        // It uses and hands on what its child defines; its child uses what it defines.
        (
            "src/a/mod.rs",
            "mod c;\nuse c::D;\npub use c::C;\npub struct A { d: D }",
        ),
        (
            "src/a/c.rs",
            "use super::A;\n// use crate::b::B;\n#[cfg(test)]\nuse crate::b::B;",
        ),
        (
            "src/b.rs",
            "use crate::a::C;\n#[cfg(test)]\nmod tests {\n    use super::x;\n}",
        ),
    ];
    let found = circles(&arrows(&owned(&none)));
    assert!(found.is_empty(), "{found:?}");
}

/// The arrows between the files of production code, each with the names that tie it.
///
/// A file knows another when it names an item that stands there: in a `use`, or by a path in its code.
/// The path leads to the file that defines the item, also when a parent's `mod.rs` hands it on. To hand
/// a child's item on is therefore no arrow from the parent to the child, unless the parent's own code
/// uses the name. What a `mod.rs` defines itself is the common ground of its folder: that a file uses an
/// item of a `mod.rs` above it is no arrow either, the parent that uses its child's is one. A `mod` line
/// alone, and methods in other files than their type, are not seen.
fn arrows(sources: &[(String, String)]) -> BTreeMap<(String, String), BTreeSet<String>> {
    let readers = modules(sources);
    let mut arrows = BTreeMap::<_, BTreeSet<_>>::new();
    for (module, reader) in &readers {
        let used = reader.uses.iter().filter(|import| {
            !import.is_public || reader.words.contains(&import.name) && import.name != "*"
        });
        let mut paths: Vec<Vec<String>> = used
            .map(|import| absolute(&readers, module, &import.path))
            .collect();
        paths.extend(reader.paths.iter().filter_map(|path| {
            let is_local = readers.contains_key(&joined(module, &path[0]));
            let import = reader.uses.iter().find(|import| import.name == path[0]);
            match import {
                _ if matches!(path[0].as_str(), "crate" | "super" | "self") || is_local => {
                    Some(absolute(&readers, module, path))
                }
                Some(import) => {
                    let mut whole = absolute(&readers, module, &import.path);
                    whole.extend_from_slice(&path[1..]);
                    Some(whole)
                }
                None => None,
            }
        }));
        for path in paths {
            let Some((place, name)) = item(&readers, &path, 0) else {
                continue;
            };
            if !module.starts_with(&place) {
                let ends = (reader.path.clone(), readers[&place].path.clone());
                arrows.entry(ends).or_default().insert(name);
            }
        }
    }
    arrows
}

type Modules = BTreeMap<Vec<String>, Reader>;

/// The modules that are built without tests, from the crate's root down.
fn modules(sources: &[(String, String)]) -> Modules {
    let mut modules = BTreeMap::new();
    let mut open = vec![Vec::new()];
    while let Some(module) = open.pop() {
        let path = match module.is_empty() {
            true => vec!["src/lib.rs".to_owned()],
            false => {
                let base = format!("src/{}", module.join("/"));
                vec![format!("{base}.rs"), format!("{base}/mod.rs")]
            }
        };
        let Some((path, text)) = sources.iter().find(|(name, _)| path.contains(name)) else {
            panic!("no file for the module {module:?}");
        };
        let reader = Reader::new(path, &code_tokens(text));
        open.extend(reader.children.iter().map(|child| joined(&module, child)));
        modules.insert(module, reader);
    }
    modules
}

fn joined(module: &[String], name: &str) -> Vec<String> {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

/// `path`, as it stands in `module`, from the crate's root. One into another crate leads nowhere.
fn absolute(modules: &Modules, module: &[String], path: &[String]) -> Vec<String> {
    let mut place = module.to_vec();
    let mut rest = path;
    match rest[0].as_str() {
        "crate" => {
            place.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|step| step == "super") {
                place.pop();
                rest = &rest[1..];
            }
        }
        name if modules.contains_key(&joined(module, name)) => {}
        _ => return vec!["another crate".to_owned()],
    }
    place.extend_from_slice(rest);
    place
}

/// The module that defines what `path` leads to, and the item's name. A path to a module alone names none.
fn item(modules: &Modules, path: &[String], turns: usize) -> Option<(Vec<String>, String)> {
    let deepest = (0..path.len())
        .rev()
        .find(|end| modules.contains_key(&path[..*end]))?;
    let name = &path[deepest];
    if modules.contains_key(path) || turns > 8 || path[0] == "another crate" {
        return None;
    }
    let module = &path[..deepest];
    let handed_on = modules[module]
        .uses
        .iter()
        .find(|import| import.name == *name);
    if let Some(import) = handed_on {
        let mut whole = absolute(modules, module, &import.path);
        whole.extend_from_slice(&path[deepest + 1..]);
        return item(modules, &whole, turns + 1);
    }
    Some((module.to_vec(), name.clone()))
}

type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

fn has(arrows: &Arrows, from: &str, to: &str) -> bool {
    arrows.contains_key(&(from.to_owned(), to.to_owned()))
}

/// Whether arrows lead from one file to the other.
fn leads(arrows: &Arrows, from: &str, to: &str) -> bool {
    reached(arrows, from).contains(to)
}

fn reached<'a>(arrows: &'a Arrows, from: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![from];
    while let Some(file) = open.pop() {
        let next = arrows.range((file.to_owned(), String::new())..);
        for (_, to) in next.map(|(ends, _)| ends).take_while(|ends| ends.0 == file) {
            if reached.insert(to.as_str()) {
                open.push(to);
            }
        }
    }
    reached
}

/// One text for each circle: its arrows, and the names that tie them.
fn circles(arrows: &Arrows) -> Vec<String> {
    let files: BTreeSet<&str> = arrows.keys().map(|(from, _)| from.as_str()).collect();
    let reached: BTreeMap<&str, BTreeSet<&str>> = files
        .iter()
        .map(|file| (*file, reached(arrows, file)))
        .collect();
    let mut told = BTreeSet::<&str>::new();
    let mut circles = Vec::new();
    for file in files {
        if told.contains(file) || !reached[file].contains(file) {
            continue;
        }
        let circle: BTreeSet<_> = reached[file]
            .iter()
            .filter(|other| reached.get(*other).is_some_and(|back| back.contains(file)))
            .collect();
        let mut text = format!("{} files in a circle:", circle.len());
        for ((from, to), names) in arrows {
            if circle.contains(&from.as_str()) && circle.contains(&to.as_str()) {
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                text.push_str(&format!("\n  {from} -> {to}: {}", names.join(", ")));
            }
        }
        told.extend(circle.into_iter().copied());
        circles.push(text);
    }
    circles
}

fn owned(sources: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = sources.iter();
    pairs
        .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
        .collect()
}
