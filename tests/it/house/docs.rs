//! The documents agree with the program: keys, commands, metrics, classes, links, folders, faults, invariants.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use recording_harvester::config::{self, Layers};
use recording_harvester::error::Class;
use recording_harvester::object::{
    CHECKSUM_WARNING, CONDITIONS_WARNING, LIST_WARNING, WRONG_CHECKSUM_WARNING,
};

use super::faults::test_names;
use super::{files_under, names_in, read, root, texts_under};

const README_LINES_MAX: usize = 180;

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines < README_LINES_MAX, "README.md has {lines} lines");
}

/// The keys come from the error about one that there is not, so that a new key can't be forgotten here.
#[test]
fn the_example_and_the_table_of_keys_tell_every_key() {
    let example = read("deploy/harvester.example.toml");
    let table = read("docs/configuration.md");
    let layers = Layers {
        file: Some(root().join("deploy/harvester.example.toml")),
        ..Layers::default()
    };
    config::load(&layers).unwrap();
    check_with_what_is_commented_out(&example);
    for section in [
        "",
        "admin",
        "archive",
        "sources.daily",
        "guard",
        "limits",
        "store",
    ] {
        for key in keys_of(section) {
            let is_section = section.is_empty() && (!keys_of(&key).is_empty() || key == "sources");
            let line = format!("{key} = ");
            assert!(
                is_section || example.contains(&line),
                "the example lacks {section} {key}"
            );
            let name = match section {
                "" => key.clone(),
                "sources.daily" => format!("sources.NAME.{key}"),
                section => format!("{section}.{key}"),
            };
            assert!(
                is_section || table.contains(&format!("\n| `{name}` |")),
                "docs/configuration.md lacks {name}"
            );
        }
    }
}

/// What is only for some is commented out, and as true as the rest.
fn check_with_what_is_commented_out(example: &str) {
    let is_key = |text: &str| {
        text.split_once(" = ")
            .is_some_and(|(key, _)| !key.contains(' '))
    };
    let lines = example.lines().map(|line| match line.strip_prefix("# ") {
        Some(text) if is_key(text) => text,
        _ => line,
    });
    let whole = lines.collect::<Vec<_>>().join("\n");
    assert!(whole.contains("\nlock_mode = "), "{whole}");
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sources")).unwrap();
    let zoom = root().join("deploy/sources/zoom.toml");
    fs::copy(zoom, folder.path().join("sources/zoom.toml")).unwrap();
    let path = folder.path().join("harvester.toml");
    fs::write(&path, whole).unwrap();
    let layers = Layers {
        file: Some(path),
        ..Layers::default()
    };
    config::load(&layers).unwrap();
}

/// The keys of a section, as the configuration's own error names them.
fn keys_of(section: &str) -> Vec<String> {
    let nonsense = match section {
        "" => "nonsense".to_owned(),
        section => format!("{section}.nonsense"),
    };
    let layers = Layers {
        flags: vec![(nonsense, "x".to_owned())],
        ..Layers::default()
    };
    let message = config::load(&layers).unwrap_err().to_string();
    let Some((_, keys)) = message.split_once("expected") else {
        return Vec::new();
    };
    let quoted = keys.split('`').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// N11: what a store lacks is told in the same words wherever it is told.
#[test]
fn the_documents_say_what_run_and_doctor_warn_of() {
    // Without the line breaks of its paragraphs.
    let operations = read("docs/operations.md");
    let operations = operations.split_whitespace().collect::<Vec<_>>().join(" ");
    for warning in [
        CONDITIONS_WARNING,
        CHECKSUM_WARNING,
        WRONG_CHECKSUM_WARNING,
        LIST_WARNING,
    ] {
        assert!(
            operations.contains(warning),
            "docs/operations.md lacks: {warning}"
        );
    }
}

#[test]
fn every_class_and_metric_is_explained() {
    let operations = read("docs/operations.md");
    for class in Class::ALL {
        let row = format!("\n| `{class}` |");
        assert!(
            operations.contains(&row),
            "docs/operations.md lacks {class}"
        );
    }
    let source = read("src/report/metrics.rs");
    let registered: BTreeSet<&str> = source
        .split(".register(")
        .skip(1)
        .filter_map(|call| call.split('"').nth(1))
        .collect();
    assert!(registered.len() > 15, "{registered:?}");
    let table = operations.split("### All metrics").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let explained: BTreeSet<&str> = names_in(table)
        .into_iter()
        .filter_map(|name| name.strip_prefix("harvester_"))
        .map(|name| name.trim_end_matches("_total").trim_end_matches("_info"))
        .collect();
    assert_eq!(explained, registered);
}

/// Each command in a document is one of the program, with the flags that are shown; the README's table has all of them.
#[test]
fn every_command_and_flag_in_the_documents_exists() {
    let mut helps = BTreeMap::new();
    for (path, text) in documents() {
        for code in code_in(&text) {
            let Some((command, flags)) = parse_command(&code) else {
                continue;
            };
            let help = helps
                .entry(command.clone())
                .or_insert_with(|| help_of(&command));
            assert!(
                !help.is_empty(),
                "{path}: there is no `harvester {command}`"
            );
            for flag in flags {
                assert!(
                    help.contains(&flag),
                    "{path}: `harvester {command}` has no {flag}: {code}"
                );
            }
        }
    }
    let readme = read("README.md");
    let all = help_of("");
    let commands = all.split("Commands:\n").nth(1).unwrap();
    let commands = commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| !name.is_empty() && *name != "help");
    let mut count = 0;
    for command in commands {
        assert!(
            readme.contains(&format!("`harvester {command}")),
            "the README lacks `harvester {command}`"
        );
        count += 1;
    }
    assert!(count > 10, "{all}");
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut count = 0;
    for (path, text) in documents() {
        let folder = Path::new(&path).parent().unwrap();
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => root().join(&path),
                file => root().join(folder).join(file),
            };
            assert!(file.exists(), "{path}: {target} is not there");
            let is_there =
                anchor.is_empty() || anchors(&fs::read_to_string(&file).unwrap()).contains(anchor);
            assert!(is_there, "{path}: {target} has no such heading");
            count += 1;
        }
    }
    assert!(count > 20, "only {count} links were found");
}

#[test]
fn every_invariant_names_the_tests_that_hold_it() {
    let tests = test_names();
    let architecture = read("docs/architecture.md");
    let table = architecture.split("\n## Invariants\n").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let library = read("src/lib.rs");
    let invariants: Vec<_> = library
        .split("//! # Invariants")
        .nth(1)
        .unwrap()
        .lines()
        .filter_map(|line| line.strip_prefix("//! - "))
        .collect();
    assert!(invariants.len() > 5, "{invariants:?}");
    for invariant in invariants {
        let row = table
            .lines()
            .find(|line| line.starts_with(&format!("| {invariant} |")));
        let row = row.unwrap_or_else(|| panic!("docs/architecture.md lacks: {invariant}"));
        let named = names_in(row);
        assert!(!named.is_empty(), "{row}");
        for name in named {
            assert!(
                tests.contains(name),
                "docs/architecture.md: there is no test `{name}`"
            );
        }
    }
}

#[test]
fn the_map_names_every_folder_of_the_sources() {
    let architecture = read("docs/architecture.md");
    let map = architecture
        .split("\n## Map of the folders\n")
        .nth(1)
        .unwrap();
    let map = map.split("\n## ").next().unwrap();
    let rows: BTreeSet<&str> = map
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    for folder in &rows {
        assert!(root().join(folder).is_dir(), "the map names {folder}");
    }
    let folders: BTreeSet<String> = files_under("src")
        .iter()
        .filter_map(|path| {
            let (folder, _) = path.strip_prefix("src/")?.split_once('/')?;
            Some(format!("src/{folder}/"))
        })
        .collect();
    for folder in folders {
        assert!(rows.contains(folder.as_str()), "the map lacks {folder}");
    }
}

/// All documents for people, with their paths.
fn documents() -> Vec<(String, String)> {
    let of_root = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"];
    let mut all: Vec<_> = of_root
        .iter()
        .map(|path| ((*path).to_owned(), read(path)))
        .collect();
    for folder in ["docs", "deploy", "fixtures"] {
        let texts = texts_under(folder);
        all.extend(texts.into_iter().filter(|(path, _)| path.ends_with(".md")));
    }
    assert!(all.len() > 8, "{all:?}");
    all
}

/// The lines of code blocks, and what stands between backticks elsewhere.
fn code_in(text: &str) -> Vec<String> {
    let mut code = Vec::new();
    for (at, block) in text.split("```").enumerate() {
        match at % 2 {
            0 => code.extend(block.split('`').skip(1).step_by(2).map(str::to_owned)),
            _ => code.extend(block.lines().map(str::to_owned)),
        }
    }
    code
}

/// The command and the long flags of `NAME=value harvester COMMAND --flag ...`; nothing for other text.
fn parse_command(code: &str) -> Option<(String, Vec<String>)> {
    let code = code.split([';', '|', '#', '>']).next()?;
    let mut words = code
        .split_whitespace()
        .skip_while(|word| word.starts_with("HARVESTER_"));
    if words.next()? != "harvester" {
        return None;
    }
    let (mut command, mut flags) = (String::new(), Vec::new());
    while let Some(word) = words.next() {
        match word {
            "--config" | "--set" => {
                words.next();
            }
            word if word.starts_with("--") => flags.push(word.to_owned()),
            word if command.is_empty() => word.clone_into(&mut command),
            _ => {}
        }
    }
    Some((command, flags))
}

/// What the program says about a command; empty if it does not know the command.
fn help_of(command: &str) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_harvester"));
    if !command.is_empty() {
        program.arg(command);
    }
    let answer = program.arg("--help").output().unwrap();
    match answer.status.success() {
        true => String::from_utf8(answer.stdout).unwrap(),
        false => String::new(),
    }
}

/// The anchors that GitHub makes of the headings.
fn anchors(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter_map(|c| match c {
                ' ' => Some('-'),
                c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                _ => None,
            });
            kept.collect()
        })
        .collect()
}

#[test]
fn a_command_is_found_in_its_text() {
    let found =
        parse_command("HARVESTER_A__B=1 harvester --config x.toml retry ID --class C # why");
    let expected = ("retry".to_owned(), vec!["--class".to_owned()]);
    assert_eq!(found, Some(expected));
    assert_eq!(parse_command("harvester-data/demo"), None);
    assert_eq!(
        anchors("## A, and b_c\n"),
        BTreeSet::from(["a-and-b_c".to_owned()])
    );
}
