//! Keeps the map equal to what the masters say: one task per shard.
//!
//! It looks when a fence disagreed, and now and then without cause. What it finds is checked before
//! it is believed: cluster, shard and schema version must be this router's, and the server must be
//! the one that the fence names.

use std::{sync::Arc, time::Duration};

use freehold_core::{Extent, Fence, ShardClaims, ShardId};
use freehold_storage::{DataConnection, Refusal, Server, StorageError};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    shards::{Shards, Standing},
};

/// Loads one shard's claims for as long as the router runs.
pub struct MapLoader {
    /// Where the claims go.
    pub shards: Arc<Shards>,
    /// Whose claims.
    pub shard: ShardId,
    /// The master.
    pub server: Server,
    /// How often to look without cause.
    pub poll: Duration,
    /// How long one look may take.
    pub timeout: Duration,
    /// For jitter.
    pub backoff: Backoff,
}

impl MapLoader {
    /// Looks until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut connection = None;
        loop {
            let wait = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                wait = self.tick(&mut connection) => wait,
            };
            let shard = self.shards.shard(self.shard);
            shard.loads.send_modify(|loads| *loads += 1);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = shard.reload.notified() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// One look; answers how long to wait for the next one.
    async fn tick(&mut self, connection: &mut Option<Box<dyn DataConnection>>) -> Duration {
        let found = match timeout(self.timeout, self.look(connection)).await {
            Ok(found) => found,
            Err(_) => Err(StorageError::Unreachable {
                reason: format!("no answer within {:?}", self.timeout).into(),
            }),
        };
        let standing = match found {
            Ok((claims, extent)) => self.believe(claims, extent),
            Err(error) => {
                *connection = None;
                standing_of(&error)
            }
        };
        let usable = standing == Standing::Usable;
        self.note(standing);
        if usable {
            self.backoff.reset();
            self.backoff.jitter(self.poll)
        } else {
            self.backoff.after_failure()
        }
    }

    async fn look(
        &self,
        connection: &mut Option<Box<dyn DataConnection>>,
    ) -> Result<(ShardClaims, Extent), StorageError> {
        // Taken out, so that a look that is cut short leaves no half-used connection behind.
        let mut open = match connection.take() {
            Some(open) => open,
            None => self.server.connect().await?,
        };
        let known = self.known_fence();
        let mut claims = open.claims(known.map_or(0, |fence| fence.epoch)).await?;
        let mut extent = Extent::Changes;
        if !known.is_some_and(|known| continues(&known, &claims.fence)) {
            extent = Extent::Whole;
            if known.is_some() {
                claims = open.claims(0).await?;
            }
        }
        *connection = Some(open);
        Ok((claims, extent))
    }

    fn known_fence(&self) -> Option<Fence> {
        self.shards.map.load().shard(self.shard).fence
    }

    fn believe(&self, claims: ShardClaims, extent: Extent) -> Standing {
        if let Err(problem) = self
            .shards
            .check_identity(self.shard, &claims.identity, true)
        {
            return Standing::Unfit(problem.into());
        }
        if claims.answered_by != claims.fence.server_id {
            return Standing::Unfit(
                format!(
                    "the fence names server {} and server {} answered: it was promoted and is not \
                     adopted",
                    claims.fence.server_id, claims.answered_by
                )
                .into(),
            );
        }
        match self.known_fence() {
            Some(known) if known == claims.fence => {}
            Some(known) if known.is_newer_than(&claims.fence) => {
                return Standing::Unfit(
                    format!(
                        "the fence went back from term {} epoch {} to term {} epoch {}: was the \
                         server restored from a backup? Restart the routers once that is settled",
                        known.term, known.epoch, claims.fence.term, claims.fence.epoch
                    )
                    .into(),
                );
            }
            _ => self
                .shards
                .change_map(|map| map.with_snapshot(self.shard, claims, extent)),
        }
        Standing::Usable
    }

    fn note(&self, standing: Standing) {
        let shard = self.shards.shard(self.shard);
        let before = shard.master.standing.load_full();
        if *before == standing {
            return;
        }
        match &standing {
            Standing::Usable => tracing::info!(shard = %shard.name, "shard is up"),
            other => {
                tracing::warn!(shard = %shard.name, reason = %other.reason(), "shard is not served")
            }
        }
        shard.master.set_standing(standing);
    }
}

/// Whether `shown` is `known` or a later moment of the same history, so that the rows above
/// `known`'s epoch are all that changed.
fn continues(known: &Fence, shown: &Fence) -> bool {
    let same_term = (known.server_id, known.term) == (shown.server_id, shown.term);
    same_term && (known.stamp == shown.stamp || shown.epoch > known.epoch)
}

/// What an error says of the server it came from.
#[must_use]
pub fn standing_of(error: &StorageError) -> Standing {
    let reason: Arc<str> = error.to_string().into();
    match error {
        StorageError::Refused {
            refusal: Refusal::Schema,
            ..
        } => Standing::Unfit(format!("{reason}: run `freehold init`").into()),
        StorageError::Refused {
            refusal: Refusal::Denied,
            ..
        } => Standing::Unfit(reason),
        _ => Standing::Down(reason),
    }
}
