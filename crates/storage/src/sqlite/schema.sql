-- Not WITHOUT ROWID: rows would then lie in the inner nodes too, and each step of a search would
-- read a whole row with its value; with values of 256 KiB a scan took 40 times as long. The value
-- comes last: SQLite reads a row from its beginning, and a large value would stand between the key
-- and the expiry.
CREATE TABLE IF NOT EXISTS store (
    slot       INTEGER NOT NULL,
    key        BLOB    NOT NULL,
    version    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    value      BLOB    NOT NULL,
    PRIMARY KEY (slot, key)
) STRICT;

-- Rows that never expire are not in it: for them a write touches table and primary key alone. The
-- sweeper finds in it all it needs.
CREATE INDEX IF NOT EXISTS store_due ON store (expires_at, slot, key)
    WHERE expires_at < 9223372036854775807;

CREATE TABLE IF NOT EXISTS shard (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    name           TEXT    NOT NULL,
    cluster_id     INTEGER NOT NULL,
    schema_version INTEGER NOT NULL,
    term           INTEGER NOT NULL,
    epoch          INTEGER NOT NULL,
    server_id      INTEGER NOT NULL,
    stamp          INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS slots (
    slot        INTEGER PRIMARY KEY,
    state       TEXT    NOT NULL,
    slot_epoch  INTEGER NOT NULL,
    peer        TEXT,
    attempt     INTEGER NOT NULL,
    since_epoch INTEGER NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS slots_since ON slots (since_epoch);

CREATE TABLE IF NOT EXISTS moved_keys (
    slot INTEGER NOT NULL,
    key  BLOB    NOT NULL,
    n    INTEGER NOT NULL,
    PRIMARY KEY (slot, key)
) WITHOUT ROWID, STRICT;

CREATE TABLE IF NOT EXISTS moves (
    id           INTEGER PRIMARY KEY,
    source       TEXT    NOT NULL,
    target       TEXT    NOT NULL,
    slots        TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    cancels      INTEGER NOT NULL,
    mover        TEXT    NOT NULL,
    slots_done   INTEGER NOT NULL,
    rows_copied  INTEGER NOT NULL,
    bytes_copied INTEGER NOT NULL,
    pause_us_max INTEGER NOT NULL,
    error        TEXT    NOT NULL,
    started_at   INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS terms (
    term      INTEGER PRIMARY KEY,
    server_id INTEGER NOT NULL,
    position  TEXT    NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS heartbeat (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    term INTEGER NOT NULL,
    seq  INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS leases (
    task        TEXT    PRIMARY KEY,
    holder      INTEGER,
    holder_name TEXT,
    lease_until INTEGER NOT NULL,
    paused      INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

-- For people: what a GET would find, with the time it ends in UTC, empty if it never does.
CREATE VIEW IF NOT EXISTS live AS
    SELECT slot, key, value, version,
           CASE WHEN expires_at < 9223372036854775807
                THEN datetime(expires_at / 1000.0, 'unixepoch', 'subsec') END AS expires
    FROM store
    WHERE expires_at > CAST(round(unixepoch('subsec') * 1000) AS INTEGER);

INSERT OR IGNORE INTO heartbeat (id, term, seq) VALUES (1, 0, 0);
INSERT OR IGNORE INTO leases (task, lease_until, paused) VALUES ('sweep', 0, 0);
