//! `freehold audit` finds what is wrong, each by name, and nothing that is not, also while everybody
//! writes and replicas lag.

use freehold_client::Write;
use freehold_tests::{Engine, Router, Server, Shard, replication};
use serde_json::Value;

use crate::{
    load::{Load, Plan},
    scene::{Result, client, keys_of, seed, slot_of, until},
};

/// Two shards with a replica each, and a router that serves them.
struct Scene {
    router: Router,
    masters: [Server; 2],
    replicas: [Server; 2],
}

impl Scene {
    async fn new(engine: Engine) -> Result<Self> {
        Self::with(engine, "").await
    }

    async fn with(engine: Engine, more: &str) -> Result<Self> {
        let (a, b) = tokio::try_join!(Server::of(engine), Server::of(engine))?;
        let (c, d) = tokio::try_join!(
            replication::start_replica(&a),
            replication::start_replica(&b)
        )?;
        let shards = [Shard::new("a", &a, &[&c]), Shard::new("b", &b, &[&d])];
        let router = Router::init_and_serve(&shards, more).await?;
        Ok(Self {
            router,
            masters: [a, b],
            replicas: [c, d],
        })
    }

    async fn store(&self, keys: &[String]) -> Result<()> {
        let client = client(&self.router).await?;
        for keys in keys.chunks(500) {
            let put = |key: &String| Write::Put {
                key: key.clone().into(),
                value: format!("value of {key}").into(),
                ttl: None,
            };
            for result in client.batch_write(keys.iter().map(put)).await? {
                result?;
            }
        }
        Ok(())
    }

    /// Its exit code, and what it says.
    async fn audit(&self, more: &[&str]) -> Result<(i32, Value)> {
        let arguments = [&["audit", "--json", "--rate", "1000000"], more].concat();
        let answer = self.router.with_config(&arguments).await?;
        let code = answer.code.expect("an exit code");
        assert!(!answer.stdout.is_empty(), "{}", answer.stderr);
        Ok((code, serde_json::from_str(&answer.stdout)?))
    }
}

/// Changes rows where replication does not see it.
async fn behind_its_back(server: &Server, text: &str) -> Result<()> {
    let mut sql = server.connect().await?;
    sql.run("SET SESSION sql_log_bin = 0").await?;
    Ok(sql.run(text).await?)
}

fn findings(said: &Value) -> Vec<&str> {
    let findings = said["findings"].as_array().expect("findings");
    findings.iter().filter_map(Value::as_str).collect()
}

async fn a_sound_cluster_under_load_raises_no_alarm(engine: Engine) -> Result<()> {
    let scene = Scene::new(engine).await?;
    let keys: Vec<String> = (0..3_000).map(|number| format!("user:{number}")).collect();
    scene.store(&keys).await?;
    let load = Load::start(scene.router.address(), &Plan::new("load", seed())).await?;
    load.until_done(100).await?;
    // One of them lags all the time.
    replication::set_delay(&scene.replicas[0], 1).await?;
    for _ in 0..2 {
        let (code, said) = scene.audit(&[]).await?;
        assert_eq!(
            (code, &said["clean"], &said["complete"]),
            (0, &true.into(), &true.into()),
            "{said}"
        );
        assert_eq!(said["slots"]["owned"], 65_536);
        let rows = |shard: usize| said["shards"][shard]["replicas"][0]["rows"].as_u64();
        assert!(rows(0) >= Some(1_000) && rows(1) >= Some(1_000), "{said}");
    }
    let outcome = load.stop().await?;
    outcome.is_undisturbed();
    let table = scene.router.with_config(&["audit"]).await?.success()?;
    for words in [
        "as its master",
        "no row that is not its own",
        "65,536 of 65,536 slots",
    ] {
        assert!(table.contains(words), "{words}: {table}");
    }
    Ok(())
}

async fn rows_that_replicas_lost_changed_or_made_up_are_named(engine: Engine) -> Result<()> {
    let scene = Scene::new(engine).await?;
    let keys: Vec<String> = keys_of(0, 2, "user").take(1_500).collect();
    scene.store(&keys).await?;
    replication::wait_until_caught_up(&scene.masters[0], &scene.replicas[0]).await?;
    let [lost, changed, revived] = [3, 700, 1_400].map(|number| keys[number].clone());
    let made_up = keys_of(0, 2, "made-up").next().expect("a key");
    let text = format!(
        "SET GLOBAL read_only = 0; \
         DELETE FROM store WHERE `key` = '{lost}'; \
         UPDATE store SET value = 'other' WHERE `key` = '{changed}'; \
         UPDATE store SET expires_at = 1 WHERE `key` = '{revived}'; \
         INSERT INTO store VALUES ({}, '{made_up}', 'v', 1, 9223372036854775807)",
        slot_of(&made_up)
    );
    behind_its_back(&scene.replicas[0], &text).await?;
    let (code, said) = scene.audit(&[]).await?;
    assert_eq!(code, 1, "{said}");
    let replica = &said["shards"][0]["replicas"][0];
    assert_eq!(replica["differences"], 4, "{said}");
    let told = findings(&said).join("\n");
    for (key, what) in [
        (&lost, "is missing"),
        (&changed, "is another one"),
        (&revived, "is another one"),
        (&made_up, "is not on the master"),
    ] {
        let line = format!("slot {}, key {key}: {what}", slot_of(key));
        assert!(told.contains(&line), "{line}: {told}");
    }
    assert_eq!(said["shards"][1]["replicas"][0]["differences"], 0, "{said}");
    // The other shard alone is well.
    let (code, said) = scene.audit(&["--shard", "b"]).await?;
    assert_eq!(
        (code, said["shards"].as_array().map(Vec::len)),
        (0, Some(1)),
        "{said}"
    );
    Ok(())
}

async fn slots_and_rows_without_their_owner_are_named(engine: Engine) -> Result<()> {
    let scene = Scene::new(engine).await?;
    let owned_by_b = keys_of(1, 2, "astray").next().expect("a key");
    let slot = slot_of(&owned_by_b);
    let text = format!(
        "INSERT INTO store VALUES ({slot}, '{owned_by_b}', 'v', 1, 9223372036854775807); \
         DELETE FROM slots WHERE slot BETWEEN 10 AND 12; \
         INSERT INTO slots VALUES (65535, 'owned', 1, NULL, 1, 1)"
    );
    scene.masters[0].connect().await?.run(&text).await?;
    let (code, said) = scene.audit(&[]).await?;
    assert_eq!(code, 1, "{said}");
    let told = findings(&said).join("\n");
    for words in [
        "3 slots have no owner: 10-12".to_owned(),
        "1 slots have several owners (a and b): 65535".to_owned(),
        format!("1 rows in slot {slot}, which it never owned"),
    ] {
        assert!(told.contains(&words), "{words}: {told}");
    }
    assert_eq!(said["slots"]["owned"], 65_536 - 4);
    Ok(())
}

async fn what_could_not_be_looked_at_is_said(engine: Engine) -> Result<()> {
    let mut scene = Scene::new(engine).await?;
    let keys: Vec<String> = keys_of(0, 2, "user").take(50).collect();
    replication::stop_applier(&scene.replicas[0]).await?;
    scene.store(&keys).await?;
    scene.masters[1].kill();
    let (code, said) = scene.audit(&["--lag-max", "1s"]).await?;
    assert_eq!(code, 3, "{said}");
    assert_eq!(
        (&said["clean"], &said["complete"]),
        (&true.into(), &false.into()),
        "{said}"
    );
    let told = findings(&said).join("\n");
    for words in [
        "more than 1s behind",
        "shard 'b' was not looked at",
        "may belong to b",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    Ok(())
}

/// By itself, and shown by metrics.
async fn routers_audit_what_they_sweep(engine: Engine) -> Result<()> {
    let scene = Scene::with(engine, "[audit]\ninterval_s = 1\nrows_per_s_max = 100000\n").await?;
    let keys: Vec<String> = keys_of(0, 2, "user").take(300).collect();
    scene.store(&keys).await?;
    let metric = async |line: &str| -> Result<u64> {
        let (_, metrics) = scene.router.http_get("/metrics").await?;
        let value = metrics.lines().find_map(|found| found.strip_prefix(line));
        Ok(value.map_or(Ok(0), |value| value.trim().parse())?)
    };
    for shard in ["", "a", "b"] {
        let clean = format!("freehold_audits_total{{shard=\"{shard}\",result=\"clean\"}}");
        until("each to be audited", async || Ok(metric(&clean).await? > 0)).await?;
    }
    let changed = format!(
        "UPDATE store SET value = 'other' WHERE `key` = '{}'",
        keys[7]
    );
    let text = format!("SET GLOBAL read_only = 0; {changed}");
    behind_its_back(&scene.replicas[0], &text).await?;
    let found = "freehold_audit_findings{shard=\"a\",kind=\"replica_rows\"}";
    until(
        "the row to be found",
        async || Ok(metric(found).await? == 1),
    )
    .await?;
    assert!(
        scene.router.log().contains(&keys[7]),
        "{}",
        scene.router.log()
    );
    assert_eq!(
        metric("freehold_audit_findings{shard=\"\",kind=\"unowned_slots\"}").await?,
        0
    );
    Ok(())
}

on_servers!(
    routers_audit_what_they_sweep,
    a_sound_cluster_under_load_raises_no_alarm,
    rows_that_replicas_lost_changed_or_made_up_are_named,
    slots_and_rows_without_their_owner_are_named,
    what_could_not_be_looked_at_is_said,
);
