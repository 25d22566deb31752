//! Looks at the replicas and at the master's purge before rows are deleted.

use freehold_storage::{StorageError, SweepConnection};
use futures::future::join_all;
use tokio::time::Instant;

use crate::{
    connection::{Dial, Link, within},
    settings::SweeperSettings,
    state::Board,
    waiting::{ReplicaLag, Waiting, before_deleting},
};

/// What was seen last, and the connections to see it with. They are opened only while there is
/// something to delete: a hundred idle routers do not hold any.
pub(crate) struct Lookout<D> {
    /// All servers of the shard: every one but the leader is a replica.
    servers: Vec<Link<D>>,
    seen: Option<Seen>,
}

struct Seen {
    at: Instant,
    waiting: Option<Waiting>,
}

impl<D: Dial> Lookout<D> {
    pub(crate) fn new(servers: Vec<D>) -> Self {
        Self {
            servers: servers.into_iter().map(Link::new).collect(),
            seen: None,
        }
    }

    /// Forgets what was seen: another server leads.
    pub(crate) fn forget(&mut self) {
        self.seen = None;
    }

    /// Whether to wait, by a look that is not older than the settings allow. `master` is the leader,
    /// by its place and a connection to it.
    pub(crate) async fn look(
        &mut self,
        (leader, master): (usize, &mut dyn SweepConnection),
        settings: &SweeperSettings,
        board: &mut Board,
    ) -> Result<Option<Waiting>, StorageError> {
        let at = Instant::now();
        if let Some(seen) = self
            .seen
            .as_ref()
            .filter(|seen| at < seen.at + settings.look_interval)
        {
            return Ok(seen.waiting.clone());
        }
        self.seen = None;
        let backlog = purge_backlog(master, settings, board).await?;
        let replicas = self.lags(leader, settings, board).await;
        let waiting = before_deleting(&replicas, backlog, settings);
        self.seen = Some(Seen {
            at,
            waiting: waiting.clone(),
        });
        Ok(waiting)
    }

    /// Asks all at once, each within the time of one statement. One that cannot be asked has an
    /// unknown lag.
    async fn lags(
        &mut self,
        leader: usize,
        settings: &SweeperSettings,
        board: &mut Board,
    ) -> Vec<ReplicaLag> {
        if settings.replica_lag_max.is_none() {
            return Vec::new();
        }
        let servers = self.servers.iter_mut().enumerate();
        let replicas = servers.filter(|(place, _)| *place != leader);
        let asked = replicas.map(|(_, replica)| async {
            let lag = ask(replica, settings).await;
            (replica.address().to_owned(), lag)
        });
        let answers = join_all(asked).await;
        let lags = answers.into_iter().map(|(replica, answer)| {
            let lag = answer.unwrap_or_else(|error| {
                board.error(&format!("replica {replica}: {error}"));
                None
            });
            ReplicaLag { replica, lag }
        });
        lags.collect()
    }
}

async fn ask<D: Dial>(
    replica: &mut Link<D>,
    settings: &SweeperSettings,
) -> Result<Option<std::time::Duration>, StorageError> {
    let time_max = settings.statement_time_max;
    within(time_max, "a replica's lag", async {
        let mut connection = replica.take(time_max).await?;
        let lag = connection.replica_lag().await?;
        replica.put_back(connection);
        Ok(lag)
    })
    .await
}

/// A server that does not let this account see its purge is swept all the same: the pauses adapt,
/// and a right that is missing must not fill a disk.
async fn purge_backlog(
    master: &mut dyn SweepConnection,
    settings: &SweeperSettings,
    board: &mut Board,
) -> Result<Option<u64>, StorageError> {
    if settings.purge_backlog_max.is_none() {
        return Ok(None);
    }
    match within(
        settings.statement_time_max,
        "the purge backlog",
        master.purge_backlog(),
    )
    .await
    {
        Err(error) if !error.breaks_connection() => {
            board.error(&format!("purge backlog: {error}"));
            Ok(None)
        }
        answer => answer,
    }
}
