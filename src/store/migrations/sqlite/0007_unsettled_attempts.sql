-- Attempts whose worker died: they are part of `attempts`, and do not count for the budget of retries.
ALTER TABLE jobs ADD COLUMN unsettled_attempts BIGINT NOT NULL DEFAULT 0 CHECK (unsettled_attempts >= 0);
