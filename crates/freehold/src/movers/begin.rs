//! Moves that operators plan, begin and watch through this router.

use std::{sync::Arc, time::Duration};

use freehold_core::SlotSet;
use freehold_mover::{Shard, lookout::sightings};
use freehold_proto::v1;
use freehold_router::{
    failure::Failure,
    movers::{Start, Wish},
};
use freehold_storage::moves::MoveRecord;
use tokio::time::timeout;

use super::{MOVES_AT_ONCE_MAX, MoverDesk, PLANS_AT_ONCE_MAX, State, steer::DISABLED, wire};
use crate::planning::{self, wire::of_move};

/// How long a caller waits until the shards have a move in writing; it may ask again.
const WRITTEN_WITHIN: Duration = Duration::from_secs(3);

impl MoverDesk {
    /// What it takes to have it as it is wished.
    pub(super) async fn plan(&self, wish: Wish) -> Result<v1::PlanMovesResponse, Failure> {
        let shards = self.shards()?;
        let Ok(_room) = self.plans.try_acquire() else {
            return Err(Failure::Occupied {
                what: "plans",
                max: PLANS_AT_ONCE_MAX,
            });
        };
        let plan = planning::plan(&shards, &wish).await;
        plan.map(planning::wire::response)
            .map_err(planning::wire::failure)
    }

    /// Begins a move, and waits until it is written down; false if it was begun before.
    pub(super) async fn start_move(self: &Arc<Self>, start: Start) -> Result<bool, Failure> {
        let shards = self.shards()?;
        let place = |field: &'static str, name: &str| {
            planning::place(&shards, field, name).map_err(planning::wire::failure)
        };
        let source = &shards[place("source", &start.source)?];
        place("target", &start.target)?;
        if let Some(known) = self.running(start.id) {
            is_same(&known, &start)?;
            self.is_written_down(&start).await?;
            return Ok(false);
        }
        let records = self.known_moves(&shards, source).await?;
        if let Some(known) = records.iter().find(|record| record.id == start.id) {
            is_same(known, &start)?;
            return Ok(false);
        }
        let open = records.iter().filter(|record| record.state.is_open());
        is_free(open, &start.slots)?;
        is_owned(source, &start.slots).await?;
        let begun = self.begin_new(&start)?;
        self.is_written_down(&start).await?;
        Ok(begun)
    }

    /// What the shards have written down of moves, the source at least. A move that ended on one of its
    /// shards has ended, whatever the other one says, whose mover died a moment too early.
    async fn known_moves(
        &self,
        shards: &[Shard],
        source: &Shard,
    ) -> Result<Vec<MoveRecord>, Failure> {
        let own = planning::records(std::slice::from_ref(source)).await;
        let own = own.map_err(of_move)?;
        let others = shards.iter().filter(|shard| shard.name != source.name);
        let others: Vec<Shard> = others.cloned().collect();
        let (theirs, _) = self.records_of(&others).await;
        let shown = [(&*source.name, own), ("others", theirs)];
        let seen = sightings(shown).into_iter();
        Ok(seen.map(|seen| seen.record).collect())
    }

    /// The shards, if this router moves.
    fn shards(&self) -> Result<Vec<Shard>, Failure> {
        let state = self.lock();
        match state.section.enabled {
            true => Ok(state.shards.clone()),
            false => Err(Failure::Misconfigured(DISABLED.into())),
        }
    }

    fn running(&self, id: u64) -> Option<MoveRecord> {
        self.lock().runs.get(&id).map(|run| run.record.clone())
    }

    /// Begins it, unless somebody has since it was looked at.
    fn begin_new(self: &Arc<Self>, start: &Start) -> Result<bool, Failure> {
        let mut state = self.lock();
        if let Some(run) = state.runs.get(&start.id) {
            return is_same(&run.record, start).map(|()| false);
        }
        has_room(&state)?;
        is_free(state.runs.values().map(|run| &run.record), &start.slots)?;
        state.kept.begins(start.id, start.limits);
        let begun = self.start(&mut state, &record(start), None);
        match begun {
            Ok(()) => Ok(true),
            Err(why) => Err(Failure::Misconfigured(why.into())),
        }
    }

    /// Until then, nobody would go on with it if this router died.
    async fn is_written_down(&self, start: &Start) -> Result<(), Failure> {
        let progress = self
            .lock()
            .runs
            .get(&start.id)
            .map(|run| run.mover.progress());
        let unavailable = |reason: String| Failure::Unavailable {
            shard: format!("{}, {}", start.source, start.target).into(),
            reason: reason.into(),
        };
        if let Some(mut progress) = progress {
            let written = progress.wait_for(|progress| progress.written_down);
            match timeout(WRITTEN_WITHIN, written).await {
                Ok(Ok(_)) => return Ok(()),
                // It has ended.
                Ok(Err(_)) => {}
                Err(_) => {
                    let reason = "the move is not in writing yet: start it again, with the same id";
                    return Err(unavailable(reason.to_owned()));
                }
            }
        }
        let state = self.lock();
        match state.resting.get(&start.id) {
            Some((_, why)) => Err(unavailable(why.clone())),
            None => Ok(()),
        }
    }

    /// How far a move is.
    pub(super) async fn get(&self, id: u64) -> Result<v1::GetMoveResponse, Failure> {
        {
            let state = self.lock();
            if let Some(run) = state.runs.get(&id) {
                return Ok(wire::running(&run.mover.progress().borrow()));
            }
            if let Some(outcome) = state.kept.outcome(id) {
                return Ok(wire::ended(outcome));
            }
        }
        let (records, errors) = self.records().await;
        if let Some(record) = records.iter().find(|record| record.id == id) {
            return Ok(wire::written_down(record));
        }
        if errors.is_empty() {
            let problem = format!("id is {id:016x}, and no move of the newest has it: list them");
            return Err(Failure::invalid("id", problem));
        }
        match self.lock().resting.get(&id) {
            Some((_, why)) => Ok(wire::waiting(why.clone())),
            None => Err(Failure::Unavailable {
                shard: "that may know the move".into(),
                reason: errors.join("; ").into(),
            }),
        }
    }
}

fn record(start: &Start) -> MoveRecord {
    MoveRecord::begin(start.id, &start.source, &start.target, &start.slots)
}

fn has_room(state: &State) -> Result<(), Failure> {
    if state.ends {
        return Err(Failure::ShuttingDown);
    }
    match state.runs.len() < MOVES_AT_ONCE_MAX {
        true => Ok(()),
        false => Err(Failure::Occupied {
            what: "moves",
            max: MOVES_AT_ONCE_MAX,
        }),
    }
}

/// Whether a move that has this id is the one that is to begin.
fn is_same(known: &MoveRecord, start: &Start) -> Result<(), Failure> {
    let same =
        known.source == start.source && known.target == start.target && known.slots == start.slots;
    match same {
        true => Ok(()),
        false => Err(Failure::invalid(
            "id",
            format!(
                "id is {:016x}, which a move from '{}' to '{}' has already: draw another one",
                start.id, known.source, known.target
            ),
        )),
    }
}

/// Whether no move that is open is about the slots.
fn is_free<'a>(
    open: impl IntoIterator<Item = &'a MoveRecord>,
    slots: &SlotSet,
) -> Result<(), Failure> {
    match planning::in_the_way(open, slots) {
        None => Ok(()),
        Some(problem) => Err(Failure::Misconfigured(format!("slots: {problem}").into())),
    }
}

/// Whether the source owns all of the slots.
async fn is_owned(source: &Shard, slots: &SlotSet) -> Result<(), Failure> {
    let missing = slots.without(&source.claimed(slots).await.map_err(of_move)?);
    match missing.is_empty() {
        true => Ok(()),
        false => {
            let problem = format!(
                "slots: '{}' does not own {}, or not any more: make a new plan",
                source.name,
                crate::cluster::plan::ranges(missing.ranges())
            );
            Err(Failure::Misconfigured(problem.into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use freehold_router::movers::Limits;

    use super::*;

    fn start() -> Start {
        Start {
            id: 7,
            source: "a".to_owned(),
            target: "b".to_owned(),
            slots: "0-9".parse().unwrap(),
            limits: Limits::default(),
        }
    }

    #[test]
    fn an_id_stands_for_one_move() {
        let known = record(&start());
        assert_eq!(is_same(&known, &start()), Ok(()));
        let mut other = start();
        other.limits.bytes_per_second_max = Some(1);
        assert_eq!(
            is_same(&known, &other),
            Ok(()),
            "how hard is nothing to ask twice for"
        );
        other.slots = "0-8".parse().unwrap();
        let refused = is_same(&known, &other).unwrap_err();
        assert!(
            matches!(refused, Failure::Invalid { field: "id", .. }),
            "{refused}"
        );
    }

    #[test]
    fn a_slot_is_in_one_move_that_is_open() {
        let open = [record(&start())];
        assert_eq!(is_free(&open, &"10-20".parse().unwrap()), Ok(()));
        let refused = is_free(&open, &"9-20".parse().unwrap()).unwrap_err();
        let words = refused.to_string();
        assert!(
            words.contains("0000000000000007") && words.contains("about 9 and"),
            "{words}"
        );
    }
}
