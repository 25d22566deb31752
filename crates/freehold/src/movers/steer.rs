//! The movers of this process, as the admin service shows and steers them.

use std::sync::Arc;

use freehold_mover::{RECORDS_MAX, Shard, lookout::sightings};
use freehold_proto::v1;
use freehold_router::{
    Movers,
    failure::Failure,
    movers::{Start, Wish},
};
use freehold_storage::{StorageError, moves::MoveRecord};
use futures::{StreamExt as _, future::BoxFuture, stream};
use tokio::time::timeout;

use super::{LEAVE_TIME_MAX, LOOK_TIME_MAX, MASTERS_AT_ONCE, MOVES_AT_ONCE_MAX, MoverDesk, wire};

/// Moves of a shard that are shown besides those that are open.
const SHOWN_MAX: usize = 50;

/// Why a router begins nothing.
pub(super) const DISABLED: &str =
    "mover.enabled is false in this router's config: ask another router (--admin), or change it";

/// A desk that is steered.
pub(crate) struct Steered(pub(crate) Arc<MoverDesk>);

impl Movers for Steered {
    fn list(&self) -> BoxFuture<'_, v1::ListMovesResponse> {
        Box::pin(async {
            let (records, errors) = self.0.records().await;
            let moves = records.iter().map(|record| self.0.info(record)).collect();
            v1::ListMovesResponse { moves, errors }
        })
    }

    fn plan(&self, wish: Wish) -> BoxFuture<'_, Result<v1::PlanMovesResponse, Failure>> {
        Box::pin(self.0.plan(wish))
    }

    fn start(&self, start: Start) -> BoxFuture<'_, Result<v1::StartMoveResponse, Failure>> {
        Box::pin(async {
            let started = self.0.start_move(start).await?;
            Ok(v1::StartMoveResponse { started })
        })
    }

    fn get(&self, id: u64) -> BoxFuture<'_, Result<v1::GetMoveResponse, Failure>> {
        Box::pin(self.0.get(id))
    }

    fn go_on(
        &self,
        ids: Vec<u64>,
        cancel: bool,
    ) -> BoxFuture<'_, Result<v1::ResumeMovesResponse, String>> {
        Box::pin(self.0.go_on(ids, cancel))
    }
}

impl MoverDesk {
    /// The moves that the shards have written down, the newest first, and why some could not be asked.
    pub(super) async fn records(&self) -> (Vec<MoveRecord>, Vec<String>) {
        let shards = self.lock().shards.clone();
        self.records_of(&shards).await
    }

    /// A move that is open and needs one of these shards, so that they have to stay in the config.
    pub(crate) async fn open_move_of(&self, shards: &[&str]) -> Option<MoveRecord> {
        let needs = |record: &MoveRecord| {
            [&record.source, &record.target]
                .iter()
                .any(|name| shards.contains(&name.as_str()))
        };
        let (records, _) = self.records().await;
        let mut open = records.into_iter().filter(|record| record.state.is_open());
        open.find(needs)
    }

    /// Those that these shards have written down.
    pub(super) async fn records_of(&self, shards: &[Shard]) -> (Vec<MoveRecord>, Vec<String>) {
        // Collected first: a stream over the borrowing iterator would tie the futures to it.
        let asked: Vec<_> = shards
            .iter()
            .map(|shard| async move {
                let asked = timeout(2 * LOOK_TIME_MAX, self.all_of(shard)).await;
                (shard, asked)
            })
            .collect();
        let answers: Vec<_> = stream::iter(asked)
            .buffered(MASTERS_AT_ONCE)
            .collect()
            .await;
        let (mut shown, mut errors) = (Vec::new(), Vec::new());
        for (shard, answer) in answers {
            match answer {
                Ok(Ok(records)) => shown.push((&*shard.name, records)),
                Ok(Err(error)) => errors.push(format!("shard '{}': {error}", shard.name)),
                Err(_) => errors.push(format!("shard '{}' does not answer", shard.name)),
            }
        }
        let records = sightings(shown).into_iter().map(|seen| seen.record);
        let mut records: Vec<MoveRecord> = records.collect();
        records.reverse();
        (records, errors)
    }

    async fn all_of(&self, shard: &Shard) -> Result<Vec<MoveRecord>, StorageError> {
        let Some(server) = shard.servers.get(self.leader(shard)) else {
            return Ok(Vec::new());
        };
        let mut moves = server.connect_moves().await?;
        let (newest, open) = (
            moves.records(SHOWN_MAX).await?,
            moves.open_records(RECORDS_MAX).await?,
        );
        Ok([newest, open].concat())
    }

    async fn go_on(
        self: &Arc<Self>,
        ids: Vec<u64>,
        cancel: bool,
    ) -> Result<v1::ResumeMovesResponse, String> {
        if !self.lock().section.enabled {
            return Err(DISABLED.to_owned());
        }
        let (records, mut errors) = self.records().await;
        let mut open: Vec<MoveRecord> = records
            .into_iter()
            .filter(|record| record.state.is_open())
            .filter(|record| ids.is_empty() || ids.contains(&record.id))
            .collect();
        // The oldest first, as they were begun.
        open.reverse();
        let missing = |id: &&u64| !open.iter().any(|record| record.id == **id);
        if let Some(id) = ids.iter().find(missing) {
            let errors = errors.join("; ");
            return Err(format!(
                "no move that is open has the id {id:016x} {errors}"
            ));
        }
        let mut moves = Vec::new();
        // One that cannot go on keeps no other from it.
        for mut record in open {
            // A cancel is not turned into a move again.
            record.cancels |= cancel;
            match self.begin(&record).await {
                Ok(true) => moves.push(self.info(&record)),
                Ok(false) => errors.push(format!(
                    "move {:016x} waits: this router runs {MOVES_AT_ONCE_MAX} at once, or has stopped \
                     with it a moment ago; try again later",
                    record.id
                )),
                Err(why) => errors.push(format!("move {:016x}: {why}", record.id)),
            }
        }
        Ok(v1::ResumeMovesResponse { moves, errors })
    }

    /// Runs a move from now on; false if too much is run.
    async fn begin(self: &Arc<Self>, record: &MoveRecord) -> Result<bool, String> {
        let before = {
            let mut state = self.lock();
            let same = state
                .runs
                .get(&record.id)
                .map(|run| run.record.cancels == record.cancels);
            match same {
                Some(true) => return Ok(true),
                Some(false) => state.runs.remove(&record.id),
                None => None,
            }
        };
        if let Some(mut run) = before {
            run.mover.leave();
            if timeout(LEAVE_TIME_MAX, &mut run.task).await.is_err() {
                run.task.abort();
            }
        }
        let mut state = self.lock();
        if state.runs.len() >= MOVES_AT_ONCE_MAX {
            return Ok(false);
        }
        state.resting.remove(&record.id);
        self.start(&mut state, record, None)?;
        Ok(true)
    }

    fn info(&self, record: &MoveRecord) -> v1::MoveInfo {
        let held_here = self.lock().runs.contains_key(&record.id);
        wire::info(record, held_here)
    }
}
