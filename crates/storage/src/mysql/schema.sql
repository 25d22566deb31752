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

-- Writes to slots on their way: counts the keys and writes the rows, or does neither. A packet of
-- BEGIN ... COMMIT would leave its transaction open where a statement in it fails. It has the rights
-- of whoever calls it. (A semicolon at the end of a line ends a statement of this file.)
CREATE PROCEDURE IF NOT EXISTS write_logged (
    IN log_text   LONGTEXT CHARACTER SET utf8mb4,
    IN write_text LONGTEXT CHARACTER SET utf8mb4
) MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
    DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END
    ; START TRANSACTION
    ; SET @freehold_text = log_text
    ; PREPARE freehold_log FROM @freehold_text
    ; EXECUTE freehold_log
    ; SET @freehold_text = write_text
    ; PREPARE freehold_write FROM @freehold_text
    ; EXECUTE freehold_write
    ; COMMIT
    ; SET @freehold_text = NULL
    ; DEALLOCATE PREPARE freehold_log
    ; DEALLOCATE PREPARE freehold_write
    ; END;

-- Changes of what slots are: all of them or none, with a new epoch and a new stamp, or nothing at all.
-- slots_text changes slots_count rows; rows_text counts the rows of slots that have to be empty. It
-- holds no lock when it returns. (It has the rights of whoever calls it.)
CREATE PROCEDURE IF NOT EXISTS change_slots (
    IN leader_id   BIGINT UNSIGNED,
    IN leader_term BIGINT UNSIGNED,
    IN new_stamp   BIGINT UNSIGNED,
    IN slots_text  LONGTEXT CHARACTER SET utf8mb4,
    IN slots_count BIGINT,
    IN rows_text   LONGTEXT CHARACTER SET utf8mb4
) MODIFIES SQL DATA SQL SECURITY INVOKER
BEGIN
    DECLARE changed BIGINT DEFAULT 0
    ; DECLARE EXIT HANDLER FOR SQLEXCEPTION BEGIN ROLLBACK; RESIGNAL; END
    ; START TRANSACTION
    ; UPDATE shard SET epoch = epoch + 1, stamp = new_stamp
        WHERE id = 1 AND term = leader_term AND server_id = leader_id AND server_id = @@server_id
    ; SET changed = ROW_COUNT()
    ; IF changed <> 1 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'another server leads'; END IF
    ; SET @freehold_text = slots_text
    ; PREPARE freehold_slots FROM @freehold_text
    ; EXECUTE freehold_slots
    ; SET changed = ROW_COUNT()
    ; IF changed <> slots_count THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'slots changed'; END IF
    ; SET @freehold_text = rows_text
    ; PREPARE freehold_rows FROM @freehold_text
    ; EXECUTE freehold_rows
    ; IF @freehold_rows > 0 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'rows left'; END IF
    ; COMMIT
    ; SET @freehold_text = NULL
    ; DEALLOCATE PREPARE freehold_slots
    ; DEALLOCATE PREPARE freehold_rows
    ; END;

-- The moves of slots from here or to here, for people and for whoever goes on with one. Times: Unix
-- milliseconds. What may be done with a slot stands in slots alone.
CREATE TABLE IF NOT EXISTS moves (
    id           BIGINT UNSIGNED NOT NULL PRIMARY KEY COMMENT 'random, the same on both shards',
    source       VARCHAR(255)    CHARACTER SET utf8mb4 NOT NULL,
    target       VARCHAR(255)    CHARACTER SET utf8mb4 NOT NULL,
    slots        LONGTEXT        CHARACTER SET utf8mb4 NOT NULL,
    state        ENUM('running', 'stopped', 'done', 'cancelled') NOT NULL,
    cancels      BOOLEAN         NOT NULL,
    mover        VARCHAR(255)    CHARACTER SET utf8mb4 NOT NULL COMMENT 'who runs it, or ran it last',
    slots_done   BIGINT UNSIGNED NOT NULL,
    rows_copied  BIGINT UNSIGNED NOT NULL,
    bytes_copied BIGINT UNSIGNED NOT NULL,
    pause_us_max BIGINT UNSIGNED NOT NULL COMMENT 'the longest that writes to a slot waited',
    error        LONGTEXT        CHARACTER SET utf8mb4 NOT NULL,
    started_at   BIGINT          NOT NULL,
    changed_at   BIGINT          NOT NULL
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
    seq  BIGINT UNSIGNED NOT NULL,
    written_at BIGINT    NOT NULL COMMENT 'Unix milliseconds by the clock of the master that wrote it'
) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = binary;

-- 0 to 127, one for each key that one statement reads.
CREATE TABLE IF NOT EXISTS numbers (
    n TINYINT UNSIGNED NOT NULL PRIMARY KEY
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

INSERT IGNORE INTO numbers (n) VALUES
    (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15), (16), (17),
    (18), (19), (20), (21), (22), (23), (24), (25), (26), (27), (28), (29), (30), (31), (32), (33),
    (34), (35), (36), (37), (38), (39), (40), (41), (42), (43), (44), (45), (46), (47), (48), (49),
    (50), (51), (52), (53), (54), (55), (56), (57), (58), (59), (60), (61), (62), (63), (64), (65),
    (66), (67), (68), (69), (70), (71), (72), (73), (74), (75), (76), (77), (78), (79), (80), (81),
    (82), (83), (84), (85), (86), (87), (88), (89), (90), (91), (92), (93), (94), (95), (96), (97),
    (98), (99), (100), (101), (102), (103), (104), (105), (106), (107), (108), (109), (110), (111),
    (112), (113), (114), (115), (116), (117), (118), (119), (120), (121), (122), (123), (124), (125),
    (126), (127);

INSERT IGNORE INTO heartbeat (id, term, seq, written_at) VALUES (1, 0, 0, 0);

INSERT IGNORE INTO leases (task, lease_until, paused) VALUES ('sweep', 0, FALSE)
