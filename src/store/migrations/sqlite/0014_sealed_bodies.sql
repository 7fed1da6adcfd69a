-- Since 0013 the events of a recording lose their bodies when it is sealed. Those of recordings that were sealed before have
-- theirs still: they are removed a few at a time, by the first purge.
INSERT INTO upkeep (name) VALUES ('sealed_bodies');
