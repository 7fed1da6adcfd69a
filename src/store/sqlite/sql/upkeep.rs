//! What is done once to rows of an earlier version.

pub(in crate::store::sqlite) const UPKEEP_DUE: &str = "SELECT name FROM upkeep WHERE name = $1";

pub(in crate::store::sqlite) const UPKEEP_DONE: &str = "DELETE FROM upkeep WHERE name = $1";

/// Jobs whose identity is made of a URL, by id.
pub(in crate::store::sqlite) const FILES_BY_URL: &str = "
SELECT j.id, j.recording_id, j.identity, j.origin, r.provider
FROM jobs j JOIN recordings r ON r.id = j.recording_id
WHERE j.id > $1 AND j.identity LIKE 'url:%' ORDER BY j.id LIMIT $2";

/// The body of the last event that gave the job its URL.
pub(in crate::store::sqlite) const EVENT_OF_JOB: &str = "
SELECT raw, raw_encoding FROM events
WHERE recording_id = $1 AND job_ids LIKE '%' || $2 || '%' ORDER BY id DESC LIMIT 1";

pub(in crate::store::sqlite) const RENEW_IDENTITY: &str = "
UPDATE jobs SET identity = $3
WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE recording_id = $2 AND identity = $3)";
