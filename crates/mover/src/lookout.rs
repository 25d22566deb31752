//! Which moves nobody runs any more: a pure function of what shards show of them, and when.
//!
//! A mover shows on both shards that it is alive, by changing when its move was written down. A move
//! that has not changed for a while, by the observer's own clock, is abandoned. What stands there is
//! never compared with any clock, only with what stood there before.
//!
//! Being wrong costs little. Whoever goes on with a move takes its slots over first, and whoever ran
//! it can do nothing more; if two do so at once, the later one goes on.

use std::{collections::HashMap, time::Duration};

use freehold_storage::moves::{MoveRecord, MoveState};
use tokio::time::Instant;

/// A move as the shards show it that know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// What was written down last.
    pub record: MoveRecord,
    /// Each shard that shows it, and when it was written down there, by that shard's clock.
    pub signs: Vec<(String, i64)>,
}

/// Puts together what shards show, each named with its moves. Sorted by when moves began.
#[must_use]
pub fn sightings<'a>(shown: impl IntoIterator<Item = (&'a str, Vec<MoveRecord>)>) -> Vec<Sighting> {
    let mut all: HashMap<u64, Sighting> = HashMap::new();
    for (shard, records) in shown {
        for record in records {
            let sign = (shard.to_owned(), record.changed_at);
            match all.get_mut(&record.id) {
                None => {
                    let signs = vec![sign];
                    all.insert(record.id, Sighting { record, signs });
                }
                Some(known) => {
                    known.signs.push(sign);
                    let cancels = known.record.cancels || record.cancels;
                    if is_later(&record, &known.record) {
                        known.record = record;
                    }
                    // Whoever died after the first word of a cancel has cancelled it all the same.
                    known.record.cancels = cancels;
                }
            }
        }
    }
    let mut all: Vec<Sighting> = all.into_values().collect();
    all.sort_by_key(|seen| (seen.record.started_at, seen.record.id));
    all
}

/// Of two shards' words on a move, which one counts. Nothing follows an end; else the later one, as
/// far as two servers' clocks can tell, which a move needs to be near each other.
fn is_later(one: &MoveRecord, other: &MoveRecord) -> bool {
    match (one.state.is_open(), other.state.is_open()) {
        (false, true) => true,
        (true, false) => false,
        _ => one.changed_at > other.changed_at,
    }
}

/// What an observer remembers.
#[derive(Debug, Default)]
pub struct Lookout {
    seen: HashMap<u64, Seen>,
}

#[derive(Debug)]
struct Seen {
    signs: HashMap<String, i64>,
    since: Instant,
}

impl Lookout {
    /// The moves that are to be run and have not changed for `patience`. A move that is stopped waits
    /// for somebody's word: it is not abandoned.
    pub fn abandoned<'a>(
        &mut self,
        now: Instant,
        patience: Duration,
        sightings: &'a [Sighting],
    ) -> Vec<&'a MoveRecord> {
        let running = |seen: &&Sighting| seen.record.state == MoveState::Running;
        let running: Vec<&Sighting> = sightings.iter().filter(running).collect();
        self.seen
            .retain(|id, _| running.iter().any(|seen| seen.record.id == *id));
        let mut abandoned = Vec::new();
        for sighting in running {
            let seen = self.seen.entry(sighting.record.id).or_insert_with(|| Seen {
                signs: HashMap::new(),
                since: now,
            });
            // A shard that does not answer this time has shown nothing new.
            for (shard, sign) in &sighting.signs {
                if seen.signs.insert(shard.clone(), *sign) != Some(*sign) {
                    seen.since = now;
                }
            }
            if now.saturating_duration_since(seen.since) >= patience {
                abandoned.push(&sighting.record);
            }
        }
        abandoned
    }

    /// Begins anew: nothing is known of moves before.
    pub fn forget(&mut self) {
        self.seen.clear();
    }
}

#[cfg(test)]
mod tests {
    use freehold_core::SlotSet;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(3);

    fn record(id: u64, state: MoveState, changed_at: i64) -> MoveRecord {
        MoveRecord {
            id,
            source: "a".to_owned(),
            target: "b".to_owned(),
            slots: SlotSet::from(1..=2),
            state,
            cancels: false,
            mover: "somebody".to_owned(),
            slots_done: 0,
            rows: 0,
            bytes: 0,
            pause_us_max: 0,
            error: String::new(),
            started_at: 1,
            changed_at,
        }
    }

    fn running(a: i64, b: i64) -> Vec<Sighting> {
        sightings([
            ("a", vec![record(1, MoveState::Running, a)]),
            ("b", vec![record(1, MoveState::Running, b)]),
        ])
    }

    fn after(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_move_that_does_not_change_for_long_enough_is_abandoned() {
        let (mut lookout, start) = (Lookout::default(), Instant::now());
        let mut is_abandoned = |seconds, a, b| {
            let seen = running(a, b);
            !lookout
                .abandoned(start + after(seconds), PATIENCE, &seen)
                .is_empty()
        };
        assert!(!is_abandoned(0.0, 10, 20), "nobody knows yet");
        assert!(!is_abandoned(2.9, 10, 20));
        // Either shard's sign is a sign of life, also from a clock that was set back.
        assert!(!is_abandoned(3.0, 10, 21));
        assert!(!is_abandoned(5.9, 9, 21));
        assert!(!is_abandoned(8.8, 9, 21));
        assert!(is_abandoned(8.9, 9, 21));
        assert!(!is_abandoned(9.0, 9, 22), "somebody goes on with it");
    }

    #[test]
    fn a_shard_that_does_not_answer_now_and_then_is_no_sign_of_life() {
        let (mut lookout, start) = (Lookout::default(), Instant::now());
        let alone = sightings([("a", vec![record(1, MoveState::Running, 10)])]);
        for (seconds, seen) in [(0.0, running(10, 20)), (1.0, alone), (2.0, running(10, 20))] {
            let found = lookout.abandoned(start + after(seconds), PATIENCE, &seen);
            assert_eq!(found.len(), 0);
        }
        let seen = running(10, 20);
        let found = lookout.abandoned(start + after(3.0), PATIENCE, &seen);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn what_somebody_stopped_or_ended_is_nobodys_to_pick_up() {
        for state in MoveState::ALL {
            let (mut lookout, start) = (Lookout::default(), Instant::now());
            // The word of the shard that heard later counts.
            let seen = sightings([
                ("a", vec![record(1, state, 11)]),
                ("b", vec![record(1, MoveState::Running, 10)]),
            ]);
            lookout.abandoned(start, PATIENCE, &seen);
            let found = lookout.abandoned(start + PATIENCE, PATIENCE, &seen);
            assert_eq!(found.len(), usize::from(state == MoveState::Running));
        }
    }

    #[test]
    fn a_move_that_ended_on_one_shard_has_ended() {
        let ended = record(1, MoveState::Done, 10);
        let seen = sightings([
            ("a", vec![ended.clone()]),
            ("b", vec![record(1, MoveState::Running, 11)]),
        ]);
        assert_eq!(seen[0].record, ended);
        assert_eq!(seen[0].signs.len(), 2);
    }
}
