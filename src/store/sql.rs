//! The statements, in one place, but for the inserts, whose columns stand with their values. What is asked for goes in
//! as one JSON text, so that a batch of any length is one statement.
//!
//! Only the functions that take JSON apart differ between the engines. (`jsonb_each` hands out parsed rows,
//! where `json_each` would write each as text for `->>` to parse again.)

/// Earlier receipts of these `[source, dedupe_key]` pairs.
pub(super) const RECEIPTS: &str = "
SELECT e.source, e.dedupe_key, e.id, e.recording_id, e.job_ids
FROM jsonb_each($1) AS wanted
JOIN events e ON e.source = wanted.value ->> 0 AND e.dedupe_key = wanted.value ->> 1";

/// The jobs of these recordings whose files are neither in the bucket nor given up by an operator, but those whose bytes
/// came with an event.
pub(super) const UNSAVED_FILES: &str = "
SELECT recording_id, identity, state, class, origin, deadline
FROM jobs
WHERE recording_id IN (SELECT value FROM json_each($1)) AND state NOT IN ('archived', 'cancelled') AND origin_kind <> 'inline'";

/// Recordings of these `[source, recording_key]` pairs.
pub(super) const RECORDINGS_BY_KEY: &str = "
SELECT r.*
FROM jsonb_each($1) AS wanted
JOIN recordings r ON r.source = wanted.value ->> 0 AND r.recording_key = wanted.value ->> 1";

/// Identities of the jobs and answered lookups of recordings of these `[source, recording_key]` pairs.
pub(super) const KNOWN: &str = "
SELECT r.recording_key, j.identity, j.id AS job_id, j.state, j.class, j.origin_kind
FROM jsonb_each($1) AS wanted
JOIN recordings r ON r.source = wanted.value ->> 0 AND r.recording_key = wanted.value ->> 1
JOIN jobs j ON j.recording_id = r.id
UNION ALL
SELECT r.recording_key, a.identity, NULL, NULL, NULL, NULL
FROM jsonb_each($1) AS wanted
JOIN recordings r ON r.source = wanted.value ->> 0 AND r.recording_key = wanted.value ->> 1
JOIN answered_lookups a ON a.recording_id = r.id";

/// Takes the walk of a source unless another holds it. A lease that ends later than two of them from now was written
/// before a clock was set back.
pub(super) const BEGIN_WALK: &str = "
INSERT INTO walks (source, holder, lease_until) VALUES ($1, $2, $4)
ON CONFLICT (source) DO UPDATE SET holder = $2, lease_until = $4
    WHERE walks.holder IS NULL OR walks.holder = $2 OR walks.lease_until <= $3 OR walks.lease_until > 2 * $4 - $3
RETURNING reached_at";

pub(super) const END_WALK: &str = "
UPDATE walks SET holder = NULL, lease_until = NULL, reached_at = coalesce(max(reached_at, $3), $3, reached_at)
WHERE source = $1 AND holder = $2";

pub(super) const RECORDING_BY_ID: &str = "SELECT * FROM recordings WHERE id = $1";

/// The folder date of the first recording of each of these `[source, session_id]` pairs.
pub(super) const SESSION_DATES: &str = "
SELECT r.source, r.session_id, r.folder_date
FROM jsonb_each($1) AS wanted
JOIN recordings r ON r.source = wanted.value ->> 0 AND r.session_id = wanted.value ->> 1
ORDER BY r.id";

/// What intake must know of the jobs of these recordings.
pub(super) const JOB_SLOTS: &str = "
SELECT id, recording_id, identity, name, kind, origin_kind, state, announced_by, announced_at, found_by
FROM jobs WHERE recording_id IN (SELECT value FROM json_each($1)) ORDER BY id";

pub(super) const LOSS_SLOTS: &str = "
SELECT id, recording_id, loss_key, event_id, kind, at, withdrawn_at
FROM provider_failures WHERE recording_id IN (SELECT value FROM json_each($1)) ORDER BY id";

pub(super) const ANSWERED: &str = "
SELECT recording_id, identity, lookup_id
FROM answered_lookups WHERE recording_id IN (SELECT value FROM json_each($1))";

pub(super) const UPDATE_RECORDING: &str = "
UPDATE recordings SET provider_id = $2, bot_id = $3, session_id = $4, room_id = $5, room_name = $6,
    started_at = $7, ended_at = $8, open_jobs = $9, generation = generation + 1
WHERE id = $1";

/// A recording's jobs or failures have changed, and with them the number of its open jobs by `$2`. Counting them would
/// cost more with each job that it has, for each of them that ends. Never below zero, which the table refuses: a row that was
/// changed by hand must not hold up the others of its batch.
pub(super) const TOUCH_RECORDING: &str = "
UPDATE recordings SET generation = generation + 1, open_jobs = max(0, open_jobs + $2) WHERE id = $1";

/// An archived job is announced again: nothing to do but to know it.
pub(super) const ANNOUNCE_ARCHIVED: &str = "
UPDATE jobs SET announced_by = $2, announced_at = $3, found_by = $4 WHERE id = $1 AND state = 'archived'";

/// A fresh origin for a job that is not archived. One that has settled begins anew, and one that waits has all attempts
/// again: those before were made at another URL. Of an attempt under way see `REQUEUE_JOB`.
pub(super) const REFRESH_JOB: &str = "
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

pub(super) const WITHDRAW_FAILURE: &str =
    "UPDATE provider_failures SET withdrawn_at = $2 WHERE id = $1 AND withdrawn_at IS NULL";

pub(super) const UPKEEP_DUE: &str = "SELECT name FROM upkeep WHERE name = $1";

pub(super) const UPKEEP_DONE: &str = "DELETE FROM upkeep WHERE name = $1";

/// Jobs whose identity is made of a URL, by id.
pub(super) const FILES_BY_URL: &str = "
SELECT j.id, j.recording_id, j.identity, j.origin, r.provider
FROM jobs j JOIN recordings r ON r.id = j.recording_id
WHERE j.id > $1 AND j.identity LIKE 'url:%' ORDER BY j.id LIMIT $2";

/// The body of the last event that gave the job its URL.
pub(super) const EVENT_OF_JOB: &str = "
SELECT raw, raw_encoding FROM events
WHERE recording_id = $1 AND job_ids LIKE '%' || $2 || '%' ORDER BY id DESC LIMIT 1";

pub(super) const RENEW_IDENTITY: &str = "
UPDATE jobs SET identity = $3
WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE recording_id = $2 AND identity = $3)";

pub(super) const RENAME_JOB: &str = "UPDATE jobs SET name = $2 WHERE id = $1";

pub(super) const FORGET_ANSWER: &str =
    "DELETE FROM answered_lookups WHERE recording_id = $1 AND identity = $2";

pub(super) const KEEP_ANSWER: &str = "
INSERT INTO answered_lookups (recording_id, identity, lookup_id, answered_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (recording_id, identity) DO UPDATE SET lookup_id = $3, answered_at = $4";

/// Artifacts that are in the bucket, of recordings in a room.
pub(super) const SAVED_IN_ROOM: &str = "
SELECT r.recording_key, r.provider_id, r.bot_id, r.session_id, r.room_id, r.room_name, r.started_at, r.ended_at,
    j.kind, j.origin_kind, j.announced_by, j.announced_at
FROM recordings r JOIN jobs j ON j.recording_id = r.id
WHERE r.source = $1 AND r.room_name = $2 AND j.state = 'archived'";

/// Open failures of these recordings (`cured_by`), and those in their rooms of recordings without the provider's ids.
pub(super) const LOSSES_TO_CURE: &str = "
SELECT f.recording_id AS cured_by, f.id, f.recording_id, f.event_id, f.kind, f.at,
    r.provider_id, r.bot_id, r.session_id, r.room_id, r.room_name, r.started_at, r.ended_at
FROM json_each($1) AS wanted
CROSS JOIN provider_failures f ON f.recording_id = wanted.value
JOIN recordings r ON r.id = f.recording_id
WHERE f.withdrawn_at IS NULL
UNION ALL
SELECT here.id AS cured_by, f.id, f.recording_id, f.event_id, f.kind, f.at,
    r.provider_id, r.bot_id, r.session_id, r.room_id, r.room_name, r.started_at, r.ended_at
FROM json_each($1) AS wanted
CROSS JOIN recordings here ON here.id = wanted.value
CROSS JOIN recordings r ON r.source = here.source AND r.room_name = here.room_name
CROSS JOIN provider_failures f ON f.recording_id = r.id
WHERE r.id <> here.id AND r.provider_id IS NULL AND r.bot_id IS NULL AND r.session_id IS NULL
    AND f.withdrawn_at IS NULL";

macro_rules! job_columns {
    ($rest:literal) => {
        concat!(
            "SELECT j.*, r.source, r.provider, r.provider_id, r.bot_id, r.session_id, r.room_id, ",
            "r.room_name, r.started_at, r.ended_at ",
            "FROM jobs j JOIN recordings r ON r.id = j.recording_id ",
            $rest
        )
    };
}

/// What people see of a job, for `records::record`.
macro_rules! record_json {
    () => {
        "json_array(jobs.id, jobs.recording_id, jobs.name, jobs.kind, jobs.format, jobs.state, jobs.class, \
         jobs.message, jobs.key, jobs.size_bytes, jobs.announced_size, jobs.crc64nvme, jobs.sha256, jobs.etag, \
         jobs.version_id, jobs.deadline, jobs.deadline_from, jobs.attempts, jobs.bytes_done, jobs.archived_at, \
         r.source, r.provider)"
    };
}

/// What its worker needs besides, for `records::claimed`.
macro_rules! work_json {
    () => {
        "json_array(jobs.lease_token, jobs.origin, jobs.remint, jobs.is_upper_bound, jobs.first_attempt_at, \
         jobs.checkpoint, r.provider_id, r.bot_id, r.session_id, r.room_id, r.room_name, r.started_at, r.ended_at, \
         jobs.unsettled_attempts)"
    };
}

macro_rules! records {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            record_json!(),
            " AS record FROM jobs JOIN recordings r ON r.id = jobs.recording_id ",
            $rest
        )
    };
}

/// What the choice of jobs to lease needs; those that are chosen are read whole.
macro_rules! candidate_columns {
    ($rest:literal) => {
        concat!(
            "SELECT j.id, j.recording_id, j.state, j.latest_start, j.is_upper_bound, j.unsettled_leases, ",
            "j.lease_token FROM jobs j ",
            $rest
        )
    };
}

/// `pending` and due by `$2`, or due later than `$4`: no wait as long as that is ever written, so a clock was
/// set back since.
macro_rules! is_due {
    ($job:literal) => {
        concat!(
            "(+",
            $job,
            "next_attempt_at <= $2 OR +",
            $job,
            "next_attempt_at > $4)"
        )
    };
}

/// `running` under a lease that ended by `$5`, or that ends later than `$6`, as no lease does.
macro_rules! has_lapsed {
    ($job:literal) => {
        concat!(
            "(+",
            $job,
            "lease_until <= $5 OR +",
            $job,
            "lease_until > $6)"
        )
    };
}

/// The first jobs of a lane that are due, the first whose lease has run out, each in the order of slack, and
/// apart from them the suspects: those that were leased `$7` times or more and never settled. The plus keeps the
/// planner from finding the due ones by their time and sorting all of them: the index of the order gives the first few
/// at once.
pub(super) const DUE: &str = concat!(
    "SELECT * FROM (",
    candidate_columns!("WHERE j.state = 'pending' AND j.is_small = $1 AND "),
    is_due!("j."),
    " ORDER BY j.latest_start, j.is_upper_bound DESC, j.id LIMIT $3) AS due UNION ALL SELECT * FROM (",
    candidate_columns!(
        "WHERE j.state = 'running' AND j.is_small = $1 AND +j.unsettled_leases < $7 AND "
    ),
    has_lapsed!("j."),
    " ORDER BY j.latest_start, j.is_upper_bound DESC, j.id LIMIT $3) AS lapsed UNION ALL SELECT * FROM (",
    candidate_columns!(
        "WHERE j.state = 'running' AND j.is_small = $1 AND +j.unsettled_leases >= $7 AND "
    ),
    has_lapsed!("j."),
    " LIMIT 1000) AS suspects"
);

/// As `DUE`, only of the jobs `$8`. The pluses lead the planner to look these up by their ids: going through all jobs
/// of the state costs more the longer the queue is.
pub(super) const DUE_OF: &str = concat!(
    "SELECT * FROM (",
    candidate_columns!(
        "WHERE j.id IN (SELECT value FROM json_each($8)) AND +j.is_small = $1 AND (+j.state = 'pending' AND "
    ),
    is_due!("j."),
    " OR +j.state = 'running' AND +j.unsettled_leases < $7 AND ",
    has_lapsed!("j."),
    ") ORDER BY j.latest_start, j.is_upper_bound DESC, j.id LIMIT $3) AS due UNION ALL SELECT * FROM (",
    candidate_columns!(
        "WHERE j.id IN (SELECT value FROM json_each($8)) AND +j.is_small = $1 AND +j.state = 'running'
         AND +j.unsettled_leases >= $7 AND "
    ),
    has_lapsed!("j."),
    " LIMIT 1000) AS suspects"
);

/// Whether a suspect is on its way now: leased when `$1` leases of it or more had never been settled.
pub(super) const SUSPECT_IS_RUNNING: &str = "
SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'running' AND +unsettled_leases > $1
    AND +lease_until > $2 AND +lease_until <= $3) AS is_running";

/// The one that ended its workers is found: the others are suspects no more.
pub(super) const CLEAR_SUSPECTS: &str =
    "UPDATE jobs SET unsettled_leases = 1 WHERE state = 'running' AND unsettled_leases >= $1";

/// A running job under its current lease.
pub(super) const JOB_BY_LEASE: &str =
    job_columns!("WHERE j.id = $1 AND j.lease_token = $2 AND j.state = 'running'");

pub(super) const JOBS_OF_RECORDING: &str =
    records!("WHERE jobs.recording_id = $1 ORDER BY jobs.name");

/// `$1` states, `$2` provider, `$3` since; null: any. After the id `$4`, at most `$5`. The pluses keep the planner from sorting
/// all that match for the few of a page.
pub(super) const LIST: &str = records!(
    "WHERE jobs.id > $4 AND ($1 IS NULL OR +jobs.state IN (SELECT value FROM json_each($1)))
     AND ($2 IS NULL OR +r.provider = $2) AND ($3 IS NULL OR +jobs.changed_at >= $3)
     ORDER BY jobs.id LIMIT $5"
);

/// As `LIST`, only of the jobs or recordings `$6`.
pub(super) const LIST_OF: &str = records!(
    "WHERE (jobs.id IN (SELECT value FROM json_each($6))
        OR jobs.recording_id IN (SELECT value FROM json_each($6)))
     AND jobs.id > $4
     AND ($1 IS NULL OR jobs.state IN (SELECT value FROM json_each($1)))
     AND ($2 IS NULL OR r.provider = $2) AND ($3 IS NULL OR jobs.changed_at >= $3)
     ORDER BY jobs.id LIMIT $5"
);

pub(super) const RECORDS_OF: &str =
    records!("WHERE jobs.id IN (SELECT value FROM json_each($1)) ORDER BY jobs.id");

pub(super) const UPLOAD_OWNERS: &str = "
SELECT id, key, state, checkpoint FROM jobs
WHERE checkpoint IS NOT NULL OR key IN (SELECT value FROM json_each($1))";

/// Leases those of the jobs `$8` that are due in the lane `$1` and have been leased fewer than `$7` times in a row. The
/// pluses as in `DUE_OF`. An attempt that nobody settled is noted as that, and does not begin the time that retries have.
pub(super) const LEASE_JOBS: &str = concat!(
    "UPDATE jobs SET state = 'running', attempts = attempts + 1,
        first_attempt_at = CASE WHEN attempts > unsettled_attempts + CASE state WHEN 'running' THEN 1 ELSE 0 END
            THEN coalesce(first_attempt_at, $2) ELSE $2 END,
        unsettled_attempts = unsettled_attempts + CASE state WHEN 'running' THEN 1 ELSE 0 END,
        lease_token = lease_token + 1, lease_until = $3, leased_by = $9,
        unsettled_leases = unsettled_leases + 1, changed_at = $2
     WHERE id IN (SELECT value FROM json_each($8)) AND +is_small = $1 AND +unsettled_leases < $7
     AND (+state = 'pending' AND ",
    is_due!(""),
    " OR +state = 'running' AND ",
    has_lapsed!(""),
    ") RETURNING jobs.id AS id, (SELECT ",
    record_json!(),
    " FROM recordings r WHERE r.id = jobs.recording_id) AS record, (SELECT ",
    work_json!(),
    " FROM recordings r WHERE r.id = jobs.recording_id) AS work"
);

pub(super) const EXTEND_LEASE: &str =
    "UPDATE jobs SET lease_until = $3 WHERE id = $1 AND lease_token = $2 AND state = 'running'";

pub(super) const LEASE_HOLDERS: &str =
    "SELECT DISTINCT leased_by FROM jobs WHERE state = 'running'";

pub(super) const FREE_LEASES: &str =
    "UPDATE jobs SET lease_until = 0 WHERE state = 'running' AND leased_by = $1";

/// More in the bucket than ever before: this job does not end its workers, or not at once.
pub(super) const CHECKPOINT: &str = "
UPDATE jobs SET checkpoint = $3, bytes_done = $4,
    unsettled_leases = CASE WHEN $4 > bytes_done THEN 1 ELSE unsettled_leases END
WHERE id = $1 AND lease_token = $2 AND state = 'running'";

/// Each of `[id, lease token, key, bytes, crc64nvme, sha256, etag, version, now]` that is still under its lease. The plus
/// as in `DUE_OF`: without it the list is taken apart anew for every job that is running.
pub(super) const ARCHIVE_JOBS: &str = "
UPDATE jobs SET state = 'archived', origin = NULL, checkpoint = NULL, class = NULL, message = NULL,
    lease_until = NULL, leased_by = NULL, unsettled_leases = 0, has_fresh_origin = 0,
    key = done.value ->> 2, size_bytes = done.value ->> 3, bytes_done = done.value ->> 3,
    crc64nvme = done.value ->> 4, sha256 = done.value ->> 5, etag = done.value ->> 6, version_id = done.value ->> 7,
    archived_at = done.value ->> 8, changed_at = done.value ->> 8
FROM jsonb_each($1) AS done
WHERE jobs.id = done.value ->> 0 AND jobs.lease_token = done.value ->> 1 AND +jobs.state = 'running'
RETURNING jobs.id, jobs.recording_id, jobs.kind, jobs.origin_kind, jobs.announced_by";

/// So many jobs of each of these `[recording, count]` are archived and were open before. Tells whether there is any
/// failure that they could cure.
pub(super) const COUNT_ARCHIVED: &str = "
UPDATE recordings SET generation = generation + 1, open_jobs = max(0, open_jobs - (done.value ->> 1))
FROM jsonb_each($1) AS done
WHERE recordings.id = done.value ->> 0
RETURNING EXISTS (SELECT 1 FROM provider_failures WHERE withdrawn_at IS NULL) AS has_open_failures";

/// Of an attempt that is not counted (`$5` = 1) the time does not count either, nor that until the next one. Where a fresh
/// origin came meanwhile, none of the attempts before counts.
pub(super) const REQUEUE_JOB: &str = "
UPDATE jobs SET state = 'pending', next_attempt_at = $2, class = $3, message = $4,
    attempts = CASE has_fresh_origin WHEN 1 THEN 0 ELSE attempts - $5 END,
    first_attempt_at = CASE WHEN has_fresh_origin = 0 AND attempts > $5 THEN first_attempt_at + $5 * max(0, $2 - changed_at) END,
    lease_until = NULL, leased_by = NULL, unsettled_leases = 0, has_fresh_origin = 0, changed_at = $6
WHERE id = $1";

pub(super) const GIVE_UP_JOB: &str = "
UPDATE jobs SET state = $2, class = $3, message = $4,
    lease_until = NULL, leased_by = NULL, unsettled_leases = 0, changed_at = $5
WHERE id = $1";

/// Ends a job whose row can't be read.
pub(super) const GIVE_UP_UNREADABLE: &str = "
UPDATE jobs SET state = 'failed', class = 'internal', message = $2,
    lease_until = NULL, leased_by = NULL, unsettled_leases = 0, has_fresh_origin = 0, changed_at = $3
WHERE id = $1 AND state IN ('pending', 'running') RETURNING recording_id";

pub(super) const DELETE_JOB: &str = "DELETE FROM jobs WHERE id = $1";

pub(super) const REORIGIN: &str = "
UPDATE jobs SET origin_kind = $3, origin = $4, remint = coalesce($5, remint),
    deadline = $6, deadline_from = $7, is_upper_bound = $8, latest_start = $9,
    announced_size = coalesce($10, announced_size), is_small = $11, has_fresh_origin = 0
WHERE id = $1 AND lease_token = $2 AND state = 'running'";

/// The wait does not count as time that retries have.
pub(super) const PAUSE: &str = "
UPDATE jobs INDEXED BY jobs_due SET next_attempt_at = $1, class = $2, message = $3,
    first_attempt_at = first_attempt_at + max(0, $1 - max(next_attempt_at, changed_at))
WHERE state = 'pending' AND next_attempt_at < $1";

pub(super) const WAKE: &str = "UPDATE jobs INDEXED BY jobs_due SET next_attempt_at = 0 WHERE state = 'pending' AND next_attempt_at > 0 AND class = $1
    RETURNING id";

/// A job that failed is never written with a time of 0, but by an operator's word.
pub(super) const IS_RETRY_ASKED: &str = "
SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'pending' AND next_attempt_at = 0 AND class = $1) AS is_asked";

/// Few jobs are running, so that only the pending ones need the index's order, which the planner would not choose.
pub(super) const NEXT_DUE: &str = "
SELECT (SELECT next_attempt_at FROM jobs INDEXED BY jobs_due WHERE state = 'pending' ORDER BY next_attempt_at LIMIT 1) AS pending,
    (SELECT min(lease_until) FROM jobs WHERE state = 'running') AS running";

/// Wakes those of the jobs `$1` that are in one of the states `$3`. The plus as in `DUE_OF`.
pub(super) const RETRY_JOBS: &str = "
UPDATE jobs SET state = 'pending', next_attempt_at = 0, attempts = 0, first_attempt_at = NULL,
    unsettled_leases = 0, unsettled_attempts = 0, has_fresh_origin = 0, class = NULL, message = NULL,
    changed_at = $2
WHERE id IN (SELECT value FROM json_each($1)) AND +state IN (SELECT value FROM json_each($3))
RETURNING id, recording_id";

/// Cancels those of the jobs `$1` that are open.
pub(super) const CANCEL_JOBS: &str = "
UPDATE jobs SET state = 'cancelled', class = NULL, message = $3,
    lease_until = NULL, leased_by = NULL, unsettled_leases = 0, changed_at = $2
WHERE id IN (SELECT value FROM json_each($1)) AND +state IN ('pending', 'running')
RETURNING id, recording_id";

/// So many jobs more are open of each of these `[recording, count]`; fewer when it is negative.
pub(super) const COUNT_OPEN: &str = "
UPDATE recordings SET generation = generation + 1, open_jobs = max(0, open_jobs + (done.value ->> 1))
FROM jsonb_each($1) AS done WHERE recordings.id = done.value ->> 0";

/// Jobs that `retry` may wake, by class; null: any that failed or expired.
pub(super) const LOST_IDS: &str = "
SELECT id FROM jobs WHERE state IN ('failed', 'expired') AND ($1 IS NULL OR class = $1) ORDER BY id";

/// Jobs named by their own or their recording's id.
pub(super) const IDS_OF: &str = "
SELECT id FROM jobs WHERE id IN (SELECT value FROM json_each($1))
    OR recording_id IN (SELECT value FROM json_each($1)) ORDER BY id";

pub(super) const UNSEALED: &str = "
SELECT id FROM recordings WHERE open_jobs = 0 AND generation > sealed_generation ORDER BY next_seal_at, id LIMIT $1";

/// Those of the recordings `$1` that are complete and not sealed.
pub(super) const UNSEALED_OF: &str = "
SELECT id FROM recordings
WHERE id IN (SELECT value FROM json_each($1)) AND +open_jobs = 0 AND generation > sealed_generation ORDER BY id";

/// Complete recordings whose manifest is due at `$1`. One that would be due after `$2`, which is later than any wait that is
/// ever written, was put off by a clock that has been set back since.
pub(super) const SEALABLE: &str = "
SELECT * FROM (
    SELECT id, seal_failures FROM recordings
    WHERE open_jobs = 0 AND generation > sealed_generation AND next_seal_at <= $1 ORDER BY next_seal_at, id LIMIT $3)
UNION ALL SELECT * FROM (
    SELECT id, seal_failures FROM recordings
    WHERE open_jobs = 0 AND generation > sealed_generation AND next_seal_at > $2 ORDER BY next_seal_at, id LIMIT $3)";

/// The manifest of `$1` could not be written at `$2`, and is not tried again before `$3`.
pub(super) const PUT_OFF_SEAL: &str = "
UPDATE recordings SET next_seal_at = $3, seal_failures = seal_failures + 1,
    seal_failing_since = coalesce(seal_failing_since, $2), seal_class = $4, seal_message = $5
WHERE id = $1";

/// Complete recordings whose manifest could not be written since `$1` or longer.
pub(super) const OVERDUE_MANIFESTS: &str = "
SELECT * FROM recordings
WHERE seal_failing_since <= $1 AND open_jobs = 0 AND generation > sealed_generation
ORDER BY seal_failing_since, id LIMIT $2";

/// A generation that is older than one already sealed is no news.
pub(super) const SEALED: &str = "
UPDATE recordings SET sealed_generation = $2, manifest_etag = $3, report_etag = $4,
    next_seal_at = 0, seal_failures = 0, seal_failing_since = NULL, seal_class = NULL, seal_message = NULL
WHERE id = $1 AND $2 <= generation AND $2 >= sealed_generation";

pub(super) const EVENTS_OF_RECORDING: &str =
    "SELECT id, event_id FROM events WHERE recording_id = $1 ORDER BY id";

pub(super) const FAILURES_OF_RECORDING: &str = "
SELECT f.class, f.code, f.message, f.event_name, f.at
FROM provider_failures f WHERE f.recording_id = $1 AND f.withdrawn_at IS NULL ORDER BY f.id";

pub(super) const FAILURES: &str = "
SELECT f.class, f.code, f.message, f.event_name, f.at, r.*
FROM provider_failures f JOIN recordings r ON r.id = f.recording_id
WHERE f.withdrawn_at IS NULL AND ($1 IS NULL OR f.received_at >= $1) AND ($2 IS NULL OR r.provider = $2)
ORDER BY f.id LIMIT $3";

/// Ids begin with the time of receipt, so their index is one of that too.
pub(super) const EVENTS: &str = "
SELECT id, source, provider, event_id, event_type, class, alert, received_at, recording_id
FROM events WHERE id >= $1 ORDER BY id LIMIT $2";

/// By the index of those that nobody could make out.
pub(super) const UNKNOWN_EVENTS: &str = "
SELECT id, source, provider, event_id, event_type, class, alert, received_at, recording_id
FROM events WHERE class = 'unknown' AND id >= $1 AND id > $2 ORDER BY id LIMIT $3";

pub(super) const FORGET_UNKNOWN_EVENT: &str =
    "DELETE FROM events WHERE id = $1 AND class = 'unknown'";

pub(super) const ANNOUNCING_EVENT: &str = "
SELECT e.raw, e.raw_encoding FROM jobs j JOIN events e ON e.id = j.announced_by WHERE j.id = $1";

pub(super) const RAW_EVENT: &str = "SELECT raw, raw_encoding FROM events WHERE id = $1";

pub(super) const COUNT_BY_STATE: &str = "SELECT state, count(*) AS jobs FROM jobs GROUP BY state";

/// The first of each queue, by the index of the order.
pub(super) const LEAST_LATEST_START: &str = "
SELECT min(latest_start) FROM (
    SELECT * FROM (SELECT latest_start FROM jobs WHERE state = 'pending' AND is_small = 0 ORDER BY latest_start LIMIT 1)
    UNION ALL
    SELECT * FROM (SELECT latest_start FROM jobs WHERE state = 'pending' AND is_small = 1 ORDER BY latest_start LIMIT 1)
    UNION ALL
    SELECT min(latest_start) FROM jobs WHERE state = 'running'
) AS first_ones WHERE latest_start < $1";
