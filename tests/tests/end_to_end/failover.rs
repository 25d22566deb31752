//! Masters that die, hang, and come back.

mod aftermath;
mod awake;
mod by_hand;
mod closed;
mod compared;
mod group;
pub(crate) mod kills;
mod reads;
pub(crate) mod site;
mod sweeping;

use std::collections::BTreeMap;

use freehold_core::slot::even_share;
use freehold_tests::Engine;

use self::site::{Copies, Site, until_alarmed, until_served};
use crate::{
    history::Ending,
    load::{Load, Plan},
    scene::{Result, keys_of, rounds, seed},
    table,
};

/// It wakes up after another server was promoted, and finishes what it was doing.
async fn a_frozen_master_acknowledges_nothing_after_it_was_replaced(engine: Engine) -> Result<()> {
    let mut site = Site::new(engine, Copies::Later, "").await?;
    let (seed, rounds) = (seed(), rounds(1));
    let (mut done, mut unknown, mut unsent) = (0, 0, 0);
    let (mut until_written, mut alarmed) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let mut plan = Plan::new(
            &format!("frozen{round}"),
            seed.wrapping_add(1_000 * round as u64),
        );
        plan.slots = even_share(0, 2);
        let load = Load::start(site.routers[round % 2].address(), &plan).await?;
        load.until_done(500).await?;
        // Time for what it has acknowledged by then to be copied.
        let former = site.leaders[0];
        let replica = &site.shards[0][site.replicas(0)[0]];
        let mut sql = replica.connect().await?;
        site.shards[0][former].freeze()?;
        sql.run("DO SLEEP(0.5)").await?;
        let open = site.promote_best(0).await?;
        let clients = site.clients().await?;
        let key = keys_of(0, 2, "after").next().expect("endless");
        until_served(&clients, &key).await?;
        until_written.push(open.elapsed());
        site.shards[0][former].thaw()?;
        alarmed.push(until_alarmed(&site, &site.address(0, former)).await?);
        load.until_done(200).await?;
        let outcome = load.stop().await?;
        let shown = table::shown(&clients[0], &outcome.history).await?;
        let lost = outcome.history.violations(&shown);
        // Asynchronous replication may have lost what was acknowledged just before the freeze, and
        // that alone: whatever was acknowledged later stands where the new master is.
        let is_lost = |words: &String| words.contains("lost or undone");
        assert!(lost.iter().all(is_lost), "{lost:?}");
        let late = outcome.history.violations_since(open, &shown);
        assert_eq!(late, [""; 0], "acknowledged by the former master");
        // What it did when it woke up is nowhere to be seen.
        let rows = table::rows(&site.shards[0][site.leaders[0]]).await?;
        let rows: BTreeMap<String, &table::Row> =
            rows.iter().map(|row| (row.key.clone(), row)).collect();
        for (key, value) in &shown {
            let stored = rows.get(key).map(|row| &row.value);
            assert_eq!(stored, Some(value), "{key}");
        }
        done += outcome.done;
        unknown += outcome.history.count(Ending::Unknown);
        unsent += lost.len();
        site.rebuild(0, former).await?;
    }
    println!(
        "{engine}: {rounds} masters frozen under load, and resumed after the promotion\n  {done} \
         calls ended well, {unknown} unknown, {unsent} acknowledged before the freeze and not \
         copied, 0 acknowledged after the promotion and not there\n  from the new master's opening \
         to a write through both routers: {}\n  alarm after the former master woke up: {}",
        kills::shares(&mut until_written),
        kills::shares(&mut alarmed)
    );
    Ok(())
}

on_servers!(a_frozen_master_acknowledges_nothing_after_it_was_replaced);
