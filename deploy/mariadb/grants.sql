-- What routers, sweepers and movers may do in Freehold's tables on a MariaDB server. Run after
-- `freehold init`, on each master: rights on single tables need the tables to be there.
-- `mariadb -h MASTER -u root -p < grants.sql`

-- Routers. REPLACE needs INSERT and DELETE; a soft delete and EXPIRE need UPDATE.
GRANT SELECT, INSERT, UPDATE, DELETE ON freehold.store TO 'freehold'@'%';
-- The slots' owners are read and locked, never changed: a router cannot make itself an owner. It
-- changes two other columns: after a failover it marks slots that were on their way, and stops what
-- was moving them.
GRANT SELECT, UPDATE (attempt, since_epoch) ON freehold.slots TO 'freehold'@'%';
-- While a slot moves, its writes log their keys, by a procedure that has the rights of its caller.
GRANT SELECT, INSERT, UPDATE ON freehold.moved_keys TO 'freehold'@'%';
GRANT EXECUTE ON PROCEDURE freehold.write_logged TO 'freehold'@'%';
-- The fence is read and locked, and changed in one case: where a promoted server is adopted, which
-- also notes where the term before ended. Without these rights the shard stays closed after a
-- failover until somebody with them does it.
GRANT SELECT, UPDATE (term, epoch, server_id, stamp) ON freehold.shard TO 'freehold'@'%';
GRANT SELECT, INSERT, DELETE ON freehold.terms TO 'freehold'@'%';
-- Heartbeats, which say how old a replica is.
GRANT SELECT, UPDATE ON freehold.heartbeat TO 'freehold'@'%';
-- What takes many keys of one statement apart.
GRANT SELECT ON freehold.numbers TO 'freehold'@'%';

-- Sweepers. They read due keys, delete them by key, and agree through the lease on who does it.
GRANT SELECT, DELETE ON freehold.store TO 'freehold_sweeper'@'%';
GRANT SELECT ON freehold.shard TO 'freehold_sweeper'@'%';
GRANT SELECT ON freehold.slots TO 'freehold_sweeper'@'%';
GRANT SELECT, UPDATE ON freehold.leases TO 'freehold_sweeper'@'%';

-- Movers. They copy rows and change slots' owners: what `freehold move` asks routers for, or does itself.
GRANT SELECT, INSERT, DELETE ON freehold.store TO 'freehold_mover'@'%';
GRANT SELECT, UPDATE (epoch, stamp) ON freehold.shard TO 'freehold_mover'@'%';
GRANT SELECT, INSERT, UPDATE ON freehold.slots TO 'freehold_mover'@'%';
GRANT SELECT, DELETE ON freehold.moved_keys TO 'freehold_mover'@'%';
GRANT SELECT, INSERT, UPDATE, DELETE ON freehold.moves TO 'freehold_mover'@'%';
GRANT SELECT ON freehold.heartbeat TO 'freehold_mover'@'%';
GRANT EXECUTE ON PROCEDURE freehold.change_slots TO 'freehold_mover'@'%';

-- People who only read need the view of live rows, and what it reads:
--   GRANT SELECT ON freehold.live TO 'analyst'@'%';
--   GRANT SELECT ON freehold.store TO 'analyst'@'%';
