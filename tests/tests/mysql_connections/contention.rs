//! Locks that others hold, and deadlocks.

use freehold_storage::{Outcome, Refusal};
use freehold_tests::{Engine, Sql};

use crate::shard::{Result, Shard, expire, is_refused, keys, row, until_waiting, value};

on_servers!(
    a_locked_row_fails_alone,
    a_locked_fence_fails_all_in_bounded_time,
    locked_rows_are_answered_in_the_time_there_is_for_it,
    a_deadlock_is_repeated_and_nobody_notices,
);

/// A row of the test's one slot, changed in no way that matters.
fn touch(index: usize) -> String {
    let key = &keys(index + 1)[index];
    let (slot, key) = (key.slot(), String::from_utf8_lossy(key.bytes()));
    format!("UPDATE store SET version = version + 1 WHERE slot = {slot} AND `key` = '{key}'")
}

async fn lock(shard: &Shard, statement: &str) -> Result<Sql> {
    let mut sql = shard.home.connect().await?;
    sql.run("BEGIN").await?;
    sql.run(statement).await?;
    Ok(sql)
}

async fn a_locked_row_fails_alone(engine: Engine) -> Result<()> {
    let shard = Shard::of(engine).await?;
    // Shorter than the wait for a row, and not for sessions of a router.
    let limit = match engine {
        Engine::MariaDb => "SET GLOBAL max_statement_time = 1",
        Engine::MySql => "SET GLOBAL max_execution_time = 1000",
    };
    shard.home.connect().await?.run(limit).await?;
    let mut data = shard.data().await?;
    let keys = keys(3);
    let rows: Vec<_> = keys.iter().map(|key| row(key, "v")).collect();
    let all_applied = vec![Outcome::Applied(()); 3];
    assert_eq!(data.put(&shard.fence, &rows).await, all_applied);
    let held = lock(&shard, &touch(1)).await?;

    let rows: Vec<_> = keys.iter().map(|key| row(key, "w")).collect();
    let put = data.put(&shard.fence, &rows).await;
    assert_eq!(
        (&put[0], &put[2]),
        (&Outcome::Applied(()), &Outcome::Applied(()))
    );
    assert!(is_refused(&put[1], Refusal::Busy), "{put:?}");
    let expires: Vec<_> = keys.iter().map(|key| expire(key, Some(60_000))).collect();
    let expire = data.expire(&shard.fence, &expires).await;
    assert_eq!(
        (&expire[0], &expire[2]),
        (&Outcome::Applied(true), &Outcome::Applied(true))
    );
    assert!(is_refused(&expire[1], Refusal::Busy), "{expire:?}");
    let delete = data.delete(&shard.fence, &keys).await;
    assert_eq!(
        (&delete[0], &delete[2]),
        (&Outcome::Applied(true), &Outcome::Applied(true))
    );
    assert!(is_refused(&delete[1], Refusal::Busy), "{delete:?}");

    held.close().await?;
    assert_eq!(value(&mut data, &keys[1]).await?, Some(b"v".to_vec()));
    assert_eq!(data.put(&shard.fence, &rows).await, all_applied);
    Ok(())
}

async fn a_locked_fence_fails_all_in_bounded_time(engine: Engine) -> Result<()> {
    let shard = Shard::of(engine).await?;
    let mut data = shard.data().await?;
    let held = lock(&shard, "UPDATE shard SET epoch = epoch").await?;
    let held_row = lock(&shard, "SELECT * FROM shard FOR UPDATE");
    let rows: Vec<_> = keys(128).iter().map(|key| row(key, "v")).collect();
    let began = tokio::time::Instant::now();
    // Singly and one after the other, 128 waits of 2 s would be over four minutes.
    let (put, _) = tokio::join!(data.put(&shard.fence, &rows), held_row);
    assert!(
        began.elapsed() < crate::shard::WITHIN,
        "{:?}",
        began.elapsed()
    );
    assert_eq!(put.len(), 128);
    assert!(
        put.iter().all(|outcome| is_refused(outcome, Refusal::Busy)),
        "{put:?}"
    );
    held.close().await?;
    assert_eq!(shard.stored(&keys(1)[0]).await?, None);
    Ok(())
}

/// After that time the caller would give the connection up, and every outcome were unknown.
async fn locked_rows_are_answered_in_the_time_there_is_for_it(engine: Engine) -> Result<()> {
    let shard = Shard::of(engine).await?;
    let keys = keys(8);
    let mut data = shard.data().await?;
    let rows: Vec<_> = keys.iter().map(|key| row(key, "v")).collect();
    data.put(&shard.fence, &rows).await;
    let mut held = lock(&shard, &touch(0)).await?;
    for index in 1..keys.len() - 1 {
        held.run(&touch(index)).await?;
    }
    let within = std::time::Duration::from_secs(4);
    let name = freehold_storage::WriterName::new(1);
    let mut data = shard.server.connect_writer(&name, within).await?;
    let rows: Vec<_> = keys.iter().map(|key| row(key, "w")).collect();
    // A server counts lock waits in whole seconds. Eight of them, one after another, are 16 s.
    let ends_within = within + std::time::Duration::from_secs(3);
    let put = tokio::time::timeout(ends_within, data.put(&shard.fence, &rows)).await?;
    assert!(
        put.iter().all(|outcome| is_refused(outcome, Refusal::Busy)),
        "{put:?}"
    );
    let expires: Vec<_> = keys.iter().map(|key| expire(key, Some(60_000))).collect();
    let expire = tokio::time::timeout(ends_within, data.expire(&shard.fence, &expires)).await?;
    assert!(
        expire
            .iter()
            .all(|outcome| is_refused(outcome, Refusal::Busy)),
        "{expire:?}"
    );
    held.close().await?;
    for key in &keys {
        assert_eq!(value(&mut data, key).await?, Some(b"v".to_vec()));
    }
    // The connection is as good as before.
    assert_eq!(
        data.put(&shard.fence, &rows).await,
        vec![Outcome::Applied(()); 8]
    );
    Ok(())
}

/// A heavier transaction holds the second row and asks for the first, which a batch has just
/// written: the batch is the one that is rolled back.
async fn a_deadlock_is_repeated_and_nobody_notices(engine: Engine) -> Result<()> {
    let shard = Shard::of(engine).await?;
    let mut data = shard.data().await?;
    let keys = keys(2);
    let rows: Vec<_> = keys.iter().map(|key| row(key, "v")).collect();
    assert_eq!(
        data.put(&shard.fence, &rows).await,
        [Outcome::Applied(()), Outcome::Applied(())]
    );
    shard
        .home
        .connect()
        .await?
        .run("CREATE TABLE weight (id INT PRIMARY KEY) ENGINE=InnoDB")
        .await?;
    let deadlocks = match engine {
        Engine::MariaDb => {
            "SELECT variable_value FROM information_schema.global_status \
             WHERE variable_name = 'Innodb_deadlocks'"
        }
        Engine::MySql => {
            "SELECT `count` FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'"
        }
    };
    let mut watch = shard.home.connect().await?;
    let before: u64 = watch.one(deadlocks).await?;

    let heavy: Vec<String> = (0..1_000).map(|id| format!("({id})")).collect();
    let rows: Vec<_> = keys.iter().map(|key| row(key, "w")).collect();
    // A write waits two seconds at most; a machine on which that is not seen in time tries again.
    let mut tries = 0..10;
    loop {
        tries.next().ok_or("no deadlock in time, ten times")?;
        let insert = format!(
            "DELETE FROM weight; INSERT INTO weight VALUES {}",
            heavy.join(",")
        );
        let mut other = lock(&shard, &insert).await?;
        other.run(&touch(1)).await?;
        let batch = data.put(&shard.fence, &rows);
        let cross = async {
            // The batch has the first row when it waits for the second.
            until_waiting(&mut watch).await?;
            other.run(&format!("{}; COMMIT", touch(0))).await?;
            Result::<()>::Ok(())
        };
        let (put, crossed) = tokio::join!(batch, cross);
        if put.iter().any(|outcome| is_refused(outcome, Refusal::Busy)) {
            continue;
        }
        crossed?;
        assert_eq!(put, [Outcome::Applied(()), Outcome::Applied(())]);
        break;
    }
    let after: u64 = watch.one(deadlocks).await?;
    assert!(after > before, "there was a deadlock");
    assert_eq!(value(&mut data, &keys[0]).await?, Some(b"w".to_vec()));
    Ok(())
}
