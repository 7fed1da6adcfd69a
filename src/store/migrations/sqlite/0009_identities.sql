-- What has to be done once to rows of an earlier version, and not by SQL alone: a row goes when it is done.
CREATE TABLE upkeep (name TEXT PRIMARY KEY);

-- Files of user-defined providers are told apart by their query too, and identities hold no secret of a path any more.
-- So that a file that is told of again is the same one, the identities that are there are written anew.
INSERT INTO upkeep (name) VALUES ('identities');

-- Events that nobody could make out are few, and looked for among all.
CREATE INDEX events_unknown ON events (id) WHERE class = 'unknown';
