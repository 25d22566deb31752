//! A master that was closed for writes answers nothing any more as if it led.

use std::time::Duration;

use freehold_proto::v1;
use freehold_tests::Engine;
use tonic::Code;

use crate::{
    scene::{Cluster, Result, keys_of, until},
    sick::PATIENT,
    wire::{self, Stub},
};

/// How often it is closed, each time at another moment between two looks of the router.
const ROUNDS: u32 = 10;

/// How long a caller waits: longer than the router needs to find out by itself.
const ASKED_FOR: Duration = Duration::from_secs(1);

/// An operator who hands over in order closes the old master before the new one is opened. What the
/// old one showed from then on would be old.
async fn a_closed_master_answers_eventual_reads_alone(engine: Engine) -> Result<()> {
    let cluster = Cluster::of_two(engine, "").await?;
    let stub = wire::stub(&cluster.router).await?;
    let mut sql = cluster.masters[0].connect().await?;
    let (close, open) = match engine {
        Engine::MariaDb => ("SET GLOBAL read_only = ON", "SET GLOBAL read_only = OFF"),
        // Opens for those with more rights as well.
        Engine::MySql => (
            "SET GLOBAL super_read_only = ON",
            "SET GLOBAL read_only = OFF",
        ),
    };
    let key = keys_of(0, 2, "closed").next().expect("endless");
    for round in 0..ROUNDS {
        until_stored(&stub, &key).await?;
        tokio::time::sleep(Duration::from_millis(u64::from(round) * 53)).await;
        sql.run(close).await?;
        // At once, so that they share statements.
        let read = |level| wire::read_as(&stub, &key, Some(level), ASKED_FOR);
        let [strong, bounded, eventual] = LEVELS.map(options);
        let (strong, bounded, eventual) = tokio::join!(read(strong), read(bounded), read(eventual));
        sql.run(open).await?;
        for (read, _) in [strong, bounded] {
            assert_eq!(read.code, Code::Unavailable, "round {round}: {read:?}");
            assert_eq!(read.reason, "DATABASE_READ_ONLY", "{read:?}");
        }
        let (read, value) = eventual;
        assert_eq!(value.as_deref(), Some("1"), "round {round}: {read:?}");
    }
    Ok(())
}

/// Waits until the shard is served, with this key in it.
async fn until_stored(stub: &Stub, key: &str) -> Result<()> {
    until("the shard to be served", async || {
        Ok(wire::put(stub, key, "1", PATIENT).await.code == Code::Ok)
    })
    .await
}

const LEVELS: [v1::Consistency; 3] = [
    v1::Consistency::Strong,
    v1::Consistency::BoundedStaleness,
    v1::Consistency::Eventual,
];

fn options(level: v1::Consistency) -> v1::ReadOptions {
    let bounded = level == v1::Consistency::BoundedStaleness;
    v1::ReadOptions {
        consistency: level.into(),
        max_staleness: bounded.then(|| Duration::from_secs(60).try_into().expect("short")),
        ..v1::ReadOptions::default()
    }
}

/// Some accounts may write all the same, such as the one here; what is written there would be lost.
async fn a_closed_master_takes_no_write_of_whatever_account(engine: Engine) -> Result<()> {
    let cluster = Cluster::of_two(engine, "").await?;
    let stub = wire::stub(&cluster.router).await?;
    let mut sql = cluster.masters[0].connect().await?;
    let key = keys_of(0, 2, "closed").next().expect("endless");
    for round in 0..ROUNDS {
        until_stored(&stub, &key).await?;
        tokio::time::sleep(Duration::from_millis(u64::from(round) * 53)).await;
        sql.run("SET GLOBAL read_only = ON").await?;
        let (put, delete, expire) = tokio::join!(
            wire::put(&stub, &key, "2", ASKED_FOR),
            wire::write(&stub, &key, None, ASKED_FOR),
            wire::expire(&stub, &key, None, ASKED_FOR)
        );
        sql.run("SET GLOBAL read_only = OFF").await?;
        for verdict in [put, delete, expire.0] {
            assert_eq!(
                verdict.code,
                Code::Unavailable,
                "round {round}: {verdict:?}"
            );
        }
        until("the shard to be served", async || {
            let (read, value) = wire::read(&stub, &key, PATIENT).await;
            let served = read.code == Code::Ok;
            assert!(!served || value.as_deref() == Some("1"), "round {round}");
            Ok(served)
        })
        .await?;
    }
    Ok(())
}

on_servers!(
    a_closed_master_answers_eventual_reads_alone,
    a_closed_master_takes_no_write_of_whatever_account,
);
