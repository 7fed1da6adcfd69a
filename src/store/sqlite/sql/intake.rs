//! What takes in events.

/// Earlier receipts of these `[source, dedupe_key]` pairs.
pub(in crate::store::sqlite) const RECEIPTS: &str = "
SELECT e.source, e.dedupe_key, e.id, e.recording_id, e.job_ids
FROM jsonb_each($1) AS wanted
JOIN events e ON e.source = wanted.value ->> 0 AND e.dedupe_key = wanted.value ->> 1";

/// The jobs of these recordings whose files are neither in the bucket nor given up by an operator, but those whose bytes
/// came with an event.
pub(in crate::store::sqlite) const UNSAVED_FILES: &str = "
SELECT recording_id, identity, state, class, origin, deadline, deadline_from
FROM jobs
WHERE recording_id IN (SELECT value FROM json_each($1)) AND state NOT IN ('archived', 'cancelled') AND origin_kind <> 'inline'";

/// Recordings of these `[source, recording_key]` pairs.
pub(in crate::store::sqlite) const RECORDINGS_BY_KEY: &str = "
SELECT r.*
FROM jsonb_each($1) AS wanted
JOIN recordings r ON r.source = wanted.value ->> 0 AND r.recording_key = wanted.value ->> 1";

pub(in crate::store::sqlite) const RECORDING_BY_ID: &str = "SELECT * FROM recordings WHERE id = $1";

/// The folder date of the first recording of each of these `[source, session_id]` pairs.
pub(in crate::store::sqlite) const SESSION_DATES: &str = "
SELECT r.source, r.session_id, r.folder_date
FROM jsonb_each($1) AS wanted
JOIN recordings r ON r.source = wanted.value ->> 0 AND r.session_id = wanted.value ->> 1
ORDER BY r.id";

/// What intake must know of the jobs of these recordings.
pub(in crate::store::sqlite) const JOB_SLOTS: &str = "
SELECT id, recording_id, identity, name, kind, origin_kind, state, announced_by, announced_at, found_by, announced_size
FROM jobs WHERE recording_id IN (SELECT value FROM json_each($1)) ORDER BY id";

pub(in crate::store::sqlite) const LOSS_SLOTS: &str = "
SELECT id, recording_id, loss_key, event_id, kind, at, withdrawn_at
FROM provider_failures WHERE recording_id IN (SELECT value FROM json_each($1)) ORDER BY id";

pub(in crate::store::sqlite) const ANSWERED: &str = "
SELECT recording_id, identity, lookup_id
FROM answered_lookups WHERE recording_id IN (SELECT value FROM json_each($1))";

/// Artifacts that are in the bucket, of recordings in a room.
pub(in crate::store::sqlite) const SAVED_IN_ROOM: &str = "
SELECT r.recording_key, r.provider_id, r.bot_id, r.session_id, r.room_id, r.room_name, r.started_at, r.ended_at,
    j.kind, j.origin_kind, j.announced_by, j.announced_at
FROM recordings r JOIN jobs j ON j.recording_id = r.id
WHERE r.source = $1 AND r.room_name = $2 AND j.state = 'archived'";

pub(in crate::store::sqlite) const UPDATE_RECORDING: &str = "
UPDATE recordings SET provider_id = $2, bot_id = $3, session_id = $4, room_id = $5, room_name = $6,
    started_at = $7, ended_at = $8, open_jobs = $9, generation = generation + 1
WHERE id = $1";

/// Archived jobs `[id, event, time, lookup]` are announced again: nothing to do but to know it.
pub(in crate::store::sqlite) const ANNOUNCE_ARCHIVED: &str = "
UPDATE jobs SET announced_by = told.value ->> 1, announced_at = told.value ->> 2, found_by = told.value ->> 3
FROM jsonb_each($1) AS told WHERE jobs.id = told.value ->> 0 AND +jobs.state = 'archived'";

/// A fresh origin for a job that is not archived. One that has settled begins anew, and one that waits has all attempts
/// again: those before were made at another URL. Of an attempt under way see `REQUEUE_JOB`.
pub(in crate::store::sqlite) const REFRESH_JOB: &str = "
UPDATE jobs SET
    announced_by = $2, announced_at = $3, found_by = $4,
    origin_kind = $5, origin = $6, remint = coalesce($7, remint),
    deadline = $8, deadline_from = $9, is_upper_bound = $10, latest_start = $11, is_small = $12,
    announced_size = coalesce($13, announced_size),
    next_attempt_at = 0, changed_at = $14,
    has_fresh_origin = CASE state WHEN 'running' THEN 1 ELSE 0 END,
    attempts = CASE state WHEN 'running' THEN attempts ELSE 0 END,
    unsettled_attempts = CASE WHEN state IN ('pending', 'running') THEN unsettled_attempts ELSE 0 END,
    first_attempt_at = CASE state WHEN 'running' THEN first_attempt_at END,
    unsettled_leases = CASE WHEN state IN ('pending', 'running') THEN unsettled_leases ELSE 0 END,
    class = CASE WHEN state IN ('pending', 'running') THEN class END,
    message = CASE WHEN state IN ('pending', 'running') THEN message END,
    state = CASE state WHEN 'running' THEN 'running' ELSE 'pending' END
WHERE id = $1 AND state <> 'archived'";

/// The failures `[id, time]` are cured.
pub(in crate::store::sqlite) const WITHDRAW_FAILURES: &str = "
UPDATE provider_failures SET withdrawn_at = cured.value ->> 1
FROM jsonb_each($1) AS cured WHERE provider_failures.id = cured.value ->> 0 AND withdrawn_at IS NULL";

pub(in crate::store::sqlite) const RENAME_JOB: &str = "UPDATE jobs SET name = $2 WHERE id = $1";

pub(in crate::store::sqlite) const DELETE_JOB: &str = "DELETE FROM jobs WHERE id = $1";

/// Forgets these `[recording, identity]`.
pub(in crate::store::sqlite) const FORGET_ANSWERS: &str = "
DELETE FROM answered_lookups
WHERE (recording_id, identity) IN (SELECT value ->> 0, value ->> 1 FROM json_each($1))";

pub(in crate::store::sqlite) const KEEP_ANSWER: &str = "
INSERT INTO answered_lookups (recording_id, identity, lookup_id, answered_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (recording_id, identity) DO UPDATE SET lookup_id = $3, answered_at = $4";
