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

/// After a look that failed, the next one waits at least so long, whoever asks for it.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(100);

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
        let mut lookout = None;
        loop {
            let wait = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                wait = self.tick(&mut lookout) => wait,
            };
            let shard = self.shards.shard(self.shard);
            shard.loads.send_modify(|loads| *loads += 1);
            let rest = if shard.master.is_usable() {
                Duration::ZERO
            } else {
                wait.min(LOOK_AGAIN_MIN)
            };
            let pause = async {
                sleep(rest).await;
                tokio::select! {
                    () = shard.reload.notified() => {}
                    () = sleep(wait - rest) => {}
                }
            };
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = pause => {}
            }
        }
    }

    /// One look; answers how long to wait for the next one.
    async fn tick(&mut self, lookout: &mut Option<Lookout>) -> Duration {
        let found = match timeout(self.timeout, self.look(lookout)).await {
            Ok(found) => found,
            Err(_) => Err(StorageError::Unreachable {
                reason: format!("no answer within {:?}", self.timeout).into(),
            }),
        };
        let standing = match found {
            Ok((claims, extent)) => self.believe(claims, extent),
            Err(error) => {
                *lookout = None;
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
        lookout: &mut Option<Lookout>,
    ) -> Result<(ShardClaims, Extent), StorageError> {
        // Taken out, so that a look that is cut short leaves no half-used connection behind.
        let (mut connection, shown) = match lookout.take() {
            Some(lookout) => (lookout.connection, Some(lookout.shown)),
            None => (self.server.connect().await?, None),
        };
        let known = self.known_fence();
        let mut claims = connection
            .claims(known.map_or(0, |fence| fence.epoch))
            .await?;
        let mut extent = Extent::Changes;
        if !known.is_some_and(|known| continues(&known, shown.as_ref(), &claims.fence)) {
            extent = Extent::Whole;
            if known.is_some() {
                claims = connection.claims(0).await?;
            }
        }
        *lookout = Some(Lookout {
            connection,
            shown: claims.fence,
        });
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

/// A connection, and the fence that was read on it last.
struct Lookout {
    connection: Box<dyn DataConnection>,
    shown: Fence,
}

/// Whether `now` is `known` or a later moment of the same history, so that the rows above `known`'s
/// epoch are all that changed. Counters alone do not show it: a server that was started again, from
/// a backup or without the end of its log, counts the same numbers for other changes. One that went
/// on running since it showed `known`, on this connection, has lost nothing.
fn continues(known: &Fence, shown_before: Option<&Fence>, now: &Fence) -> bool {
    if known == now {
        return true;
    }
    let same_term = (known.server_id, known.term) == (now.server_id, now.term);
    shown_before == Some(known) && same_term && now.epoch > known.epoch
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_grew_on_another_connection_prove_nothing() {
        let fence = |stamp, epoch| Fence {
            server_id: 1,
            stamp,
            term: 1,
            epoch,
        };
        let known = fence(11, 5);
        assert!(continues(&known, None, &known));
        assert!(continues(&known, Some(&known), &fence(12, 6)));
        assert!(!continues(&known, None, &fence(12, 6)));
        assert!(!continues(&known, Some(&fence(10, 4)), &fence(12, 6)));
        assert!(!continues(&known, Some(&known), &fence(12, 5)));
        let adopted = Fence {
            term: 2,
            ..fence(12, 6)
        };
        assert!(!continues(&known, Some(&known), &adopted));
    }
}
