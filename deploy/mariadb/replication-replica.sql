-- Makes a MariaDB server a replica. Run on the replica, after replication-master.sql on the master.
--
--   ${MASTER_HOST}, ${MASTER_PORT}                 where the master is
--   ${REPLICATION_USER}, ${REPLICATION_PASSWORD}   as created there
--
-- Fill the placeholders in with `envsubst < replication-replica.sql | mariadb -h REPLICA -u root -p`.
-- The replica must be empty and the master must still have its first binlog file. Otherwise
-- restore a backup of the master first (mariadb-backup, mariadb-dump --master-data --gtid) and set
-- gtid_slave_pos to the position the backup names.

STOP SLAVE;

-- A client that mistakes the replica for the master is refused. Put it into my.cnf as well: this
-- does not outlive a restart.
SET GLOBAL read_only = ON;

-- slave_pos: go on behind what was applied, whichever server it came from, so that nothing has to
-- be worked out after a failover. Try again every 5 s instead of every minute, and never give up.
-- Where the servers have certificates, add: MASTER_SSL = 1, MASTER_SSL_CA = '...',
-- MASTER_SSL_VERIFY_SERVER_CERT = 1.
CHANGE MASTER TO
    MASTER_HOST = '${MASTER_HOST}',
    MASTER_PORT = ${MASTER_PORT},
    MASTER_USER = '${REPLICATION_USER}',
    MASTER_PASSWORD = '${REPLICATION_PASSWORD}',
    MASTER_USE_GTID = slave_pos,
    MASTER_CONNECT_RETRY = 5;

START SLAVE;
