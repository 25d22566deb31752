//! What an operator has to mend first, as a caller sees it.

use std::collections::BTreeMap;

use freehold_tests::{Engine, Result, Router, Shard};

use crate::scene::{Scene, shards, slot_of, start_masters, tag_of};
use crate::script::python;

#[tokio::test]
async fn callers_are_told_what_to_mend() -> Result<()> {
    let masters = start_masters(Engine::MariaDb).await?;
    let both = shards(&masters);

    let scene = Scene::new(served(&both, "starting").await?, masters, &["a", "b"]);
    let mut scene = scene;
    python(&mut scene, &["test_misconfigured.Uninitialised"]).await?;

    scene.router.init().await?.success()?;
    scene.router = served(&both[..1], "serving").await?;
    python(&mut scene, &["test_misconfigured.Unowned"]).await?;

    claim_on_b(&scene, slot_of(&tag_of(0, 2))).await?;
    scene.router = served(&both, "serving").await?;
    python(&mut scene, &["test_misconfigured.ClaimedTwice"]).await
}

/// A router that has looked at all of its shards; not all of them need to be fit.
async fn served(shards: &[Shard], status: &str) -> Result<Router> {
    let mut router = Router::configure(shards, "")?;
    router.launch()?;
    router
        .wait_for_health("a look at every shard", |_, health| {
            health.contains(status) && !health.contains("not reached yet")
        })
        .await?;
    Ok(router)
}

/// Claims a slot of shard a for shard b, too.
async fn claim_on_b(scene: &Scene, slot: u16) -> Result<()> {
    let mut epochs = BTreeMap::new();
    for (name, master) in &scene.masters {
        let query = format!("SELECT slot_epoch FROM slots WHERE slot = {slot}");
        epochs.insert(name, master.connect().await?.first::<u64>(&query).await?);
    }
    let [Some(epoch), None] = epochs.into_values().collect::<Vec<_>>()[..] else {
        panic!("slot {slot} is not a's alone");
    };
    let mut b = scene.masters["b"].connect().await?;
    b.run(&format!(
        "UPDATE shard SET epoch = epoch + 1, stamp = stamp + 1;
         INSERT INTO slots (slot, state, slot_epoch, attempt, since_epoch)
             SELECT {slot}, 'owned', {epoch}, 0, epoch FROM shard"
    ))
    .await
}
