//! The sweeper's lease: one holder at a time, by the database's clock.

use std::time::Duration;

use freehold_storage::sweep::{Holder, Lease};

use crate::store::{Result, Store, WITHIN};

on_every_engine!(
    one_of_two_holders_has_the_lease,
    a_lease_given_back_is_free_at_once,
    a_lease_ends_by_the_databases_clock,
    a_pause_holds_for_everybody_and_outlives_connections,
);

const MINUTE: Duration = Duration::from_secs(60);

fn holders() -> (Holder, Holder) {
    let holder = |id, name: &str| Holder {
        id,
        name: name.to_owned(),
    };
    (holder(u64::MAX, "first"), holder(1, "second"))
}

fn lease(held: bool, holder: Option<&str>) -> Lease {
    Lease {
        held,
        holder: holder.map(str::to_owned),
        paused: false,
    }
}

pub(crate) async fn one_of_two_holders_has_the_lease(store: &Store) -> Result<()> {
    store.ready().await?;
    let (mut a, mut b) = (store.sweep().await?, store.sweep().await?);
    let (first, second) = holders();
    assert_eq!(
        a.look_at_lease().await?,
        lease(false, None),
        "looking does not take it"
    );
    assert_eq!(a.lease(&first, MINUTE).await?, lease(true, Some("first")));
    assert_eq!(b.lease(&second, MINUTE).await?, lease(false, Some("first")));
    assert_eq!(
        a.lease(&first, MINUTE).await?,
        lease(true, Some("first")),
        "it may be kept"
    );
    assert_eq!(b.look_at_lease().await?, lease(false, Some("first")));

    // Of many that try at the same moment, one gets it.
    a.release_lease(&first).await?;
    let mut tries = Vec::new();
    for id in 10..16 {
        let mut connection = store.sweep().await?;
        let holder = Holder {
            id,
            name: id.to_string(),
        };
        tries.push(tokio::spawn(async move {
            connection.lease(&holder, MINUTE).await
        }));
    }
    let mut held = 0;
    for one in tries {
        held += usize::from(one.await??.held);
    }
    assert_eq!(held, 1);
    Ok(())
}

pub(crate) async fn a_lease_given_back_is_free_at_once(store: &Store) -> Result<()> {
    store.ready().await?;
    let (mut a, mut b) = (store.sweep().await?, store.sweep().await?);
    let (first, second) = holders();
    a.lease(&first, MINUTE).await?;
    b.release_lease(&second).await?;
    assert_eq!(
        a.look_at_lease().await?,
        lease(false, Some("first")),
        "it was not the second's"
    );
    a.release_lease(&first).await?;
    assert_eq!(a.look_at_lease().await?, lease(false, None));
    assert_eq!(b.lease(&second, MINUTE).await?, lease(true, Some("second")));
    a.release_lease(&first).await?;
    assert_eq!(a.look_at_lease().await?, lease(false, Some("second")));
    Ok(())
}

pub(crate) async fn a_lease_ends_by_the_databases_clock(store: &Store) -> Result<()> {
    store.ready().await?;
    let mut audit = store.audit().await?;
    let (mut a, mut b) = (store.sweep().await?, store.sweep().await?);
    let (first, second) = holders();
    let length_ms = 300;
    let taken_after = audit.now_ms().await?;
    a.lease(&first, Duration::from_millis(length_ms)).await?;
    let taken_before = audit.now_ms().await?;
    let length_ms = length_ms.cast_signed();
    let wait = async {
        loop {
            let asked_after = audit.now_ms().await?;
            let got = b.lease(&second, MINUTE).await?;
            let asked_before = audit.now_ms().await?;
            if got.held {
                assert!(
                    asked_before >= taken_after + length_ms,
                    "taken away before it was over"
                );
                return Result::<()>::Ok(());
            }
            assert!(
                asked_after < taken_before + length_ms,
                "held longer than it lasts"
            );
        }
    };
    tokio::time::timeout(WITHIN, wait).await??;
    assert_eq!(a.lease(&first, MINUTE).await?, lease(false, Some("second")));
    Ok(())
}

pub(crate) async fn a_pause_holds_for_everybody_and_outlives_connections(
    store: &Store,
) -> Result<()> {
    store.ready().await?;
    let (first, _) = holders();
    store.sweep().await?.set_paused(true).await?;
    let mut other = store.sweep().await?;
    assert!(other.look_at_lease().await?.paused);
    assert!(other.lease(&first, MINUTE).await?.paused);
    other.release_lease(&first).await?;
    assert!(
        other.look_at_lease().await?.paused,
        "giving the lease back ends no pause"
    );
    other.set_paused(true).await?;
    store.sweep().await?.set_paused(false).await?;
    assert!(!other.lease(&first, MINUTE).await?.paused);
    Ok(())
}
