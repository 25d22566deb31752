//! What a shard says of itself and of its slots.

use freehold_core::{SCHEMA_VERSION, SLOTS, ShardIdentity, Slot, SlotClaim, SlotState};

use freehold_storage::{schema::SchemaState, sweep::Holder};

use crate::store::{Result, Store, WITHIN, identity};

on_every_engine!(
    a_new_shard_claims_all_slots_at_epoch_1,
    only_rows_above_the_asked_epoch_are_told,
    states_and_peers_are_told_as_they_lie_there,
    names_are_told_as_they_were_given,
    fence_and_slots_are_of_one_snapshot,
);

pub(crate) async fn a_new_shard_claims_all_slots_at_epoch_1(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let claims = lane.data.claims(0).await?;
    assert_eq!(
        claims.identity,
        ShardIdentity {
            schema_version: SCHEMA_VERSION,
            ..identity()
        }
    );
    assert_eq!((claims.fence.term, claims.fence.epoch), (1, 1));
    assert_eq!(claims.answered_by, claims.fence.server_id);
    assert_ne!(claims.fence.stamp, 0, "a stamp is random");
    assert_eq!(claims.claims.len(), SLOTS);
    for (claim, slot) in claims.claims.iter().zip(Slot::all()) {
        let state = SlotState::Owned;
        let expected = SlotClaim {
            slot,
            state,
            slot_epoch: 1,
            peer: None,
            since_epoch: 1,
        };
        assert_eq!(*claim, expected);
    }
    Ok(())
}

pub(crate) async fn only_rows_above_the_asked_epoch_are_told(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut audit = store.audit().await?;
    for (epoch, slot) in [(2, 65_535), (3, 0), (3, 7), (5, 8)] {
        audit
            .run(&format!(
                "UPDATE slots SET since_epoch = {epoch} WHERE slot = {slot}"
            ))
            .await?;
        audit
            .run(&format!("UPDATE shard SET epoch = {epoch}"))
            .await?;
    }
    for (above, expected) in [
        (1, vec![0, 7, 8, 65_535]),
        (2, vec![0, 7, 8]),
        (4, vec![8]),
        (5, vec![]),
    ] {
        let claims = lane.data.claims(above).await?;
        let told: Vec<u16> = claims.claims.iter().map(|claim| claim.slot.0).collect();
        assert_eq!(told, expected, "above {above}");
        assert_eq!(claims.fence.epoch, 5);
    }
    assert_eq!(lane.data.claims(0).await?.claims.len(), SLOTS);
    Ok(())
}

pub(crate) async fn states_and_peers_are_told_as_they_lie_there(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut audit = store.audit().await?;
    for (slot, state) in SlotState::ALL.iter().enumerate() {
        let state = state.as_str();
        let change = format!(
            "UPDATE slots SET state = '{state}', peer = 'shard {slot}', slot_epoch = {}, \
             since_epoch = 2 WHERE slot = {slot}",
            slot + 100
        );
        audit.run(&change).await?;
    }
    let claims = lane.data.claims(1).await?.claims;
    assert_eq!(claims.len(), SlotState::ALL.len());
    for ((claim, state), slot) in claims.iter().zip(SlotState::ALL).zip(0..) {
        let expected = SlotClaim {
            slot: Slot(slot),
            state,
            slot_epoch: u64::from(slot) + 100,
            peer: Some(format!("shard {slot}").into()),
            since_epoch: 2,
        };
        assert_eq!(*claim, expected);
    }
    Ok(())
}

pub(crate) async fn names_are_told_as_they_were_given(store: &Store) -> Result<()> {
    let name = r#"a'b"c`d\e %_ ключ 😀"#;
    let mut schema = store.schema().await?;
    let named = ShardIdentity {
        name: name.to_owned(),
        ..identity()
    };
    schema.create(&named).await?;
    assert_eq!(schema.state().await?, SchemaState::Started(named.clone()));
    schema.take_slots(0..=0).await?;
    assert_eq!(store.data().await?.claims(0).await?.identity.name, name);
    let holder = Holder {
        id: 1,
        name: name.to_owned(),
    };
    let mut sweep = store.sweep().await?;
    assert_eq!(
        sweep.lease(&holder, WITHIN).await?.holder.as_deref(),
        Some(name)
    );
    assert_eq!(sweep.look_at_lease().await?.holder.as_deref(), Some(name));
    Ok(())
}

pub(crate) async fn fence_and_slots_are_of_one_snapshot(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut audit = store.audit().await?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let changes = tokio::spawn(async move {
        let mut epoch = 1;
        // Until it is told to stop, or whoever would tell is gone.
        while matches!(stopped.has_changed(), Ok(false)) {
            epoch += 1;
            let change = format!(
                "BEGIN; UPDATE shard SET epoch = {epoch}, stamp = {epoch}; \
                 UPDATE slots SET since_epoch = {epoch} WHERE slot = {}; COMMIT",
                epoch % 100
            );
            audit.run(&change).await?;
        }
        Result::<i64>::Ok(epoch)
    });
    let mut seen = 1;
    while seen < 200 {
        let claims = lane.data.claims(seen.min(150)).await?;
        let newest = claims
            .claims
            .iter()
            .map(|claim| claim.since_epoch)
            .max()
            .unwrap_or(seen);
        assert_eq!(
            newest, claims.fence.epoch,
            "slots of one moment, the fence of another"
        );
        seen = newest;
    }
    stop.send(true)?;
    changes.await??;
    Ok(())
}
