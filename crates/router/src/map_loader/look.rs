//! One look at a server.

use std::{sync::Arc, time::Duration};

use freehold_core::{Extent, Fence, ShardClaims};
use freehold_storage::{Part, PromotionConnection, Server, StorageError};
use tokio::time::{Instant, timeout, timeout_at};

use super::no_answer;

/// A connection, and the fence that was read on it last.
pub(super) struct Lookout {
    pub(super) connection: Box<dyn PromotionConnection>,
    shown: Fence,
}

/// Which rows a look brings along.
#[derive(Clone, Copy)]
pub(super) enum Load {
    /// The fence alone.
    Nothing,
    /// What changed since this fence; all of them where there is none.
    Since(Option<Fence>),
}

/// What a server answered.
pub(super) struct Answer {
    pub(super) part: Part,
    /// The fence, with the rows that were asked for.
    pub(super) claims: ShardClaims,
    /// How much of the rows that is; absent if none were asked for.
    pub(super) extent: Option<Extent>,
}

/// How long the parts of a look may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeLimits {
    /// Everything but reading all rows.
    pub(super) look: Duration,
    /// Reading all rows: a server that answers at all is not asked for them again and again because
    /// it, or this router, is slow.
    pub(super) load: Duration,
}

pub(super) async fn look(
    server: Arc<Server>,
    lookout: Option<Lookout>,
    load: Load,
    limits: TimeLimits,
) -> Result<(Answer, Lookout), StorageError> {
    let deadline = Instant::now() + limits.look;
    let looking = async {
        let (mut connection, shown) = match lookout {
            Some(lookout) => (lookout.connection, Some(lookout.shown)),
            None => (server.connect_promotion().await?, None),
        };
        let part = connection.part().await?;
        Ok((connection, shown, part))
    };
    let (mut connection, shown, part) = timeout_at(deadline, looking)
        .await
        .unwrap_or_else(|_| Err(no_answer(limits.look)))?;
    let above = match load {
        Load::Nothing => Some(u64::MAX),
        Load::Since(known) => known.map(|fence| fence.epoch),
    };
    let seen = match above {
        Some(above) => {
            let changes = timeout_at(deadline, connection.claims(above)).await;
            Some(changes.unwrap_or_else(|_| Err(no_answer(limits.look)))?)
        }
        None => None,
    };
    let (claims, extent) = match (load, seen) {
        (Load::Nothing, Some(seen)) => (seen, None),
        (Load::Since(Some(known)), Some(seen))
            if continues(&known, shown.as_ref(), &seen.fence) =>
        {
            (seen, Some(Extent::Changes))
        }
        _ => {
            let whole = timeout(limits.load, connection.claims(0)).await;
            let whole = whole.unwrap_or_else(|_| Err(no_answer(limits.load)))?;
            (whole, Some(Extent::Whole))
        }
    };
    let lookout = Lookout {
        connection,
        shown: claims.fence,
    };
    let answer = Answer {
        part,
        claims,
        extent,
    };
    Ok((answer, lookout))
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use freehold_core::{ShardIdentity, Slot};
    use freehold_storage::{ConnectOptions, Copying, Dsn};

    use super::*;

    const LIMITS: TimeLimits = TimeLimits {
        look: Duration::from_secs(4),
        load: Duration::from_secs(60),
    };

    /// Takes its time over every answer, and more over all rows.
    struct Slow {
        answer: Duration,
        all_rows: Duration,
    }

    #[async_trait]
    impl PromotionConnection for Slow {
        async fn claims(&mut self, above_epoch: u64) -> Result<ShardClaims, StorageError> {
            let all = above_epoch == 0;
            tokio::time::sleep(if all { self.all_rows } else { self.answer }).await;
            Ok(ShardClaims {
                identity: ShardIdentity {
                    name: "a".to_owned(),
                    cluster_id: 1,
                    schema_version: 1,
                },
                answered_by: 1,
                fence: FENCE,
                claims: Vec::new(),
            })
        }

        async fn part(&mut self) -> Result<Part, StorageError> {
            tokio::time::sleep(self.answer).await;
            Ok(Part {
                read_only: false,
                copying: Ok(Copying::default()),
            })
        }

        async fn adopt(&mut self, _: &Fence, _: &Fence) -> Result<bool, StorageError> {
            unreachable!("it is only looked at")
        }

        async fn stop_moves_of(&mut self, _: &[(Slot, u64)]) -> Result<ShardClaims, StorageError> {
            unreachable!("it is only looked at")
        }

        async fn serve_compared(&mut self, _: &Fence, _: &[Slot]) -> Result<bool, StorageError> {
            unreachable!("it is only looked at")
        }
    }

    const FENCE: Fence = Fence {
        server_id: 1,
        stamp: 1,
        term: 1,
        epoch: 1,
    };

    async fn look_at(answer_s: u64, all_rows_s: u64, load: Load) -> Result<Answer, StorageError> {
        let dsn = Dsn::parse("sqlite:///nowhere").unwrap();
        let options = ConnectOptions {
            connect_timeout: LIMITS.look,
            seed: 1,
        };
        let slow = Slow {
            answer: Duration::from_secs(answer_s),
            all_rows: Duration::from_secs(all_rows_s),
        };
        let lookout = Lookout {
            connection: Box::new(slow),
            shown: FENCE,
        };
        let looked = look(
            Arc::new(Server::new(&dsn, options)),
            Some(lookout),
            load,
            LIMITS,
        )
        .await;
        looked.map(|(answer, _)| answer)
    }

    #[tokio::test(start_paused = true)]
    async fn reading_all_rows_may_take_longer_than_a_look() {
        let other = Fence { stamp: 2, ..FENCE };
        for load in [Load::Since(None), Load::Since(Some(other))] {
            let answer = look_at(1, 50, load).await.unwrap();
            assert_eq!(answer.extent, Some(Extent::Whole));
            assert!(look_at(1, 61, load).await.is_err());
        }
        // Nothing else waits for so long.
        assert!(look_at(1, 50, Load::Nothing).await.is_ok());
        for load in [Load::Nothing, Load::Since(None), Load::Since(Some(FENCE))] {
            assert!(look_at(5, 1, load).await.is_err());
        }
        let answer = look_at(1, 50, Load::Since(Some(FENCE))).await.unwrap();
        assert_eq!(answer.extent, Some(Extent::Changes));
    }

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
