//! What is only read.

pub(in crate::store::sqlite) const JOBS_OF_RECORDING: &str =
    records!("WHERE jobs.recording_id = $1 ORDER BY jobs.name");

/// `$1` states, `$2` provider, `$3` since; null: any. After the id `$4`, at most `$5`. The pluses keep the planner from sorting
/// all that match for the few of a page.
pub(in crate::store::sqlite) const LIST: &str = records!(
    "WHERE jobs.id > $4 AND ($1 IS NULL OR +jobs.state IN (SELECT value FROM json_each($1)))
     AND ($2 IS NULL OR +r.provider = $2) AND ($3 IS NULL OR +jobs.changed_at >= $3)
     ORDER BY jobs.id LIMIT $5"
);

/// As `LIST`, only of the jobs or recordings `$6`.
pub(in crate::store::sqlite) const LIST_OF: &str = records!(
    "WHERE (jobs.id IN (SELECT value FROM json_each($6))
        OR jobs.recording_id IN (SELECT value FROM json_each($6)))
     AND jobs.id > $4
     AND ($1 IS NULL OR jobs.state IN (SELECT value FROM json_each($1)))
     AND ($2 IS NULL OR r.provider = $2) AND ($3 IS NULL OR jobs.changed_at >= $3)
     ORDER BY jobs.id LIMIT $5"
);

pub(in crate::store::sqlite) const RECORDS_OF: &str =
    records!("WHERE jobs.id IN (SELECT value FROM json_each($1)) ORDER BY jobs.id");

/// Identities of the jobs and answered lookups of recordings of these `[source, recording_key]` pairs.
pub(in crate::store::sqlite) const KNOWN: &str = "
SELECT r.recording_key, j.identity, j.id AS job_id, j.state, j.class, j.origin_kind
FROM jsonb_each($1) AS wanted
JOIN recordings r ON r.source = wanted.value ->> 0 AND r.recording_key = wanted.value ->> 1
JOIN jobs j ON j.recording_id = r.id
UNION ALL
SELECT r.recording_key, a.identity, NULL, NULL, NULL, NULL
FROM jsonb_each($1) AS wanted
JOIN recordings r ON r.source = wanted.value ->> 0 AND r.recording_key = wanted.value ->> 1
JOIN answered_lookups a ON a.recording_id = r.id";

pub(in crate::store::sqlite) const UPLOAD_OWNERS: &str = "
SELECT id, key, state, checkpoint FROM jobs
WHERE checkpoint IS NOT NULL OR key IN (SELECT value FROM json_each($1))";

pub(in crate::store::sqlite) const LEASE_HOLDERS: &str =
    "SELECT DISTINCT leased_by FROM jobs WHERE state = 'running'";

/// A job that failed is never written with a time of 0, but by an operator's word.
pub(in crate::store::sqlite) const IS_RETRY_ASKED: &str = "
SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'pending' AND next_attempt_at = 0 AND class = $1) AS is_asked";

/// Few jobs are running, so that only the pending ones need the index's order, which the planner would not choose.
pub(in crate::store::sqlite) const NEXT_DUE: &str = "
SELECT (SELECT next_attempt_at FROM jobs INDEXED BY jobs_due WHERE state = 'pending' ORDER BY next_attempt_at LIMIT 1) AS pending,
    (SELECT min(lease_until) FROM jobs WHERE state = 'running') AS running";

/// Jobs that `retry` may wake, by class; null: any that failed or expired.
pub(in crate::store::sqlite) const LOST_IDS: &str = "
SELECT id FROM jobs WHERE state IN ('failed', 'expired') AND ($1 IS NULL OR class = $1) ORDER BY id";

/// Jobs named by their own or their recording's id.
pub(in crate::store::sqlite) const IDS_OF: &str = "
SELECT id FROM jobs WHERE id IN (SELECT value FROM json_each($1))
    OR recording_id IN (SELECT value FROM json_each($1)) ORDER BY id";

pub(in crate::store::sqlite) const UNSEALED: &str = "
SELECT id FROM recordings WHERE open_jobs = 0 AND generation > sealed_generation ORDER BY next_seal_at, id LIMIT $1";

/// Those of the recordings `$1` that are complete and not sealed.
pub(in crate::store::sqlite) const UNSEALED_OF: &str = "
SELECT id FROM recordings
WHERE id IN (SELECT value FROM json_each($1)) AND +open_jobs = 0 AND generation > sealed_generation ORDER BY id";

/// Complete recordings whose manifest is due at `$1`. One that would be due after `$2`, which is later than any wait that is
/// ever written, was put off by a clock that has been set back since.
pub(in crate::store::sqlite) const SEALABLE: &str = "
SELECT * FROM (
    SELECT id, seal_failures FROM recordings
    WHERE open_jobs = 0 AND generation > sealed_generation AND next_seal_at <= $1 ORDER BY next_seal_at, id LIMIT $3)
UNION ALL SELECT * FROM (
    SELECT id, seal_failures FROM recordings
    WHERE open_jobs = 0 AND generation > sealed_generation AND next_seal_at > $2 ORDER BY next_seal_at, id LIMIT $3)";

/// Complete recordings whose manifest could not be written since `$1` or longer.
pub(in crate::store::sqlite) const OVERDUE_MANIFESTS: &str = "
SELECT * FROM recordings
WHERE seal_failing_since <= $1 AND open_jobs = 0 AND generation > sealed_generation
ORDER BY seal_failing_since, id LIMIT $2";

pub(in crate::store::sqlite) const EVENTS_OF_RECORDING: &str =
    "SELECT id, event_id FROM events WHERE recording_id = $1 ORDER BY id";

pub(in crate::store::sqlite) const FAILURES_OF_RECORDING: &str = "
SELECT f.class, f.code, f.message, f.event_name, f.at
FROM provider_failures f WHERE f.recording_id = $1 AND f.withdrawn_at IS NULL ORDER BY f.id";

pub(in crate::store::sqlite) const FAILURES: &str = "
SELECT f.class, f.code, f.message, f.event_name, f.at, r.*
FROM provider_failures f JOIN recordings r ON r.id = f.recording_id
WHERE f.withdrawn_at IS NULL AND ($1 IS NULL OR f.received_at >= $1) AND ($2 IS NULL OR r.provider = $2)
ORDER BY f.id LIMIT $3";

/// Ids begin with the time of receipt, so their index is one of that too.
pub(in crate::store::sqlite) const EVENTS: &str = "
SELECT id, source, provider, event_id, event_type, class, alert, received_at, recording_id
FROM events WHERE id >= $1 ORDER BY id LIMIT $2";

/// By the index of those that nobody could make out.
pub(in crate::store::sqlite) const UNKNOWN_EVENTS: &str = "
SELECT id, source, provider, event_id, event_type, class, alert, received_at, recording_id
FROM events WHERE class = 'unknown' AND id >= $1 AND id > $2 ORDER BY id LIMIT $3";

pub(in crate::store::sqlite) const ANNOUNCING_EVENT: &str = "
SELECT e.raw, e.raw_encoding FROM jobs j JOIN events e ON e.id = j.announced_by WHERE j.id = $1";

pub(in crate::store::sqlite) const RAW_EVENT: &str =
    "SELECT raw, raw_encoding FROM events WHERE id = $1";

pub(in crate::store::sqlite) const COUNT_BY_STATE: &str =
    "SELECT state, count(*) AS jobs FROM jobs GROUP BY state";

/// The first of each queue, by the index of the order.
pub(in crate::store::sqlite) const LEAST_LATEST_START: &str = "
SELECT min(latest_start) FROM (
    SELECT * FROM (SELECT latest_start FROM jobs WHERE state = 'pending' AND is_small = 0 ORDER BY latest_start LIMIT 1)
    UNION ALL
    SELECT * FROM (SELECT latest_start FROM jobs WHERE state = 'pending' AND is_small = 1 ORDER BY latest_start LIMIT 1)
    UNION ALL
    SELECT min(latest_start) FROM jobs WHERE state = 'running'
) AS first_ones WHERE latest_start < $1";
