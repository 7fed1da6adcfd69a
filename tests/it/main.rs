//! The integration tests: one binary, one module a room, `harness` is their world.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod bad_input;
mod cli;
mod deploy;
mod garage;
mod harness;
mod house;
mod ingest;
mod kill;
mod memory;
mod object;
mod operation;
mod reconcile;
mod redelivery;
mod secrets;
mod server;
mod store;
mod transfer;
mod worker;
