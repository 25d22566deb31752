//! Slots move by the word of somebody who reaches a router and no database: plans, moves, and what
//! becomes of them if whoever watches goes away, or the router dies.

use std::{fs, time::Duration};

use freehold_client::{AdminClient, Client, ClientOptions, Error};
use freehold_proto::v1;
use freehold_tests::{Engine, Router, Server, Signal, shards_toml};
use serde_json::Value;

use crate::{
    load::{Load, Plan},
    moves::{SLOTS, has, slots},
    scene::{Cluster, Result, WITHIN, keys_of, owned, seed, shards, slot_of, until, until_owned},
};

/// Movers die here.
const IMPATIENT: &str = "[mover]\nabandoned_after_ms = 1000\n";

async fn asked(router: &Router, arguments: &[&str]) -> Result<Value> {
    let answer = router.admin_cli(arguments).await?.success()?;
    Ok(serde_json::from_str(&answer)?)
}

/// The newest move in the list.
async fn newest(router: &Router) -> Result<Value> {
    let list = asked(router, &["--json", "moves"]).await?;
    Ok(list["moves"][0].clone())
}

async fn admin(router: &Router) -> Result<AdminClient> {
    let address = router.admin_address().to_string();
    Ok(AdminClient::connect(&address, &ClientOptions::default()).await?)
}

async fn moves_rebalances_and_drains_under_load(engine: Engine) -> Result<()> {
    let mut cluster = Cluster::of_two(engine, "").await?;
    let plan = Plan {
        // Less than the machine bears, which has other things to do.
        unary: 4,
        pipelined: 4,
        pause: Duration::from_millis(5),
        slots: 30_000..=31_000,
        ..Plan::new("load", seed())
    };
    let load = Load::start(cluster.router.address(), &plan).await?;
    load.until_done(200).await?;
    let router = &cluster.router;

    // Somebody has to say yes.
    let wish = ["--json", "move", "--slots", SLOTS, "--to", "b"];
    let plan = asked(router, &[&wish[..], &["--dry-run"]].concat()).await?;
    let planned = &plan["plan"][0];
    assert_eq!(
        (&planned["source"], &planned["slots"]),
        (&"a".into(), &SLOTS.into())
    );
    assert!(planned["rows"].as_u64() > Some(0), "{plan}");
    assert_eq!(router.admin_cli(&wish).await?.code, Some(2));
    assert_eq!(has(&cluster.masters[0]).await?.0, slots().len() as u64);

    let moved = asked(
        router,
        &[&wish[..], &["--yes", "--latency-factor-max", "0"]].concat(),
    )
    .await?;
    println!("{moved}");
    assert_eq!(
        (&moved["moved"], &moved["returned"]),
        (&SLOTS.into(), &"".into())
    );
    assert!(moved["rows"].as_u64() > Some(0) && moved["rows_verified"].as_u64() > Some(0));
    assert!(
        moved["pauses"][0]["whole_ms"].as_f64() > Some(0.0),
        "{moved}"
    );
    assert_eq!(has(&cluster.masters[0]).await?, (0, 0, 0));
    assert_eq!(has(&cluster.masters[1]).await?.0, slots().len() as u64);
    let listed = newest(router).await?;
    assert_eq!(
        (&listed["id"], &listed["state"]),
        (&moved["id"], &"done".into())
    );
    let again = router
        .admin_cli(&["move", "--slots", SLOTS, "--to", "b", "--yes"])
        .await?;
    assert!(again.success()?.contains("'b' owns them already"));

    cluster.masters.push(Server::of(engine).await?);
    let router = &cluster.router;
    let all = shards(&cluster.masters);
    fs::write(router.config_file(), shards_toml(&all))?;
    let c = ["init", "--shard", "c"];
    router.with_config(&c).await?.success()?;
    until("the router to know the new shard", async || {
        Ok(owned(router).await?.len() == 3)
    })
    .await?;
    let by_bytes = [
        "rebalance",
        "--by",
        "bytes",
        "--weight",
        "c=2",
        "--dry-run",
        "--json",
    ];
    let [here, there] = [
        router.with_config(&by_bytes).await?.success()?,
        router.admin_cli(&by_bytes).await?.success()?,
    ]
    .map(|plan| serde_json::from_str::<Value>(&plan));
    for plan in [here?, there?] {
        let steps = plan["plan"].as_array().expect("a plan");
        assert!(
            !steps.is_empty() && steps.iter().all(|step| step["target"] == "c"),
            "{plan}"
        );
    }
    let wish = [
        "rebalance",
        "--weight",
        "a=8",
        "--weight",
        "b=8",
        "--yes",
        "--latency-factor-max",
        "0",
    ];
    let rebalanced = router
        .admin_cli(&[&["--json"], &wish[..]].concat())
        .await?
        .success()?;
    let answers = rebalanced.lines().count();
    assert_eq!(answers, 2, "one for each pair: {rebalanced}");
    until_owned(router, &[("a", 30_841), ("b", 30_840), ("c", 3_855)]).await?;
    let again = router.admin_cli(&wish).await?.success()?;
    assert!(again.contains("nothing to move"), "{again}");

    let drained = router
        .admin_cli(&["drain", "c", "--yes", "--latency-factor-max", "0"])
        .await?
        .success()?;
    assert!(
        drained.contains("compared") && drained.contains("for the new owner"),
        "{drained}"
    );
    until_owned(router, &[("a", 32_768), ("b", 32_768), ("c", 0)]).await?;
    router.with_config(&["audit"]).await?.success()?;
    load.end_undisturbed(&cluster.client().await?).await
}

/// Values of 1 MiB, so many in each of so many slots of the first shard. With a limit they take long: a
/// page of a mover holds four.
async fn fill(client: &Client, slots: usize, values: usize) -> Result<Vec<String>> {
    let mut filled = Vec::new();
    for tag in keys_of(0, 2, "large").take(slots) {
        for number in 0..values {
            client
                .put(format!("{{{tag}}}:{number}"), vec![7; 1 << 20])
                .await?;
        }
        filled.push(slot_of(&tag).to_string());
    }
    Ok(filled)
}

fn start(id: u64, slots: &str) -> v1::StartMoveRequest {
    v1::StartMoveRequest {
        id,
        source: "a".to_owned(),
        target: "b".to_owned(),
        slots: slots.to_owned(),
        bytes_per_second_max: None,
        latency_factor_max: None,
    }
}

async fn a_start_is_repeated_or_refused_in_words(engine: Engine) -> Result<()> {
    let mut cluster = Cluster::of_two(engine, "").await?;
    let slots = fill(&cluster.client().await?, 4, 6).await?;
    let router = &cluster.router;
    let there = admin(router).await?;

    let first = start(seed() | 1, "7-9");
    let started = [
        there.start_move(first.clone()).await?,
        there.start_move(first.clone()).await?,
    ];
    assert_eq!(started.map(|response| response.started), [true, false]);
    until("the move to end", async || {
        Ok(there.get_move(first.id).await?.state() == v1::MoveState::Done)
    })
    .await?;
    let again = there.start_move(first.clone()).await?;
    assert!(!again.started, "nor after its end");
    let outcome = there
        .get_move(first.id)
        .await?
        .outcome
        .expect("it ended here");
    assert_eq!(outcome.moved, "7-9");

    // Its mover died before it could say so to the target as well.
    let mut sql = cluster.masters[1].connect().await?;
    let died = format!("UPDATE moves SET state = 'running' WHERE id = {}", first.id);
    sql.run(&died).await?;
    let back = v1::StartMoveRequest {
        source: "b".to_owned(),
        target: "a".to_owned(),
        ..start(99, "9")
    };
    assert!(there.start_move(back.clone()).await?.started);
    until("both moves to have ended on both shards", async || {
        let open = sql.rows::<u64>("SELECT id FROM moves WHERE state = 'running'");
        Ok(open.await?.is_empty())
    })
    .await?;

    // One byte a second.
    let held: Vec<v1::StartMoveRequest> = (0..4)
        .map(|number| v1::StartMoveRequest {
            bytes_per_second_max: Some(1),
            ..start(100 + number as u64, &slots[number])
        })
        .collect();
    for start in &held {
        assert!(there.start_move(start.clone()).await?.started);
    }
    let other_slots = v1::StartMoveRequest {
        id: first.id,
        ..start(0, "10")
    };
    let unknown = v1::StartMoveRequest {
        target: "x".to_owned(),
        ..start(1, "10")
    };
    for (refused, words) in [
        (start(0, "10"), "id is 0"),
        (other_slots, "has already: draw another one"),
        (
            unknown,
            "target: no shard is called 'x': the config has a, b",
        ),
        (start(1, "x"), "slots: 'x' is no slot"),
        (
            start(1, "6-9"),
            "'a' does not own 7-8, or not any more: make a new plan",
        ),
        (
            start(1, &slots[0]),
            "is open: wait for its end, or resume or cancel it first",
        ),
        (
            start(1, "11"),
            "4 moves are under way in this router, as many as may at once",
        ),
    ] {
        let error = there.start_move(refused.clone()).await.expect_err(words);
        assert!(error.to_string().contains(words), "{refused:?}: {error}");
    }
    let unasked = there
        .get_move(1)
        .await
        .expect_err("nothing of them is left");
    assert!(
        matches!(unasked, Error::InvalidArgument { .. }),
        "{unasked}"
    );
    for start in &held {
        let told = there.get_move(start.id).await?;
        assert_eq!(
            (told.state(), told.held_here),
            (v1::MoveState::Running, true),
            "{told:?}"
        );
    }
    let nobody = router.admin_cli(&["drain", "x", "--dry-run"]).await?;
    assert_eq!(nobody.code, Some(2), "{}", nobody.stderr);
    assert!(
        nobody.stderr.contains("no shard is called 'x'"),
        "{}",
        nobody.stderr
    );

    router.admin_cli(&["moves", "--cancel"]).await?.success()?;
    until("all to be given back", async || {
        let mut open = 0;
        for start in &held {
            let told = there.get_move(start.id).await?;
            open += usize::from(told.state() != v1::MoveState::Cancelled);
        }
        Ok(open == 0)
    })
    .await?;

    // A router that shall not move.
    cluster.router.stop(WITHIN).await?;
    cluster
        .router
        .set_environment("FREEHOLD__MOVER__ENABLED", "false");
    cluster.router.serve().await?;
    let refused = ["move", "--slots", "10", "--to", "b", "--yes"];
    let refused = cluster.router.admin_cli(&refused).await?;
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("mover.enabled is false"),
        "{}",
        refused.stderr
    );
    Ok(())
}

async fn the_move_goes_on_without_the_watcher_and_the_router(engine: Engine) -> Result<()> {
    let mut cluster = Cluster::of_two(engine, IMPATIENT).await?;
    let mut other = Router::configure(&shards(&cluster.masters), IMPATIENT)?;
    other.serve().await?;
    let slots = fill(&cluster.client().await?, 8, 1).await?;
    let slow = |slots: &[String], to| {
        let mut arguments = vec!["move", "--yes", "--mib-per-second-max", "1", "--to", to];
        arguments.push("--slots");
        (arguments.join(" "), slots.join(","))
    };
    let until_running = async |to: &str| {
        until("the move to run", async || {
            let newest = newest(&other).await?;
            Ok(newest["target"] == to && newest["state"] == "running" && newest["rows"] != 0)
        })
        .await
    };

    // Ctrl-C.
    let (arguments, all) = slow(&slots, "b");
    let arguments: Vec<&str> = arguments.split(' ').chain([&*all]).collect();
    let mut watcher = cluster.router.begin_admin(&arguments, "watcher")?;
    until_running("b").await?;
    watcher.signal(Signal::INT)?;
    assert_eq!(watcher.wait(WITHIN).await?.code(), Some(3));
    let said = cluster.router.log_of("watcher");
    let running = newest(&other).await?;
    let id = running["id"].as_str().expect("an id");
    for words in [
        "goes on with the move",
        &format!("freehold moves --cancel --id {id}"),
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(running["state"], "running", "{running}");
    other.admin_cli(&["moves", "--watch"]).await?.success()?;
    let ended = newest(&other).await?;
    assert_eq!(
        (&ended["id"], &ended["state"]),
        (&running["id"], &"done".into())
    );

    // The router dies, and the other one ends the move while somebody still waits.
    let (arguments, all) = slow(&slots, "a");
    let arguments: Vec<&str> = arguments.split(' ').chain([&*all]).collect();
    let mut watcher = cluster.router.begin_admin(&arguments, "left")?;
    until_running("a").await?;
    cluster.router.kill();
    assert_eq!(watcher.wait(WITHIN).await?.code(), Some(3));
    let said = cluster.router.log_of("left");
    for words in [
        "the router does not answer",
        "another one goes on",
        "freehold moves --watch",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    other.admin_cli(&["moves", "--watch"]).await?.success()?;
    let ended = newest(&other).await?;
    assert_eq!(
        (&ended["target"], &ended["state"]),
        (&"a".into(), &"done".into()),
        "{ended}"
    );

    // A router that comes back in time is asked again, and whoever watches sees the end.
    cluster.router.serve().await?;
    let (arguments, all) = slow(&slots, "b");
    let arguments: Vec<&str> = arguments.split(' ').chain([&*all, "--json"]).collect();
    let mut watcher = cluster.router.begin_admin(&arguments, "seen")?;
    until_running("b").await?;
    cluster.router.kill();
    cluster.router.serve().await?;
    assert_eq!(watcher.wait(WITHIN).await?.code(), Some(0));
    let said = cluster.router.log_of("seen");
    let said: Value = serde_json::from_str(said.lines().last().unwrap_or_default())?;
    assert_eq!(
        said["moved"].as_str().map(|moved| moved.split(',').count()),
        Some(8),
        "{said}"
    );
    Ok(())
}

/// Embedded shards have no password, and one process that may change them.
#[tokio::test]
async fn embedded_shards_even_out_while_they_are_served() -> Result<()> {
    let router = Router::embedded().await?;
    let moved = asked(
        &router,
        &["--json", "move", "--slots", "0-99", "--to", "d", "--yes"],
    )
    .await?;
    assert_eq!(moved["moved"], "0-99", "{moved}");
    until_owned(
        &router,
        &[("a", 16_284), ("b", 16_384), ("c", 16_384), ("d", 16_484)],
    )
    .await?;
    router.admin_cli(&["rebalance", "--yes"]).await?.success()?;
    until_owned(&router, &["a", "b", "c", "d"].map(|name| (name, 16_384))).await
}

on_servers!(
    moves_rebalances_and_drains_under_load,
    a_start_is_repeated_or_refused_in_words,
    the_move_goes_on_without_the_watcher_and_the_router
);
