//! A replication group of three MySQL servers whose primary is killed: the group elects another one,
//! and routers follow it by themselves.

use std::time::Duration;

use freehold_core::slot::even_share;
use freehold_tests::{Router, Server, Shard, group::Group, until};
use tokio::time::Instant;

use super::{
    kills::shares,
    site::{shards_json, until_served},
};
use crate::{
    history::Ending,
    load::{Load, Plan},
    scene::{NAMES, Result, client, keys_of, rounds, seed},
    table,
};

/// Rows are looked for soon.
const MORE: &str = "[sweeper]\nidle_ms = 200\n";

struct Scene {
    // First: they end before their servers do.
    routers: [Router; 2],
    group: Group,
    _other: Server,
}

impl Scene {
    async fn new() -> Result<Self> {
        let (group, other) =
            tokio::try_join!(Group::start(), Server::of(freehold_tests::Engine::MySql))?;
        let [first, second, third] = &group.members[..] else {
            unreachable!("three members");
        };
        let config = [
            Shard::new(NAMES[0], first, &[second, third]),
            Shard::new(NAMES[1], &other, &[]),
        ];
        let one = Router::init_and_serve(&config, MORE).await?;
        let mut two = Router::configure(&config, MORE)?;
        two.serve().await?;
        Ok(Self {
            routers: [one, two],
            group,
            _other: other,
        })
    }

    /// What `doctor` says, as JSON.
    async fn doctor(&self) -> Result<String> {
        let answer = self.routers[0].with_config(&["doctor", "--json"]).await?;
        Ok(answer.stdout)
    }

    /// The primary, as a member sees it.
    async fn primary(&self, seen_by: usize) -> Result<usize> {
        let found = self.group.primary(seen_by).await?;
        Ok(found.ok_or("the group has no primary")?)
    }

    /// The primary that was elected after this one had died.
    async fn primary_but(&self, dead: usize) -> Result<usize> {
        let mut found = None;
        until("another primary", async || {
            found = self.group.primary((dead + 1) % 3).await?;
            Ok(found.is_some_and(|place| place != dead))
        })
        .await?;
        Ok(found.expect("it was waited for"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_lost_its_primary_is_followed_and_nothing_is_lost() -> Result<()> {
    let mut scene = Scene::new().await?;
    assert!(
        !scene.doctor().await?.contains("group_replication"),
        "the settings of deploy/ leave nothing to say of the group"
    );
    let clients = [
        client(&scene.routers[0]).await?,
        client(&scene.routers[1]).await?,
    ];
    let seed = seed();
    let mut terms = 1;
    let (mut done, mut unknown) = (0, 0);
    let (mut until_chosen, mut until_written) = (Vec::new(), Vec::new());
    for round in 0..rounds(1) {
        let primary = scene.primary((round + 1) % 3).await?;
        let mut plan = Plan::new(&format!("group{round}"), seed.wrapping_add(round as u64));
        plan.slots = even_share(0, 2);
        let load = Load::start(scene.routers[round % 2].address(), &plan).await?;
        load.until_done(300).await?;
        scene.group.members[primary].kill();
        let killed = Instant::now();
        let elected = scene.primary_but(primary).await?;
        let chosen = killed.elapsed();
        let key = keys_of(0, 2, "after").next().expect("endless");
        until_served(&clients, &key).await?;
        let served = killed.elapsed();
        load.until_done(100).await?;
        let outcome = load.stop().await?;
        table::audit(&clients[(round + 1) % 2], &outcome.history).await?;
        terms += 1;
        let mut sql = scene.group.members[elected].connect().await?;
        let fence: (u64, u64) = sql.one("SELECT term, server_id FROM shard").await?;
        assert_eq!(fence, (terms, scene.group.members[elected].port().into()));
        done += outcome.done;
        unknown += outcome.history.count(Ending::Unknown);
        until_chosen.push(chosen);
        until_written.push(served.saturating_sub(chosen));
        scene.group.members[primary].start_again().await?;
        scene.group.join(primary).await?;
    }

    println!(
        "group: {} primaries killed under load\n  {done} calls ended well, {unknown} unknown, 0 \
         acknowledged writes lost\n  from the kill to the election: {}\n  from the election to a \
         write and a STRONG read through both routers: {}",
        until_chosen.len(),
        shares(&mut until_chosen),
        shares(&mut until_written)
    );

    // The members that do not lead are replicas that say how fresh they are.
    for router in &scene.routers {
        until("the other members to follow", async || {
            let shards = shards_json(router).await?;
            Ok(shards[0]
                .to_string()
                .matches(r#""fitness":"follows""#)
                .count()
                == 2)
        })
        .await?;
    }

    // Sweeping goes on where the group is led now.
    for key in keys_of(0, 2, "swept").take(20) {
        let ttl = Duration::from_millis(1);
        clients[0].put(key, "goes").ttl(ttl).await?;
    }
    let leader = scene.primary(0).await?;
    let mut sql = scene.group.members[leader].connect().await?;
    until("expired rows to be deleted", async || {
        let due: u64 = sql
            .one("SELECT COUNT(*) FROM store WHERE value = 'goes'")
            .await?;
        Ok(due == 0)
    })
    .await?;

    // What a group member does that its group throws out.
    let mut sql = scene.group.members[0].connect().await?;
    sql.run("SET GLOBAL group_replication_exit_state_action = 'READ_ONLY'")
        .await?;
    assert!(
        scene
            .doctor()
            .await?
            .contains("group_replication_exit_state_action")
    );
    Ok(())
}
