//! The master that slots come from dies around the change of their owner, and a replica that applies
//! everything late is promoted.
//!
//! A commit waits for one of two replicas, however long that takes, and the one that received most is
//! promoted: so nothing that was acknowledged may be lost, and what is given away stays so.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use freehold_core::{Slot, SlotSet, moving::Aim, slot::even_share};
use freehold_mover::{MoveError, Mover, MoverSettings, Point, Points};
use freehold_tests::{Engine, Server, Sql, replication};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::{Mutex, Semaphore},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{ALONE, SLOTS_SQL, WITHIN, has, plan, shard, slots};
use crate::{
    failover::site::{Copies, Site, until_served},
    history::Ending,
    load::Load,
    scene::{NAMES, Result, keys_of, rounds, seed, slot_of, until},
    table,
};

/// How much earlier or later than the change the master dies, at most.
const APART_MS_MAX: u64 = 500;

/// How late replicas apply what they receive.
const LAG_S: u32 = 1;

/// Between two calls of a writer. Six servers share the cores, and one that was rebuilt has to catch up
/// with all that was written.
const PAUSE: Duration = Duration::from_millis(25);

/// Longer than replicas lag, so that slots change hands all the same.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Holds the mover up just before it gives slots away, and tells that it is there.
struct BeforeTheChange {
    reached: Semaphore,
    rest: Duration,
}

#[async_trait]
impl Points for BeforeTheChange {
    async fn at(&self, point: Point) {
        if point == Point::Reached {
            self.reached.add_permits(1);
            sleep(self.rest).await;
        }
    }
}

fn mover(site: &Site, source: usize, seed: u64, wait_max: Duration) -> Result<Mover> {
    let side = |place: usize| {
        let servers: Vec<&Server> = site.shards[place].iter().collect();
        shard(NAMES[place], &servers)
    };
    let settings = MoverSettings {
        page_rows_max: 200,
        batch_slots_max: 400,
        wait_max,
        ..MoverSettings::default()
    };
    let (source, target) = (side(source)?, side(1 - source)?);
    let name = format!("test {seed}");
    Ok(Mover::new(source, target, settings, seed, name))
}

/// Looks again and again whether a slot has two owners.
struct Watch {
    stop: CancellationToken,
    watching: JoinHandle<Result<u64>>,
}

impl Watch {
    async fn start(site: &Site, source: usize) -> Result<Self> {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        // Their sessions stay through a promotion.
        let (mut of_source, mut of_target) = (Vec::new(), Vec::new());
        for (place, servers) in site.shards.iter().enumerate() {
            for server in servers {
                let sessions = match place == source {
                    true => &mut of_source,
                    false => &mut of_target,
                };
                sessions.push(server.connect().await?);
            }
        }
        let watching = tokio::spawn(async move {
            let mut looks = 0;
            while !stopped.is_cancelled() {
                // The other way round, slots could change their owner in between.
                let there = claims(&mut of_target, "'owned'").await;
                let here = claims(&mut of_source, "'owned', 'outgoing', 'fenced'").await;
                let both: Vec<&u16> = there.intersection(&here).collect();
                if !both.is_empty() {
                    return Err(format!("slots with two owners: {both:?}").into());
                }
                looks += 1;
                sleep(Duration::from_millis(5)).await;
            }
            Ok(looks)
        });
        Ok(Self { stop, watching })
    }

    async fn stop(self) -> Result<u64> {
        self.stop.cancel();
        self.watching.await?
    }
}

/// What the server claims that leads. One that died claims nothing.
async fn claims(sessions: &mut Vec<Sql>, states: &str) -> BTreeSet<u16> {
    let query = format!(
        "SELECT slot FROM slots JOIN shard f ON f.id = 1 AND f.server_id = @@server_id \
         WHERE state IN ({states}) AND {SLOTS_SQL}"
    );
    let mut claimed = BTreeSet::new();
    let mut place = 0;
    while let Some(session) = sessions.get_mut(place) {
        match session.rows::<u16>(&query).await {
            Ok(slots) => {
                claimed.extend(slots);
                place += 1;
            }
            Err(_) => drop(sessions.remove(place)),
        }
    }
    claimed
}

struct Scene {
    site: Site,
    /// Who has the slots.
    owner: usize,
    random: StdRng,
    done: u64,
    unknown: usize,
    looks: u64,
}

impl Scene {
    async fn round(&mut self, number: usize) -> Result<()> {
        let (source, id, all) = (self.owner, number as u64 + 1, slots());
        let mut loads = Vec::new();
        for (place, router) in self.site.routers.iter().enumerate() {
            let mut plan = plan(self.random.random());
            plan.prefix = format!("round{number}:{place}");
            plan.pause = PAUSE;
            loads.push(Load::start(router.address(), &plan).await?);
        }
        for load in &loads {
            load.until_done(100).await?;
        }
        for place in self.site.replicas(source) {
            replication::set_delay(&self.site.shards[source][place], LAG_S).await?;
        }
        let watch = Watch::start(&self.site, source).await?;
        let [rest, later] = [0, 1].map(|_| {
            let ms = self.random.random_range(0..=APART_MS_MAX);
            Duration::from_millis(ms)
        });
        let before = Arc::new(BeforeTheChange {
            reached: Semaphore::new(0),
            rest,
        });
        let first = mover(&self.site, source, self.random.random(), WAIT_MAX)?;
        let first = first.watched_by(before.clone());
        let moved = slots();
        let run = tokio::spawn(async move { first.run(id, &moved, Aim::Move).await });
        timeout(WITHIN, before.reached.acquire()).await??.forget();
        sleep(later).await;
        let former = self.site.leaders[source];
        self.site.shards[source][former].kill();
        self.fail_over(source, former).await?;

        // It waits for the server that is gone, in vain, until that is back; whoever comes then, ends it.
        let ended = timeout(WITHIN, run).await??;
        let harmless = |error: &MoveError| error.passes();
        assert!(ended.as_ref().err().is_none_or(harmless), "{ended:?}");
        until("the move to end", async || {
            if ended.is_ok() {
                return Ok(true);
            }
            let seed = self.random.random();
            let wait_max = MoverSettings::default().wait_max;
            let next = mover(&self.site, source, seed, wait_max)?;
            match timeout(WITHIN, next.run(id, &all, Aim::Move)).await? {
                Ok(outcome) => Ok(outcome.moved == all),
                Err(error) if error.passes() => {
                    println!("stopped again: {error}");
                    Ok(false)
                }
                Err(error) => Err(error.into()),
            }
        })
        .await?;
        self.owner = 1 - source;
        self.looks += watch.stop().await?;
        self.judge(loads).await?;
        println!(
            "round {number}: '{}' died {} ms after the mover was about to give slots away, which it \
             did {} ms after; first it {}",
            NAMES[source],
            later.as_millis(),
            rest.as_millis(),
            match &ended {
                Ok(_) => "ended by itself".to_owned(),
                Err(error) => format!("stopped: {error}"),
            }
        );
        Ok(())
    }

    async fn fail_over(&mut self, source: usize, former: usize) -> Result<()> {
        let site = &mut self.site;
        site.promote_best(source).await?;
        for place in site
            .replicas(source)
            .into_iter()
            .filter(|one| *one != former)
        {
            replication::set_delay(&site.shards[source][place], 0).await?;
        }
        let mut keys = keys_of(source, 2, "stays");
        let key = keys.find(|key| !slots().contains(Slot(slot_of(key))));
        until_served(&site.clients().await?, &key.ok_or("endless")?).await?;
        site.rebuild(source, former).await
    }

    /// Every slot has one owner, and what was acknowledged is there.
    async fn judge(&mut self, loads: Vec<Load>) -> Result<()> {
        let masters = [0, 1].map(|place| &self.site.shards[place][self.site.leaders[place]]);
        let mut owned = 0;
        for (place, master) in masters.into_iter().enumerate() {
            let mut sql = master.connect().await?;
            let claims =
                "SELECT COUNT(*) FROM slots WHERE state IN ('owned', 'outgoing', 'fenced')";
            owned += sql.one::<u64>(claims).await?;
            let (claimed, rows, logged) = has(master).await?;
            match place == self.owner {
                true => assert_eq!((claimed, logged), (slots().len() as u64, 0)),
                false => assert_eq!((claimed, rows, logged), (0, 0, 0)),
            }
        }
        assert_eq!(
            owned,
            freehold_core::slot::SLOTS as u64,
            "each slot has one owner"
        );
        let client = &self.site.clients().await?[0];
        for load in loads {
            load.until_done(50).await?;
            let outcome = load.stop().await?;
            assert_eq!(outcome.violations, [""; 0]);
            table::audit(client, &outcome.history).await?;
            self.done += outcome.done;
            self.unknown += outcome.history.count(Ending::Unknown);
        }
        Ok(())
    }
}

async fn a_source_that_fails_over_around_the_change_loses_nothing(engine: Engine) -> Result<()> {
    assert!(
        even_share(0, 2).contains(&30_511),
        "the first shard has them"
    );
    let mut scene = Scene {
        site: Site::new(engine, Copies::First, ALONE).await?,
        owner: 0,
        random: StdRng::seed_from_u64(seed()),
        done: 0,
        unknown: 0,
        looks: 0,
    };
    let rounds = rounds(1);
    for number in 0..rounds {
        scene.round(number).await?;
    }
    println!(
        "{engine}: {rounds} masters died around a change of owner, and a replica that was {LAG_S} s \
         late led\n  {} calls ended well, {} keys of unknown outcome, 0 acknowledged writes lost\n  \
         {} looks at who owns the slots, 0 with two owners",
        scene.done, scene.unknown, scene.looks
    );
    Ok(())
}

/// Before the target is opened its replicas stop to hear of anything; when it is open, the mover waits.
struct Unheard {
    replicas: Mutex<Vec<Sql>>,
    opened: Semaphore,
    goes_on: Semaphore,
}

#[async_trait]
impl Points for Unheard {
    async fn at(&self, point: Point) {
        match point {
            Point::GoneEverywhere => {
                // Once: what is promoted, and what copies that, goes on.
                for mut replica in std::mem::take(&mut *self.replicas.lock().await) {
                    let stopped = replica.run("STOP REPLICA IO_THREAD").await;
                    stopped.expect("a replica that answers");
                }
            }
            Point::Opened => {
                self.opened.add_permits(1);
                drop(self.goes_on.acquire().await);
            }
            _ => {}
        }
    }
}

/// The source has given the slots away for good, and the target's new master never heard that it owns
/// them: the move is not over.
async fn a_target_that_forgot_what_it_owns_gets_it_again(engine: Engine) -> Result<()> {
    let mut site = Site::new(engine, Copies::Later, ALONE).await?;
    let clients = site.clients().await?;
    // So few that they change hands at once: no other part of them fails.
    let moved: SlotSet = slots().iter().take(100).collect();
    let keys = keys_of(0, 2, "moved").filter(|key| moved.contains(Slot(slot_of(key))));
    let keys: Vec<String> = keys.take(5).collect();
    for key in &keys {
        clients[0].put(key.clone(), key.clone()).await?;
    }
    let mut replicas = Vec::new();
    for place in site.replicas(1) {
        replicas.push(site.shards[1][place].connect().await?);
    }
    let points = Arc::new(Unheard {
        replicas: Mutex::new(replicas),
        opened: Semaphore::new(0),
        goes_on: Semaphore::new(0),
    });
    let seed = seed();
    let first = mover(&site, 0, seed, WAIT_MAX)?.watched_by(points.clone());
    let all = moved.clone();
    let run = tokio::spawn(async move { first.run(1, &all, Aim::Move).await });
    timeout(WITHIN, points.opened.acquire()).await??.forget();
    let former = site.leaders[1];
    site.shards[1][former].kill();
    site.promote_second(1).await?;
    let mut others = keys_of(1, 2, "other");
    until_served(&clients, &others.next().ok_or("endless")?).await?;
    site.rebuild(1, former).await?;
    points.goes_on.add_permits(100);

    let mut ended = timeout(WITHIN, run).await??;
    until("the move to end", async || {
        if let Ok(outcome) = &ended {
            assert_eq!(outcome.moved, moved);
            return Ok(true);
        }
        let next = mover(&site, 0, seed + 1, WAIT_MAX)?;
        ended = timeout(WITHIN, next.run(1, &moved, Aim::Move)).await?;
        Ok(false)
    })
    .await?;
    let leader = &site.shards[1][site.leaders[1]];
    assert_eq!(has(leader).await?.0, moved.len() as u64);
    for client in &clients {
        for key in &keys {
            let reply = client.get(key.clone()).await?;
            assert_eq!(reply.value(), Some(&key.clone().into()));
        }
    }
    Ok(())
}

on_servers!(
    a_source_that_fails_over_around_the_change_loses_nothing,
    a_target_that_forgot_what_it_owns_gets_it_again,
);
