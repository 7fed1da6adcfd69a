//! Statements for an operator's words, and for scans of the providers' lists.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::error::Result;
use crate::model::{EventId, JobId, Record, RecordingId, State};
use crate::store::WalkTurn;

#[async_trait]
pub(in crate::store) trait OperatorTx: Send {
    /// Makes those of the jobs pending and due that are in one of `states`, with all attempts; which, and their recordings.
    async fn retry_jobs(
        &mut self,
        jobs: &[JobId],
        states: &[State],
        now: Timestamp,
    ) -> Result<Vec<(JobId, RecordingId)>>;

    /// Cancels those of the jobs that are open; which, and their recordings.
    async fn cancel_jobs(
        &mut self,
        jobs: &[JobId],
        message: &str,
        now: Timestamp,
    ) -> Result<Vec<(JobId, RecordingId)>>;

    /// The records of these jobs, oldest first.
    async fn records_of(&mut self, jobs: &[JobId]) -> Result<Vec<Record>>;

    /// Removes an event if it is of class `unknown`; whether it was.
    async fn forget_unknown_event(&mut self, event: EventId) -> Result<bool>;
}

#[async_trait]
pub(in crate::store) trait ScanTx: Send {
    /// Takes the scan of `source` unless another holds it. A lease that ends later than two of them from now was written
    /// before a clock was set back.
    async fn begin_walk(
        &mut self,
        source: &str,
        holder: &str,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<WalkTurn>;

    /// Gives the scan back. `reached` never goes back.
    async fn end_walk(
        &mut self,
        source: &str,
        holder: &str,
        reached: Option<Timestamp>,
    ) -> Result<()>;
}
