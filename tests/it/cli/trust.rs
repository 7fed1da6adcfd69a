//! What the program takes from the folder that it is started in, and what it shows on a terminal.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::{lines, run, run_with};

const FILE: &str = "harvester.toml";

fn write(folder: &Path, text: &str, mode: u32) {
    let file = folder.join(FILE);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
}

// S13
#[test]
fn a_configuration_that_nobody_named_is_told() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!run(folder.path(), &["list"]).err.contains(FILE));
    write(folder.path(), "data_dir = \"./d\"\n", 0o644);
    let ended = run(folder.path(), &["list"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(
        ended.err.contains("using ./harvester.toml\n"),
        "{}",
        ended.err
    );
    let named = run(folder.path(), &["list", "--config", FILE]);
    assert!(!named.err.contains("using"), "{}", named.err);
}

// S13
#[test]
fn a_configuration_that_others_may_have_written_is_used_only_by_name() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "data_dir = \"./d\"\n", 0o666);
    let ended = run(folder.path(), &["list"]);
    assert_eq!(ended.code, 2, "{}", ended.err);
    assert!(
        ended.err.contains("it can be written by everybody") && ended.err.contains("--config"),
        "{}",
        ended.err
    );
    let named = run(folder.path(), &["list", "--config", FILE]);
    assert_eq!(named.code, 0, "{}", named.err);

    write(folder.path(), "data_dir = \"./d\"\n", 0o644);
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let ended = run(folder.path(), &["list"]);
    assert_eq!(ended.code, 2, "{}", ended.err);
    assert!(
        ended.err.contains("its folder can be written"),
        "{}",
        ended.err
    );
}

// S13
#[test]
fn a_configuration_that_nobody_named_does_not_send_a_credential_of_the_environment_away() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "[sources.daily]\nbase_url = \"http://127.0.0.1:1/v1\"\n[guard]\nallow_http = true\n";
    write(folder.path(), text, 0o644);
    let key = [("HARVESTER_SOURCES__DAILY__API_KEY", "canary-key")];
    let ended = run_with(folder.path(), &["doctor"], &key, "");
    assert_eq!(ended.code, 2, "{}", ended.err);
    assert!(
        ended.err.contains("sources.daily.base_url"),
        "{}",
        ended.err
    );
    assert!(!ended.err.contains("canary"), "{}", ended.err);
    let arguments = ["list", "--config", FILE];
    assert_eq!(run_with(folder.path(), &arguments, &key, "").code, 0);
}

// S12
#[test]
fn nothing_that_a_command_says_can_steer_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let name = "a\u{1b}]52;c;eA==\u{7}\r\u{9b}2K\u{2028}.m3u8";
    std::fs::write(folder.path().join(name), "#EXTM3U\n#EXTINF:1,\n").unwrap();
    let is_acting = |c: char| (c.is_control() && c != '\n') || c == '\u{2028}';
    for json in [&[][..], &["--json"]] {
        let ended = run(folder.path(), &[&["inspect", name], json].concat());
        assert_eq!(ended.code, 1, "{}", ended.err);
        for text in [&ended.out, &ended.err] {
            assert_eq!(text.find(is_acting), None, "{text:?}");
        }
        if !json.is_empty() {
            let message = &lines(&ended.out)[0]["error"]["message"];
            assert!(message.as_str().unwrap().contains('\u{9b}'), "{message}");
        }
    }
    // What is not understood is repeated as well.
    let ended = run(folder.path(), &["list", "--state", "x\u{1b}[2J\r"]);
    assert_eq!(ended.code, 2);
    assert_eq!(ended.err.find(is_acting), None, "{:?}", ended.err);
}
