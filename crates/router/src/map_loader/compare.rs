//! Comparing claims that were on their way when the shard failed over with their peers'.
//!
//! Every router that follows the new leader does it until one has: asking twice harms nobody.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use freehold_core::{
    Fence, Route, ShardClaims, ShardId, Slot, SlotClaim,
    adoption::{Comparison, compare},
    moving::SlotRow,
};
use freehold_storage::StorageError;
use tokio::time::{Instant, timeout};

use super::{Done, MapLoader, no_answer};
use crate::shards::Shards;

/// How soon to try again, at first and at last.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Where comparing is.
pub(super) struct Comparing {
    /// Peers that are being asked.
    asked: usize,
    /// Whether one of them could not be asked, or had the slot.
    is_left: bool,
    due: Instant,
    pause: Duration,
    /// The fence under which no claim was left to be compared.
    none_left_in: Option<Fence>,
}

impl Comparing {
    pub(super) fn new() -> Self {
        Self {
            asked: 0,
            is_left: false,
            due: Instant::now(),
            pause: AGAIN.0,
            none_left_in: None,
        }
    }

    /// When to go on, if claims are left and that is still to come.
    pub(super) fn due(&self) -> Option<Instant> {
        let waits = self.is_left && self.asked == 0 && self.due > Instant::now();
        waits.then_some(self.due)
    }
}

/// What came of asking one peer.
pub(super) struct Compared {
    peer: Arc<str>,
    result: Result<Outcome, StorageError>,
}

/// How many claims hold, and how many do not.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    served: usize,
    elsewhere: usize,
    conflicts: usize,
}

impl MapLoader {
    /// Asks the peers, if there is something to ask them.
    pub(super) fn compare(&mut self) {
        let now = Instant::now();
        let is_led = self.next_leader.is_none() && self.shards.leader(self.shard).is_usable();
        let known = self.known_fence().filter(|_| is_led);
        let comparing = &self.comparing;
        let Some(fence) = known else { return };
        if comparing.asked > 0 || now < comparing.due || comparing.none_left_in == Some(fence) {
            return;
        }
        let by_peer = self.to_be_compared();
        self.comparing.is_left = !by_peer.is_empty();
        if by_peer.is_empty() {
            self.comparing.none_left_in = Some(fence);
            self.comparing.pause = AGAIN.0;
            return;
        }
        self.comparing.due = now + self.random.jitter(self.comparing.pause);
        self.comparing.pause = (self.comparing.pause * 2).min(AGAIN.1);
        let own = self.lanes(self.leader()).server.load_full();
        let time_max = self.settings.timeout;
        for (peer, claims) in by_peer {
            let name: Arc<str> = peer.as_str().into();
            let asking = ask(self.shards.clone(), name.clone(), claims);
            let own = own.clone();
            self.comparing.asked += 1;
            self.jobs.push(Box::pin(async move {
                let comparing = async {
                    let (outcome, serve) = asking.await?;
                    if serve.is_empty() {
                        return Ok(outcome);
                    }
                    let mut connection = own.connect_promotion().await?;
                    match connection.serve_compared(&fence, &serve).await? {
                        true => Ok(outcome),
                        // Another router did it, or a mover went on.
                        false => Ok(Outcome::default()),
                    }
                };
                let result = timeout(time_max, comparing).await;
                Done::Compared(Compared {
                    peer: name,
                    result: result.unwrap_or_else(|_| Err(no_answer(time_max))),
                })
            }));
        }
    }

    /// The shard's claims that are not served before they were compared, by their peers' names.
    fn to_be_compared(&self) -> BTreeMap<String, Vec<SlotClaim>> {
        let map = self.shards.map.load();
        let mut by_peer: BTreeMap<String, Vec<SlotClaim>> = BTreeMap::new();
        let waits =
            |claim: &&SlotClaim| map.route(claim.slot) == Route::ToBeCompared { shard: self.shard };
        for claim in map.shard(self.shard).claims.iter().filter(waits) {
            let peer = claim.peer.as_deref().unwrap_or_default();
            by_peer
                .entry(peer.to_owned())
                .or_default()
                .push(claim.clone());
        }
        by_peer
    }

    pub(super) fn compared(&mut self, compared: Compared) {
        self.comparing.asked -= 1;
        let (shard, peer) = (&self.of_shard().name, &compared.peer);
        match compared.result {
            Ok(outcome) => {
                let Outcome {
                    served,
                    elsewhere,
                    conflicts,
                } = outcome;
                if conflicts > 0 {
                    tracing::error!(%shard, %peer, slots = conflicts, "both shards claim slots");
                }
                if elsewhere > 0 {
                    tracing::warn!(
                        %shard, %peer, slots = elsewhere,
                        "slots belong to the other shard: this one lost that it gave them away"
                    );
                }
                tracing::info!(%shard, %peer, slots = served, "slots on their way are served");
            }
            Err(error) => tracing::warn!(
                %shard, %peer, %error,
                "slots that were on their way are not served: their peer was not asked"
            ),
        }
        // What holds now, and who has the rest, the two of them say.
        self.hurry(self.leader());
        let shards = self.shards.clone();
        let map = shards.map.load();
        if let Some((peer, _)) = map.shards().find(|(_, view)| view.name == compared.peer) {
            shards.shard(peer).reload.notify_one();
        }
    }
}

/// Asks a peer's leader, after it was told to let no mover go on there. Answers how the claims
/// compare, and which of them hold.
async fn ask(
    shards: Arc<Shards>,
    name: Arc<str>,
    claims: Vec<SlotClaim>,
) -> Result<(Outcome, Vec<Slot>), StorageError> {
    let map = shards.map.load_full();
    let Some((peer, view)) = map.shards().find(|(_, view)| view.name == name) else {
        return Err(unusable("it is not in this router's config".to_owned()));
    };
    let server = shards.shard(peer).servers[view.leader].server.load_full();
    let mut connection = server.connect_promotion().await?;
    let slots: Vec<(Slot, u64)> = claims
        .iter()
        .map(|claim| (claim.slot, claim.slot_epoch))
        .collect();
    let theirs = connection.stop_moves_of(&slots).await?;
    check(&shards, peer, &theirs)?;
    Ok(judge(&claims, &theirs.claims))
}

/// Whether the answer came from the server that leads the peer, as far as this router knows.
fn check(shards: &Shards, peer: ShardId, theirs: &ShardClaims) -> Result<(), StorageError> {
    let checked = shards.check_identity(peer, &theirs.identity, false);
    checked.map_err(unusable)?;
    let known = shards.map.load().shard(peer).fence;
    let is_former = known.is_some_and(|known| known.term > theirs.fence.term);
    match theirs.answered_by == theirs.fence.server_id && !is_former {
        true => Ok(()),
        false => Err(unusable(
            "the server that was asked does not lead".to_owned(),
        )),
    }
}

fn unusable(reason: String) -> StorageError {
    StorageError::Unreachable {
        reason: reason.into(),
    }
}

/// Compares each claim with the peer's row of its slot; both are ordered by slot.
fn judge(claims: &[SlotClaim], theirs: &[SlotClaim]) -> (Outcome, Vec<Slot>) {
    let mut outcome = Outcome::default();
    let mut serve = Vec::new();
    for claim in claims {
        let place = theirs.binary_search_by_key(&claim.slot, |row| row.slot);
        let their_row = place.ok().map(|place| row(&theirs[place]));
        match compare(&row(claim), their_row.as_ref()) {
            // The attempt was drawn before the row was read.
            Comparison::Serve | Comparison::StopFirst => serve.push(claim.slot),
            Comparison::Elsewhere => outcome.elsewhere += 1,
            Comparison::Conflict => outcome.conflicts += 1,
        }
    }
    outcome.served = serve.len();
    (outcome, serve)
}

fn row(claim: &SlotClaim) -> SlotRow<&str> {
    SlotRow {
        state: claim.state,
        slot_epoch: claim.slot_epoch,
        peer: claim.peer.as_deref(),
        // Not compared: it says who may go on, not who owns.
        attempt: 0,
    }
}

#[cfg(test)]
mod tests {
    use freehold_core::{NOT_COMPARED, SlotState};

    use super::*;

    fn claim(slot: u16, state: SlotState, slot_epoch: u64) -> SlotClaim {
        SlotClaim {
            slot: Slot(slot),
            state,
            slot_epoch,
            peer: Some("b".into()),
            since_epoch: NOT_COMPARED,
        }
    }

    #[test]
    fn each_claim_is_compared_with_the_row_of_its_own_slot() {
        use SlotState::{Fenced, Gone, Incoming, Outgoing, Owned};
        let mine = [
            claim(3, Outgoing, 2),
            claim(5, Fenced, 2),
            claim(6, Fenced, 2),
            claim(7, Fenced, 2),
            claim(9, Fenced, 2),
        ];
        let theirs = [
            claim(5, Owned, 3),
            claim(6, Incoming, 3),
            claim(7, Owned, 2),
            claim(9, Gone, 1),
        ];
        let (outcome, serve) = judge(&mine, &theirs);
        assert_eq!(serve, [Slot(3), Slot(6), Slot(9)]);
        let expected = Outcome {
            served: 3,
            elsewhere: 1,
            conflicts: 1,
        };
        assert_eq!(outcome, expected);
    }
}
