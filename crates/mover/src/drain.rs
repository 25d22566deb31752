//! Steps 4 and 7: keys that were written while their slots were on the way.

use std::collections::{BTreeMap, BTreeSet};

use freehold_core::{
    Key, SlotSet,
    limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX},
};
use freehold_storage::moves::Logged;

use crate::{
    batch::Batch,
    copy::{PageSize, that_fit, with_values},
    error::Halt,
    side::RANGES_MAX,
};

/// Rows that are deleted together without a look at how long they are: of the longest values so many
/// are less than a group of servers takes in one transaction (150 MB).
const REMOVED_UNSEEN_MAX: usize = 8;

const _: () = assert!(REMOVED_UNSEEN_MAX * (VALUE_BYTES_MAX + KEY_BYTES_MAX) < 150_000_000);

/// How often the log is walked through until writes are stopped although it does not get short.
const PASSES_MAX: u32 = 20;

impl Batch<'_> {
    /// Until so few keys are left that writes may wait for the rest. A log that does not get shorter
    /// is written as fast as it is drained. What is drained is in doubt until it was compared, so
    /// `keys` gets it, unless everything is compared afterwards.
    pub(crate) async fn drain_until_few(
        &mut self,
        slots: &SlotSet,
        mut keys: Option<&mut BTreeSet<Key>>,
    ) -> Result<(), Halt> {
        self.mover.doing("draining");
        let few = self.mover.settings.last_drain_keys_max;
        let mut before = usize::MAX;
        for _ in 0..PASSES_MAX {
            let drained = self.drain(slots, keys.as_deref_mut()).await?;
            if drained <= few || drained >= before {
                break;
            }
            before = drained;
        }
        self.target.note().await?;
        self.source.note().await
    }

    /// Once through the log; answers how many entries there were. `keys` gets them.
    pub(crate) async fn drain(
        &mut self,
        slots: &SlotSet,
        mut keys: Option<&mut BTreeSet<Key>>,
    ) -> Result<usize, Halt> {
        let keys_max = self.mover.settings.drain_keys_max;
        let mut drained = 0;
        for part in slots.parts(usize::MAX, RANGES_MAX) {
            let mut after = None;
            loop {
                let entries = self
                    .source
                    .moves
                    .logged(&part, after.as_ref(), keys_max)
                    .await?;
                let Some(last) = entries.last() else { break };
                after = Some(last.key.clone());
                drained += entries.len();
                if let Some(keys) = keys.as_deref_mut() {
                    keys.extend(entries.iter().map(|entry| entry.key.clone()));
                }
                self.copy_again(slots, &entries).await?;
                self.mover.go_on()?;
                if entries.len() < keys_max {
                    break;
                }
            }
        }
        Ok(drained)
    }

    /// Rows are read after the entries: a write in between is in both.
    async fn copy_again(&mut self, slots: &SlotSet, entries: &[Logged]) -> Result<(), Halt> {
        let size = PageSize::new(&self.mover.settings);
        let keys: Vec<Key> = entries.iter().map(|entry| entry.key.clone()).collect();
        let found = self
            .source
            .moves
            .rows(&keys, size.value_bytes_max())
            .await?;
        let mut rest = &found[..];
        let mut stored: BTreeSet<Key> = BTreeSet::new();
        while !rest.is_empty() {
            let fit = that_fit(rest, self.mover.settings.page_bytes_max);
            let (now, later) = rest.split_at(fit);
            let rows = with_values(&mut *self.source.moves, now.to_vec()).await?;
            if self
                .target
                .moves
                .store(self.target.hold(), &rows)
                .await?
                .is_none()
            {
                return Err(self.target.disproved(slots).await);
            }
            stored.extend(rows.into_iter().map(|row| row.key));
            rest = later;
        }
        let gone: Vec<Key> = keys
            .into_iter()
            .filter(|key| !stored.contains(key))
            .collect();
        self.remove(slots, &gone).await?;
        match self
            .source
            .moves
            .forget(self.source.hold(), entries)
            .await?
        {
            Some(()) => Ok(()),
            None => Err(self.source.disproved(slots).await),
        }
    }

    /// Deletes what the source does not have, no more bytes at a time than a page has.
    async fn remove(&mut self, slots: &SlotSet, gone: &[Key]) -> Result<(), Halt> {
        let seen = match gone.len() > REMOVED_UNSEEN_MAX {
            true => self.target.moves.rows(gone, 0).await?,
            false => Vec::new(),
        };
        let seen = seen.into_iter().map(|row| (row.key, row.value_bytes));
        let value_bytes: BTreeMap<Key, usize> = seen.collect();
        let bytes_max = self.mover.settings.page_bytes_max;
        let mut rest = gone;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fit = rest.iter().take_while(|key| {
                bytes += value_bytes.get(*key).copied().unwrap_or(0);
                bytes <= bytes_max
            });
            let (now, later) = rest.split_at(fit.count().max(1));
            let hold = self.target.hold();
            if self.target.moves.remove(hold, now).await?.is_none() {
                return Err(self.target.disproved(slots).await);
            }
            rest = later;
        }
        Ok(())
    }
}
