-- The tables of one shard, on every server of it. Each statement bears repetition.
-- Bytes are binary columns; only names for people are text.

-- The data. `key` is compared byte by byte. The primary key is the only unique index: with a second
-- one, REPLACE deletes and inserts instead of updating in place, and deadlocks.
-- expires_at: Unix milliseconds; -1 = deleted; 9223372036854775807 = never.
CREATE TABLE IF NOT EXISTS store (
    slot       SMALLINT UNSIGNED NOT NULL,
    `key`      VARBINARY(1024)   NOT NULL,
    value      MEDIUMBLOB        NOT NULL,
    version    BIGINT UNSIGNED   NOT NULL,
    expires_at BIGINT            NOT NULL,
    PRIMARY KEY (slot, `key`),
    KEY expires_at (expires_at)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = binary;

-- The fence: one row. Every write proves in its own statement what it shows.
CREATE TABLE IF NOT EXISTS shard (
    id             TINYINT         NOT NULL PRIMARY KEY CHECK (id = 1),
    name           VARCHAR(255)    CHARACTER SET utf8mb4 NOT NULL,
    cluster_id     BIGINT UNSIGNED NOT NULL,
    schema_version INT UNSIGNED    NOT NULL COMMENT '0 while init has not finished',
    term           BIGINT UNSIGNED NOT NULL COMMENT 'failovers',
    epoch          BIGINT UNSIGNED NOT NULL COMMENT 'changes of slots',
    server_id      BIGINT UNSIGNED NOT NULL COMMENT 'the server that may write',
    stamp          BIGINT UNSIGNED NOT NULL COMMENT 'random, new with each epoch and term'
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = binary;

-- One row for ever for each slot that this shard owns, receives or gave away.
CREATE TABLE IF NOT EXISTS slots (
    slot        SMALLINT UNSIGNED NOT NULL PRIMARY KEY,
    state       ENUM('owned', 'outgoing', 'fenced', 'incoming', 'gone') NOT NULL,
    slot_epoch  BIGINT UNSIGNED   NOT NULL COMMENT 'changes of owner, over all shards',
    peer        VARCHAR(255)      CHARACTER SET utf8mb4 NULL COMMENT 'the other shard of the last move',
    attempt     BIGINT UNSIGNED   NOT NULL COMMENT 'random, new with each start of a move',
    since_epoch BIGINT UNSIGNED   NOT NULL COMMENT 'the epoch of the last change',
    KEY since_epoch (since_epoch)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = binary;

-- Keys written while their slot is on its way; each write adds 1 to n.
CREATE TABLE IF NOT EXISTS moved_keys (
    slot  SMALLINT UNSIGNED NOT NULL,
    `key` VARBINARY(1024)   NOT NULL,
    n     BIGINT UNSIGNED   NOT NULL,
    PRIMARY KEY (slot, `key`)
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = binary;

-- Where each earlier term ended.
CREATE TABLE IF NOT EXISTS terms (
    term      BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    server_id BIGINT UNSIGNED NOT NULL,
    position  LONGTEXT        CHARACTER SET utf8mb4 NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = binary;

-- One row that one writer advances; a replica that shows it has all that came before.
CREATE TABLE IF NOT EXISTS heartbeat (
    id   TINYINT         NOT NULL PRIMARY KEY CHECK (id = 1),
    term BIGINT UNSIGNED NOT NULL,
    seq  BIGINT UNSIGNED NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = binary;

-- Who does a task that one process at a time does. lease_until: Unix milliseconds.
CREATE TABLE IF NOT EXISTS leases (
    task        VARCHAR(64)     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
    holder      BIGINT UNSIGNED NULL,
    holder_name VARCHAR(255)    CHARACTER SET utf8mb4 NULL,
    lease_until BIGINT          NOT NULL,
    paused      BOOLEAN         NOT NULL
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = binary;

-- For people: what a GET would find, with the time it ends in UTC, NULL if it never does. The clock
-- is counted in UTC, so that it is right in sessions of every time zone.
CREATE OR REPLACE SQL SECURITY INVOKER VIEW live AS
    SELECT slot, `key`, value, version,
           IF(expires_at < 9223372036854775807,
              TIMESTAMPADD(MICROSECOND, expires_at * 1000, '1970-01-01 00:00:00'), NULL) AS expires
    FROM store
    WHERE expires_at > TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(3)) DIV 1000;

INSERT IGNORE INTO heartbeat (id, term, seq) VALUES (1, 0, 0);

INSERT IGNORE INTO leases (task, lease_until, paused) VALUES ('sweep', 0, FALSE)
