//! Archives meeting recordings from expiring presigned URLs into an S3 bucket, verified.
//!
//! # The journey of an event
//!
//! 1. **Receive** ([`server`]): the webhook listener reads a size-capped body.
//! 2. **Check** ([`ingest`]): who speaks, then what it says: a recording with artifacts and deadlines.
//! 3. **Record** ([`store`]): raw event and jobs in one transaction, deduplicated; only then 200.
//! 4. **Claim** ([`worker`]): the jobs with the least slack, each with a lease.
//! 5. **Open** ([`source`]): the guarded HTTP client learns length, validator and range support.
//! 6. **Carry** ([`transfer`]): part by part, checksummed as the bytes pass, into S3 ([`object`]).
//! 7. **Seal** ([`transfer`]): complete the upload, verify it by asking.
//! 8. **Settle** ([`worker`]): one outcome for the attempt ([`schedule`] decides it), then the manifest.
//!
//! No step calls back up. A failure anywhere is one [`error::Error`] with a class; a pure function
//! turns class, attempt, now and deadline into one [`model::Outcome`]; the last step writes it.
//!
//! # The rooms, and who may enter which
//!
//! `cli` wires everything. `server` knows ingest, store, report. `worker` knows store, transfer,
//! schedule, and ingest, source and object for lookups, manifests and sweeps. `transfer` knows source, object, schedule. `report ingest store source
//! object schedule` know only [`model`], [`error`], [`signed_url`], [`clock`], [`tls`], [`http1`]. A test keeps this true.
//! Only `store` knows SQL, only `object` the AWS SDK, only `source/client.rs` and `object/s3/connect.rs` make HTTP clients,
//! only `server` and `cli` know axum and clap, only `report/terminal.rs` knows indicatif.
//!
//! # Invariants
//!
//! - An event is acknowledged only after it is committed.
//! - Work is at least once and ends in the same object.
//! - A manifest never lists what is not there.
//! - A job is written only under its current lease.
//! - Nothing is fetched that the guard has not allowed, after DNS and on every redirect.
//! - No signed query, token or key is ever shown.
//! - Every wait ends, every buffer has a number.
//! - Shutdown loses nothing.

// The cases of the store's contract name the crate as the integration tests do, which run them too.
#[cfg(test)]
extern crate self as recording_harvester;

pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod http1;
pub mod ingest;
pub mod model;
pub mod object;
pub mod report;
pub mod schedule;
pub mod server;
pub mod signed_url;
pub mod source;
pub mod store;
pub mod tls;
pub mod transfer;
pub mod worker;
