//! Step 5, and what is compared under the fence: checksums that both servers make.

use std::collections::{BTreeMap, BTreeSet};

use freehold_core::{Key, SlotSet};
use freehold_storage::{StorageError, moves::Stretch};
use tokio::time::Instant;

use crate::{
    batch::Batch,
    error::{Halt, MoveError},
    side::RANGES_MAX,
};

/// Rows that one checksum of the target may look at: all of a stretch, whatever is there.
const ALL_ROWS: usize = i64::MAX as usize;

/// Rows of a checksum, however much requests wait.
const ROWS_MIN: usize = 100;

/// Keys that are compared in one statement.
const KEYS_AT_ONCE: usize = 256;

/// Keys in doubt that are kept at a time. Nobody has written them since the last drain, so that there
/// are none at all unless something went wrong.
const SUSPECTS_MAX: usize = 10_000;

/// How often keys in doubt are drained and looked at again while they are written.
const ROUNDS_MAX: u32 = 3;

/// The keys whose digests differ, or that one of the two lacks.
fn differing(ours: &[(Key, u64)], theirs: &[(Key, u64)]) -> BTreeSet<Key> {
    let theirs_by_key: BTreeMap<&Key, u64> =
        theirs.iter().map(|(key, digest)| (key, *digest)).collect();
    let ours_by_key: BTreeMap<&Key, u64> =
        ours.iter().map(|(key, digest)| (key, *digest)).collect();
    let keys = ours_by_key.keys().chain(theirs_by_key.keys());
    keys.filter(|key| ours_by_key.get(*key) != theirs_by_key.get(*key))
        .map(|key| (*key).clone())
        .collect()
}

/// Both answers. A call that is given up takes its connection along, and where one side fails, the
/// other one's is needed to let writes go.
async fn to_their_ends<A, B>(
    ours: impl Future<Output = Result<A, StorageError>>,
    theirs: impl Future<Output = Result<B, StorageError>>,
) -> Result<(A, B), StorageError> {
    let (ours, theirs) = tokio::join!(ours, theirs);
    Ok((ours?, theirs?))
}

impl Batch<'_> {
    /// Step 5. A key in doubt counts only if it still differs after the next drain, and nobody has
    /// written it since; those that are written all the time are looked at under the fence.
    pub(crate) async fn verify(&mut self, slots: &SlotSet) -> Result<(), Halt> {
        self.mover.doing("verifying");
        // Whatever was in doubt before is compared with all the others.
        self.suspects.clear();
        for part in slots.parts(usize::MAX, RANGES_MAX) {
            let mut rest = Some(Stretch::from(part));
            while let Some(stretch) = rest {
                let mut differ = BTreeSet::new();
                rest = self.compare_part(stretch, &mut differ).await?;
                self.suspects.extend(differ);
                if self.suspects.len() > SUSPECTS_MAX {
                    self.clear_doubts(slots).await?;
                }
            }
        }
        self.clear_doubts(slots).await
    }

    /// Those of the keys in doubt that are in these slots, which are in nobody's mind from here on.
    pub(crate) fn take_suspects(&mut self, slots: &SlotSet) -> BTreeSet<Key> {
        let suspects = std::mem::take(&mut self.suspects).into_iter();
        let (theirs, others) = suspects.partition(|key| slots.contains(key.slot()));
        self.suspects = others;
        theirs
    }

    /// Compares the keys in doubt until there are none, or they are written all the time: then they are
    /// in the log, and in doubt again once they are drained.
    pub(crate) async fn clear_doubts(&mut self, slots: &SlotSet) -> Result<(), Halt> {
        let mut keys = self.take_suspects(slots);
        for _ in 0..ROUNDS_MAX {
            if keys.is_empty() {
                break;
            }
            self.drain(slots, Some(&mut keys)).await?;
            let compared: Vec<Key> = keys.into_iter().collect();
            keys = self.compare(&compared).await?;
            let wrong = self.not_in_the_log(keys.clone()).await?;
            if !wrong.is_empty() {
                self.still_holds(slots).await?;
                let keys = wrong.into_iter().collect();
                return Err(MoveError::Differs { keys }.into());
            }
        }
        Ok(())
    }

    /// Fails unless both sides are still this mover's: rows that differ are nobody's fault where
    /// somebody else has moved them on.
    pub(crate) async fn still_holds(&mut self, slots: &SlotSet) -> Result<(), Halt> {
        self.source.rows(slots).await?;
        self.target.rows(slots).await.map(drop)
    }

    /// Those of the keys that nobody has written since the last drain. Asked after the digests: who
    /// wrote in between has left an entry.
    async fn not_in_the_log(&mut self, mut keys: BTreeSet<Key>) -> Result<BTreeSet<Key>, Halt> {
        let asked: Vec<Key> = keys.iter().cloned().collect();
        for asked in asked.chunks(KEYS_AT_ONCE) {
            for written in self.source.moves.logged_of(asked).await? {
                keys.remove(&written);
            }
        }
        Ok(keys)
    }

    /// Compares all rows, page by page; answers the keys that differ and are not in the log, or so many
    /// of them that copying again is the better way.
    pub(crate) async fn compare_all(&mut self, slots: &SlotSet) -> Result<BTreeSet<Key>, Halt> {
        let mut differ = BTreeSet::new();
        for part in slots.parts(usize::MAX, RANGES_MAX) {
            self.compare_part(Stretch::from(part), &mut differ).await?;
            if differ.len() > SUSPECTS_MAX {
                break;
            }
        }
        Ok(differ)
    }

    /// Compares the rows of a stretch, page by page, until too many differ. Answers what is left of it
    /// then.
    async fn compare_part(
        &mut self,
        mut stretch: Stretch,
        differ: &mut BTreeSet<Key>,
    ) -> Result<Option<Stretch>, Halt> {
        let rows_max = self.mover.settings.page_rows_max;
        // The source's clock decides on both sides.
        let now_ms = self.source.moves.now_ms().await?;
        let mut ours = self
            .source
            .moves
            .checksum(&stretch, now_ms, rows_max)
            .await?;
        loop {
            let began = Instant::now();
            let rows_max = self.mover.throttle().part(rows_max).max(ROWS_MIN);
            let page = Stretch {
                upto: ours.more_behind.clone(),
                ..stretch.clone()
            };
            stretch.after.clone_from(&ours.more_behind);
            // The target's of this page together with the source's of the next one.
            let theirs = self.target.moves.checksum(&page, now_ms, ALL_ROWS);
            let next = async {
                match stretch.after {
                    Some(_) => {
                        let next = self
                            .source
                            .moves
                            .checksum(&stretch, now_ms, rows_max)
                            .await?;
                        Ok::<_, StorageError>(Some(next))
                    }
                    None => Ok(None),
                }
            };
            let (theirs, next) = to_their_ends(theirs, next).await?;
            self.mover.go_on()?;
            self.mover.verified(ours.rows);
            self.mover.rest(began.elapsed()).await;
            if (ours.rows, ours.digest) != (theirs.rows, theirs.digest) {
                let ours = self.source.moves.digests(&page, now_ms).await?;
                let theirs = self.target.moves.digests(&page, now_ms).await?;
                let found = differing(&ours, &theirs);
                differ.extend(self.not_in_the_log(found).await?);
                if differ.len() > SUSPECTS_MAX {
                    return Ok(next.map(|_| stretch));
                }
            }
            match next {
                Some(next) => ours = next,
                None => return Ok(None),
            }
        }
    }

    /// Those of the keys that differ now.
    pub(crate) async fn compare(&mut self, keys: &[Key]) -> Result<BTreeSet<Key>, Halt> {
        let mut differ = BTreeSet::new();
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let now_ms = self.source.moves.now_ms().await?;
            let ours = self.source.moves.digests_of(keys, now_ms);
            let theirs = self.target.moves.digests_of(keys, now_ms);
            let (ours, theirs) = to_their_ends(ours, theirs).await?;
            differ.extend(differing(&ours, &theirs));
        }
        Ok(differ)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_or_is_missing_on_either_side_is_named() {
        let key = |name: &str| Key::new(name.to_owned().into_bytes()).unwrap();
        let ours = [(key("a"), 1), (key("b"), 2), (key("c"), 3)];
        let theirs = [(key("b"), 2), (key("c"), 4), (key("d"), 5)];
        let expected: BTreeSet<Key> = ["a", "c", "d"].map(key).into();
        assert_eq!(differing(&ours, &theirs), expected);
        assert!(differing(&ours, &ours).is_empty());
    }
}
