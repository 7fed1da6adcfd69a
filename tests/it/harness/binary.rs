//! The real program as a child process: started, spoken to, killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A start or an end that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A `harvester run` on a folder of its own, with every port chosen by the system.
pub struct Running {
    child: Child,
    pub webhooks: SocketAddr,
    pub admin: SocketAddr,
}

/// Writes a configuration that lets the program fetch from loopback.
pub fn configure(folder: &Path, more: &str) -> PathBuf {
    let data = folder.join("data");
    let config = format!(
        r#"
listen = "127.0.0.1:0"
data_dir = "{data}"
{more}
[admin]
listen = "127.0.0.1:0"
[archive]
embedded_listen = "127.0.0.1:0"
[guard]
allow_http = true
allow_networks = ["127.0.0.0/8"]
"#,
        data = data.display()
    );
    let path = folder.join("harvester.toml");
    std::fs::write(&path, config).unwrap();
    path
}

/// The program with this configuration; what it says on stderr is added to `folder/log`.
pub fn harvester(config: &Path, arguments: &[&str]) -> Command {
    let command = Command::new(assert_cmd::cargo::cargo_bin!("harvester"));
    prepared(command, config, arguments)
}

/// The same with so many file descriptors, and leave to raise the number to the system's limit.
pub fn with_few_descriptors(config: &Path, descriptors: u32, arguments: &[&str]) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(format!("ulimit -S -n {descriptors} && exec \"$0\" \"$@\""))
        .arg(assert_cmd::cargo::cargo_bin!("harvester"));
    prepared(command, config, arguments)
}

/// The same with so many file descriptors and not one more.
pub fn with_descriptors(config: &Path, descriptors: u32, arguments: &[&str]) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(format!("ulimit -n {descriptors} && exec \"$0\" \"$@\""))
        .arg(assert_cmd::cargo::cargo_bin!("harvester"));
    prepared(command, config, arguments)
}

/// The same with a limit to the size of the files that it writes. A write beyond fails.
pub fn with_file_size(config: &Path, bytes: u64, arguments: &[&str]) -> Command {
    let mut command = Command::new("/bin/sh");
    // Counted in blocks of 512 bytes (POSIX).
    command
        .arg("-c")
        .arg(format!(
            "trap '' XFSZ && ulimit -f {} && exec \"$0\" \"$@\"",
            bytes.div_ceil(512)
        ))
        .arg(assert_cmd::cargo::cargo_bin!("harvester"));
    prepared(command, config, arguments)
}

/// What time it is.
pub fn unix_seconds() -> i64 {
    recording_harvester::clock::Clock::now(&recording_harvester::clock::SystemClock).as_second()
}

fn prepared(mut command: Command, config: &Path, arguments: &[&str]) -> Command {
    let log = config.with_file_name("log");
    let log = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(log)
        .unwrap();
    command
        .env_clear()
        .arg("--config")
        .arg(config)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true);
    command
}

/// Runs a command to its end; gives what it printed and its exit code.
pub async fn finish(config: &Path, arguments: &[&str]) -> (String, Option<i32>) {
    finish_with(config, arguments, &[]).await
}

/// The same with these variables in its environment.
pub async fn finish_with(
    config: &Path,
    arguments: &[&str],
    env: &[(&str, &str)],
) -> (String, Option<i32>) {
    // Not `output()`: that would take stderr away from the log.
    let mut command = harvester(config, arguments);
    let child = command.envs(env.iter().copied()).spawn().unwrap();
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output());
    let output = output.await.expect("the command ends in time").unwrap();
    (
        String::from_utf8(output.stdout).unwrap(),
        output.status.code(),
    )
}

/// Sends SIGTERM to a program that is running.
pub fn signal_term(child: &Child) {
    let id = child.id().expect("it has not ended");
    let id = rustix::process::Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
}

/// All records, as `list --json` tells them.
pub async fn records(config: &Path) -> Vec<Value> {
    let (printed, code) = finish(config, &["--json", "list"]).await;
    assert_eq!(code, Some(0));
    serde_json::from_str(&printed).unwrap()
}

impl Running {
    pub async fn start(config: &Path, flags: &[&str]) -> Running {
        Running::start_with(config, flags, &[]).await
    }

    /// The same with these variables in its environment.
    pub async fn start_with(config: &Path, flags: &[&str], env: &[(&str, &str)]) -> Running {
        let arguments = [&["--json"], flags, &["run"]].concat();
        let mut command = harvester(config, &arguments);
        command.envs(env.iter().copied());
        Running::spawn(command).await
    }

    /// One that may have so many file descriptors.
    pub async fn start_with_descriptors(config: &Path, descriptors: u32) -> Running {
        Running::spawn(with_descriptors(config, descriptors, &["--json", "run"])).await
    }

    /// One that may have so many unless it asks for more.
    pub async fn start_with_few_descriptors(config: &Path, descriptors: u32) -> Running {
        Running::spawn(with_few_descriptors(
            config,
            descriptors,
            &["--json", "run"],
        ))
        .await
    }

    async fn spawn(mut command: Command) -> Running {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line());
        let first = first.await.expect("the program starts in time").unwrap();
        let first = first.expect("the program says where it listens; see its log");
        let said: Value = serde_json::from_str(&first).unwrap();
        let address = |key: &str| said[key].as_str().unwrap().parse().unwrap();
        Running {
            child,
            webhooks: address("listen"),
            admin: address("admin"),
        }
    }

    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.child.id().expect("it has not ended")
    }

    pub fn webhook(&self, source: &str) -> String {
        format!("http://{}/webhooks/{source}", self.webhooks)
    }

    /// The token of its API, which it keeps beside its state.
    pub fn admin_token(&self, config: &Path) -> String {
        let name = format!("data/admin-{}.token", self.admin.port());
        std::fs::read_to_string(config.with_file_name(name)).unwrap()
    }

    /// SIGKILL: nothing in the process runs after it.
    pub async fn kill(mut self) {
        self.child.start_kill().unwrap();
        self.child.wait().await.unwrap();
    }

    /// SIGTERM, and no word about what comes of it.
    pub fn signal_term(&self) {
        signal_term(&self.child);
    }

    /// Waits for its end; gives the exit code.
    pub async fn ended(mut self) -> Option<i32> {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait());
        let ended = ended.await.expect("the program ends in time");
        ended.unwrap().code()
    }

    /// SIGTERM; gives the exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        self.signal_term();
        let ended = tokio::time::timeout(PATIENCE, self.child.wait());
        ended
            .await
            .expect("the program ends in time")
            .unwrap()
            .code()
    }
}
