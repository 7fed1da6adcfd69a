//! A made-up provider for trying things by hand: serves the demo's media under signed URLs on loopback,
//! prints a sample event with its own address and fresh dates on stdout (one line of JSON, ready for
//! `curl`), and goes on serving until Ctrl-C.
//!
//! ```text
//! cargo run --example origin -- [--port 9000] [--event NAME] [--list] [--size MIB] [--rate MIB_PER_SECOND]
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)] // A program for people at a terminal.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use recording_harvester::clock::{Clock, SystemClock};
use recording_harvester::demo::events;
use recording_harvester::demo::media::Library;
use recording_harvester::demo::origin::{DemoOrigin, OriginSettings, SendPace};
use recording_harvester::error::{Error, Result};

/// Serves sample recordings under signed URLs and prints an event that names them.
#[derive(Parser)]
struct Args {
    /// The port on 127.0.0.1.
    #[arg(long, default_value_t = 9000)]
    port: u16,
    /// The event to print.
    #[arg(long, default_value = "100ms/recording.success")]
    event: String,
    /// Name the events that there are, and end.
    #[arg(long)]
    list: bool,
    /// How long 100ms/recording.success is made, in MiB (by a box that players skip).
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=4000))]
    size: u32,
    /// MiB a second on each connection; 0 is as fast as it goes.
    #[arg(long, default_value_t = 8)]
    rate: u64,
    /// The key that API calls must show (sources.NAME.api_key).
    #[arg(long, default_value = "demo-key")]
    api_key: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match serve(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.full_message());
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: Args) -> Result<()> {
    if args.list {
        for name in events::names() {
            println!("{name}");
        }
        return Ok(());
    }
    let origin = DemoOrigin::start(OriginSettings {
        listen: SocketAddr::from(([127, 0, 0, 1], args.port)),
        library: Library {
            padding_bytes: args.size << 20,
        },
        pace: match args.rate {
            0 => SendPace::Unlimited,
            mib => SendPace::BytesPerSecond(mib << 20),
        },
        clock: Arc::new(SystemClock),
        api_key: args.api_key,
    })
    .await?;

    let event = events::by_name(&args.event, &origin, SystemClock.now())?;
    println!("{}", event.body);
    let headers: String = event
        .headers
        .iter()
        .map(|(name, value)| format!(" -H '{name}: {value}'"))
        .collect();
    eprintln!("Serving on {} until Ctrl-C.", origin.base_url());
    eprintln!(
        "The line on stdout is {}; its URLs were signed just now. To send it:",
        event.name
    );
    eprintln!(
        "  curl -i -H 'content-type: application/json'{headers} --data-binary @- http://127.0.0.1:8080/webhooks/{} <EVENT.json",
        event.provider
    );
    eprintln!(
        "The harvester must be allowed to fetch from here: HARVESTER_GUARD__ALLOW_NETWORKS=127.0.0.0/8 HARVESTER_GUARD__ALLOW_HTTP=true"
    );
    eprintln!(
        "Providers' APIs are played here too: base_url = \"{}\", api_key = \"{}\".",
        origin.base_url(),
        origin.api_key()
    );
    tokio::signal::ctrl_c()
        .await
        .map_err(|error| Error::internal("wait for Ctrl-C").with_source(error))
}
