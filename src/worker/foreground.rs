//! A run in the foreground: the jobs of a list until they have settled, then the manifests of their recordings.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::destination::BucketTrust;
use super::feed::list::ListFeed;
use super::runner::Runner;
use super::{Worker, manifest};
use crate::error::Result;
use crate::model::Record;

/// Works on the jobs of `records` until they have settled or `shutdown`, then seals their recordings. Answers with the
/// records of these jobs, and of those that their lookups led to.
///
/// # Errors
/// `internal` when the leases could not be renewed; that of the store when it can't tell the records at the end.
pub(super) async fn run(
    worker: &Worker,
    records: Vec<Record>,
    shutdown: &CancellationToken,
) -> Result<Vec<Record>> {
    let stop = shutdown.child_token();
    let feed = ListFeed::new(worker, &records);
    drop(records);
    let mut runner = Runner::new(worker, feed, Arc::<BucketTrust>::default(), &stop);
    runner.work(&stop).await;
    runner.drain().await?;
    let (records, worked_on) = runner.into_feed().into_records().await?;
    let own = records.iter().map(|record| record.recording_id);
    manifest::these(worker, worked_on, own.collect()).await;
    Ok(records)
}
