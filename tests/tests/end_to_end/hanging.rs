//! A mover whose connections hang does not keep its slots: it opens others and begins again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use freehold_core::moving::Aim;
use freehold_mover::{Mover, MoverSettings, Point, Points};
use freehold_storage::{ConnectOptions, Dsn};
use freehold_tests::{Engine, Login, Proxy};
use tokio::time::timeout;

use crate::{
    moves::{WITHIN, has, shard, slots},
    scene::{Cluster, NAMES, Result, client, keys_of},
};

/// From the moment on in which writes stop, nothing arrives any more on the connections to the source
/// that are open then.
struct HoldAtFence {
    proxy: Proxy,
    done: AtomicBool,
}

#[async_trait]
impl Points for HoldAtFence {
    async fn at(&self, point: Point) {
        if point == Point::Fenced && !self.done.swap(true, Ordering::Relaxed) {
            self.proxy.hold();
        }
    }
}

async fn a_mover_whose_connections_hang_begins_again(engine: Engine) -> Result<()> {
    let cluster = Cluster::of_two(engine, "[mover]\nenabled = false\n").await?;
    let masters = &cluster.masters;
    let client = client(&cluster.router).await?;
    for key in keys_of(0, 2, "k").take(200) {
        client.put(key, "v").await?;
    }
    let proxy = Proxy::to(&masters[0]).await?;
    let dsn = Dsn::parse(&proxy.dsn(&masters[0], &Login::admin()))?;
    let options = ConnectOptions {
        connect_timeout: WITHIN,
        seed: 7,
    };
    let source = freehold_mover::Shard {
        name: NAMES[0].to_owned(),
        servers: vec![freehold_storage::Server::new(&dsn, options)],
    };
    let target = shard(NAMES[1], &[&masters[1]])?;
    let hold = Arc::new(HoldAtFence {
        proxy,
        done: AtomicBool::new(false),
    });
    let mover = Mover::new(
        source,
        target,
        MoverSettings::default(),
        5,
        "test".to_owned(),
    );
    let mover = mover.watched_by(hold.clone());
    let all = slots();
    let outcome = timeout(WITHIN, mover.run(1, &all, Aim::Move)).await??;
    assert_eq!(outcome.moved, all);
    assert!(
        hold.done.load(Ordering::Relaxed) && hold.proxy.kept() > 0,
        "nothing hung"
    );
    // What was kept arrives late, and changes nothing.
    hold.proxy.release();
    client
        .put(keys_of(0, 2, "k").next().ok_or("endless")?, "later")
        .await?;
    assert_eq!(has(&masters[0]).await?, (0, 0, 0));
    assert_eq!(has(&masters[1]).await?.0, all.len() as u64);
    Ok(())
}

// The mover's clock is the same for both.
on_servers!(mariadb, MariaDb: a_mover_whose_connections_hang_begins_again);
