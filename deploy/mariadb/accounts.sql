-- The database and the accounts of Freehold on a MariaDB server. Run before `freehold init`, on each
-- master; the replicas get them by copying.
--
--   ${FREEHOLD_PASSWORD}           for routers
--   ${FREEHOLD_SWEEPER_PASSWORD}   for the sweepers in them
--   ${FREEHOLD_SCHEMA_PASSWORD}    for `freehold init`, `freehold migrate` and `freehold doctor`
--
-- Fill the placeholders in with `envsubst < accounts.sql | mariadb -h MASTER -u root -p`.
-- Then: freehold init --config FILE --user freehold_schema --password-file FILE, and grants.sql.
-- Replace '%' by your routers' addresses where you can.

CREATE DATABASE IF NOT EXISTS freehold;

CREATE USER IF NOT EXISTS 'freehold'@'%' IDENTIFIED BY '${FREEHOLD_PASSWORD}';
CREATE USER IF NOT EXISTS 'freehold_sweeper'@'%' IDENTIFIED BY '${FREEHOLD_SWEEPER_PASSWORD}';
CREATE USER IF NOT EXISTS 'freehold_schema'@'%' IDENTIFIED BY '${FREEHOLD_SCHEMA_PASSWORD}';

-- Creates and changes the tables and the view, deals out the slots, and writes nothing afterwards.
GRANT CREATE, ALTER, DROP, INDEX, CREATE VIEW, SHOW VIEW, SELECT, INSERT, UPDATE, DELETE
    ON freehold.* TO 'freehold_schema'@'%';

-- To see how far behind a replica is (SHOW REPLICA STATUS): sweeping stops while one lags.
GRANT REPLICA MONITOR ON *.* TO 'freehold_sweeper'@'%';
