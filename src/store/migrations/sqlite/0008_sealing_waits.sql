-- A recording whose manifest can't be written waits in its row for the next try, so that those that wait never stand
-- before those that are due.
ALTER TABLE recordings ADD COLUMN next_seal_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE recordings ADD COLUMN seal_failures BIGINT NOT NULL DEFAULT 0;
ALTER TABLE recordings ADD COLUMN seal_failing_since BIGINT;
ALTER TABLE recordings ADD COLUMN seal_class TEXT;
ALTER TABLE recordings ADD COLUMN seal_message TEXT;

DROP INDEX recordings_unsealed;
CREATE INDEX recordings_unsealed ON recordings (next_seal_at, id)
    WHERE open_jobs = 0 AND generation > sealed_generation;
CREATE INDEX recordings_seal_failing ON recordings (seal_failing_since) WHERE seal_failing_since IS NOT NULL;
