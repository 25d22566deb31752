//! Sizes: of values, packets, statements and times.

use freehold_core::limits::{STATEMENT_KEYS_MAX, VALUE_BYTES_MAX};
use freehold_storage::{Columns, Outcome, Refusal, StorageError, Value};
use freehold_tests::{Engine, Server, ServerOptions};

use crate::shard::{Result, Shard, WHOLE, is_refused, keys, row, value};

on_servers!(
    the_largest_values_come_back_as_they_were,
    a_batch_goes_in_parts_that_fit_the_servers_packets,
    a_fixed_number_of_statements_is_prepared_whatever_the_sizes,
    a_server_with_no_room_to_prepare_serves_all_the_same,
    what_goes_as_text_fits_the_servers_packets_too,
    no_time_to_live_is_taken_for_a_fence_that_disagrees,
    a_server_whose_clock_stands_still_in_a_statement_is_refused,
);

const HOUR_MS: u64 = 3_600_000;

/// Bytes that differ from place to place, of which no part repeats soon.
fn noise(bytes: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_le_bytes()[7]
    };
    (0..bytes).map(|_| next()).collect()
}

async fn the_largest_values_come_back_as_they_were(engine: Engine) -> Result<()> {
    let shard = Shard::of(engine).await?;
    let mut data = shard.data().await?;
    let keys = keys(3);
    // One row, and two in one statement of 30 MiB with a third behind it.
    for count in [1, 3] {
        let rows: Vec<_> = (0..count)
            .map(|index| row(&keys[index], noise(VALUE_BYTES_MAX, 9)))
            .collect();
        let applied = vec![Outcome::Applied(()); count];
        assert_eq!(data.put(&shard.fence, &rows).await, applied, "{count} rows");
        for (key, row) in keys.iter().zip(&rows) {
            assert!(value(&mut data, key).await?.as_deref() == Some(&*row.value));
            assert!(shard.stored(key).await?.as_deref() == Some(&*row.value));
        }
    }
    // Sizes at which some shapes of the statement cut values off.
    for bytes in [
        0,
        1,
        255,
        256,
        65_535,
        65_536,
        65_537,
        1 << 20,
        (16 << 20) - 1_100_000,
    ] {
        let row = row(&keys[0], noise(bytes, 9));
        assert_eq!(
            data.put(&shard.fence, std::slice::from_ref(&row)).await,
            [Outcome::Applied(())]
        );
        assert!(
            value(&mut data, &keys[0]).await?.as_deref() == Some(&*row.value),
            "{bytes}"
        );
    }
    Ok(())
}

async fn a_batch_goes_in_parts_that_fit_the_servers_packets(engine: Engine) -> Result<()> {
    let options = ServerOptions::new(engine).argument("--max-allowed-packet=1M");
    let shard = Shard::with_options(options).await?;
    let mut data = shard.data().await?;
    let keys = keys(5);
    let sizes = [400_000, 400_000, 400_000, 2_000_000, 1_000_000];
    let rows: Vec<_> = keys
        .iter()
        .zip(sizes)
        .map(|(key, bytes)| row(key, noise(bytes, 1)))
        .collect();
    let outcomes = data.put(&shard.fence, &rows).await;
    for (index, outcome) in outcomes.iter().enumerate() {
        match index {
            3 => assert!(is_refused(outcome, Refusal::TooLarge), "{outcome:?}"),
            _ => assert_eq!(*outcome, Outcome::Applied(()), "row {index}"),
        }
    }
    assert_eq!(shard.stored(&keys[3]).await?, None);
    // The largest batch of changes still fits one packet of this size.
    let long: Vec<_> = (0..STATEMENT_KEYS_MAX)
        .map(|index| freehold_core::Key::new(format!("{{t}}{index:01021}")).expect("1,024 bytes"))
        .collect();
    let rows: Vec<_> = long.iter().map(|key| row(key, "v")).collect();
    let applied = vec![Outcome::Applied(()); rows.len()];
    assert_eq!(data.put(&shard.fence, &rows).await, applied);
    let ttls: Vec<_> = long
        .iter()
        .zip(1..)
        .map(|(key, n)| crate::shard::expire(key, Some(n * 60_000)))
        .collect();
    let existed = vec![Outcome::Applied(true); rows.len()];
    assert_eq!(data.expire(&shard.fence, &ttls).await, existed);
    assert_eq!(data.delete(&shard.fence, &long).await, existed);
    Ok(())
}

async fn a_fixed_number_of_statements_is_prepared_whatever_the_sizes(engine: Engine) -> Result<()> {
    let shard = Shard::of(engine).await?;
    let mut data = shard.data().await?;
    let mut sql = shard.home.connect().await?;
    let prepared = "SHOW GLOBAL STATUS LIKE 'Prepared_stmt_count'";
    let before: (String, u64) = sql.one(prepared).await?;
    let keys = keys(STATEMENT_KEYS_MAX);
    for count in (1..=STATEMENT_KEYS_MAX)
        .step_by(3)
        .chain([2, 4, 8, 16, 32, 64, 128])
    {
        let mut rows: Vec<_> = keys[..count].iter().map(|key| row(key, "v")).collect();
        for ttl_ms in [None, Some(HOUR_MS)] {
            rows[count / 2].ttl_ms = ttl_ms;
            assert_eq!(
                data.put(&shard.fence, &rows).await,
                vec![Outcome::Applied(()); count]
            );
        }
        let read = data.read(&keys[..count], WHOLE).await?;
        assert_eq!(read.rows.iter().flatten().count(), count);
        data.read(&keys[..count], Columns::Expiry).await?;
        data.delete(&shard.fence, &keys[..1]).await;
    }
    let after: (String, u64) = sql.one(prepared).await?;
    // PUT, and PUT with an expiry, in twelve sizes each; GET in five, and once for more keys.
    assert_eq!(after.1 - before.1, 2 * 12 + 5 + 1);
    Ok(())
}

async fn a_server_with_no_room_to_prepare_serves_all_the_same(engine: Engine) -> Result<()> {
    let shard = Shard::of(engine).await?;
    let mut sql = shard.home.connect().await?;
    sql.run("SET GLOBAL max_prepared_stmt_count = 0").await?;
    let mut data = shard.data().await?;
    let keys = keys(STATEMENT_KEYS_MAX);
    let wrong = freehold_core::Fence {
        stamp: shard.fence.stamp ^ 1,
        ..shard.fence
    };
    for count in [1, 2, 3, 127, 128] {
        let mut rows: Vec<_> = keys[..count]
            .iter()
            .map(|key| row(key, noise(300, 3)))
            .collect();
        rows[0].ttl_ms = Some(60_000);
        rows[0].version = u64::MAX;
        let applied = vec![Outcome::Applied(()); count];
        assert_eq!(data.put(&shard.fence, &rows).await, applied);
        assert_eq!(
            data.put(&wrong, &rows).await,
            vec![Outcome::FenceDisagrees; count]
        );
        let read = data.read(&keys[..count], WHOLE).await?;
        for (row, stored) in rows.iter().zip(&read.rows) {
            let stored = stored.as_ref().expect("a live row");
            assert_eq!(stored.value, Value::Bytes(row.value.clone()));
            assert_eq!(stored.version, row.version);
            assert_eq!(stored.ttl_ms.is_some(), row.ttl_ms.is_some());
        }
    }
    Ok(())
}

/// As text each byte has two digits, and a packet that is too large costs the connection.
async fn what_goes_as_text_fits_the_servers_packets_too(engine: Engine) -> Result<()> {
    let options = ServerOptions::new(engine).argument("--max-allowed-packet=1M");
    let shard = Shard::with_options(options).await?;
    let mut sql = shard.home.connect().await?;
    sql.run("SET GLOBAL max_prepared_stmt_count = 0").await?;
    let mut data = shard.data().await?;
    let keys = keys(6);
    // Together, and the fifth by itself, they fit one packet of 1 MiB, but not as text.
    let sizes = [180_000, 180_000, 180_000, 180_000, 600_000, 10];
    for (range, too_large) in [(0..4, None), (0..6, Some(4)), (4..5, Some(4))] {
        let rows: Vec<_> = range
            .clone()
            .map(|index| row(&keys[index], noise(sizes[index], 5)))
            .collect();
        let outcomes = data.put(&shard.fence, &rows).await;
        for (index, outcome) in range.zip(&outcomes) {
            match Some(index) == too_large {
                true => assert!(is_refused(outcome, Refusal::TooLarge), "{outcome:?}"),
                false => assert_eq!(*outcome, Outcome::Applied(()), "row {index}"),
            }
        }
    }
    for (index, key) in keys.iter().enumerate() {
        let stored = shard.stored(key).await?;
        assert_eq!(stored, (index != 4).then(|| noise(sizes[index], 5)));
    }
    Ok(())
}

/// The fence answers with an error of arithmetic, so no time may raise the same one.
async fn no_time_to_live_is_taken_for_a_fence_that_disagrees(engine: Engine) -> Result<()> {
    let shard = Shard::of(engine).await?;
    let mut data = shard.data().await?;
    let key = &keys(1)[0];
    let max = i64::MAX.cast_unsigned();
    for ttl_ms in [max - 2_000_000_000_000, max - 1, max, max + 1, u64::MAX] {
        for count in [1, 2] {
            let mut rows = [row(key, "v"), row(&keys(2)[1], "v")];
            rows.iter_mut().for_each(|row| row.ttl_ms = Some(ttl_ms));
            let put = data.put(&shard.fence, &rows[..count]).await;
            assert_eq!(put, vec![Outcome::Applied(()); count], "{ttl_ms}");
        }
        let expire = data
            .expire(&shard.fence, &[crate::shard::expire(key, Some(ttl_ms))])
            .await;
        assert_eq!(expire, [Outcome::Applied(true)], "{ttl_ms}");
        let read = data.read(std::slice::from_ref(key), WHOLE).await?;
        let row = read.rows[0].as_ref().expect("a live row");
        assert_eq!(row.value, Value::Bytes("v".into()));
    }
    let mut rows = [row(key, "v")];
    rows[0].version = u64::MAX;
    assert_eq!(data.put(&shard.fence, &rows).await, [Outcome::Applied(())]);
    Ok(())
}

/// Otherwise a row that expired while a statement waited for it would be revived.
async fn a_server_whose_clock_stands_still_in_a_statement_is_refused(engine: Engine) -> Result<()> {
    let options = ServerOptions::new(engine).argument("--sysdate-is-now");
    let home = Server::start(options).await?;
    let dsn = home.dsn(&freehold_tests::Login::admin());
    match crate::shard::server(&dsn)?.connect().await {
        Err(StorageError::Refused { message, .. }) => assert!(message.contains("sysdate_is_now")),
        _ => panic!("its SYSDATE() is its NOW()"),
    }
    Ok(())
}
