//! Everything a worker needs, on loopback and in a temporary folder.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use recording_harvester::clock::{Clock as _, SystemClock};
use recording_harvester::ingest;
use recording_harvester::model::api::Credentials;
use recording_harvester::model::{
    Artifact, Deadline, DeadlineFrom, Event, EventClass, Format, JobId, Kind, Layout, Lookup,
    Origin, ProgressEvent, Provider, Record, Recording, key,
};
use recording_harvester::object::ObjectStore;
use recording_harvester::schedule::retry::RetrySettings;
use recording_harvester::signed_url::SignedUrl;
use recording_harvester::source::Source;
use recording_harvester::store::{Filter, JobStore, NewEvent};
use recording_harvester::transfer::{Engine, TransferSettings};
use recording_harvester::worker::{SourceAccess, Worker, WorkerSettings};
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::api::{Answer, TestApi};

pub const TRANSCRIPT: &str = "WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n";

/// No wait in these tests is longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The source's name differs from the provider's, so that mixing them up shows.
const DAILY_SOURCE: &str = "daily-eu";
