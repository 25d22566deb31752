-- The database and the accounts of Freehold on a MariaDB server. Run before `freehold init`, on each
-- master; the replicas get them by copying.
--
--   ${FREEHOLD_PASSWORD}           for routers
--   ${FREEHOLD_SWEEPER_PASSWORD}   for the sweepers in them
--   ${FREEHOLD_MOVER_PASSWORD}     for the movers in them, and for `freehold move --config FILE`
--   ${FREEHOLD_SCHEMA_PASSWORD}    for `freehold init`, `migrate` and `doctor`
--
-- Fill the placeholders in with `envsubst < accounts.sql | mariadb -h MASTER -u root -p`.
-- Then: freehold init --config FILE --user freehold_schema --password-file FILE, and grants.sql.
-- Replace '%' by your routers' addresses where you can.

CREATE DATABASE IF NOT EXISTS freehold;

CREATE USER IF NOT EXISTS 'freehold'@'%' IDENTIFIED BY '${FREEHOLD_PASSWORD}';
CREATE USER IF NOT EXISTS 'freehold_sweeper'@'%' IDENTIFIED BY '${FREEHOLD_SWEEPER_PASSWORD}';
CREATE USER IF NOT EXISTS 'freehold_mover'@'%' IDENTIFIED BY '${FREEHOLD_MOVER_PASSWORD}';
CREATE USER IF NOT EXISTS 'freehold_schema'@'%' IDENTIFIED BY '${FREEHOLD_SCHEMA_PASSWORD}';

-- Creates and changes the tables, the view and the procedures, and deals out the slots.
GRANT CREATE, ALTER, DROP, INDEX, CREATE VIEW, SHOW VIEW, CREATE ROUTINE,
    SELECT, INSERT, UPDATE, DELETE
    ON freehold.* TO 'freehold_schema'@'%';

-- To see how a replica follows its master (SHOW REPLICA STATUS): without it routers read from it
-- with EVENTUAL only and adopt no promoted server, and nothing is swept.
GRANT REPLICA MONITOR ON *.* TO 'freehold'@'%';
GRANT REPLICA MONITOR ON *.* TO 'freehold_sweeper'@'%';
