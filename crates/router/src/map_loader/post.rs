//! What a loader remembers of each server.

use std::sync::Arc;

use freehold_core::{Extent, ShardClaims};
use freehold_storage::StorageError;
use tokio::time::Instant;

use super::look::{Answer, Lookout};
use crate::leadership::{Observed, Presence, SILENCE_MAX, Sight};

/// One server of the shard.
pub(super) struct Post {
    /// Whether it left the config.
    pub(super) is_retired: bool,
    pub(super) lookout: Option<Lookout>,
    /// When the look that is under way began.
    pub(super) asked: Option<Instant>,
    /// When the next one begins.
    pub(super) due: Instant,
    /// Whether another one is wanted as soon as that one is over.
    pub(super) again: bool,
    /// When the last one began, and when it ended.
    began: Instant,
    pub(super) ended: Instant,
    pub(super) answer: Option<Result<Answer, StorageError>>,
    /// Rows that came with it and were not used yet.
    pub(super) loaded: Option<(ShardClaims, Extent)>,
    read_only_in: Option<u64>,
    open_since: Option<Instant>,
}

impl Post {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            is_retired: false,
            lookout: None,
            asked: None,
            due: now,
            again: false,
            began: now,
            ended: now,
            answer: None,
            loaded: None,
            read_only_in: None,
            open_since: None,
        }
    }

    /// Notes what came of a look.
    pub(super) fn looked(
        &mut self,
        began: Instant,
        result: Result<(Answer, Lookout), StorageError>,
    ) {
        self.asked = None;
        (self.began, self.ended) = (began, Instant::now());
        self.loaded = None;
        self.answer = Some(result.map(|(mut answer, lookout)| {
            self.lookout = Some(lookout);
            if answer.part.read_only {
                self.open_since = None;
            } else {
                self.open_since.get_or_insert(began);
            }
            let rows = std::mem::take(&mut answer.claims.claims);
            self.loaded = answer.extent.map(|extent| {
                let claims = ShardClaims {
                    claims: rows,
                    ..answer.claims.clone()
                };
                (claims, extent)
            });
            answer
        }));
    }

    /// Notes whether it was read-only in the current term, which is known since that time.
    pub(super) fn note_term(&mut self, term: u64, since: Instant) {
        if let Some(Ok(answer)) = &self.answer
            && answer.part.read_only
            && self.began >= since
        {
            self.read_only_in = Some(term);
        }
    }

    /// Whether its last look began after that time.
    pub(super) fn is_seen_since(&self, since: Instant) -> bool {
        self.began >= since
    }

    /// Whether it has answered, or failed to, since that time.
    pub(super) fn is_heard_since(&self, since: Instant) -> bool {
        self.heard_since().is_some_and(|heard| heard >= since)
    }

    /// The time up to which everything it did can be seen in what is known of it.
    pub(super) fn heard_since(&self) -> Option<Instant> {
        let now = Instant::now();
        match self.asked {
            Some(asked) if now - asked > SILENCE_MAX => Some(now),
            _ => self.answer.as_ref().map(|_| self.began),
        }
    }

    /// When the last look that it answered began; absent if the last one failed.
    pub(super) fn answered_since(&self) -> Option<Instant> {
        self.answer.as_ref()?.as_ref().ok().map(|_| self.began)
    }

    /// It as the decision sees it; `check` says whether it belongs here.
    pub(super) fn observed(
        &self,
        (address, may_lead): (&Arc<str>, bool),
        is_first_known: bool,
        check: impl Fn(&Answer) -> Result<(), String>,
    ) -> Observed {
        let hangs = self
            .asked
            .is_some_and(|asked| asked.elapsed() > SILENCE_MAX);
        let presence = match &self.answer {
            None if hangs => Presence::Silent("it does not answer".into()),
            None => Presence::Pending,
            Some(Err(error)) => Presence::Silent(error.to_string().into()),
            // Which cluster this is, the first one that answers decides.
            Some(Ok(_)) if !is_first_known => Presence::Pending,
            Some(Ok(answer)) => match check(answer) {
                Err(problem) => Presence::Silent(problem.into()),
                Ok(()) => {
                    let sight = Sight {
                        fence: answer.claims.fence,
                        server_id: answer.claims.answered_by,
                        part: answer.part.clone(),
                        began: self.began,
                    };
                    match hangs {
                        true => Presence::Hanging(sight),
                        false => Presence::Seen(sight),
                    }
                }
            },
        };
        Observed {
            address: address.clone(),
            may_lead,
            presence,
            read_only_in: self.read_only_in,
            open_since: self.open_since,
        }
    }
}
