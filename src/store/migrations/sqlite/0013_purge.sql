-- Which events without a recording still have a body. Those of a recording lose theirs when it is sealed.
CREATE INDEX events_with_body ON events (id) WHERE recording_id IS NULL AND raw <> '';
-- An event that leaves the store must find the failures that refer to it.
CREATE INDEX provider_failures_by_event ON provider_failures (event_id);
