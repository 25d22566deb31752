//! Slots move between masters under load, by the command and by movers that end anywhere.

mod anywhere;
mod busy;
mod callers;
mod failovers;
mod frozen;
mod held;
mod kills;
mod probes;

use std::time::Duration;

use freehold_core::{SlotSet, moving::Aim};
use freehold_mover::{MoveError, Mover, MoverSettings, Point};
use freehold_storage::{ConnectOptions, Dsn};
use freehold_tests::{Engine, Login, Router, Server, replication};
use tokio::time::timeout;

pub(crate) use self::{
    busy::{Busy, plan},
    held::kill_at,
};
use crate::scene::{NAMES, Result, rounds, seed, until};

/// Far longer than anything here takes.
pub(crate) const WITHIN: Duration = Duration::from_secs(120);

/// Here only those move who are told to, and a busy machine makes no request end too early.
const ALONE: &str = "[server]\nrequest_timeout_ms = 120000\n[lanes]\n\
                     statement_timeout_ms = 120000\n[mover]\nenabled = false\n";

/// Slots of the first of two shards.
pub(crate) const SLOTS: &str = "100-355,2000,30000-30511";

pub(crate) fn slots() -> SlotSet {
    SLOTS.parse().expect("slots as people write them")
}

/// The same in SQL.
pub(crate) const SLOTS_SQL: &str =
    "(slot BETWEEN 100 AND 355 OR slot = 2000 OR slot BETWEEN 30000 AND 30511)";

/// A shard as a mover has it.
pub(crate) fn shard(name: &str, servers: &[&Server]) -> Result<freehold_mover::Shard> {
    let server = |server: &&Server| {
        let options = ConnectOptions {
            connect_timeout: WITHIN,
            seed: u64::from(server.port()),
        };
        let dsn = Dsn::parse(&server.dsn(&Login::admin()))?;
        Ok(freehold_storage::Server::new(&dsn, options))
    };
    Ok(freehold_mover::Shard {
        name: name.to_owned(),
        servers: servers.iter().map(server).collect::<Result<_>>()?,
    })
}

/// How many of the slots a master claims, and how many rows and log entries it has of them.
pub(crate) async fn has(server: &Server) -> Result<(u64, u64, u64)> {
    let mut sql = server.connect().await?;
    let claimed = format!("SELECT COUNT(*) FROM slots WHERE state = 'owned' AND {SLOTS_SQL}");
    let rows = format!("SELECT COUNT(*) FROM store WHERE {SLOTS_SQL}");
    Ok((
        sql.one(&claimed).await?,
        sql.one(&rows).await?,
        sql.one("SELECT COUNT(*) FROM moved_keys").await?,
    ))
}

async fn slots_move_by_command_while_two_routers_write(engine: Engine) -> Result<()> {
    let busy = Busy::replicated(engine, ALONE, &plan(seed())).await?;
    let router = &busy.cluster.router;
    let plan = ["--json", "move", "--slots", SLOTS, "--to", "b", "--dry-run"];
    let plan = router.with_config(&plan).await?.success()?;
    let plan: serde_json::Value = serde_json::from_str(&plan)?;
    assert_eq!(plan["plan"][0]["slots"], SLOTS, "{plan}");
    assert_eq!(plan["plan"][0]["source"], "a");
    assert!(plan["plan"][0]["rows"].as_u64() > Some(0), "{plan}");
    let unasked = router
        .with_config(&["move", "--slots", "1", "--to", "b"])
        .await?;
    assert_eq!(unasked.code, Some(2), "{}", unasked.stderr);

    let ways = [("b", "a"), ("a", "b")].repeat(rounds(1));
    for (to, from) in &ways {
        move_by_command(router, to).await?;
        busy.are_settled_at(usize::from(*to == "b"), to).await?;
        busy.goes_on().await?;
        let list = router.with_config(&["--json", "moves"]).await?.success()?;
        let list: serde_json::Value = serde_json::from_str(&list)?;
        let last = &list["moves"][0];
        assert_eq!(
            (&last["source"], &last["state"]),
            (&(*from).into(), &"done".into())
        );
    }
    println!(
        "{engine}: {} slots moved, each {} times",
        slots().len(),
        ways.len()
    );
    let text = router.with_config(&["moves"]).await?.success()?;
    assert!(text.matches("done").count() >= 2, "{text}");
    let again = router
        .with_config(&["moves", "--resume"])
        .await?
        .success()?;
    assert!(again.contains("no move is open"), "{again}");
    a_move_without_a_record_is_found_and_taken_back(&busy).await?;
    busy.end().await
}

async fn move_by_command(router: &Router, to: &str) -> Result<()> {
    let begin = ["--json", "move", "--slots", SLOTS, "--to", to, "--yes"];
    let mut moved = router.with_config(&begin).await?;
    // A busy machine: writes were let go, as they should be.
    while moved.code != Some(0) && moved.stderr.contains("did not follow within") {
        println!("{}", moved.stderr);
        let resume = ["--json", "moves", "--resume"];
        moved = router.with_config(&resume).await?;
    }
    let moved = moved.success()?;
    println!("{moved}");
    let moved: serde_json::Value = serde_json::from_str(&moved)?;
    assert_eq!(moved["moved"], SLOTS, "{moved}");
    Ok(())
}

/// As a failover leaves it that lost what was written down of the move.
async fn a_move_without_a_record_is_found_and_taken_back(busy: &Busy) -> Result<()> {
    let (masters, router) = (&busy.cluster.masters, &busy.cluster.router);
    let all = slots();
    kill_at(busy.mover(0, 5)?, 99, &all, Aim::Move, Point::Verified).await?;
    for master in masters {
        let mut sql = master.connect().await?;
        sql.run("DELETE FROM moves WHERE id = 99").await?;
    }
    let list = router.with_config(&["--json", "moves"]).await?.success()?;
    let list: serde_json::Value = serde_json::from_str(&list)?;
    let found = &list["moves"][0];
    assert_eq!(found["id"], serde_json::Value::Null, "{list}");
    assert_eq!(
        (&found["source"], &found["target"]),
        (&"a".into(), &"b".into())
    );
    // The first batch is half-way.
    let batch = all.parts(400, usize::MAX).remove(0);
    assert_eq!(found["slots"], batch.to_string(), "{list}");
    router
        .with_config(&["moves", "--cancel"])
        .await?
        .success()?;
    assert_eq!(has(&masters[0]).await?.0, all.len() as u64);
    assert_eq!(has(&masters[1]).await?, (0, 0, 0));
    let list = router.with_config(&["moves"]).await?.success()?;
    assert!(!list.contains("half-way"), "{list}");
    Ok(())
}

/// What a failover could lose is waited for; where a replica stands still, writes are let go.
async fn replicas_that_may_be_promoted_are_waited_for(engine: Engine) -> Result<()> {
    let busy = Busy::replicated(engine, ALONE, &plan(seed())).await?;
    let masters = &busy.cluster.masters;
    let [of_a, of_b] = &busy.replicas[..] else {
        unreachable!("a replica of each");
    };
    let mover = |seed| -> Result<Mover> {
        Ok(Mover::new(
            shard(NAMES[0], &[&masters[0], of_a])?,
            shard(NAMES[1], &[of_b, &masters[1]])?,
            MoverSettings::default(),
            seed,
            format!("test {seed}"),
        ))
    };
    let all = slots();
    replication::stop_applier(of_b).await?;
    let stopped = timeout(WITHIN, mover(1)?.run(1, &all, Aim::Move)).await?;
    assert!(
        matches!(&stopped, Err(MoveError::Behind { shard, .. }) if shard == NAMES[1]),
        "{stopped:?}"
    );
    assert_eq!(has(&masters[1]).await?.0, 0);
    // Nobody waits for the replica.
    busy.goes_on().await?;
    replication::start_applier(of_b).await?;
    until("the move to go on", async || {
        let resumed = timeout(WITHIN, mover(2)?.run(1, &all, Aim::Move)).await?;
        Ok(match resumed {
            Err(MoveError::Behind { .. }) => false,
            resumed => resumed?.moved == all,
        })
    })
    .await?;
    assert_eq!(has(&masters[0]).await?, (0, 0, 0));
    until("the replica to follow", async || {
        Ok(has(of_b).await?.0 == all.len() as u64)
    })
    .await?;
    busy.end().await
}

on_servers!(
    slots_move_by_command_while_two_routers_write,
    replicas_that_may_be_promoted_are_waited_for,
);
