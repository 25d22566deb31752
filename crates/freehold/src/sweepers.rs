//! The sweepers of this process, as the admin service shows and steers them.

use freehold_proto::v1::SweeperInfo;
use freehold_router::Sweepers;
use freehold_sweeper::{SweeperHandle, Waiting};
use futures::{
    StreamExt as _,
    future::{BoxFuture, join_all},
    stream,
};

/// Masters that are asked at once.
const MASTERS_AT_ONCE: usize = 16;

/// One sweeper per shard, in the order of the config.
pub(crate) struct SweeperDesk {
    sweepers: Vec<(String, SweeperHandle)>,
}

impl SweeperDesk {
    pub(crate) fn new(sweepers: Vec<(String, SweeperHandle)>) -> Self {
        Self { sweepers }
    }

    /// Waits until all have ended, after their shutdown.
    pub(crate) async fn stopped(&self) {
        join_all(self.sweepers.iter().map(|(_, sweeper)| sweeper.stopped())).await;
    }

    /// Those of one shard, or all.
    fn of(&self, shard: String) -> impl Iterator<Item = (String, SweeperHandle)> {
        let wanted = move |name: &str| shard.is_empty() || name == shard;
        self.sweepers
            .iter()
            .filter(move |(name, _)| wanted(name))
            .cloned()
    }
}

impl Sweepers for SweeperDesk {
    fn list(&self, shard: String, dry_run: bool) -> BoxFuture<'_, Vec<SweeperInfo>> {
        let asked: Vec<_> = self
            .of(shard)
            .map(|(name, handle)| look(name, handle, dry_run))
            .collect();
        Box::pin(stream::iter(asked).buffered(MASTERS_AT_ONCE).collect())
    }

    fn pause(&self, shard: String, paused: bool) -> BoxFuture<'_, Vec<SweeperInfo>> {
        let told: Vec<_> = self
            .of(shard)
            .map(|(name, handle)| set(name, handle, paused))
            .collect();
        Box::pin(stream::iter(told).buffered(MASTERS_AT_ONCE).collect())
    }
}

async fn look(name: String, handle: SweeperHandle, dry_run: bool) -> SweeperInfo {
    let mut info = info(name, &handle);
    if dry_run {
        match handle.count_due().await {
            Ok(due) => {
                info.rows_due = due.rows;
                info.rows_due_more = due.more;
                info.oldest_due = due.oldest.and_then(|oldest| oldest.try_into().ok());
            }
            Err(error) => info.error = error.to_string(),
        }
    }
    info
}

async fn set(name: String, handle: SweeperHandle, paused: bool) -> SweeperInfo {
    let set = handle.set_paused(paused).await;
    let mut info = info(name, &handle);
    match set {
        Ok(()) => {
            info.paused = paused;
            // The sweeper may not have looked since.
            if !paused && matches!(handle.state().waiting_for, Some(Waiting::Operator)) {
                info.waiting_for.clear();
            }
        }
        Err(error) => info.error = error.to_string(),
    }
    info
}

/// What is known without asking the database.
fn info(shard: String, handle: &SweeperHandle) -> SweeperInfo {
    let state = handle.state();
    let error = match &state.waiting_for {
        Some(Waiting::Master { error }) => error.clone(),
        _ => String::new(),
    };
    SweeperInfo {
        shard,
        paused: state.paused,
        holder: state.holder.unwrap_or_default(),
        held_here: state.held_here,
        rows_deleted: state.rows_deleted,
        waiting_for: state
            .waiting_for
            .map(|reason| reason.to_string())
            .unwrap_or_default(),
        error,
        ..SweeperInfo::default()
    }
}
