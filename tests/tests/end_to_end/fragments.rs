//! Exclusive fragments: every key on one master, the one its slot says.

use std::collections::{BTreeMap, BTreeSet};

use freehold_client::Write;
use freehold_tests::Engine;

use crate::{
    scene::{Cluster, Result, slot_of},
    table,
};

const KEYS: u32 = 10_000;

async fn ten_thousand_keys_lie_on_exactly_the_master_that_owns_their_slot(
    engine: Engine,
) -> Result<()> {
    let cluster = Cluster::of_two(engine, "").await?;
    let client = cluster.client().await?;
    let keys: Vec<String> = (0..KEYS).map(|number| format!("user:{number}")).collect();
    for keys in keys.chunks(1_000) {
        let put = |key: &String| Write::Put {
            key: key.clone().into(),
            value: format!("value of {key}").into(),
            ttl: None,
        };
        for result in client.batch_write(keys.iter().map(put)).await? {
            result?;
        }
    }
    let mut place_of: BTreeMap<String, usize> = BTreeMap::new();
    let mut all_slots = BTreeSet::new();
    for (place, master) in cluster.masters.iter().enumerate() {
        let mut sql = master.connect().await?;
        let owned: Vec<u16> = sql
            .rows("SELECT slot FROM slots WHERE state = 'owned'")
            .await?;
        let owned: BTreeSet<u16> = owned.into_iter().collect();
        let rows = table::rows(master).await?;
        let share = rows.len() as f64 / f64::from(KEYS);
        println!(
            "{engine}, master {place}: {} rows, {} slots",
            rows.len(),
            owned.len()
        );
        assert!(
            (0.45..=0.55).contains(&share),
            "master {place} has {share} of the keys"
        );
        for row in rows {
            assert_eq!(row.slot, slot_of(&row.key), "{}", row.key);
            assert!(
                owned.contains(&row.slot),
                "{} is not where its slot is owned",
                row.key
            );
            assert_eq!(row.value, format!("value of {}", row.key));
            let before = place_of.insert(row.key.clone(), place);
            assert_eq!(before, None, "{} is on two masters", row.key);
        }
        for slot in owned {
            assert!(all_slots.insert(slot), "slot {slot} has two owners");
        }
    }
    assert_eq!(all_slots.len(), 65_536);
    assert_eq!(
        place_of.into_keys().collect::<BTreeSet<_>>(),
        keys.into_iter().collect()
    );
    Ok(())
}

on_servers!(ten_thousand_keys_lie_on_exactly_the_master_that_owns_their_slot);
