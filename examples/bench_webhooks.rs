//! How many webhooks a second are durably committed, and how long their senders wait.
//!
//! ```text
//! cargo run --release --example bench_webhooks [-- --seconds 10 --connections 64 --rate 1000]
//! ```
//!
//! The real listener on a real SQLite file in the current directory (so on its disk), and a sender in
//! a process of its own. Three runs: as many as possible at that many connections, each answered when it
//! is on the disk (FULL), the same without waiting for the disk (OFF), and a fixed offered rate with FULL.
//! Every event is new: two artifacts, three jobs. Afterwards the store is asked whether it holds everything that
//! was answered with 200. First the disk alone is asked how long a small write takes to be safe on it: no answer
//! can be faster than that.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use recording_harvester::clock::SystemClock;
use recording_harvester::ingest::Adapter;
use recording_harvester::ingest::signature::SenderCheck;
use recording_harvester::model::{Layout, Provider, State, key};
use recording_harvester::report::metrics::Metrics;
use recording_harvester::server::listen::{self, HttpLimits};
use recording_harvester::server::webhook::{self, Intake, WebhookSource};
use recording_harvester::store::JobStore;
use recording_harvester::store::sqlite::{Durability, SqliteOptions, SqliteStore};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Jobs that one made-up event leads to: the video, the chat and the event itself.
const JOBS_PER_EVENT: u64 = 3;

/// Sent before the clock starts: connections, caches and the file's first pages.
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Clone, Copy)]
struct Load {
    seconds: u64,
    connections: u64,
    /// Events a second; 0 is as many as possible.
    rate: u64,
}

/// What the sender saw.
struct Measured {
    per_second: f64,
    p50: Duration,
    p99: Duration,
    /// Answered with 200, warm-up included.
    acknowledged: u64,
    refused: u64,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, address, seconds, connections, rate] = arguments.as_slice()
        && role == "send"
    {
        let load = Load {
            seconds: seconds.parse()?,
            connections: connections.parse()?,
            rate: rate.parse()?,
        };
        return send(address.parse()?, load);
    }
    let (closed, open) = loads(&arguments)?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(compare(closed, open))
}

fn loads(arguments: &[String]) -> anyhow::Result<(Load, Load)> {
    let mut closed = Load {
        seconds: 10,
        connections: 64,
        rate: 0,
    };
    let mut rate = 1000;
    for pair in arguments.chunks(2) {
        match pair {
            [name, value] if name == "--seconds" => closed.seconds = value.parse()?,
            [name, value] if name == "--connections" => closed.connections = value.parse()?,
            [name, value] if name == "--rate" => rate = value.parse()?,
            _ => bail!("usage: bench_webhooks [--seconds N] [--connections N] [--rate N]"),
        }
    }
    Ok((closed, Load { rate, ..closed }))
}

async fn compare(closed: Load, open: Load) -> anyhow::Result<()> {
    say(&format!(
        "{} connections, {} s each\n\n{:<28} {:>10} {:>10} {:>10} {:>8}\n",
        closed.connections, closed.seconds, "run", "events/s", "p50", "p99", "refused"
    ));
    disk_alone()?;
    let full = run("FULL", Durability::Full, closed).await?;
    let off = run("OFF", Durability::Off, closed).await?;
    let offered = format!("FULL, {}/s offered", open.rate);
    run(&offered, Durability::Full, open).await?;
    say(&format!(
        "\nFULL / OFF: {:.2} of the throughput\n",
        full.per_second / off.per_second
    ));
    Ok(())
}

/// Writes and syncs of 64 KiB, one after the other, in a file that is as long as it will be: what a WAL sees.
fn disk_alone() -> anyhow::Result<()> {
    const WRITES: u64 = 256;
    let mut file = tempfile::tempfile_in(".")?;
    let block = vec![1; 64 * 1024];
    for _ in 0..WRITES {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let mut latencies_us = Vec::new();
    for _ in 0..WRITES {
        let begin = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        latencies_us.push(begin.elapsed().as_micros() as u64);
    }
    latencies_us.sort_unstable();
    let at = |share| Duration::from_micros(ranked(&latencies_us, share));
    let per_second = 1e6 / (latencies_us.iter().sum::<u64>() as f64 / WRITES as f64);
    let (p50, p99) = (at(0.5), at(0.99));
    say(&format!(
        "{:<28} {per_second:>10.0} {p50:>10.2?} {p99:>10.2?}\n",
        "the disk, a sync of 64 KiB"
    ));
    Ok(())
}

/// The value at that share of a sorted list; 0 of an empty one.
fn ranked(sorted: &[u64], share: f64) -> u64 {
    let last = sorted.len().saturating_sub(1);
    let rank = (last as f64 * share).round() as usize;
    sorted.get(rank).copied().unwrap_or(0)
}

/// One run on a store and a listener of its own.
async fn run(name: &str, durability: Durability, load: Load) -> anyhow::Result<Measured> {
    let folder = tempfile::Builder::new()
        .prefix("bench-webhooks-")
        .tempdir_in(".")?;
    let options = SqliteOptions {
        durability,
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open_with(&folder.path().join("bench.db"), &options).await?;
    let store: Arc<dyn JobStore> = Arc::new(store);
    let listener = listen::bind(SocketAddr::from(([127, 0, 0, 1], 0)), "listen").await?;
    let address = listener.local_addr()?;
    let shutdown = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(listen::serve(
        listener,
        webhook::router(intake(Arc::clone(&store))?),
        HttpLimits::default(),
        shutdown.clone(),
    ));
    let measured = tokio::task::spawn_blocking(move || sender(address, load)).await??;
    shutdown.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let stats = store.stats().await?;
    let pending = stats
        .jobs
        .iter()
        .find(|(state, _)| *state == State::Pending);
    let stored = pending.map_or(0, |(_, count)| count / JOBS_PER_EVENT);
    ensure!(
        stored >= measured.acknowledged,
        "{} events were acknowledged and only {stored} are stored",
        measured.acknowledged
    );
    say(&format!(
        "{name:<28} {:>10.0} {:>10.2?} {:>10.2?} {:>8}\n",
        measured.per_second, measured.p50, measured.p99, measured.refused
    ));
    Ok(measured)
}

fn intake(store: Arc<dyn JobStore>) -> anyhow::Result<Arc<Intake>> {
    // What is measured is the store, not the limit of a source.
    let source = WebhookSource::new(Adapter::BuiltIn(Provider::Hms), SenderCheck::open())
        .with_event_rate(1_000_000);
    Ok(Arc::new(Intake {
        store,
        layout: Layout::new("", key::DEFAULT_TEMPLATE)?,
        sources: HashMap::from([("100ms".to_owned(), source)]),
        clock: Arc::new(SystemClock),
        bell: Arc::new(Notify::new()),
        metrics: Arc::new(Metrics::new("bench")),
        trusted_proxies: Vec::new(),
        body_timeout: webhook::BODY_TIMEOUT,
        commit_timeout: webhook::COMMIT_TIMEOUT,
    }))
}

/// Runs the sending half in a process of its own and reads what it measured.
fn sender(address: SocketAddr, load: Load) -> anyhow::Result<Measured> {
    let output = Command::new(std::env::current_exe()?)
        .arg("send")
        .arg(address.to_string())
        .args([load.seconds, load.connections, load.rate].map(|number| number.to_string()))
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "the sender failed");
    let numbers = String::from_utf8(output.stdout)?
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<Vec<u64>, _>>()?;
    let [counted, took_us, p50, p99, acknowledged, refused] = numbers[..] else {
        bail!("the sender said {numbers:?}");
    };
    Ok(Measured {
        per_second: counted as f64 / Duration::from_micros(took_us).as_secs_f64(),
        p50: Duration::from_micros(p50),
        p99: Duration::from_micros(p99),
        acknowledged,
        refused,
    })
}

/// What one connection saw.
#[derive(Default)]
struct Tally {
    latencies_us: Vec<u64>,
    acknowledged: u64,
    refused: u64,
}

/// The sending half: a thread and a connection each, blocking, with requests built beforehand, so that it
/// takes as little as possible of the machine that it measures.
fn send(address: SocketAddr, load: Load) -> anyhow::Result<()> {
    let begin = Instant::now();
    let threads: Vec<_> = (0..load.connections)
        .map(|number| std::thread::spawn(move || converse(address, load, number, begin)))
        .collect();
    let mut all = Tally::default();
    for thread in threads {
        let tally = thread
            .join()
            .map_err(|_| anyhow::anyhow!("a sender panicked"))??;
        all.latencies_us.extend(tally.latencies_us);
        all.acknowledged += tally.acknowledged;
        all.refused += tally.refused;
    }
    // To the last answer: a listener that falls behind an offered rate must not seem to keep up with it.
    let took = begin.elapsed().saturating_sub(WARM_UP);
    all.latencies_us.sort_unstable();
    let at = |share| ranked(&all.latencies_us, share);
    say(&format!(
        "{} {} {} {} {} {}\n",
        all.latencies_us.len(),
        took.as_micros(),
        at(0.5),
        at(0.99),
        all.acknowledged,
        all.refused
    ));
    Ok(())
}

fn converse(address: SocketAddr, load: Load, number: u64, begin: Instant) -> anyhow::Result<Tally> {
    let mut stream = TcpStream::connect(address).context("connect")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut request = Request::new();
    let mut tally = Tally::default();
    let measured_from = begin + WARM_UP;
    let end = measured_from + Duration::from_secs(load.seconds);
    for round in 0_u64.. {
        // At a fixed rate the clock starts when the event was due, so that a stall is seen by all
        // the events that it delays.
        let due = match load.rate {
            0 => Instant::now(),
            rate => {
                begin
                    + Duration::from_secs(1) * (round * load.connections + number) as u32
                        / rate as u32
            }
        };
        if due >= end {
            break;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(request.numbered(number, round))?;
        let is_acknowledged = read_answer(&mut stream)?;
        let latency = due.elapsed();
        if is_acknowledged {
            tally.acknowledged += 1;
        } else {
            tally.refused += 1;
        }
        if is_acknowledged && due >= measured_from {
            tally.latencies_us.push(latency.as_micros() as u64);
        }
    }
    Ok(tally)
}

/// Whether the answer, which has no body when it is a 200, says so.
fn read_answer(stream: &mut TcpStream) -> anyhow::Result<bool> {
    let mut buffer = [0; 1024];
    let mut filled = 0;
    while !buffer[..filled].windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut buffer[filled..])?;
        ensure!(count > 0, "the listener closed the connection");
        filled += count;
    }
    let is_acknowledged = buffer.starts_with(b"HTTP/1.1 200");
    if !is_acknowledged && !buffer.starts_with(b"HTTP/1.1 503") {
        bail!(
            "unexpected answer: {}",
            String::from_utf8_lossy(&buffer[..filled])
        );
    }
    Ok(is_acknowledged)
}

/// A request whose ids are written over in place.
struct Request {
    bytes: Vec<u8>,
    ids_at: Vec<usize>,
}

/// As long as the ids that take its place.
const ID: &str = "00000000-0000-4000-8000-000000000000";

impl Request {
    fn new() -> Request {
        let url = |file: &str| {
            format!(
                "https://recordings.s3.us-east-1.amazonaws.com/{ID}/{file}?X-Amz-Algorithm=AWS4-HMAC-SHA256\
                 &X-Amz-Credential=EXAMPLEKEY%2F20260302%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20260302T103320Z\
                 &X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature={}",
                "0".repeat(64)
            )
        };
        let body = serde_json::json!({
            "version": "1.0",
            "id": ID,
            "account_id": "69a560000000000000000001",
            "app_id": "69a560000000000000000002",
            "timestamp": "2026-03-02T10:33:20Z",
            "type": "recording.success",
            "data": {
                "room_id": "69a560000000000000000003",
                "session_id": ID,
                "template_id": "69a560000000000000000005",
                "room_name": "standup",
                "duration": 1800,
                "size": 13933649,
                "recording_path": format!("s3://tenant-bucket/sfu/{ID}/rec.mp4"),
                "recording_presigned_url": url("rec.mp4"),
                "chat_recording_path": format!("s3://tenant-bucket/sfu/{ID}/chat.csv"),
                "chat_recording_presigned_url": url("chat.csv"),
                "session_started_at": "2026-03-02T10:00:00.123456789Z",
                "session_stopped_at": "2026-03-02T10:30:00.123456789Z",
            },
        })
        .to_string();
        let request = format!(
            "POST /webhooks/100ms HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        Request {
            ids_at: request.match_indices(ID).map(|(at, _)| at).collect(),
            bytes: request.into_bytes(),
        }
    }

    fn numbered(&mut self, connection: u64, round: u64) -> &[u8] {
        let id = format!("{connection:08x}-0000-4000-8000-{round:012x}");
        for &at in &self.ids_at {
            self.bytes[at..at + ID.len()].copy_from_slice(id.as_bytes());
        }
        &self.bytes
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark's result is its output")]
fn say(text: &str) {
    print!("{text}");
    // Lines should be seen as they come; a closed pipe is nobody's loss.
    let _ = std::io::stdout().flush();
}
