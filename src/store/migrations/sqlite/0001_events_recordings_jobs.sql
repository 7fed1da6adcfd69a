-- Ids are TEXT (uuid v7, made by the application), times BIGINT milliseconds since 1970, flags BIGINT,
-- JSON TEXT: the same text serves SQLite and Postgres. The CHECKs repeat the rules of model::State.

CREATE TABLE recordings (
    id                TEXT PRIMARY KEY,
    source            TEXT NOT NULL,
    provider          TEXT NOT NULL,
    recording_key     TEXT NOT NULL,
    provider_id       TEXT,
    bot_id            TEXT,
    session_id        TEXT,
    room_id           TEXT,
    room_name         TEXT,
    started_at        BIGINT,
    ended_at          BIGINT,
    -- The date and the folder are fixed by the first event: a resend gives the same keys.
    folder_date       TEXT NOT NULL,
    folder            TEXT NOT NULL,
    -- Grows with everything that manifest or report would show.
    generation        BIGINT NOT NULL,
    sealed_generation BIGINT NOT NULL DEFAULT 0,
    -- Counted anew with each growth of the generation, so that finding what can be sealed costs no join.
    open_jobs         BIGINT NOT NULL,
    manifest_etag     TEXT,
    report_etag       TEXT,
    created_at        BIGINT NOT NULL,
    UNIQUE (source, recording_key),
    CHECK (sealed_generation <= generation),
    CHECK (open_jobs >= 0)
);

CREATE INDEX recordings_by_session ON recordings (source, session_id) WHERE session_id IS NOT NULL;
CREATE INDEX recordings_by_room ON recordings (source, room_name) WHERE room_name IS NOT NULL;
CREATE INDEX recordings_unsealed ON recordings (id) WHERE open_jobs = 0 AND generation > sealed_generation;

CREATE TABLE events (
    id           TEXT PRIMARY KEY,
    source       TEXT NOT NULL,
    provider     TEXT NOT NULL,
    dedupe_key   TEXT NOT NULL,
    event_id     TEXT,
    event_type   TEXT,
    class        TEXT NOT NULL,
    alert        TEXT,
    event_time   BIGINT,
    received_at  BIGINT NOT NULL,
    recording_id TEXT REFERENCES recordings (id),
    -- The ids of the jobs that it made or woke: the receipt, given again to a duplicate.
    job_ids      TEXT NOT NULL,
    raw          TEXT NOT NULL,
    raw_encoding TEXT NOT NULL,
    UNIQUE (source, dedupe_key),
    CHECK (raw_encoding IN ('utf8', 'base64')),
    CHECK (class IN ('artifacts', 'failure', 'artifacts+failure', 'lookup', 'handshake', 'ignored', 'unknown'))
);

CREATE INDEX events_by_recording ON events (recording_id, id) WHERE recording_id IS NOT NULL;
CREATE INDEX events_by_receipt ON events (received_at, id);

CREATE TABLE jobs (
    id               TEXT PRIMARY KEY,
    recording_id     TEXT NOT NULL REFERENCES recordings (id),
    identity         TEXT NOT NULL,
    name             TEXT NOT NULL,
    kind             TEXT NOT NULL,
    format           TEXT NOT NULL,
    key              TEXT NOT NULL,
    state            TEXT NOT NULL,
    is_small         BIGINT NOT NULL,
    -- What origin holds stays known after the origin (a secret) is erased.
    origin_kind      TEXT NOT NULL,
    origin           TEXT,
    remint           TEXT,
    deadline         BIGINT,
    deadline_from    TEXT NOT NULL,
    is_upper_bound   BIGINT NOT NULL,
    latest_start     BIGINT NOT NULL,
    announced_size   BIGINT,
    -- The event that announced it last, and that event's time: an older one brings nothing fresh.
    announced_by     TEXT,
    announced_at     BIGINT NOT NULL,
    -- The lookup whose answer named it.
    found_by         TEXT,
    -- A fresh origin came while it was running: the end of that attempt is not the end of the job.
    has_fresh_origin BIGINT NOT NULL DEFAULT 0,
    attempts         BIGINT NOT NULL DEFAULT 0,
    first_attempt_at BIGINT,
    next_attempt_at  BIGINT NOT NULL,
    lease_token      BIGINT NOT NULL DEFAULT 0,
    lease_until      BIGINT,
    leased_by        TEXT,
    -- Leases in a row that nobody gave back: a job that kills its workers is told by them.
    unsettled_leases BIGINT NOT NULL DEFAULT 0,
    checkpoint       TEXT,
    bytes_done       BIGINT NOT NULL DEFAULT 0,
    class            TEXT,
    message          TEXT,
    size_bytes       BIGINT,
    crc64nvme        TEXT,
    sha256           TEXT,
    etag             TEXT,
    version_id       TEXT,
    archived_at      BIGINT,
    created_at       BIGINT NOT NULL,
    changed_at       BIGINT NOT NULL,
    UNIQUE (recording_id, identity),
    UNIQUE (recording_id, name),
    CHECK (state IN ('pending', 'running', 'archived', 'expired', 'failed', 'cancelled')),
    CHECK (is_small IN (0, 1) AND is_upper_bound IN (0, 1) AND has_fresh_origin IN (0, 1)),
    CHECK (origin_kind IN ('url', 'lookup', 'inline', 'unusable')),
    CHECK (attempts >= 0 AND unsettled_leases >= 0 AND bytes_done >= 0),
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state = 'running') = (leased_by IS NOT NULL)),
    CHECK (state <> 'running' OR first_attempt_at IS NOT NULL),
    CHECK ((state = 'archived') = (archived_at IS NOT NULL)),
    CHECK ((state = 'archived') = (origin IS NULL)),
    CHECK (state <> 'archived' OR (size_bytes IS NOT NULL AND crc64nvme IS NOT NULL)),
    CHECK (state <> 'archived' OR (class IS NULL AND checkpoint IS NULL)),
    CHECK (state <> 'failed' OR class IS NOT NULL),
    CHECK (state <> 'expired' OR (class IS NOT NULL AND class = 'expired'))
);

CREATE INDEX jobs_to_claim ON jobs (state, is_small, latest_start, is_upper_bound DESC, id);
CREATE INDEX jobs_due ON jobs (state, next_attempt_at);

-- Lookups that have been answered are jobs no more; a later event that names one again finds it here.
CREATE TABLE answered_lookups (
    recording_id TEXT NOT NULL REFERENCES recordings (id),
    identity     TEXT NOT NULL,
    lookup_id    TEXT NOT NULL,
    answered_at  BIGINT NOT NULL,
    PRIMARY KEY (recording_id, identity)
);

CREATE TABLE provider_failures (
    id           TEXT PRIMARY KEY,
    recording_id TEXT NOT NULL REFERENCES recordings (id),
    event_id     TEXT NOT NULL REFERENCES events (id),
    -- How people know that event: the provider's id of it, ours where it has none.
    event_name   TEXT NOT NULL,
    loss_key     TEXT NOT NULL,
    class        TEXT NOT NULL,
    code         TEXT,
    message      TEXT NOT NULL,
    kind         TEXT,
    at           BIGINT NOT NULL,
    received_at  BIGINT NOT NULL,
    -- A success that came later cured it.
    withdrawn_at BIGINT,
    UNIQUE (recording_id, loss_key)
);

CREATE INDEX provider_failures_open ON provider_failures (recording_id) WHERE withdrawn_at IS NULL;
