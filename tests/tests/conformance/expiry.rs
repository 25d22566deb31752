//! Expired means gone, by the database's own clock, to the millisecond.
//!
//! A test cannot stop that clock, but it can look at it before and after a request: the request
//! saw some moment in between, and its answer must fit one.

use std::time::Duration;

use freehold_core::{Key, limits::TTL_MAX};
use freehold_storage::{ExpireRow, Outcome, Refusal, ScanRange, StorageError};

use crate::{
    audit::Audit,
    lane::{Lane, WHOLE, key, keys_of_one_slot, row, row_with_ttl},
    store::{Result, Store},
};

on_every_engine!(
    a_read_finds_a_row_until_the_very_millisecond_it_expires,
    a_delete_finds_a_row_until_the_very_millisecond_it_expires,
    an_expire_finds_a_row_until_the_very_millisecond_it_expires,
    a_delete_that_waited_for_a_row_judges_by_the_clock_behind_its_wait,
    an_expire_that_waited_for_a_row_judges_by_the_clock_behind_its_wait,
    an_expired_row_is_nowhere_to_be_seen,
    an_expired_key_can_be_put_again,
    an_expiry_is_counted_from_the_databases_now,
    rows_of_one_statement_expire_each_in_its_own_time,
    a_row_may_live_a_hundred_years,
);

/// How long the rows of the tests at the edge live: long enough to be there when the test begins
/// to look, on any machine.
const TTL_MS: i64 = 400;

/// Gives all keys one and the same expiry, `TTL_MS` from now, and says which.
async fn expiring(lane: &mut Lane, audit: &mut Audit, keys: &[Key]) -> Result<i64> {
    lane.put(keys.iter().map(|key| row_with_ttl(key, "value", 3_600_000)))
        .await?;
    let expires_at = audit.now_ms().await? + TTL_MS;
    audit
        .run(&format!("UPDATE store SET expires_at = {expires_at}"))
        .await?;
    Ok(expires_at)
}

/// Takes some time before the edge comes near: 2,000 rows are few for a fast machine.
async fn linger(left_ms: i64) {
    if left_ms > 20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Whether an answer that came between two looks at the clock can be true.
fn check(found: bool, (before, after): (i64, i64), expires_at: i64) {
    match found {
        true => assert!(before < expires_at, "found {} ms late", before - expires_at),
        false => assert!(after >= expires_at, "gone {} ms early", expires_at - after),
    }
}

pub(crate) async fn a_read_finds_a_row_until_the_very_millisecond_it_expires(
    store: &Store,
) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut audit = store.audit().await?;
    let k = key("k");
    // A machine that stands still before the first look tries again.
    for _ in 0..10 {
        let expires_at = expiring(&mut lane, &mut audit, std::slice::from_ref(&k)).await?;
        if is_found_until(&mut lane, &mut audit, &k, expires_at).await? {
            assert_eq!(lane.row(&k).await?, None, "it came back");
            return Ok(());
        }
    }
    Err("the row was gone before the first look, ten times".into())
}

/// Looks until it is gone; whether it was there at all.
async fn is_found_until(
    lane: &mut Lane,
    audit: &mut Audit,
    k: &Key,
    expires_at: i64,
) -> Result<bool> {
    let mut found_once = false;
    loop {
        let before = audit.now_ms().await?;
        let found = lane.row(k).await?;
        let after = audit.now_ms().await?;
        check(found.is_some(), (before, after), expires_at);
        let Some(found) = found else {
            return Ok(found_once);
        };
        found_once = true;
        let ttl_ms = found.ttl_ms.ok_or("no ttl")?.cast_signed();
        let bounds = (expires_at - after).max(1)..=expires_at - before;
        assert!(
            bounds.contains(&ttl_ms),
            "{ttl_ms} ms to live, not within {bounds:?}"
        );
    }
}

pub(crate) async fn a_delete_finds_a_row_until_the_very_millisecond_it_expires(
    store: &Store,
) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut audit = store.audit().await?;
    let keys = keys_of_one_slot("t", 2_000);
    let expires_at = expiring(&mut lane, &mut audit, &keys).await?;
    for key in &keys {
        let before = audit.now_ms().await?;
        let existed = lane.delete_one(key).await?;
        let after = audit.now_ms().await?;
        check(existed, (before, after), expires_at);
        if !existed {
            return Ok(());
        }
        linger(expires_at - after).await;
    }
    Err("all rows were deleted before they expired".into())
}

pub(crate) async fn an_expire_finds_a_row_until_the_very_millisecond_it_expires(
    store: &Store,
) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut audit = store.audit().await?;
    let keys = keys_of_one_slot("t", 2_000);
    let expires_at = expiring(&mut lane, &mut audit, &keys).await?;
    for key in &keys {
        let before = audit.now_ms().await?;
        let existed = lane.expire_one(key, Some(3_600_000)).await?;
        let after = audit.now_ms().await?;
        check(existed, (before, after), expires_at);
        assert_eq!(
            lane.row(key).await?.is_some(),
            existed,
            "what was gone stays gone"
        );
        if !existed {
            return Ok(());
        }
        linger(expires_at - after).await;
    }
    Err("all rows got another expiry before they expired".into())
}

pub(crate) async fn a_delete_that_waited_for_a_row_judges_by_the_clock_behind_its_wait(
    store: &Store,
) -> Result<()> {
    judges_behind_its_wait(store, |mut lane, key| async move {
        let fence = lane.fence;
        lane.data.delete(&fence, &[key]).await.remove(0)
    })
    .await
}

pub(crate) async fn an_expire_that_waited_for_a_row_judges_by_the_clock_behind_its_wait(
    store: &Store,
) -> Result<()> {
    judges_behind_its_wait(store, |mut lane, key| async move {
        let (fence, row) = (
            lane.fence,
            ExpireRow {
                key,
                ttl_ms: Some(3_600_000),
            },
        );
        lane.data.expire(&fence, &[row]).await.remove(0)
    })
    .await
}

/// Sends a write to a live row that is locked, lets the row expire, and gives it free: others have
/// seen the row expire, so the write must not find it.
async fn judges_behind_its_wait<F>(store: &Store, write: impl Fn(Lane, Key) -> F) -> Result<()>
where
    F: Future<Output = Outcome<bool>> + Send + 'static,
{
    store.ready().await?;
    let k = key("k");
    // A write waits two seconds at most; a machine that is slower than that tries again.
    for _ in 0..10 {
        let mut lane = store.lane().await?;
        let mut audit = store.audit().await?;
        let mut holder = store.audit().await?;
        let expires_at = expiring(&mut lane, &mut audit, std::slice::from_ref(&k)).await?;
        holder.lock_all_rows().await?;
        let sent_at = audit.now_ms().await?;
        let sent = tokio::spawn(write(lane, k.clone()));
        while audit.now_ms().await? <= expires_at {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        holder.run("ROLLBACK").await?;
        match sent.await? {
            Outcome::Applied(existed) if sent_at < expires_at => {
                assert!(
                    !existed,
                    "it found a row that had expired before it could write"
                );
                return Ok(());
            }
            Outcome::Applied(_) => {}
            Outcome::Failed(StorageError::Refused {
                refusal: Refusal::Busy,
                ..
            }) => {}
            other => return Err(format!("{other:?}").into()),
        }
    }
    Err("no write waited for its row".into())
}

pub(crate) async fn an_expired_row_is_nowhere_to_be_seen(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut audit = store.audit().await?;
    let (dead, live) = (key("{t}dead"), key("{t}live"));
    lane.put([row_with_ttl(&dead, "value", 3_600_000), row(&live, "value")])
        .await?;
    let dead_slot = dead.slot();
    // A second after 1970 began: expired, and not the mark of a deleted row.
    let never = i64::MAX;
    audit
        .run(&format!(
            "UPDATE store SET expires_at = 1000 WHERE expires_at < {never}"
        ))
        .await?;

    let both = [dead.clone(), live.clone()];
    assert_eq!(lane.read(&both, WHOLE).await?.iter().flatten().count(), 1);
    assert_eq!(lane.row(&dead).await?, None);
    let range = ScanRange {
        slots: vec![dead_slot],
        prefix: "".into(),
        after: None,
        rows_max: 10,
        columns: WHOLE,
    };
    let page = lane.data.scan(&range).await?;
    let keys: Vec<Key> = page.rows.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [live]);
    assert!(page.complete);

    let before = audit.all_rows().await?;
    assert!(!lane.delete_one(&dead).await?);
    assert!(!lane.expire_one(&dead, Some(60_000)).await?);
    assert!(!lane.expire_one(&dead, None).await?);
    assert_eq!(
        audit.all_rows().await?,
        before,
        "a row past its expiry is never touched again"
    );
    let raw = lane
        .inspect(&dead)
        .await?
        .ok_or("the sweeper has not come yet")?;
    assert_eq!((raw.live, raw.ttl_ms), (false, None));
    Ok(())
}

pub(crate) async fn an_expired_key_can_be_put_again(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let k = key("k");
    lane.put([row_with_ttl(&k, "old", 3_600_000)]).await?;
    store
        .audit()
        .await?
        .run("UPDATE store SET expires_at = 1000")
        .await?;
    lane.put([row(&k, "new")]).await?;
    assert_eq!(lane.value(&k).await?, Some("new".into()));
    Ok(())
}

pub(crate) async fn an_expiry_is_counted_from_the_databases_now(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut audit = store.audit().await?;
    let k = key("k");
    for ttl_ms in [60_000, 3_600_000, 86_400_001, 31_557_600_123] {
        for by_put in [true, false] {
            let before = audit.now_ms().await?;
            if by_put {
                lane.put([row_with_ttl(&k, "value", ttl_ms)]).await?;
            } else {
                assert!(lane.expire_one(&k, Some(ttl_ms)).await?);
            }
            let after = audit.now_ms().await?;
            let expires_at = audit.number("SELECT expires_at FROM store").await?;
            let bounds = before + ttl_ms.cast_signed()..=after + ttl_ms.cast_signed();
            assert!(
                bounds.contains(&expires_at),
                "{expires_at} is not within {bounds:?}"
            );
        }
    }
    Ok(())
}

pub(crate) async fn rows_of_one_statement_expire_each_in_its_own_time(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut audit = store.audit().await?;
    let keys = keys_of_one_slot("t", 3);
    let ttls = [Some(1_000_000), None, Some(3_000_000)];
    lane.put(keys.iter().map(|key| row(key, "value"))).await?;
    let rows: Vec<ExpireRow> = keys
        .iter()
        .zip(ttls)
        .map(|(key, ttl_ms)| ExpireRow {
            key: key.clone(),
            ttl_ms,
        })
        .collect();
    let before = audit.now_ms().await?;
    assert_eq!(lane.expire(&rows).await?, [true; 3]);
    let after = audit.now_ms().await?;
    let stored = audit
        .rows("SELECT expires_at FROM store ORDER BY slot, `key`")
        .await?;
    for (stored, ttl_ms) in stored.iter().zip(ttls) {
        let stored: i64 = stored[0].parse()?;
        match ttl_ms.map(u64::cast_signed) {
            None => assert_eq!(stored, i64::MAX, "never"),
            Some(ttl_ms) => assert!((before + ttl_ms..=after + ttl_ms).contains(&stored)),
        }
    }
    Ok(())
}

pub(crate) async fn a_row_may_live_a_hundred_years(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let k = key("k");
    let ttl_max_ms = u64::try_from(TTL_MAX.as_millis())?;
    lane.put([row_with_ttl(&k, "value", ttl_max_ms)]).await?;
    let day_ms = 86_400_000;
    for _ in 0..2 {
        let ttl_ms = lane
            .row(&k)
            .await?
            .and_then(|row| row.ttl_ms)
            .ok_or("no ttl")?;
        assert!(
            (ttl_max_ms - day_ms..=ttl_max_ms).contains(&ttl_ms),
            "{ttl_ms}"
        );
        assert!(lane.expire_one(&k, Some(ttl_max_ms)).await?);
    }
    Ok(())
}
