-- What routers and sweepers may do in Freehold's tables on a MariaDB server. Run after
-- `freehold init`, on each master: rights on single tables need the tables to be there.
-- `mariadb -h MASTER -u root -p < grants.sql`

-- Routers. REPLACE needs INSERT and DELETE; a soft delete and EXPIRE need UPDATE.
GRANT SELECT, INSERT, UPDATE, DELETE ON freehold.store TO 'freehold'@'%';
-- The fence and the slots' owners are read and locked, never changed: a router cannot make itself
-- an owner.
GRANT SELECT ON freehold.shard TO 'freehold'@'%';
GRANT SELECT ON freehold.slots TO 'freehold'@'%';

-- Sweepers. They read due keys, delete them by key, and agree through the lease on who does it.
GRANT SELECT, DELETE ON freehold.store TO 'freehold_sweeper'@'%';
GRANT SELECT ON freehold.shard TO 'freehold_sweeper'@'%';
GRANT SELECT ON freehold.slots TO 'freehold_sweeper'@'%';
GRANT SELECT, UPDATE ON freehold.leases TO 'freehold_sweeper'@'%';

-- People who only read need the view of live rows, and what it reads:
--   GRANT SELECT ON freehold.live TO 'analyst'@'%';
--   GRANT SELECT ON freehold.store TO 'analyst'@'%';
