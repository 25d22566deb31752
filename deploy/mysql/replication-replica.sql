-- Makes a MySQL server a replica. Run on the replica, after replication-master.sql on the master.
--
--   ${MASTER_HOST}, ${MASTER_PORT}                 where the master is
--   ${REPLICATION_USER}, ${REPLICATION_PASSWORD}   as created there
--
-- Fill the placeholders in with `envsubst < replication-replica.sql | mysql -h REPLICA -u root -p`.
-- The replica must be empty and the master must still have its first binlog file. Otherwise clone
-- the master or restore a backup first; both bring the position with them.

STOP REPLICA;

-- A client that mistakes the replica for the master is refused, administrators included. PERSIST:
-- after a restart too. Whoever promotes it sets it OFF.
SET PERSIST super_read_only = ON;

-- Auto position: go on behind what was applied, whichever server it came from, so that nothing has
-- to be worked out after a failover. Try again every 5 s, and never give up (the default is to stop
-- after 10 tries). caching_sha2_password needs the encryption; to check the master's certificate
-- too, add: SOURCE_SSL_CA = '...', SOURCE_SSL_VERIFY_SERVER_CERT = 1.
CHANGE REPLICATION SOURCE TO
    SOURCE_HOST = '${MASTER_HOST}',
    SOURCE_PORT = ${MASTER_PORT},
    SOURCE_USER = '${REPLICATION_USER}',
    SOURCE_PASSWORD = '${REPLICATION_PASSWORD}',
    SOURCE_AUTO_POSITION = 1,
    SOURCE_CONNECT_RETRY = 5,
    SOURCE_RETRY_COUNT = 0,
    SOURCE_SSL = 1;

START REPLICA;
