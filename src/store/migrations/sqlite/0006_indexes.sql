-- Of the jobs only the pending ones are looked for by when they are due, and events by their ids, which begin with the
-- time of receipt. Every index less is work less for each webhook.
DROP INDEX events_by_receipt;
DROP INDEX jobs_due;
CREATE INDEX jobs_due ON jobs (next_attempt_at) WHERE state = 'pending';
