//! Archives meeting recordings from expiring presigned URLs into an S3 bucket, verified.
//!
//! # The journey of an event
//!
//! 1. **Receive** ([`server`]): the webhook listener reads the body, up to a size limit.
//! 2. **Check** ([`ingest`]): the sender's proof, then the content: a recording with artifacts and deadlines.
//! 3. **Record** ([`store`]): the raw event and its jobs in one transaction, without duplicates; only then 200.
//! 4. **Claim** ([`worker`]): the most urgent jobs, each with a lease.
//! 5. **Open** ([`source`]): the guarded HTTP client learns length, validator and range support.
//! 6. **Carry** ([`transfer`]): part by part into S3 ([`object`]), with a checksum computed as the bytes pass.
//! 7. **Complete** ([`transfer`]): complete the upload and ask the bucket what it has.
//! 8. **Settle** ([`worker`]): one outcome for the attempt ([`schedule`] decides it), then the manifest.
//!
//! No step calls back up. Every failure is one [`error::Error`] with a class. A pure function turns class, attempt,
//! time and deadline into one [`model::Outcome`]; the last step stores it.
//!
//! `docs/architecture.md` has the map of the folders and the glossary; `tests/it/house.rs` says who may import whom.
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

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod error;
pub mod format;
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
