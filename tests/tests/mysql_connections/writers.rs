//! A connection that was given up writes nothing any more once the next one of its lane is open.

use std::time::Duration;

use freehold_core::Key;
use freehold_storage::{Columns, DataConnection, Outcome, Server, StorageError, Value, WriterName};
use freehold_tests::{Engine, Login, Proxy, Sql, deploy};
use tokio::time::timeout;

use crate::shard::{Result, Shard, WHOLE, WITHIN, expire, keys, row, server, until, until_waiting};

on_servers!(
    a_write_that_waited_for_a_lock_is_not_applied_after_a_later_one,
    a_write_that_the_network_kept_is_not_applied_after_a_later_one,
    a_session_keeps_its_lock_until_its_transaction_is_rolled_back,
    a_session_that_cannot_be_ended_keeps_the_next_from_opening,
    a_connection_that_was_given_up_while_it_opened_is_in_nobodys_way,
);

/// The account that operators are told to make for routers.
async fn least_rights(shard: &Shard) -> Result<Login> {
    let passwords = [
        ("FREEHOLD_PASSWORD", "secret-1"),
        ("FREEHOLD_SWEEPER_PASSWORD", "secret-2"),
        ("FREEHOLD_MOVER_PASSWORD", "mover-password"),
        ("FREEHOLD_SCHEMA_PASSWORD", "secret-3"),
    ];
    let engine = shard.home.engine();
    let mut admin = shard.home.connect().await?;
    let accounts = deploy::sql(engine, "accounts.sql", &passwords)?;
    admin.run(&accounts).await?;
    admin.run(&deploy::sql(engine, "grants.sql", &[])?).await?;
    Ok(Login::new("freehold", "secret-1"))
}

/// The sessions of the routers' account.
async fn sessions(admin: &mut Sql) -> Result<Vec<u64>> {
    let sessions = admin.other_sessions().await?;
    let of_lanes = sessions.iter().filter(|session| session.user == "freehold");
    Ok(of_lanes.map(|session| session.id).collect())
}

async fn until_gone(admin: &mut Sql, former: &[u64]) -> Result<()> {
    until("the sessions that were given up to end", async || {
        let open = sessions(admin).await?;
        Ok(!open.iter().any(|id| former.contains(id)))
    })
    .await
}

#[derive(Debug, Clone, Copy)]
enum Early {
    Put,
    Delete,
    Expire,
}

impl Early {
    async fn write(self, shard: &Shard, data: &mut dyn DataConnection, keys: &[Key]) {
        match self {
            Self::Put => {
                let rows: Vec<_> = keys.iter().map(|key| row(key, "early")).collect();
                data.put(&shard.fence, &rows).await;
            }
            Self::Delete => drop(data.delete(&shard.fence, keys).await),
            Self::Expire => {
                let rows: Vec<_> = keys.iter().map(|key| expire(key, Some(1))).collect();
                data.expire(&shard.fence, &rows).await;
            }
        }
    }
}

/// What is stored for the key must be the later PUT, whole.
async fn assert_later(shard: &Shard, key: &Key, what: &str) -> Result<()> {
    let mut data = shard.data().await?;
    let read = data.read(std::slice::from_ref(key), WHOLE).await?;
    let row = read.rows[0].clone();
    let found = row.as_ref().map(|row| (&row.value, row.ttl_ms));
    let later = Value::Bytes("later".into());
    assert_eq!(found, Some((&later, None)), "{what}: {row:?}");
    Ok(())
}

/// The early write holds no lock of the key yet: it waits for another row of its statement. A later
/// write of the key passes it.
async fn a_write_that_waited_for_a_lock_is_not_applied_after_a_later_one(
    engine: Engine,
) -> Result<()> {
    let shard = Shard::of(engine).await?;
    let server = server(&shard.home.dsn(&least_rights(&shard).await?))?;
    let name = WriterName::new(7);
    let mut admin = shard.home.connect().await?;
    let keys = keys(2);
    for early in [Early::Put, Early::Delete, Early::Expire] {
        let mut data = server.connect_writer(&name, WITHIN).await?;
        let rows: Vec<_> = keys.iter().map(|key| row(key, "before")).collect();
        let applied = [Outcome::Applied(()), Outcome::Applied(())];
        assert_eq!(data.put(&shard.fence, &rows).await, applied);
        let former = sessions(&mut admin).await?;
        let held = hold(&shard, &keys[0]).await?;

        tokio::select! {
            () = early.write(&shard, &mut *data, &keys) => panic!("the row was held"),
            waits = until_waiting(&mut admin) => waits?,
        }
        drop(data);
        let mut data = server.connect_writer(&name, WITHIN).await?;
        let put = data.put(&shard.fence, &[row(&keys[1], "later")]).await;
        assert_eq!(put, [Outcome::Applied(())], "{early:?}");
        held.close().await?;
        until_gone(&mut admin, &former).await?;
        assert_later(&shard, &keys[1], &format!("{early:?}")).await?;
    }
    Ok(())
}

async fn hold(shard: &Shard, key: &Key) -> Result<Sql> {
    let mut sql = shard.home.connect().await?;
    let (slot, key) = (key.slot(), String::from_utf8_lossy(key.bytes()));
    sql.run(&format!(
        "BEGIN; SELECT slot FROM store WHERE slot = {slot} AND `key` = '{key}' FOR UPDATE"
    ))
    .await?;
    Ok(sql)
}

/// The bytes of the early write reach the server when nobody asks for them any more.
async fn a_write_that_the_network_kept_is_not_applied_after_a_later_one(
    engine: Engine,
) -> Result<()> {
    let shard = Shard::of(engine).await?;
    let proxy = Proxy::to(&shard.home).await?;
    let login = least_rights(&shard).await?;
    let server = server(&proxy.dsn(&shard.home, &login))?;
    let name = WriterName::new(7);
    let mut admin = shard.home.connect().await?;
    let key = &keys(1)[0];
    for early in [Early::Put, Early::Delete, Early::Expire] {
        let mut data = server.connect_writer(&name, WITHIN).await?;
        let put = data.put(&shard.fence, &[row(key, "before")]).await;
        assert_eq!(put, [Outcome::Applied(())]);
        let former = sessions(&mut admin).await?;

        proxy.hold();
        tokio::select! {
            () = early.write(&shard, &mut *data, std::slice::from_ref(key)) => {
                panic!("the network keeps the answer");
            }
            sent = until("a write to be sent", async || Ok(proxy.kept() > 0)) => sent?,
        }
        drop(data);
        let mut data = server.connect_writer(&name, WITHIN).await?;
        let put = data.put(&shard.fence, &[row(key, "later")]).await;
        assert_eq!(put, [Outcome::Applied(())], "{early:?}");
        proxy.release();
        until_gone(&mut admin, &former).await?;
        assert_later(&shard, key, &format!("{early:?}")).await?;
    }
    Ok(())
}

/// What the order rests on: while the lock is held, the transaction may be there; when it is had,
/// nothing of it is.
async fn a_session_keeps_its_lock_until_its_transaction_is_rolled_back(
    engine: Engine,
) -> Result<()> {
    let home = freehold_tests::Server::of(engine).await?;
    let mut writer = home.connect().await?;
    let digits = "(SELECT 0 d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL \
                  SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL \
                  SELECT 8 UNION ALL SELECT 9)";
    writer
        .run(&format!(
            "CREATE TABLE big (id INT PRIMARY KEY, pad CHAR(100)) ENGINE=InnoDB; \
             DO GET_LOCK('name', 0); BEGIN; INSERT INTO big SELECT a.d + 10 * b.d + 100 * c.d + \
             1000 * d.d + 10000 * e.d, 'x' FROM {digits} a, {digits} b, {digits} c, {digits} d, \
             {digits} e"
        ))
        .await?;
    let id: u64 = writer.one("SELECT CONNECTION_ID()").await?;
    let mut observer = home.connect().await?;
    observer
        .run(&format!(
            "SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED; KILL {id}"
        ))
        .await?;
    let mut refused = 0;
    while observer.one::<u8>("SELECT GET_LOCK('name', 0)").await? == 0 {
        refused += 1;
    }
    let rows: u64 = observer.one("SELECT COUNT(*) FROM big").await?;
    println!("the lock was refused {refused} times");
    assert_eq!(rows, 0, "the lock came free before the last row was gone");
    assert!(refused > 0, "rolling 100,000 rows back takes its time");
    Ok(())
}

async fn a_session_that_cannot_be_ended_keeps_the_next_from_opening(engine: Engine) -> Result<()> {
    let shard = Shard::of(engine).await?;
    let server = server(&shard.home.dsn(&least_rights(&shard).await?))?;
    let name = WriterName::new(7);
    let mut other = shard.home.connect().await?;
    let taken: u8 = other.one(&format!("SELECT GET_LOCK('{name}', 0)")).await?;
    assert_eq!(taken, 1);
    let id: u64 = other.one("SELECT CONNECTION_ID()").await?;
    for _ in 0..2 {
        match server.connect_writer(&name, WITHIN).await {
            Err(StorageError::Unreachable { reason }) => {
                assert!(reason.contains(&format!("session {id}")), "{reason}");
                assert!(reason.contains("cannot be ended"), "{reason}");
            }
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("another session may still write"),
        }
    }
    // Readers, and lanes of other names, are not concerned.
    assert_writes(
        &shard,
        server.connect_writer(&WriterName::new(8), WITHIN).await?,
    )
    .await;
    let keys = keys(1);
    let read = server.connect().await?.read(&keys, Columns::Expiry).await?;
    assert!(read.rows[0].is_some());
    other.close().await?;
    assert_writes(&shard, opened(&server, &name).await?).await;
    Ok(())
}

async fn assert_writes(shard: &Shard, mut data: Box<dyn DataConnection>) {
    let put = data.put(&shard.fence, &[row(&keys(1)[0], "v")]).await;
    assert_eq!(put, [Outcome::Applied(())]);
}

/// However far an attempt came before it was given up, the next one opens, and none of them takes
/// the lock away from it later.
async fn a_connection_that_was_given_up_while_it_opened_is_in_nobodys_way(
    engine: Engine,
) -> Result<()> {
    let shard = Shard::of(engine).await?;
    let server = server(&shard.home.dsn(&least_rights(&shard).await?))?;
    let name = WriterName::new(7);
    let mut open = None;
    for step in 0..40 {
        give_up_opening(&server, &name, step).await;
        if step % 4 == 3 {
            // The one before is given up only now, as by a lane that was asleep.
            drop(open.take());
            let mut data = opened(&server, &name).await?;
            let put = data.put(&shard.fence, &[row(&keys(1)[0], "v")]).await;
            assert_eq!(put, [Outcome::Applied(())], "step {step}");
            open = Some(data);
        }
    }
    Ok(())
}

/// Begins to open a connection and drops it a little later each time.
async fn give_up_opening(server: &Server, name: &WriterName, step: u64) {
    let patience = Duration::from_micros(step * 250);
    drop(timeout(patience, server.connect_writer(name, WITHIN)).await);
}

/// An attempt that was given up may have the lock for a moment: as a lane does, try again.
async fn opened(server: &Server, name: &WriterName) -> Result<Box<dyn DataConnection>> {
    let opening = async {
        loop {
            if let Ok(data) = server.connect_writer(name, WITHIN).await {
                return data;
            }
        }
    };
    Ok(timeout(WITHIN, opening).await?)
}
