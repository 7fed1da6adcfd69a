//! What leases jobs, and what writes under leases.

/// What its worker needs besides, for `records::claimed`.
macro_rules! work_json {
    () => {
        "json_array(jobs.lease_token, jobs.origin, jobs.remint, jobs.first_attempt_at, \
         jobs.checkpoint, r.provider_id, r.bot_id, r.session_id, r.room_id, r.room_name, r.started_at, r.ended_at, \
         jobs.unsettled_attempts)"
    };
}

/// The first `$3` of them in the order of `schedule::order::Urgency`, as the index `jobs_to_claim` has it.
macro_rules! by_urgency {
    () => {
        " ORDER BY j.latest_start, j.is_upper_bound DESC, j.id LIMIT $3)"
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
pub(in crate::store::sqlite) const DUE: &str = concat!(
    "SELECT * FROM (",
    candidate_columns!("WHERE j.state = 'pending' AND j.is_small = $1 AND "),
    is_due!("j."),
    by_urgency!(),
    " AS due UNION ALL SELECT * FROM (",
    candidate_columns!(
        "WHERE j.state = 'running' AND j.is_small = $1 AND +j.unsettled_leases < $7 AND "
    ),
    has_lapsed!("j."),
    by_urgency!(),
    " AS lapsed UNION ALL SELECT * FROM (",
    candidate_columns!(
        "WHERE j.state = 'running' AND j.is_small = $1 AND +j.unsettled_leases >= $7 AND "
    ),
    has_lapsed!("j."),
    " LIMIT 1000) AS suspects"
);

/// As `DUE`, only of the jobs `$8`. The pluses lead the planner to look these up by their ids: going through all jobs
/// of the state costs more the longer the queue is.
pub(in crate::store::sqlite) const DUE_OF: &str = concat!(
    "SELECT * FROM (",
    candidate_columns!(
        "WHERE j.id IN (SELECT value FROM json_each($8)) AND +j.is_small = $1 AND (+j.state = 'pending' AND "
    ),
    is_due!("j."),
    " OR +j.state = 'running' AND +j.unsettled_leases < $7 AND ",
    has_lapsed!("j."),
    ")",
    by_urgency!(),
    " AS due UNION ALL SELECT * FROM (",
    candidate_columns!(
        "WHERE j.id IN (SELECT value FROM json_each($8)) AND +j.is_small = $1 AND +j.state = 'running'
         AND +j.unsettled_leases >= $7 AND "
    ),
    has_lapsed!("j."),
    " LIMIT 1000) AS suspects"
);

/// Whether a suspect is on its way now: leased when `$1` leases of it or more had never been settled.
pub(in crate::store::sqlite) const SUSPECT_IS_RUNNING: &str = "
SELECT EXISTS (SELECT 1 FROM jobs WHERE state = 'running' AND +unsettled_leases > $1
    AND +lease_until > $2 AND +lease_until <= $3) AS is_running";

/// The one that ended its workers is found: the others are suspects no more.
pub(in crate::store::sqlite) const CLEAR_SUSPECTS: &str =
    "UPDATE jobs SET unsettled_leases = 1 WHERE state = 'running' AND unsettled_leases >= $1";

/// Leases those of the jobs `$8` that are due in the lane `$1` and have been leased fewer than `$7` times in a row. The
/// pluses as in `DUE_OF`. An attempt that nobody settled is noted as that, and does not begin the time that retries have.
pub(in crate::store::sqlite) const LEASE_JOBS: &str = concat!(
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

/// Each of `[id, lease token]` that is current is extended to `$2`. The plus as in `DUE_OF`.
pub(in crate::store::sqlite) const EXTEND_LEASES: &str = "
UPDATE jobs SET lease_until = $2 FROM jsonb_each($1) AS held
WHERE jobs.id = held.value ->> 0 AND jobs.lease_token = held.value ->> 1 AND +jobs.state = 'running'
RETURNING jobs.id, jobs.lease_token";

pub(in crate::store::sqlite) const FREE_LEASES: &str =
    "UPDATE jobs SET lease_until = 0 WHERE state = 'running' AND leased_by = $1";

/// A running job under its current lease.
pub(in crate::store::sqlite) const JOB_BY_LEASE: &str = "
SELECT recording_id, identity, origin_kind, announced_by, announced_size, has_fresh_origin FROM jobs
WHERE id = $1 AND lease_token = $2 AND state = 'running'";

/// More in the bucket than ever before: this job does not end its workers, or not at once.
pub(in crate::store::sqlite) const CHECKPOINT: &str = "
UPDATE jobs SET checkpoint = $3, bytes_done = $4,
    unsettled_leases = CASE WHEN $4 > bytes_done THEN 1 ELSE unsettled_leases END
WHERE id = $1 AND lease_token = $2 AND state = 'running'";

pub(in crate::store::sqlite) const REORIGIN: &str = "
UPDATE jobs SET origin_kind = $3, origin = $4, remint = coalesce($5, remint),
    deadline = $6, deadline_from = $7, is_upper_bound = $8, latest_start = $9,
    announced_size = coalesce($10, announced_size), is_small = $11, has_fresh_origin = 0
WHERE id = $1 AND lease_token = $2 AND state = 'running'";

/// Each of `[id, lease token, key, bytes, crc64nvme, sha256, etag, version, now]` that is still under its lease. The plus
/// as in `DUE_OF`: without it the list is taken apart anew for every job that is running.
pub(in crate::store::sqlite) const ARCHIVE_JOBS: &str = "
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
pub(in crate::store::sqlite) const COUNT_ARCHIVED: &str = "
UPDATE recordings SET generation = generation + 1, open_jobs = max(0, open_jobs - (done.value ->> 1))
FROM jsonb_each($1) AS done
WHERE recordings.id = done.value ->> 0
RETURNING EXISTS (SELECT 1 FROM provider_failures WHERE withdrawn_at IS NULL) AS has_open_failures";

/// Jobs or failures of each of these `[recording, count]` have changed, and so many jobs more are open; fewer when the count
/// is negative. Counting them anew would cost more with each job of the recording. Never below zero, which the table refuses: a
/// row that was changed by hand must not hold up the others of its batch.
pub(in crate::store::sqlite) const COUNT_OPEN: &str = "
UPDATE recordings SET generation = generation + 1, open_jobs = max(0, open_jobs + (done.value ->> 1))
FROM jsonb_each($1) AS done WHERE recordings.id = done.value ->> 0";

/// Open failures of these recordings (`cured_by`), and those in their rooms of recordings without the provider's ids.
pub(in crate::store::sqlite) const LOSSES_TO_CURE: &str = "
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

/// Of an attempt that is not counted (`$5` = 1) the time does not count either, nor that until the next one. Where a fresh
/// origin came meanwhile, none of the attempts before counts.
pub(in crate::store::sqlite) const REQUEUE_JOB: &str = "
UPDATE jobs SET state = 'pending', next_attempt_at = $2, class = $3, message = $4,
    attempts = CASE has_fresh_origin WHEN 1 THEN 0 ELSE attempts - $5 END,
    first_attempt_at = CASE WHEN has_fresh_origin = 0 AND attempts > $5 THEN first_attempt_at + $5 * max(0, $2 - changed_at) END,
    lease_until = NULL, leased_by = NULL, unsettled_leases = 0, has_fresh_origin = 0, changed_at = $6
WHERE id = $1";

pub(in crate::store::sqlite) const GIVE_UP_JOBS: &str = "
UPDATE jobs SET state = $2, class = $3, message = $4,
    lease_until = NULL, leased_by = NULL, unsettled_leases = 0, changed_at = $5
WHERE id IN (SELECT value FROM json_each($1))";

/// Ends a job whose row can't be read.
pub(in crate::store::sqlite) const GIVE_UP_UNREADABLE: &str = "
UPDATE jobs SET state = 'failed', class = 'internal', message = $2,
    lease_until = NULL, leased_by = NULL, unsettled_leases = 0, has_fresh_origin = 0, changed_at = $3
WHERE id = $1 AND state IN ('pending', 'running') RETURNING recording_id";

/// The wait does not count as time that retries have.
pub(in crate::store::sqlite) const PAUSE: &str = "
UPDATE jobs INDEXED BY jobs_due SET next_attempt_at = $1, class = $2, message = $3,
    first_attempt_at = first_attempt_at + max(0, $1 - max(next_attempt_at, changed_at))
WHERE state = 'pending' AND next_attempt_at < $1";

pub(in crate::store::sqlite) const WAKE: &str = "UPDATE jobs INDEXED BY jobs_due SET next_attempt_at = 0 WHERE state = 'pending' AND next_attempt_at > 0 AND class = $1
    RETURNING id";
