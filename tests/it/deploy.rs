//! What stands in `deploy/` and `.ci/`: rights no wider than needed, and nothing that another could exchange.

use std::path::Path;

use serde_json::Value;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn statements(path: &str) -> Vec<Value> {
    let policy: Value = serde_json::from_str(&read(path)).unwrap();
    policy["Statement"].as_array().unwrap().clone()
}

/// One string, or each of a list.
fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(word) => vec![word],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

// S18
#[test]
fn the_workers_rights_end_at_the_prefix_of_the_example() {
    let example: toml::Table = read("deploy/harvester.example.toml").parse().unwrap();
    let archive = &example["archive"];
    let bucket = format!("arn:aws:s3:::{}", archive["bucket"].as_str().unwrap());
    let below = format!("{bucket}/{}/*", archive["prefix"].as_str().unwrap());
    for file in ["deploy/aws/policy.json", "deploy/aws/policy-options.json"] {
        for statement in statements(file) {
            let is_of_bucket = statement["Resource"] == bucket.as_str();
            let is_of_key = words(&statement["Action"])
                .iter()
                .all(|action| action.starts_with("kms:"));
            assert!(
                is_of_bucket || is_of_key || statement["Resource"] == below.as_str(),
                "{file}: {statement}"
            );
            if is_of_bucket {
                assert!(
                    statement["Condition"].to_string().contains("s3:prefix"),
                    "{statement}"
                );
            }
            for action in words(&statement["Action"]) {
                assert!(
                    !action.contains("Delete") && !action.contains('*'),
                    "{file}: {action}"
                );
            }
        }
    }
    let all: Vec<_> = statements("deploy/aws/policy.json");
    let allowed: Vec<_> = all.iter().flat_map(|s| words(&s["Action"])).collect();
    let doctor = read("src/cli/doctor/bucket.rs");
    for action in allowed {
        assert!(doctor.contains(action), "doctor does not name {action}");
    }
}

// S18
#[test]
fn the_bucket_refuses_plain_http_and_overwriting() {
    let all = statements("deploy/aws/bucket-policy.json");
    assert!(all.iter().all(|statement| statement["Effect"] == "Deny"));
    let conditions: String = all.iter().map(|s| s["Condition"].to_string()).collect();
    for key in [
        "aws:SecureTransport",
        "s3:if-none-match",
        "s3:ObjectCreationOperation",
    ] {
        assert!(conditions.contains(key), "{key}");
    }
    // What is rewritten may be written with the one condition or the other, all else with the first only.
    let rewritten = words(&all[1]["NotResource"]);
    for resource in words(&all[2]["Resource"]) {
        assert!(rewritten.contains(&resource), "{resource}");
    }
}

// S18
#[test]
fn what_is_deployed_is_pinned_and_not_root() {
    let dockerfile = read("deploy/Dockerfile");
    let images: Vec<_> = dockerfile
        .lines()
        .filter(|line| line.starts_with("ARG "))
        .collect();
    assert_eq!(images.len(), 2);
    for image in images {
        let (_, digest) = image.split_once("@sha256:").expect(image);
        assert!(
            digest.len() == 64 && digest.chars().all(|c| c.is_ascii_hexdigit()),
            "{image}"
        );
    }
    let froms = dockerfile.lines().filter(|line| line.starts_with("FROM "));
    assert!(
        froms.into_iter().all(|line| line.contains("${")),
        "{dockerfile}"
    );
    let user = dockerfile
        .lines()
        .find_map(|line| line.strip_prefix("USER "))
        .unwrap();
    assert!(
        user.chars().all(|c| c.is_ascii_digit() || c == ':'),
        "{user}"
    );
    let unit = read("deploy/systemd/harvester.service");
    let (unit_section, service) = unit.split_once("[Service]").unwrap();
    assert!(unit_section.contains("\nStartLimitIntervalSec=0\n"));
    assert!(service.contains("\nRestart=always\n"), "{service}");
    assert!(service.contains("~@privileged"));
    let denied = service
        .lines()
        .find(|line| line.starts_with("IPAddressDeny="));
    for metadata in ["169.254.0.0/16", "168.63.129.16", "fd00:ec2::254"] {
        assert!(
            denied.is_some_and(|line| line.contains(metadata)),
            "{denied:?}"
        );
    }
}

// S18
#[test]
fn nothing_is_built_or_installed_unpinned() {
    let files = [
        ".ci/run",
        "deploy/Dockerfile",
        "README.md",
        "CONTRIBUTING.md",
        "docs/operations.md",
        "docs/benchmarks.md",
    ];
    let verbs = ["build", "test", "run", "clippy", "doc", "install", "bench"];
    let builds = verbs.map(|verb| format!("cargo {verb} "));
    for file in files {
        for line in read(file).lines() {
            // A command may end with its verb.
            let command = format!("{line} ");
            let is_build = builds.iter().any(|build| command.contains(build));
            assert!(!is_build || line.contains("--locked"), "{file}: {line}");
        }
    }
    for line in read(".ci/requirements.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        assert!(line.contains("=="), "{line}");
    }
    let script = read(".ci/run");
    let npm = script
        .lines()
        .find(|line| line.contains("npm install"))
        .unwrap();
    let version = npm.rsplit('@').next().unwrap();
    assert_eq!(version.split('.').count(), 3, "{npm}");
    assert!(read("Cargo.toml").contains("\noverflow-checks = true\n"));
    assert!(read("deny.toml").contains("[advisories]"));
}
