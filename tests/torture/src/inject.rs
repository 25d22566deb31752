//! Breaks something, waits, and mends it.

use std::time::Duration;

use freehold_checker::record::{Record, Span};
use freehold_tests::{Router, Server, Signal, Slowness, replication};
use tokio::time::{sleep, timeout};

use crate::Result;
use crate::cluster::Cluster;
use crate::failover::{Back, fail_over};
use crate::handover::hand_over;
use crate::journal::Journal;
use crate::link::{Link, Mode};
use crate::moves::{Moving, move_slots};
use crate::schedule::{Blow, Fault, Place, Planned, Stall};

/// A router that shuts down has 2 s in its settings.
const DRAINED_WITHIN: Duration = Duration::from_secs(30);

/// How long a fault may take, its mending included: far above what it does.
const MENDED_WITHIN: Duration = Duration::from_secs(240);

/// What each write and sync takes on a slow disk.
const SLOW_WRITE: Duration = Duration::from_millis(100);

/// A server whose disk has room again, and that stores nothing for so long, waits for it.
const STORES_WITHIN: Duration = Duration::from_secs(5);

/// A server looks at its own clock again after a second.
const CLOCK_SEEN_WITHIN: Duration = Duration::from_millis(1_200);

/// Breaks what is planned at its time, and mends it. The span that is noted is as long as it took.
/// Whether it had an effect: a slow network that carried nothing meanwhile has none.
pub async fn inject(cluster: &Cluster, journal: &Journal, planned: &Planned) -> Result<bool> {
    sleep(planned.at).await;
    // Whoever changes owners waits for the one before, whose time is its own.
    let _owners = match planned.fault {
        Fault::Handover(..) | Fault::Move(..) => Some(cluster.owners.lock().await),
        _ => None,
    };
    let start_ns = journal.now_ns();
    let done = timeout(MENDED_WITHIN, act(cluster, journal, planned)).await;
    let done = done.unwrap_or_else(|_| Err(format!("not over within {MENDED_WITHIN:?}").into()));
    journal.note(Record::Fault(Span {
        start_ns,
        end_ns: journal.now_ns(),
        what: planned.fault.to_string(),
    }));
    done.map_err(|error| format!("{}: {error}", planned.fault).into())
}

/// Whether it had an effect.
async fn act(cluster: &Cluster, journal: &Journal, planned: &Planned) -> Result<bool> {
    let lasts = planned.lasts;
    match planned.fault {
        Fault::Network(router, place, mode) => {
            let _open = cluster.networks[place.shard].read().await;
            return Ok(hurt(cluster.link(router, place), mode, lasts).await);
        }
        Fault::Clients(router, mode) => {
            return Ok(hurt(cluster.client_link(router), mode, lasts).await);
        }
        Fault::Handover(shard, first) => return hand_over(cluster, shard, first).await,
        Fault::Move(to, first, router, blow, cancels) => {
            let moving = Moving {
                to,
                first,
                router,
                blow,
                cancels,
            };
            return move_slots(cluster, moving, lasts).await;
        }
        fault => strike(cluster, journal, fault, lasts).await?,
    }
    Ok(true)
}

/// Whether anything was sent over it meanwhile.
async fn hurt(link: &Link, mode: Mode, lasts: Duration) -> bool {
    let before = link.touched();
    link.set(mode);
    sleep(lasts).await;
    link.set(Mode::Open);
    link.touched() > before
}

/// What always has an effect.
async fn strike(cluster: &Cluster, journal: &Journal, fault: Fault, lasts: Duration) -> Result<()> {
    match fault {
        Fault::Router(router, blow) => {
            strike_router(&mut *cluster.router(router).lock().await, blow, lasts).await
        }
        Fault::Server(place, blow) => {
            strike_server(&mut *cluster.server(place).await, blow, lasts).await
        }
        Fault::ReadOnly(shard) => {
            let mut master = cluster.server(Place::leader(shard)).await;
            master.options_mut().read_only = true;
            master.stop().await?;
            master.start_again().await?;
            sleep(lasts).await;
            master.options_mut().read_only = false;
            master.stop().await?;
            Ok(master.start_again().await?)
        }
        Fault::Exhausted(shard) => {
            let master = cluster.server(Place::leader(shard)).await;
            exhaust(&master, lasts).await
        }
        Fault::Behind(place, stall) => {
            let replica = cluster.server(place).await;
            keep_behind(&replica, stall, lasts).await
        }
        Fault::FullDisk(place) => fill_disk(&mut *cluster.server(place).await, place, lasts).await,
        Fault::SlowDisk(place) => {
            let mut server = cluster.server(place).await;
            let log = server.folder().join("slowness.log");
            let slowness = Slowness::begin(server.pid()?, SLOW_WRITE, &log)?;
            sleep(lasts).await;
            Ok(slowness.end().await?)
        }
        Fault::Clock(place, ahead_s) => {
            let server = cluster.server(place).await;
            server.set_clock(ahead_s)?;
            sleep(CLOCK_SEEN_WITHIN).await;
            // Who watches the clocks does not have the server now, and the checker has to know.
            cluster.note_clock(place, &server, journal).await?;
            sleep(lasts).await;
            server.set_clock(0)?;
            sleep(CLOCK_SEEN_WITHIN).await;
            cluster.note_clock(place, &server, journal).await
        }
        Fault::Failover(shard, cause, is_open) => {
            let back = Back { is_open, lasts };
            fail_over(cluster, shard, cause, back).await
        }
        Fault::Network(..) | Fault::Clients(..) | Fault::Handover(..) | Fault::Move(..) => {
            unreachable!("these may have none")
        }
    }
}

async fn strike_router(router: &mut Router, blow: Blow, lasts: Duration) -> Result<()> {
    match blow {
        Blow::Freeze => {
            router.freeze()?;
            sleep(lasts).await;
            return Ok(router.thaw()?);
        }
        Blow::Kill => router.kill(),
        Blow::Stop => {
            router.signal(Signal::TERM)?;
            router.wait(DRAINED_WITHIN).await?;
        }
    }
    sleep(lasts).await;
    router.launch()?;
    // That it answers is enough: another fault may keep a shard from coming up.
    Ok(router.wait_for_health("any answer", |_, _| true).await?)
}

async fn strike_server(server: &mut Server, blow: Blow, lasts: Duration) -> Result<()> {
    match blow {
        Blow::Freeze => {
            server.freeze()?;
            sleep(lasts).await;
            return Ok(server.thaw()?);
        }
        Blow::Kill => server.kill(),
        Blow::Stop => server.stop().await?,
    }
    sleep(lasts).await;
    Ok(server.start_again().await?)
}

async fn keep_behind(replica: &Server, stall: Stall, lasts: Duration) -> Result<()> {
    match stall {
        Stall::Applier => replication::stop_applier(replica).await?,
        Stall::Receiver => replication::stop_receiver(replica).await?,
        Stall::Delayed => replication::set_delay(replica, 1).await?,
    }
    sleep(lasts).await;
    match stall {
        Stall::Applier => replication::start_applier(replica).await?,
        Stall::Receiver => replication::start_receiver(replica).await?,
        Stall::Delayed => replication::set_delay(replica, 0).await?,
    }
    Ok(())
}

/// Nothing can be stored on a server. Some end then, and some wait for room for a minute: whoever
/// does not store again soon after there is some is started again, as an operator would do.
async fn fill_disk(server: &mut Server, place: Place, lasts: Duration) -> Result<()> {
    let disk = server.disk().ok_or("it has no disk of its own")?;
    disk.fill()?;
    sleep(lasts).await;
    disk.free()?;
    if !server.is_running() || timeout(STORES_WITHIN, stores(server)).await.is_err() {
        server.kill_and_start_again().await?;
    }
    if place.is_replica() {
        replication::stop(server).await?;
        replication::start(server).await?;
    }
    Ok(())
}

/// Waits until something was written to its logs.
async fn stores(server: &Server) -> Result<()> {
    loop {
        // It goes to the binary log alone, which is what fills up first.
        if let Ok(mut sql) = server.connect().await
            && sql.run("FLUSH BINARY LOGS").await.is_ok()
        {
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Ends all sessions of routers and lets no new one in.
async fn exhaust(master: &Server, lasts: Duration) -> Result<()> {
    let mut sql = master.connect().await?;
    let before: u64 = sql.one("SELECT @@GLOBAL.max_connections").await?;
    // The least that both servers take. One more is kept for an administrator.
    sql.run("SET GLOBAL max_connections = 10").await?;
    let mut ours = Vec::new();
    for session in sql.other_sessions().await? {
        if session.user.starts_with("freehold") {
            // It may have ended meanwhile.
            drop(sql.run(&format!("KILL CONNECTION {}", session.id)).await);
            ours.extend(master.connect().await);
        }
    }
    while let Ok(one) = master.connect().await {
        ours.push(one);
    }
    sleep(lasts).await;
    Ok(sql
        .run(&format!("SET GLOBAL max_connections = {before}"))
        .await?)
}
