-- The account that replicas of a MariaDB master copy it with. Run once, on the master.
--
--   ${REPLICATION_USER}, ${REPLICATION_PASSWORD}   the account to create
--
-- Fill the placeholders in with `envsubst < replication-master.sql | mariadb -h MASTER -u root -p`.
-- The account reaches the replicas with the first things they copy, so that any of them can be
-- promoted. Replace '%' by your servers' addresses where you can.

CREATE USER IF NOT EXISTS '${REPLICATION_USER}'@'%' IDENTIFIED BY '${REPLICATION_PASSWORD}';
GRANT REPLICATION SLAVE ON *.* TO '${REPLICATION_USER}'@'%';
