-- How far a source's lists have been walked, and by whom they are being walked now.

CREATE TABLE walks (
    source      TEXT PRIMARY KEY,
    -- Everything that ended before this had been seen when the last whole walk began.
    reached_at  BIGINT,
    holder      TEXT,
    lease_until BIGINT
);
