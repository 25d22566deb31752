//! Rows and logs of slots on their way: copied as they are, compared, and deleted in parts.

use freehold_core::{
    Key,
    moving::{Step, Work},
};
use freehold_storage::{
    PutRow,
    moves::{CopyRow, Portion, Stretch},
};

use crate::{
    lane::{key, keys_of_one_slot, row, row_with_ttl},
    moves::{Scene, keys_of_many_slots, slots_of},
    store::{Result, Store},
};

on_every_engine!(
    rows_are_read_in_pages_and_stored_as_they_are,
    large_values_are_left_out_of_a_page_and_stored_alone,
    an_entry_of_the_log_stays_if_its_key_was_written_again,
    checksums_tell_rows_apart_and_leave_out_dead_ones,
    rows_and_log_are_deleted_in_bounded_parts,
    long_rows_are_deleted_a_few_at_a_time,
);

async fn rows_are_read_in_pages_and_stored_as_they_are(store: &Store) -> Result<()> {
    let keys = keys_of_many_slots(300);
    let slots = slots_of(&keys);
    let mut lane = store.ready().await?;
    let every_byte: Vec<u8> = (0..=255).collect();
    let of = |(index, key): (usize, &Key)| -> PutRow {
        let value = &every_byte[..index % 257];
        match index % 3 {
            0 => row_with_ttl(key, value, 3_600_000),
            _ => row(key, value),
        }
    };
    lane.put(keys.iter().enumerate().map(of)).await?;
    let dead = lane.delete(&keys[10..12]).await?;
    assert_eq!(dead, [true; 2]);
    let mut scene = Scene::new(store, slots.clone()).await?;
    // `ready` empties the store.
    lane.put(keys.iter().enumerate().map(of)).await?;
    lane.delete(&keys[10..12]).await?;
    scene
        .audit
        .run("DELETE FROM store WHERE expires_at = -1")
        .await?;
    let before = scene.audit.all_rows().await?;

    let (mut copied, mut stretch) = (Vec::new(), Stretch::from(slots.clone()));
    loop {
        let page = scene.moves.page(&stretch, 7, 1 << 20).await?;
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        stretch.after = Some(last.key.clone());
        copied.extend(page);
    }
    let found: Vec<&Key> = copied.iter().map(|row| &row.key).collect();
    let live: Vec<&Key> = keys
        .iter()
        .enumerate()
        .filter(|(at, _)| !(10..12).contains(at))
        .map(|(_, key)| key)
        .collect();
    assert!(found == live, "each live row once, in order");
    let picked = scene.moves.rows(&keys[..20], 1 << 20).await?;
    assert_eq!(picked, copied[..18], "the same by key");

    scene
        .steps(&[Step::Announce, Step::Fence, Step::GiveAway])
        .await?;
    let hold = scene.hold;
    while cleared(&mut scene, Work::Empty, 100).await? != Some(0) {}
    assert!(scene.audit.all_rows().await?.is_empty());
    scene.steps(&[Step::Receive]).await?;
    assert_eq!(scene.moves.store(hold, &copied).await?, Some(()));
    // And once more, as a mover does that does not know how far it was.
    assert_eq!(scene.moves.store(hold, &copied).await?, Some(()));
    assert!(scene.audit.all_rows().await? == before);
    Ok(())
}

async fn large_values_are_left_out_of_a_page_and_stored_alone(store: &Store) -> Result<()> {
    let keys = keys_of_one_slot("large", 3);
    let mut scene = Scene::receiving(store, slots_of(&keys)).await?;
    let mut rows = Scene::copies(&keys, b"small");
    // Quoted it would be twice as long, which no packet of MariaDB's default takes.
    let large = vec![b'\''; 15 << 20];
    rows[1] = Scene::copies(&keys[1..2], &large).remove(0);
    assert_eq!(scene.moves.store(scene.hold, &rows).await?, Some(()));
    let slots = Stretch::from(scene.slots.clone());
    let page = scene.moves.page(&slots, 10, 100).await?;
    let lengths: Vec<(bool, usize)> = page
        .iter()
        .map(|row| (row.value.is_some(), row.value_bytes))
        .collect();
    assert_eq!(lengths, [(true, 5), (false, large.len()), (true, 5)]);
    let whole = scene.moves.rows(&keys[1..2], large.len()).await?;
    assert!(whole == rows[1..2], "the value as it is");
    Ok(())
}

async fn an_entry_of_the_log_stays_if_its_key_was_written_again(store: &Store) -> Result<()> {
    let keys = keys_of_many_slots(40);
    let mut scene = Scene::new(store, slots_of(&keys)).await?;
    scene.steps(&[Step::Announce]).await?;
    let mut lane = store.lane().await?;
    let puts: Vec<PutRow> = keys.iter().map(|key| row(key, "value")).collect();
    let logged = async |lane: &mut crate::lane::Lane, rows: &[PutRow]| {
        let rows = freehold_storage::Write::Put(rows);
        let outcomes = lane.data.write_logged(&lane.fence, rows).await;
        crate::lane::applied(outcomes)
    };
    logged(&mut lane, &puts).await?;
    logged(&mut lane, &puts[20..]).await?;
    let slots = scene.slots.clone();
    let first = scene.moves.logged(&slots, None, 15).await?;
    let rest = scene
        .moves
        .logged(&slots, first.last().map(|entry| &entry.key), 100)
        .await?;
    let seen: Vec<_> = first.into_iter().chain(rest).collect();
    let shown: Vec<(&Key, u64)> = seen.iter().map(|entry| (&entry.key, entry.n)).collect();
    let expected = keys.iter().enumerate();
    let expected: Vec<(&Key, u64)> = expected
        .map(|(at, key)| (key, if at < 20 { 1 } else { 2 }))
        .collect();
    assert_eq!(shown, expected);

    logged(&mut lane, &puts[5..6]).await?;
    logged(&mut lane, &puts[30..31]).await?;
    assert_eq!(scene.moves.forget(scene.hold, &seen).await?, Some(()));
    let left = scene.moves.logged(&slots, None, 100).await?;
    let left: Vec<(&Key, u64)> = left.iter().map(|entry| (&entry.key, entry.n)).collect();
    assert_eq!(left, [(&keys[5], 2), (&keys[30], 3)]);
    assert_eq!(
        scene.moves.logged_of(&keys).await?,
        [&keys[5], &keys[30]].map(Key::clone)
    );
    assert_eq!(scene.moves.logged_of(&keys[6..7]).await?, []);
    assert_eq!(scene.moves.logged_of(&[]).await?, []);
    Ok(())
}

async fn checksums_tell_rows_apart_and_leave_out_dead_ones(store: &Store) -> Result<()> {
    let keys = keys_of_many_slots(50);
    let mut scene = Scene::receiving(store, slots_of(&keys)).await?;
    let rows = Scene::copies(&keys, b"value");
    assert_eq!(scene.moves.store(scene.hold, &rows).await?, Some(()));
    let now = scene.moves.now_ms().await?;
    let all = Stretch::from(scene.slots.clone());
    let whole = scene.moves.checksum(&all, now, 1_000).await?;
    assert_eq!((whole.rows, whole.bytes), (50, 250));
    assert_eq!(whole.more_behind, None);

    // In parts it comes to the same.
    let (mut stretch, mut digest, mut count) = (all.clone(), 0, 0);
    loop {
        let part = scene.moves.checksum(&stretch, now, 7).await?;
        (digest, count) = (digest ^ part.digest, count + part.rows);
        let Some(last) = part.more_behind else { break };
        let upto = Stretch {
            upto: Some(last.clone()),
            ..stretch.clone()
        };
        let again = scene.moves.checksum(&upto, now, 1_000).await?;
        assert_eq!((again.rows, again.digest), (part.rows, part.digest));
        stretch.after = Some(last);
    }
    assert_eq!((digest, count), (whole.digest, whole.rows));

    let digests = scene.moves.digests(&all, now).await?;
    assert!(digests.iter().map(|(key, _)| key).eq(&keys));
    let sum = digests.iter().fold(0, |sum, (_, digest)| sum ^ digest);
    assert_eq!(sum, whole.digest);
    assert_eq!(
        scene.moves.digests_of(&keys[3..5], now).await?,
        digests[3..5]
    );

    // Whatever differs is seen.
    let differs = |row: &CopyRow, kind: usize| match kind {
        0 => CopyRow {
            value: Some("valuf".into()),
            ..row.clone()
        },
        1 => CopyRow {
            version: 10,
            ..row.clone()
        },
        _ => CopyRow {
            expires_at: i64::MAX - 1,
            ..row.clone()
        },
    };
    for kind in 0..3 {
        let other = differs(&rows[20], kind);
        scene.moves.store(scene.hold, &[other]).await?;
        let sum = scene.moves.checksum(&all, now, 1_000).await?;
        assert_ne!(sum.digest, whole.digest, "{kind}");
        scene.moves.store(scene.hold, &rows[20..21]).await?;
    }

    // Dead ones are not there, by the clock that was named.
    let mut dead = rows[20].clone();
    dead.expires_at = now + 1_000;
    scene.moves.store(scene.hold, &[dead]).await?;
    let without: u64 = whole.digest ^ digests[20].1;
    let later = scene.moves.checksum(&all, now + 1_000, 1_000).await?;
    assert_eq!((later.rows, later.digest), (49, without));
    let sooner = scene.moves.checksum(&all, now + 999, 1_000).await?;
    assert_eq!(sooner.rows, 50);
    Ok(())
}

async fn rows_and_log_are_deleted_in_bounded_parts(store: &Store) -> Result<()> {
    let keys = keys_of_many_slots(25);
    let mut scene = Scene::receiving(store, slots_of(&keys)).await?;
    let rows = Scene::copies(&keys, b"value");
    assert_eq!(scene.moves.store(scene.hold, &rows).await?, Some(()));
    // Rows of others stay.
    let other = key("another");
    assert!(!scene.slots.contains(other.slot()));
    let put = row(&other, "stays");
    store.lane().await?.put([put]).await?;
    for deleted in [10, 10, 5, 0] {
        let emptied = cleared(&mut scene, Work::Empty, 10).await?;
        assert_eq!(emptied, Some(deleted));
    }
    assert_eq!(scene.audit.all_rows().await?.len(), 1);

    scene.steps(&[Step::Open]).await?;
    let emptied = cleared(&mut scene, Work::Empty, 10).await?;
    assert_eq!(emptied, None, "never of an owner");
    for key in &keys {
        let digits: String = key
            .bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let entry = format!(
            "INSERT INTO moved_keys VALUES ({}, x'{digits}', 1)",
            key.slot()
        );
        scene.audit.run(&entry).await?;
    }
    for deleted in [20, 5, 0] {
        let cleared = cleared(&mut scene, Work::ClearLog, 20).await?;
        assert_eq!(cleared, Some(deleted));
    }
    Ok(())
}

/// How many rows, or entries, were deleted of so many.
async fn cleared(scene: &mut Scene, work: Work, rows_max: usize) -> Result<Option<u64>> {
    let portion = Portion {
        rows_max,
        bytes_max: usize::MAX >> 1,
    };
    let cleared = scene.moves.clear(scene.hold, work, &scene.slots, portion);
    Ok(cleared.await?.map(|cleared| cleared.rows))
}

/// What one transaction deletes the binlog has in one piece.
async fn long_rows_are_deleted_a_few_at_a_time(store: &Store) -> Result<()> {
    let keys = keys_of_many_slots(6);
    let mut scene = Scene::receiving(store, slots_of(&keys)).await?;
    let mut rows = Scene::copies(&keys, &[7; 1_000]);
    rows[3] = Scene::copies(&keys[3..4], &[7; 100_000]).remove(0);
    assert_eq!(scene.moves.store(scene.hold, &rows).await?, Some(()));
    let portion = Portion {
        rows_max: 10,
        bytes_max: 2_500,
    };
    // Two at a time; the one that is longer than all of that alone.
    let portions: [&[u64]; 5] = [&[1_000, 1_000], &[1_000], &[100_000], &[1_000, 1_000], &[]];
    for values in portions {
        let deleted = scene
            .moves
            .clear(scene.hold, Work::Empty, &scene.slots, portion)
            .await?
            .ok_or("it is held")?;
        let rows = values.len() as u64;
        assert_eq!(deleted.rows, rows);
        let keys = deleted.bytes - values.iter().sum::<u64>();
        assert!(keys >= rows && keys < 20 * rows.max(1), "{deleted:?}");
    }
    assert!(scene.audit.all_rows().await?.is_empty());
    Ok(())
}
