-- Makes a MySQL server a member of a replication group. Run on each member, before it joins for the
-- first time. Its settings are those of my.cnf and group.cnf.
--
--   ${REPLICATION_USER}, ${REPLICATION_PASSWORD}   the account by which members copy what they missed
--
-- Fill the placeholders in with `envsubst < group-member.sql | mysql -h MEMBER -u root -p`. The
-- member must be empty, or a copy of another one. Then, on the first member of a new group alone:
--
--   SET GLOBAL group_replication_bootstrap_group = ON;
--   START GROUP_REPLICATION;
--   SET GLOBAL group_replication_bootstrap_group = OFF;
--
-- and on every other one, and on one that was down: START GROUP_REPLICATION;

-- Each member makes the account for itself: it is there before the group is.
SET SQL_LOG_BIN = 0;
CREATE USER IF NOT EXISTS '${REPLICATION_USER}'@'%'
    IDENTIFIED WITH caching_sha2_password BY '${REPLICATION_PASSWORD}';
GRANT REPLICATION SLAVE, CONNECTION_ADMIN, BACKUP_ADMIN, GROUP_REPLICATION_STREAM ON *.*
    TO '${REPLICATION_USER}'@'%';
SET SQL_LOG_BIN = 1;

CHANGE REPLICATION SOURCE TO
    SOURCE_USER = '${REPLICATION_USER}',
    SOURCE_PASSWORD = '${REPLICATION_PASSWORD}'
    FOR CHANNEL 'group_replication_recovery';
