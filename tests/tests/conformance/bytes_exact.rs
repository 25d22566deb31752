//! Keys and values are bytes: whatever went in comes out, and only equal bytes are equal keys.

use bytes::Bytes;
use freehold_core::{
    Key,
    limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX},
};
use freehold_storage::{Columns, Value};

use crate::{
    lane::{WHOLE, key, row},
    store::{Result, Store},
};

on_every_engine!(
    every_byte_may_stand_in_a_key,
    every_byte_may_stand_in_a_value,
    an_empty_value_is_a_value,
    keys_of_1_024_bytes_are_told_apart_by_their_last_byte,
    values_of_15_mib_come_back,
    keys_that_look_alike_are_different_keys,
);

pub(crate) async fn every_byte_may_stand_in_a_key(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let all: Vec<u8> = (0..=255).collect();
    let alone = (0..=255_u8).map(|byte| vec![byte]);
    let framed = (0..=255_u8).map(|byte| [b"{t}a", &[byte][..], b"z"].concat());
    let last = (0..=255_u8).map(|byte| [b"{t}", &[byte][..]].concat());
    let keys: Vec<Key> = alone
        .chain(framed)
        .chain(last)
        .chain([all])
        .map(key)
        .collect();
    lane.put(keys.iter().map(|key| row(key, key.bytes())))
        .await?;
    for (key, found) in keys.iter().zip(lane.read(&keys, WHOLE).await?) {
        let value = found.map(|row| row.value);
        assert_eq!(
            value,
            Some(Value::Bytes(key.bytes().clone())),
            "{:?}",
            key.bytes()
        );
    }
    assert_eq!(store.audit().await?.all_rows().await?.len(), keys.len());
    for key in &keys {
        assert!(
            lane.expire_one(key, Some(60_000)).await?,
            "{:?}",
            key.bytes()
        );
        assert!(lane.delete_one(key).await?, "{:?}", key.bytes());
    }
    Ok(())
}

pub(crate) async fn every_byte_may_stand_in_a_value(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let all: Vec<u8> = (0..=255).collect();
    let alone = (0..=255_u8).map(|byte| vec![byte]);
    let values: Vec<Vec<u8>> = alone.chain([all.repeat(300)]).collect();
    let keys: Vec<Key> = (0..values.len())
        .map(|number| key(format!("{{t}}{number:03}")))
        .collect();
    lane.put(keys.iter().zip(&values).map(|(key, value)| row(key, value)))
        .await?;
    for ((key, value), found) in keys.iter().zip(&values).zip(lane.read(&keys, WHOLE).await?) {
        let found = found.ok_or("no row")?;
        assert!(
            found.value == Value::Bytes(value.clone().into()),
            "{:?}",
            key.bytes()
        );
    }
    Ok(())
}

pub(crate) async fn an_empty_value_is_a_value(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    let k = key("k");
    lane.put([row(&k, "")]).await?;
    assert_eq!(lane.value(&k).await?, Some(Bytes::new()));
    let read = lane
        .read(std::slice::from_ref(&k), Columns::Value { bytes_max: 0 })
        .await?;
    assert_eq!(
        read[0].as_ref().map(|row| &row.value),
        Some(&Value::Bytes(Bytes::new()))
    );
    assert_eq!(lane.inspect(&k).await?.ok_or("no row")?.value_bytes, 0);
    assert!(lane.delete_one(&k).await?);
    assert_eq!(lane.value(&k).await?, None);
    Ok(())
}

pub(crate) async fn keys_of_1_024_bytes_are_told_apart_by_their_last_byte(
    store: &Store,
) -> Result<()> {
    let mut lane = store.ready().await?;
    let long = |fill: u8, last: u8| {
        let mut bytes = [b"{t}", &[fill; KEY_BYTES_MAX - 3][..]].concat();
        bytes[KEY_BYTES_MAX - 1] = last;
        key(bytes)
    };
    let keys: Vec<Key> = [
        (0, 0),
        (0, 1),
        (0, 255),
        (b'x', b' '),
        (b'x', b'x'),
        (255, 0),
        (255, 255),
    ]
    .into_iter()
    .map(|(fill, last)| long(fill, last))
    .collect();
    lane.put(
        keys.iter()
            .zip(0..)
            .map(|(key, number): (_, u8)| row(key, [number])),
    )
    .await?;
    for (number, found) in (0..).zip(lane.read(&keys, WHOLE).await?) {
        let value = found.map(|row| row.value);
        assert_eq!(value, Some(Value::Bytes(vec![number].into())), "{number}");
    }
    assert_eq!(lane.delete(&keys[..3]).await?, [true; 3]);
    assert_eq!(lane.read(&keys, WHOLE).await?.iter().flatten().count(), 4);
    Ok(())
}

pub(crate) async fn values_of_15_mib_come_back(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    // No two stretches of it are alike, so nothing can be lost or swapped unseen.
    let value: Vec<u8> = (0..VALUE_BYTES_MAX / 4)
        .flat_map(|word| (word as u32).to_le_bytes())
        .collect();
    assert_eq!(value.len(), VALUE_BYTES_MAX);
    let longest = key([b"{t}", &[b'k'; KEY_BYTES_MAX - 3][..]].concat());
    for key in [key("{t}k"), longest] {
        lane.put([row(&key, &value)]).await?;
        let found = lane.value(&key).await?.ok_or("no row")?;
        assert!(found == value, "the value came back otherwise");
        assert_eq!(
            lane.inspect(&key).await?.ok_or("no row")?.value_bytes,
            VALUE_BYTES_MAX
        );
        assert!(lane.expire_one(&key, Some(60_000)).await?);
        let one_less = Columns::Value {
            bytes_max: VALUE_BYTES_MAX - 1,
        };
        let read = lane
            .read(std::slice::from_ref(&key), one_less)
            .await?
            .remove(0);
        let too_large = Value::TooLarge {
            bytes: VALUE_BYTES_MAX,
        };
        assert_eq!(read.ok_or("no row")?.value, too_large);
        assert!(lane.delete_one(&key).await?);
    }
    Ok(())
}

/// Each group holds keys that one collation or another calls equal, or that quoting may confuse.
pub(crate) const ALIKE: [&[&[u8]]; 9] = [
    &[b"a", b"A", b"a ", b"a  ", b" a", b"a\0", b"a\0\0", b"a\t"],
    &[
        "ä".as_bytes(),
        "a\u{308}".as_bytes(),
        "Ä".as_bytes(),
        b"\xe4",
    ],
    &["ß".as_bytes(), b"ss", "ẞ".as_bytes(), b"SS"],
    &["ﬁ".as_bytes(), b"fi"],
    &["ı".as_bytes(), b"i", "İ".as_bytes(), b"I"],
    &["\u{200d}a".as_bytes(), "\u{feff}a".as_bytes()],
    &["😀".as_bytes(), "😁".as_bytes(), b"?", b"????"],
    &[
        b"'", b"''", b"\\'", b"\\", b"\\\\", b"\"", b"`", b"%", b"_", b"\n", b"\\n", b"\x1a", b"?",
    ],
    &[
        b"0", b"00", b"0.0", b"0x30", b"1", b"1.0", b"01", b"NULL", b"null", b"0e1",
    ],
];

pub(crate) async fn keys_that_look_alike_are_different_keys(store: &Store) -> Result<()> {
    let mut lane = store.ready().await?;
    for group in ALIKE {
        // In one slot, or the slot alone would tell them apart.
        let keys: Vec<Key> = group
            .iter()
            .map(|bytes| key([b"{t}", *bytes].concat()))
            .collect();
        lane.put(keys.iter().map(|key| row(key, key.bytes())))
            .await?;
        for (place, key) in keys.iter().enumerate() {
            assert_eq!(
                lane.value(key).await?.as_ref(),
                Some(key.bytes()),
                "{:?}",
                key.bytes()
            );
            assert!(lane.delete_one(key).await?, "{:?}", key.bytes());
            let left = lane.read(&keys, WHOLE).await?;
            assert_eq!(
                left.iter().flatten().count(),
                keys.len() - place - 1,
                "{:?}",
                key.bytes()
            );
        }
    }
    Ok(())
}
