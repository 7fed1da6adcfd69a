//! The real binary: arguments, exit codes, what stands where.

mod custom;
mod journey;
mod own_store;
mod playlist;
mod secret_links;
mod senders;
mod stores;
mod trust;
mod unknown;

use std::net::TcpListener;
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

/// The binary in a folder of its own, with an environment of nobody's.
fn harvester(folder: &Path) -> Command {
    let mut command = Command::cargo_bin("harvester").unwrap();
    command.current_dir(folder).env_clear();
    command
}

struct Ended {
    code: i32,
    out: String,
    err: String,
}

fn run(folder: &Path, arguments: &[&str]) -> Ended {
    run_with(folder, arguments, &[], "")
}

fn run_with(folder: &Path, arguments: &[&str], env: &[(&str, &str)], stdin: &str) -> Ended {
    let output = harvester(folder)
        .args(arguments)
        .envs(env.iter().copied())
        .write_stdin(stdin)
        .timeout(std::time::Duration::from_secs(30))
        .output()
        .unwrap();
    Ended {
        code: output.status.code().expect("it ends by itself"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect(text)
}

/// A verdict about such a URL is none: nothing could ever be fetched from it.
#[test]
fn inspect_takes_no_url_but_of_the_web() {
    let folder = tempfile::tempdir().unwrap();
    for (url, advice) in [
        ("file:///tmp/event.json", "give the file's path"),
        ("s3://bucket/key?sig=canary", "http or https"),
        ("ftp://user:canary@host/key", "http or https"),
    ] {
        for arguments in [&["inspect", url][..], &["inspect", "--json", url]] {
            let ended = run(folder.path(), arguments);
            assert_eq!(ended.code, 2, "{url}: {}{}", ended.out, ended.err);
            assert!(ended.err.contains(advice), "{}", ended.err);
            assert!(!format!("{}{}", ended.out, ended.err).contains("canary"));
        }
    }
    let ended = run(folder.path(), &["inspect", "file:///tmp/event.json"]);
    assert!(
        ended.err.contains("file:///tmp/event.json"),
        "{}",
        ended.err
    );
}

/// Whoever mends a configuration at 3 a.m. starts once more, and not once for each slip.
#[test]
fn all_that_is_wrong_with_a_configuration_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = "[limits]\nlanes = 0\nmax_per_day = 0\n[archive]\nlock_days = 3\n[sources.daily]\nevent_rate = 0\nmax_body = 10\n";
    std::fs::write(folder.path().join("c.toml"), file).unwrap();
    let ended = run(folder.path(), &["--config", "c.toml", "list"]);
    assert_eq!(ended.code, 2, "{}", ended.err);
    for setting in [
        "limits.lanes",
        "limits.max_per_day",
        "archive.lock_mode",
        "sources.daily.event_rate",
        "sources.daily.max_body",
    ] {
        let mut lines = ended.err.lines();
        let is_told = lines.any(|line| line.trim_start().starts_with(setting));
        assert!(is_told, "{setting}: {}", ended.err);
    }
    assert!(ended.err.contains("5 settings"), "{}", ended.err);
}

#[test]
fn wrong_usage_ends_with_two_and_says_why_on_stderr() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["nonsense"][..],
        &[],
        &["retry"],
        &["retry", "--all", "--class", "gone"],
        &["retry", "not-a-uuid"],
        &["retry", "--class", "nonsense"],
        &["cancel"],
        &["archive"],
        &["inspect"],
        &["list", "--state", "nonsense"],
        &["list", "--since", "yesterday"],
        &["completions", "nonsense"],
        &["list", "--set", "archive.buket=x"],
        &["list", "--config", "missing.toml"],
    ] {
        let ended = run(folder.path(), arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.err);
        assert!(!ended.err.is_empty(), "{arguments:?}");
        assert_eq!(ended.out, "", "{arguments:?}");
    }
}

#[test]
fn a_signed_url_in_the_wrong_place_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let url = "https://example.com/a.mp4?X-Amz-Signature=canary";
    for arguments in [
        &[url][..],
        &["list", url],
        &["list", "--set", url],
        &["inspect", "--now", url, url],
        &["retry", url],
    ] {
        let ended = run(folder.path(), arguments);
        assert_eq!(ended.code, 2, "{arguments:?}");
        assert!(!ended.err.contains("canary"), "{}", ended.err);
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[archive]\nbucket = \"mine\"\nbuket = \"x\"\n";
    std::fs::write(folder.path().join("harvester.toml"), text).unwrap();
    let ended = run(folder.path(), &["list"]);
    assert_eq!(ended.code, 2);
    assert!(
        ended
            .err
            .contains("harvester.toml:3:1: unknown key `buket`"),
        "{}",
        ended.err
    );
    let ended = run(folder.path(), &["list", "--json"]);
    let error = &lines(&ended.out)[0]["error"];
    assert_eq!(error["class"], "invalid");
    assert!(error["message"].as_str().unwrap().contains("buket"));
}

#[test]
fn the_environment_overrides_the_file_and_a_flag_both() {
    let folder = tempfile::tempdir().unwrap();
    let text = "data_dir = \"from-file\"\n";
    std::fs::write(folder.path().join("harvester.toml"), text).unwrap();
    let env = [("HARVESTER_DATA_DIR", "from-env")];
    let note =
        |arguments: &[&str], env: &[(&str, &str)]| run_with(folder.path(), arguments, env, "").err;
    assert!(note(&["list"], &[]).contains("from-file/harvester.db"));
    assert!(note(&["list"], &env).contains("from-env/harvester.db"));
    let flags = ["list", "--set", "data_dir=from-flag"];
    assert!(note(&flags, &env).contains("from-flag/harvester.db"));
    let ended = run_with(folder.path(), &["list"], &[("HARVESTER_NONSENSE", "x")], "");
    assert_eq!(ended.code, 2);
    assert!(
        ended.err.contains("HARVESTER_NONSENSE: unknown key"),
        "{}",
        ended.err
    );
}

#[test]
fn inspect_takes_several_inputs_at_once_and_says_which_are_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let sample = include_str!("../../fixtures/events/100ms/recording.success.json");
    let sample = sample.replace("{{ORIGIN}}", "https://origin.example.com");
    std::fs::write(folder.path().join("event.json"), &sample).unwrap();
    let url = "https://b.s3.amazonaws.com/a.mp4?X-Amz-Algorithm=AWS4-HMAC-SHA256\
               &X-Amz-Date=20260302T103320Z&X-Amz-Expires=60&X-Amz-Signature=canary";
    let now = "2026-03-02T10:40:00Z";
    let arguments = [
        "inspect",
        "--json",
        "--now",
        now,
        "event.json",
        url,
        "-",
        "missing.json",
    ];
    let stdin = format!("{sample}\n{sample} not json");
    let ended = run_with(folder.path(), &arguments, &[], &stdin);
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(!ended.out.contains("canary") && !ended.err.contains("canary"));
    let told = lines(&ended.out);
    assert_eq!(told.len(), 6, "{}", ended.out);
    for event in [&told[0], &told[2], &told[3]] {
        assert_eq!(event["provider"], "100ms");
        assert_eq!(event["class"], "artifacts");
        assert_eq!(event["artifacts"][0]["name"], "recording.mp4");
        assert!(!event["artifacts"][0]["url"].as_str().unwrap().contains('?'));
    }
    assert_eq!(told[1]["deadline"], "2026-03-02T10:34:20Z");
    assert_eq!(told[1]["verdict"], "allowed");
    for error in [&told[4], &told[5]] {
        assert_eq!(error["error"]["class"], "invalid");
    }
    assert!(ended.err.contains("missing.json"), "{}", ended.err);

    let ended = run(folder.path(), &["inspect", "event.json", "--now", now]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    assert!(
        ended.out.starts_with("100ms  recording.success  artifacts"),
        "{}",
        ended.out
    );
    assert!(!folder.path().join("harvester-data").exists());
}

// S10
#[test]
fn inspect_shows_keys_in_the_folder_of_the_source() {
    let folder = tempfile::tempdir().unwrap();
    let sample = include_str!("../../fixtures/events/100ms/recording.success.json");
    let sample = sample.replace("{{ORIGIN}}", "https://origin.example.com");
    std::fs::write(folder.path().join("event.json"), sample).unwrap();
    let source = |name| format!("[sources.{name}]\nprovider = \"100ms\"\ninsecure = true\n");
    let text = source("tenant-a") + &source("tenant-b");
    std::fs::write(folder.path().join("harvester.toml"), text).unwrap();
    for name in ["tenant-a", "tenant-b"] {
        let arguments = ["inspect", "--json", "--source", name, "event.json"];
        let ended = run(folder.path(), &arguments);
        assert_eq!(ended.code, 0, "{}", ended.err);
        let told = lines(&ended.out);
        let key = told[0]["artifacts"][0]["key"].as_str().unwrap();
        assert!(key.starts_with(&format!("{name}/2026/03/02/")), "{key}");
    }
}

#[test]
fn inspect_refuses_what_would_never_be_fetched() {
    let folder = tempfile::tempdir().unwrap();
    for url in [
        "http://169.254.169.254/latest",
        "https://169.254.169.254/latest",
        "https://[::ffff:169.254.169.254]/latest",
        "https://2852039166/latest",
    ] {
        let ended = run(folder.path(), &["inspect", "--json", url]);
        let told = &lines(&ended.out)[0];
        assert_eq!(told["verdict"], "refused", "{url}: {}", ended.out);
    }
}

#[test]
fn what_inspect_can_not_read_is_invalid() {
    let folder = tempfile::tempdir().unwrap();
    let deep = "[".repeat(100_000);
    for stdin in [
        "",
        "not json",
        "[]",
        "{}",
        "#EXTM3U\n",
        "{\"a\":1",
        "\u{0}",
        &deep,
    ] {
        let ended = run_with(folder.path(), &["inspect", "--json", "-"], &[], stdin);
        assert_eq!(ended.code, 1, "{stdin:.20}: {}", ended.err);
        let told = lines(&ended.out);
        assert_eq!(told.len(), 1, "{stdin:.20}");
        assert_eq!(told[0]["error"]["class"], "invalid", "{stdin:.20}");
    }
}

#[test]
fn help_completions_and_the_manual_page_are_there() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, expected) in [
        (&["--help"][..], "Usage: harvester"),
        (&["archive", "--help"], "--recording"),
        (&["--version"], "harvester 0."),
        (&["completions", "bash"], "complete -F"),
        (&["completions", "zsh"], "#compdef harvester"),
        (&["man"], ".TH harvester"),
    ] {
        let ended = run(folder.path(), arguments);
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.err);
        assert!(ended.out.contains(expected), "{arguments:?}: {}", ended.out);
    }
}

#[test]
fn without_a_store_there_is_nothing_and_none_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(folder.path(), &["list", "--json"]);
    assert_eq!((ended.code, ended.out.trim()), (0, "[]"));
    let ended = run(folder.path(), &["failures", "--json"]);
    assert_eq!((ended.code, ended.out.trim()), (0, "{\"groups\":[]}"));
    assert!(!folder.path().join("harvester-data").exists());
}

#[test]
fn an_unknown_id_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let id = "01890000-0000-7000-8000-000000000000";
    for command in ["retry", "cancel"] {
        let ended = run(folder.path(), &[command, id]);
        assert_eq!(ended.code, 1, "{}", ended.err);
        assert!(ended.err.contains(id), "{}", ended.err);
    }
}

#[test]
fn a_retry_says_why_there_is_nothing_to_do() {
    let folder = tempfile::tempdir().unwrap();
    for (which, expected) in [
        (&["--all"][..], "nothing was lost"),
        (&["--class", "gone"][..], "no artifact was lost as gone"),
    ] {
        let ended = run(folder.path(), &[&["retry"], which].concat());
        assert_eq!(ended.code, 0, "{}", ended.err);
        assert!(ended.err.contains(expected), "{}", ended.err);
    }
}

#[test]
fn a_port_in_use_is_named_with_its_setting() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for setting in ["listen", "admin.listen", "archive.embedded_listen"] {
        let mut arguments = vec!["run".to_owned()];
        for other in ["listen", "admin.listen", "archive.embedded_listen"] {
            let value = if other == setting {
                &address
            } else {
                "127.0.0.1:0"
            };
            arguments.extend(["--set".to_owned(), format!("{other}={value}")]);
        }
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let ended = run(folder.path(), &arguments);
        assert_eq!(ended.code, 1, "{setting}: {}", ended.err);
        assert!(ended.err.contains(&address), "{setting}: {}", ended.err);
        assert!(ended.err.contains(setting), "{setting}: {}", ended.err);
    }
}

#[test]
fn a_public_listener_without_secrets_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run(folder.path(), &["run", "--set", "listen=0.0.0.0:0"]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("secrets"), "{}", ended.err);
}

#[test]
fn watch_says_where_no_worker_is() {
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let setting = format!("admin.listen={address}");
    let ended = run(folder.path(), &["watch", "--set", &setting]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.err.contains(&address) && ended.err.contains("harvester run"),
        "{}",
        ended.err
    );
    // No totals of nothing, and no advice about recordings.
    for other in ["archived", "provider", "retry"] {
        assert!(!ended.err.contains(other), "{}", ended.err);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    use std::process::{Command, Stdio};

    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(assert_cmd::cargo::cargo_bin!("harvester"))
        .current_dir(folder.path())
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert_eq!(err, "");
}

#[test]
fn the_demo_archives_what_it_should_and_loses_only_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    let demo = run(folder.path(), &["demo", "--json"]);
    assert_eq!(demo.code, 0, "{}", demo.err);
    let told = lines(&demo.out).pop().unwrap();
    assert_eq!(told["is_as_expected"], true, "{told}");
    for artifact in told["archived"].as_array().unwrap() {
        let key = artifact["key"].as_str().unwrap();
        let file = Path::new("harvester-data/demo/s3/archive").join(key);
        let length = std::fs::metadata(folder.path().join(&file))
            .expect(key)
            .len();
        assert_eq!(artifact["size_bytes"], length, "{key}");
    }
    let losses = told["losses"].as_array().unwrap();
    assert!(!losses.is_empty(), "a dead URL is among them: {told}");
}
