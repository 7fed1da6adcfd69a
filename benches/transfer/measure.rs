//! One run of one contender, and what it cost.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// A contender that hangs must not hang the others.
const TIME_LIMIT_SECONDS: &str = "300";

/// What a run cost. CPU and memory are the contender's alone, by GNU time: user and system seconds of the
/// whole process tree, and the resident peak of its largest process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) peak_kib: u64,
}

/// Runs `command` in `folder` to its end.
pub(crate) fn run(command: &Command, folder: &Path) -> anyhow::Result<Cost> {
    let report = folder.join("time");
    let mut timed = Command::new("/usr/bin/time");
    timed
        .args(["-f", "%U %S %M", "-o"])
        .arg(&report)
        .args(["timeout", TIME_LIMIT_SECONDS])
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(folder)
        .stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => timed.env(name, value),
            None => timed.env_remove(name),
        };
    }
    let begun = Instant::now();
    let output = timed.output().context("start GNU time (Debian: time)")?;
    let wall = begun.elapsed();
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        tail(&output.stderr)
    );
    let text = std::fs::read_to_string(&report)?;
    let mut words = text.lines().last().unwrap_or_default().split_whitespace();
    let mut number = || words.next().and_then(|word| word.parse::<f64>().ok());
    let (Some(user), Some(system), Some(peak)) = (number(), number(), number()) else {
        anyhow::bail!("time said {text:?}");
    };
    Ok(Cost {
        wall,
        cpu: Duration::from_secs_f64(user + system),
        peak_kib: peak as u64,
    })
}

/// The median of each number by itself.
pub(crate) fn median(costs: &[Cost]) -> Cost {
    fn middle<T: Ord + Copy>(costs: &[Cost], of: impl Fn(&Cost) -> T) -> T {
        let mut values: Vec<T> = costs.iter().map(of).collect();
        values.sort_unstable();
        values[values.len() / 2]
    }
    Cost {
        wall: middle(costs, |cost| cost.wall),
        cpu: middle(costs, |cost| cost.cpu),
        peak_kib: middle(costs, |cost| cost.peak_kib),
    }
}

fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}
