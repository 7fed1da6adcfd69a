//! An operator's words, manifests, and scans.

/// Wakes those of the jobs `$1` that are in one of the states `$3`. The plus as in `DUE_OF`.
pub(in crate::store::sqlite) const RETRY_JOBS: &str = "
UPDATE jobs SET state = 'pending', next_attempt_at = 0, attempts = 0, first_attempt_at = NULL,
    unsettled_leases = 0, unsettled_attempts = 0, has_fresh_origin = 0, class = NULL, message = NULL,
    changed_at = $2
WHERE id IN (SELECT value FROM json_each($1)) AND +state IN (SELECT value FROM json_each($3))
RETURNING id, recording_id";

/// Cancels those of the jobs `$1` that are open.
pub(in crate::store::sqlite) const CANCEL_JOBS: &str = "
UPDATE jobs SET state = 'cancelled', class = NULL, message = $3,
    lease_until = NULL, leased_by = NULL, unsettled_leases = 0, changed_at = $2
WHERE id IN (SELECT value FROM json_each($1)) AND +state IN ('pending', 'running')
RETURNING id, recording_id";

pub(in crate::store::sqlite) const FORGET_UNKNOWN_EVENT: &str =
    "DELETE FROM events WHERE id = $1 AND class = 'unknown'";

/// The manifest of `$1` could not be written at `$2`, and is not tried again before `$3`.
pub(in crate::store::sqlite) const PUT_OFF_SEAL: &str = "
UPDATE recordings SET next_seal_at = $3, seal_failures = seal_failures + 1,
    seal_failing_since = coalesce(seal_failing_since, $2), seal_class = $4, seal_message = $5
WHERE id = $1";

/// A generation that is older than one already sealed is no news.
pub(in crate::store::sqlite) const SEALED: &str = "
UPDATE recordings SET sealed_generation = $2, manifest_etag = $3, report_etag = $4,
    next_seal_at = 0, seal_failures = 0, seal_failing_since = NULL, seal_class = NULL, seal_message = NULL
WHERE id = $1 AND $2 <= generation AND $2 >= sealed_generation";

/// Takes the walk of a source unless another holds it. A lease that ends later than two of them from now was written
/// before a clock was set back.
pub(in crate::store::sqlite) const BEGIN_WALK: &str = "
INSERT INTO walks (source, holder, lease_until) VALUES ($1, $2, $4)
ON CONFLICT (source) DO UPDATE SET holder = $2, lease_until = $4
    WHERE walks.holder IS NULL OR walks.holder = $2 OR walks.lease_until <= $3 OR walks.lease_until > 2 * $4 - $3
RETURNING reached_at";

pub(in crate::store::sqlite) const END_WALK: &str = "
UPDATE walks SET holder = NULL, lease_until = NULL, reached_at = coalesce(max(reached_at, $3), $3, reached_at)
WHERE source = $1 AND holder = $2";
