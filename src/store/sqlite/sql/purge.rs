//! What lets secrets and old rows leave the store.

/// Forgets the bodies of a recording's events, but of those that are still to be archived themselves.
pub(in crate::store::sqlite) const FORGET_BODIES_OF: &str = "
UPDATE events SET raw = '', raw_encoding = 'utf8'
WHERE recording_id = $1 AND raw <> '' AND NOT EXISTS (
    SELECT 1 FROM jobs WHERE jobs.recording_id = $1 AND jobs.announced_by = events.id AND jobs.origin = '\"event\"')";

/// Those that are still to be archived themselves.
pub(in crate::store::sqlite) const KEPT_BODIES_OF: &str = "
SELECT id, source, provider, raw, raw_encoding FROM events
WHERE recording_id = $1 AND raw <> '' AND EXISTS (
    SELECT 1 FROM jobs WHERE jobs.recording_id = $1 AND jobs.announced_by = events.id AND jobs.origin = '\"event\"')";

pub(in crate::store::sqlite) const BODIES_OF: &str =
    "SELECT id, raw, raw_encoding FROM events WHERE recording_id = $1 AND raw <> ''";

pub(in crate::store::sqlite) const REPLACE_BODY: &str =
    "UPDATE events SET raw = $2, raw_encoding = 'utf8' WHERE id = $1 AND raw <> ''";

macro_rules! sealed {
    ($which:literal) => {
        concat!(
            "SELECT id FROM recordings WHERE ",
            $which,
            " AND open_jobs = 0 AND generation = sealed_generation ORDER BY id"
        )
    };
}

/// `$2` sealed recordings after the id `$1`.
pub(in crate::store::sqlite) const SEALED_AFTER: &str = concat!(sealed!("id > $1"), " LIMIT $2");

/// Those of the recordings `$1` that are sealed.
pub(in crate::store::sqlite) const SEALED_OF: &str =
    sealed!("id IN (SELECT value FROM json_each($1))");

/// URLs of lost jobs that can be of no more use: given up before `$1`, and then either dead for sure since before `$2` or given
/// up before `$3`. What is left of one that can be minted again is not found again.
pub(in crate::store::sqlite) const STALE_ORIGINS: &str = "
SELECT id, origin, remint FROM jobs
WHERE state IN ('failed', 'expired', 'cancelled') AND origin_kind = 'url' AND changed_at < $1
    AND (deadline < $2 AND deadline_from <> 'documented' OR changed_at < $3)
    AND (remint IS NULL OR instr(origin, '?') > 0 OR instr(origin, 'url_with_header') > 0)
LIMIT $4";

pub(in crate::store::sqlite) const REPLACE_ORIGIN: &str = "
UPDATE jobs SET origin_kind = $2, origin = $3
WHERE id = $1 AND state IN ('failed', 'expired', 'cancelled') AND origin = $4";

macro_rules! purgeable {
    ($which:literal) => {
        concat!(
            "SELECT r.id FROM recordings r WHERE ",
            $which,
            " AND r.open_jobs = 0 AND r.generation = r.sealed_generation
             AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.recording_id = r.id AND jobs.changed_at >= $2)
             AND NOT EXISTS (SELECT 1 FROM events WHERE events.recording_id = r.id AND events.id >= $3)
             ORDER BY r.id LIMIT $4"
        )
    };
}

/// Sealed recordings after the id `$1` of which nothing has changed since `$2`, and no event has an id from `$3` on.
pub(in crate::store::sqlite) const PURGEABLE: &str = purgeable!("r.id > $1 AND r.id < $3");

/// Those of the recordings `$1` that still are.
pub(in crate::store::sqlite) const PURGEABLE_OF: &str =
    purgeable!("r.id IN (SELECT value FROM json_each($1))");

/// What goes with the recordings `$1`. Their events stay without what they said, so that a delivery is known when it is repeated.
pub(in crate::store::sqlite) const PURGE: [&str; 5] = [
    "DELETE FROM provider_failures WHERE recording_id IN (SELECT value FROM json_each($1))",
    "DELETE FROM answered_lookups WHERE recording_id IN (SELECT value FROM json_each($1))",
    "DELETE FROM jobs WHERE recording_id IN (SELECT value FROM json_each($1))",
    "UPDATE events SET recording_id = NULL, job_ids = '[]', raw = '', raw_encoding = 'utf8', alert = NULL
     WHERE recording_id IN (SELECT value FROM json_each($1))",
    "DELETE FROM recordings WHERE id IN (SELECT value FROM json_each($1))",
];

/// Forgets bodies of events without a recording: all before the id `$1`, and before `$2` of those that nobody will read again.
pub(in crate::store::sqlite) const FORGET_BODIES: &str = "
UPDATE events SET raw = '', raw_encoding = 'utf8' WHERE id IN (
    SELECT id FROM events INDEXED BY events_with_body
    WHERE recording_id IS NULL AND raw <> '' AND (id < $1 OR id < $2 AND class IN ('ignored', 'handshake'))
    ORDER BY id LIMIT $3)";

/// Forgets events before the id `$1` that belong to no recording any more.
pub(in crate::store::sqlite) const FORGET_EVENTS: &str = "
DELETE FROM events WHERE id IN (
    SELECT id FROM events WHERE id < $1 AND recording_id IS NULL ORDER BY id LIMIT $2)";
