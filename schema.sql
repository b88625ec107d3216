-- bgrs-server's database, version 1. Open it with   sqlite3 bgrs.sqlite3   and begin with
--     select * from recent;          the last hundred background requests, newest first
--     select * from failures;        what failed, and why
-- Reading is always safe while the server runs. Times are UTC, 'YYYY-MM-DD HH:MM:SS'.

-- The states a background request can be in.
CREATE TABLE bgrs_status (
    status_id   INTEGER PRIMARY KEY,
    status_name TEXT NOT NULL UNIQUE,
    meaning     TEXT NOT NULL
) STRICT;

INSERT INTO bgrs_status (status_id, status_name, meaning) VALUES
    (1, 'queued',    'stored, waiting for a worker'),
    (2, 'running',   'a worker has it'),
    (3, 'retrying',  'an attempt failed, another is due'),
    (4, 'finished',  'the API answered, whatever its HTTP status'),
    (5, 'failed',    'no answer could be had; the last detail says why'),
    (6, 'cancelled', 'a caller cancelled it');

-- The server's own users. AUTOINCREMENT: an id is never used again.
CREATE TABLE users (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    login        TEXT NOT NULL UNIQUE CHECK (login <> ''),
    password     TEXT NOT NULL,                 -- an argon2id hash in PHC form, never the password
    display_name TEXT,
    first_name   TEXT,
    last_name    TEXT,
    email        TEXT,
    is_admin     INTEGER NOT NULL DEFAULT 0 CHECK (is_admin IN (0, 1)),
    read_only    INTEGER NOT NULL DEFAULT 0 CHECK (read_only IN (0, 1)),  -- may look, and change nothing
    created_dt   TEXT NOT NULL
) STRICT;

-- Who is signed in on the dashboard, in which browser. A reader of this table cannot sign in with it.
CREATE TABLE sessions (
    id         TEXT PRIMARY KEY CHECK (length(id) = 64),  -- a digest of what the browser keeps in its cookie
    source     TEXT NOT NULL,                   -- who it is, as in bgrs
    user_id    TEXT NOT NULL,
    sealed     BLOB NOT NULL,                   -- the credentials, encrypted with a key that is not here
    expires_dt TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_expiry ON sessions (expires_dt);

-- What the hosted API is about: campaigns, and the scans of their pictures by phones, of which there are millions.
CREATE TABLE campaigns (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id     INTEGER NOT NULL REFERENCES users,
    type        INTEGER NOT NULL DEFAULT 1,
    name        TEXT NOT NULL CHECK (name <> ''),
    description TEXT,
    active      INTEGER NOT NULL DEFAULT 1 CHECK (active IN (0, 1)),
    created_dt  TEXT NOT NULL,
    updated_dt  TEXT NOT NULL
) STRICT;

CREATE INDEX campaigns_of ON campaigns (user_id);

CREATE TABLE scans (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    campaign_id INTEGER NOT NULL REFERENCES campaigns,
    dt          TEXT NOT NULL,
    device      TEXT,
    country     TEXT,
    matched     INTEGER NOT NULL DEFAULT 1 CHECK (matched IN (0, 1))
) STRICT;

CREATE INDEX scans_of ON scans (campaign_id);               -- pages by id
CREATE INDEX scans_of_time ON scans (campaign_id, dt);      -- spans of time

-- The background requests: this table is the queue.
CREATE TABLE bgrs (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    rid          TEXT NOT NULL UNIQUE,
    status_id    INTEGER NOT NULL DEFAULT 1 CHECK (status_id BETWEEN 1 AND 6),  -- see bgrs_status
    progress     INTEGER NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 10000),  -- hundredths of a percent
    attempts     INTEGER NOT NULL DEFAULT 0,    -- how often a worker took it; also the fence of its claims
    tries        INTEGER NOT NULL DEFAULT 0,    -- how many of them ended with "once more", since the upstream was not there

    -- whose it is
    source       TEXT NOT NULL,                 -- 'local': the table users
    user_id      TEXT NOT NULL,

    -- the call
    method       TEXT NOT NULL,
    name         TEXT NOT NULL,                 -- path and query as sent
    headers      TEXT NOT NULL,                 -- JSON: [["name", "value"], …]
    body         INTEGER,                       -- its length in bytes, in media/bgrs.<rid>.body as long as the row
    confidential INTEGER NOT NULL DEFAULT 0 CHECK (confidential IN (0, 1)),  -- a password is in it: wiped at the end
    upstream     TEXT,                          -- the prefix of the upstream it is for; NULL: the hosted API
    secrets      BLOB,                          -- headers that are secrets, encrypted; wiped when the request has ended
    timeout      INTEGER,                       -- milliseconds that it may take, where the caller said so
    repeatable   INTEGER NOT NULL DEFAULT 0 CHECK (repeatable IN (0, 1)),  -- whether it is made again after a crash
    batch        INTEGER,                       -- of a batch: how many elements its body has, each a call of its own
    idempotency_key TEXT,                       -- the caller's; the same one is not accepted twice
    fingerprint  BLOB,                          -- with a key: a digest of method, target and body
    key_hash     INTEGER,                       -- with a key: 32 bits of a digest of owner and key
    callback     TEXT,                          -- the URL that is told of the end

    -- when
    created_dt   TEXT NOT NULL,
    started_dt   TEXT,                          -- of the last attempt
    lease_dt     TEXT,                          -- a running request whose lease is past has lost its worker
    retry_dt     TEXT,                          -- when the next attempt is due, with milliseconds
    finished_dt  TEXT,
    expires_dt   TEXT,                          -- row, details and file go together after this

    -- the API's answer
    status       INTEGER,                       -- its HTTP status
    content_type TEXT,
    head         TEXT,                          -- its headers, as above
    result       TEXT,                          -- the file's name below media/
    size         INTEGER,                       -- the file's length in bytes
    etag         TEXT,                          -- a digest of the file

    failure      INTEGER,                       -- of a failed one: the HTTP status its result answers with, 502 or 504

    CHECK ((idempotency_key IS NULL) = (fingerprint IS NULL) AND (idempotency_key IS NULL) = (key_hash IS NULL)),
    CHECK ((status_id = 2) = (lease_dt IS NOT NULL)),
    CHECK ((status_id = 3) = (retry_dt IS NOT NULL)),
    CHECK (finished_dt IS NULL OR secrets IS NULL),
    CHECK (status_id = 1 OR status_id = 6 OR attempts > 0),
    CHECK ((status_id >= 4) = (finished_dt IS NOT NULL)),
    CHECK ((finished_dt IS NULL) = (expires_dt IS NULL)),
    CHECK ((status_id = 4) = (status IS NOT NULL)),
    CHECK ((status_id = 5) = (failure IS NOT NULL)),
    CHECK (result IS NULL OR (status_id = 4 AND size > 0 AND etag IS NOT NULL))
) STRICT;

-- Few and mostly partial indexes: what has ended costs no more than its place in time. Conditions here and in the CHECKs
-- are comparisons, not lists: for each list SQLite builds a table in memory, at every write.
CREATE INDEX bgrs_unended ON bgrs (source, user_id, status_id, id) WHERE finished_dt IS NULL;
CREATE INDEX bgrs_ended ON bgrs (source, user_id, status_id, id) WHERE finished_dt IS NOT NULL;
CREATE INDEX bgrs_retries ON bgrs (source, user_id, retry_dt) WHERE status_id = 3;
CREATE INDEX bgrs_expiry ON bgrs (expires_dt) WHERE expires_dt IS NOT NULL;
CREATE INDEX bgrs_keyed ON bgrs (id, key_hash) WHERE key_hash IS NOT NULL;

-- By which keys requests are found. The newest are not here yet, but in the server's memory and in the rows: those above
-- the floor (src/store/sqlite/keys.rs says why).
CREATE TABLE bgrs_keys (
    key_hash INTEGER NOT NULL,
    bgrs_id  INTEGER NOT NULL,
    PRIMARY KEY (key_hash, bgrs_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE bgrs_keys_floor (
    id INTEGER NOT NULL
) STRICT;

INSERT INTO bgrs_keys_floor (id) VALUES (0);

CREATE TRIGGER bgrs_keys_gone AFTER DELETE ON bgrs WHEN OLD.key_hash IS NOT NULL BEGIN
    DELETE FROM bgrs_keys WHERE key_hash = OLD.key_hash AND bgrs_id = OLD.id;
END;

-- The log of each background request, oldest first by id.
CREATE TABLE bgrs_details (
    id      INTEGER PRIMARY KEY,
    bgrs_id INTEGER NOT NULL REFERENCES bgrs (id) ON DELETE CASCADE,
    dt      TEXT NOT NULL,
    details TEXT NOT NULL
) STRICT;

CREATE INDEX bgrs_details_of ON bgrs_details (bgrs_id);

-- Small results that have ended a moment ago: their files are there, but a power cut could still take them. The bytes
-- are kept here until the files are synced, many at a time.
CREATE TABLE bgrs_copies (
    bgrs_id INTEGER PRIMARY KEY REFERENCES bgrs (id) ON DELETE CASCADE,
    bytes   BLOB NOT NULL
) STRICT;

-- Deliveries of callbacks: a row for each attempt, those that are due (sent_dt is NULL) and those that were made.
CREATE TABLE bgrs_callbacks (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    bgrs_id INTEGER NOT NULL REFERENCES bgrs (id) ON DELETE CASCADE,
    attempt INTEGER NOT NULL CHECK (attempt > 0),
    due_dt  TEXT NOT NULL,                      -- with milliseconds
    sent_dt TEXT,
    status  INTEGER,                            -- the receiver's HTTP status
    error   TEXT,                               -- why there is none

    CHECK (sent_dt IS NOT NULL OR (status IS NULL AND error IS NULL))
) STRICT;

CREATE INDEX bgrs_callbacks_of ON bgrs_callbacks (bgrs_id);
CREATE INDEX bgrs_callbacks_due ON bgrs_callbacks (due_dt) WHERE sent_dt IS NULL;

-- What was done, minute by minute; minutes in which nothing was have no row. Kept for eight days.
CREATE TABLE bgrs_minutes (
    at        TEXT PRIMARY KEY,                 -- when it began
    submitted INTEGER NOT NULL,
    finished  INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    running   INTEGER NOT NULL,                 -- at its end, as is the next
    waiting   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How long the calls of a route took that ended in an hour.
CREATE TABLE bgrs_durations (
    hour    TEXT NOT NULL,
    route   TEXT NOT NULL,                      -- the path, with {} for numbers and ids; 'other': all beyond the bound
    buckets TEXT NOT NULL,                      -- JSON: how many took how long (src/stats/histogram.rs)
    PRIMARY KEY (hour, route)
) STRICT, WITHOUT ROWID;

CREATE VIEW recent AS
    SELECT b.id, b.created_dt, s.status_name AS state, b.progress / 100.0 AS progress, b.status AS http,
           coalesce(u.login, b.source || ':' || b.user_id) AS user, b.method, b.name, b.finished_dt, b.rid
    FROM bgrs b
    JOIN bgrs_status s USING (status_id)
    LEFT JOIN users u ON b.source = 'local' AND u.id = CAST(b.user_id AS INTEGER)
    ORDER BY b.id DESC
    LIMIT 100;

CREATE VIEW failures AS
    SELECT b.id, b.finished_dt, b.method, b.name, b.attempts,
           (SELECT d.details FROM bgrs_details d WHERE d.bgrs_id = b.id ORDER BY d.id DESC LIMIT 1) AS why, b.rid
    FROM bgrs b
    WHERE b.status_id = 5
    ORDER BY b.id DESC;
