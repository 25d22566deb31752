//! PUT, GET, DELETE, TTL, EXPIRE and PERSIST, each by what it answers and what is there afterwards.

use freehold_core::Key;
use freehold_storage::{Columns, ExpireRow, PutRow, RawRow, Value};

use crate::{
    lane::{WHOLE, key, keys_of_one_slot, row, row_with_ttl},
    store::{Result, Store},
};

on_every_engine!(
    a_put_stores_value_version_and_no_expiry,
    a_put_replaces_value_version_and_expiry,
    a_delete_tells_whether_a_live_row_was_there,
    a_deleted_key_can_be_put_again,
    an_expire_changes_the_expiry_and_nothing_else,
    a_batch_answers_each_key_in_order,
    a_batch_may_be_of_any_size,
    versions_and_stamps_have_64_bits,
    a_value_above_the_asked_size_comes_as_its_length,
);

pub(crate) async fn a_put_stores_value_version_and_no_expiry(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let k = key("k");
    assert_eq!(lane.row(&k).await?, None);
    assert_eq!(lane.inspect(&k).await?, None);
    lane.put([PutRow {
        version: 7,
        ..row(&k, "value")
    }])
    .await?;

    let found = lane.row(&k).await?.ok_or("no row")?;
    assert_eq!((found.version, found.ttl_ms), (7, None));
    assert_eq!(found.value, Value::Bytes("value".into()));
    let raw = RawRow {
        live: true,
        version: 7,
        ttl_ms: None,
        value_bytes: 5,
    };
    assert_eq!(lane.inspect(&k).await?, Some(raw));

    let without_value = lane
        .read(std::slice::from_ref(&k), Columns::Expiry)
        .await?
        .remove(0);
    assert_eq!(without_value.ok_or("no row")?.value, Value::NotRead);
    Ok(())
}

pub(crate) async fn a_put_replaces_value_version_and_expiry(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let k = key("k");
    lane.put([row_with_ttl(&k, "longer than the next", 3_600_000)])
        .await?;
    let ttl_ms = lane
        .row(&k)
        .await?
        .and_then(|row| row.ttl_ms)
        .ok_or("no ttl")?;
    assert!((3_500_000..=3_600_000).contains(&ttl_ms), "{ttl_ms}");
    lane.put([PutRow {
        version: 2,
        ..row(&k, "new")
    }])
    .await?;
    let found = lane.row(&k).await?.ok_or("no row")?;
    assert_eq!((found.version, found.ttl_ms), (2, None));
    assert_eq!(found.value, Value::Bytes("new".into()));
    assert_eq!(store.audit().await?.all_rows().await?.len(), 1);
    Ok(())
}

pub(crate) async fn a_delete_tells_whether_a_live_row_was_there(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let (k, neighbour) = (key("{t}k"), key("{t}l"));
    assert!(!lane.delete_one(&k).await?, "nothing was there");
    lane.put([row(&k, "value"), row(&neighbour, "stays")])
        .await?;
    assert!(lane.delete_one(&k).await?, "a live row was there");
    assert!(!lane.delete_one(&k).await?, "it was deleted before");
    assert_eq!(lane.row(&k).await?, None);
    assert_eq!(lane.value(&neighbour).await?, Some("stays".into()));
    // The row lies there until the sweeper comes.
    let raw = lane.inspect(&k).await?.ok_or("no row")?;
    assert_eq!((raw.live, raw.ttl_ms), (false, None));
    Ok(())
}

pub(crate) async fn a_deleted_key_can_be_put_again(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let k = key("k");
    lane.put([row(&k, "old")]).await?;
    lane.delete_one(&k).await?;
    assert!(
        !lane.expire_one(&k, None).await?,
        "persisting does not revive it"
    );
    lane.put([row(&k, "new")]).await?;
    assert_eq!(lane.value(&k).await?, Some("new".into()));
    assert!(lane.delete_one(&k).await?);
    Ok(())
}

pub(crate) async fn an_expire_changes_the_expiry_and_nothing_else(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let k = key("k");
    assert!(
        !lane.expire_one(&k, Some(60_000)).await?,
        "nothing was there"
    );
    lane.put([PutRow {
        version: 9,
        ..row(&k, "value")
    }])
    .await?;
    assert!(lane.expire_one(&k, Some(60_000)).await?);
    let found = lane.row(&k).await?.ok_or("no row")?;
    assert!(
        (1..=60_000).contains(&found.ttl_ms.ok_or("no ttl")?),
        "{found:?}"
    );
    assert_eq!(
        (found.version, found.value),
        (9, Value::Bytes("value".into()))
    );
    // A second PERSIST changes no byte of the row, and still finds it there.
    for _ in 0..2 {
        assert!(lane.expire_one(&k, None).await?);
        assert_eq!(lane.row(&k).await?.ok_or("no row")?.ttl_ms, None);
    }
    Ok(())
}

pub(crate) async fn a_batch_answers_each_key_in_order(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let mut keys: Vec<Key> = (0..60).map(|number| key(format!("key:{number}"))).collect();
    keys.sort();
    let there = |index: usize| !index.is_multiple_of(3);
    let put = keys.iter().enumerate().filter(|(index, _)| there(*index));
    lane.put(put.map(|(index, key)| row(key, index.to_string())))
        .await?;

    for (index, found) in lane.read(&keys, WHOLE).await?.into_iter().enumerate() {
        let expected = there(index).then(|| Value::Bytes(index.to_string().into()));
        assert_eq!(found.map(|row| row.value), expected, "{index}");
    }
    let hour = |key: &Key| ExpireRow {
        key: key.clone(),
        ttl_ms: Some(3_600_000),
    };
    let expected: Vec<bool> = (0..keys.len()).map(there).collect();
    assert_eq!(
        lane.expire(&keys.iter().map(hour).collect::<Vec<_>>())
            .await?,
        expected
    );
    assert_eq!(lane.delete(&keys).await?, expected);
    assert_eq!(lane.delete(&keys).await?, vec![false; keys.len()]);
    assert!(lane.read(&keys, WHOLE).await?.iter().all(Option::is_none));
    Ok(())
}

pub(crate) async fn a_batch_may_be_of_any_size(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    for size in [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 128] {
        let keys = keys_of_one_slot(&format!("size {size}"), size);
        // The value says which size and which place it belongs to.
        let value = |place: usize| format!("{size}/{place}");
        lane.put(
            keys.iter()
                .enumerate()
                .map(|(place, key)| row(key, value(place))),
        )
        .await?;
        for (place, found) in lane.read(&keys, WHOLE).await?.into_iter().enumerate() {
            let found = found.ok_or_else(|| format!("no row {}", value(place)))?;
            assert_eq!(found.value, Value::Bytes(value(place).into()));
        }
        let minutes = keys
            .iter()
            .zip(1..)
            .map(|(key, minutes): (_, u64)| ExpireRow {
                key: key.clone(),
                ttl_ms: Some(minutes * 60_000),
            });
        assert_eq!(
            lane.expire(&minutes.collect::<Vec<_>>()).await?,
            vec![true; size]
        );
        for (found, minutes) in lane
            .read(&keys, Columns::Expiry)
            .await?
            .into_iter()
            .zip(1..)
        {
            let ttl_ms = found.and_then(|row| row.ttl_ms).ok_or("no ttl")?;
            assert_eq!(
                ttl_ms.div_ceil(60_000),
                minutes,
                "each row has its own expiry"
            );
        }
        assert_eq!(lane.delete(&keys).await?, vec![true; size]);
    }
    Ok(())
}

pub(crate) async fn versions_and_stamps_have_64_bits(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    for stamp in [u64::MAX, 1 << 63, i64::MAX.cast_unsigned()] {
        let shown = match store.engine() {
            Some(_) => stamp.to_string(),
            // SQLite has signed numbers only: the bits are the same.
            None => stamp.cast_signed().to_string(),
        };
        store
            .audit()
            .await?
            .run(&format!("UPDATE shard SET stamp = {shown} WHERE id = 1"))
            .await?;
        lane.fence = lane.data.claims(0).await?.fence;
        assert_eq!(lane.fence.stamp, stamp);
        let k = key("k");
        lane.put([PutRow {
            version: stamp,
            ..row(&k, "v")
        }])
        .await?;
        assert_eq!(lane.row(&k).await?.ok_or("no row")?.version, stamp);
        assert_eq!(lane.inspect(&k).await?.ok_or("no row")?.version, stamp);
        assert_eq!(lane.data.read(&[k], WHOLE).await?.fence.stamp, stamp);
    }
    Ok(())
}

pub(crate) async fn a_value_above_the_asked_size_comes_as_its_length(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let keys = keys_of_one_slot("t", 3);
    lane.put(
        keys.iter()
            .zip(99..)
            .map(|(key, bytes)| row(key, vec![b'x'; bytes])),
    )
    .await?;
    let read = lane.read(&keys, Columns::Value { bytes_max: 100 }).await?;
    let values: Vec<Value> = read.into_iter().flatten().map(|row| row.value).collect();
    assert_eq!(values[0], Value::Bytes(vec![b'x'; 99].into()));
    assert_eq!(values[1], Value::Bytes(vec![b'x'; 100].into()));
    assert_eq!(values[2], Value::TooLarge { bytes: 101 });
    let none = lane.read(&keys, Columns::Value { bytes_max: 0 }).await?;
    assert_eq!(
        none[0].as_ref().map(|row| &row.value),
        Some(&Value::TooLarge { bytes: 99 })
    );
    Ok(())
}
