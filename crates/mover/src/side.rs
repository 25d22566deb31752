//! One shard as a mover has it open.

use std::time::Duration;

use freehold_core::{
    Position, Slot, SlotSet,
    moving::{self, SlotRow, Step},
};
use freehold_storage::{
    MoveConnection, WatchConnection,
    moves::{Hold, Leader, MoveRun},
    watch::Sight,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    error::{Halt, MoveError},
    mover::Mover,
    shard::Shard,
};

/// How long it is until a server that has not followed yet is asked again.
const POLL: Duration = Duration::from_millis(2);

/// Parts of a set that one statement names.
pub(crate) const RANGES_MAX: usize = 256;

/// A shard, bound to the server that leads it and to its term.
pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) cluster_id: u64,
    pub(crate) moves: Box<dyn MoveConnection>,
    hold: Hold,
    /// The other servers that may be promoted.
    heirs: Vec<Heir>,
    /// What the leader had when it was looked at last: it never has less.
    noted: Option<Position>,
}

struct Heir {
    address: String,
    server: freehold_storage::Server,
    watch: Option<Box<dyn WatchConnection>>,
}

impl Side {
    /// Opens a shard, for an attempt that was drawn for both sides.
    pub(crate) async fn open(shard: &Shard, attempt: u64) -> Result<Self, Halt> {
        let leading = shard.leading().await?;
        let others = shard.servers.iter().enumerate();
        let heirs = others
            .filter(|(index, server)| *index != leading.index && server.may_lead())
            .map(|(_, server)| Heir {
                address: server.address().to_owned(),
                server: server.clone(),
                watch: None,
            });
        let mut side = Self {
            name: shard.name.clone(),
            cluster_id: leading.cluster_id,
            moves: leading.moves,
            hold: Hold {
                leader: leading.leader,
                attempt,
            },
            heirs: heirs.collect(),
            noted: None,
        };
        side.note().await?;
        if side.noted.is_none() && !side.heirs.is_empty() {
            return Err(
                side.unusable("its replicas cannot be waited for: it numbers no transactions")
            );
        }
        Ok(side)
    }

    fn unusable(&self, why: &str) -> Halt {
        let (shard, why) = (self.name.clone(), why.to_owned());
        MoveError::Shard { shard, why }.into()
    }

    pub(crate) fn hold(&self) -> Hold {
        self.hold
    }

    pub(crate) fn leader(&self) -> Leader {
        self.hold.leader
    }

    /// What a proof that did not hold means: somebody has the slots, or something else is not as it
    /// was.
    pub(crate) async fn disproved(&mut self, slots: &SlotSet) -> Halt {
        match self.rows(slots).await {
            Ok(_) => Halt::Again(format!("a step on '{}' found its slots changed", self.name)),
            Err(halt) => halt,
        }
    }

    /// The rows of the slots, all of which this mover still holds.
    pub(crate) async fn rows(
        &mut self,
        slots: &SlotSet,
    ) -> Result<Vec<(Slot, SlotRow<Box<str>>)>, Halt> {
        let mut rows = Vec::with_capacity(slots.len());
        for part in slots.parts(usize::MAX, RANGES_MAX) {
            let seen = self.moves.slots(&part).await?;
            if Leader::from(seen.fence) != self.leader()
                || seen.answered_by != self.leader().server_id
            {
                return Err(Halt::Again(format!("'{}' has another leader", self.name)));
            }
            rows.extend(seen.rows);
        }
        let taken = rows.iter().any(|(_, row)| row.attempt != self.hold.attempt);
        if taken || rows.len() != slots.len() {
            return Err(MoveError::TakenOver.into());
        }
        Ok(rows)
    }

    pub(crate) async fn take_over(
        &mut self,
        run: &MoveRun,
        slots: &SlotSet,
        peer: &str,
    ) -> Result<(), Halt> {
        let taken = self.moves.take_over(self.hold, run, slots, peer).await?;
        taken.ok_or_else(|| Halt::Again(format!("'{}' has another leader, or mover", self.name)))
    }

    /// One step for all of the slots, in one transaction. `claimed` is the slot_epoch with which the
    /// source claims, or claimed, a slot.
    pub(crate) async fn step(
        &mut self,
        step: Step,
        slots: &SlotSet,
        peer: &str,
        claimed: impl Fn(Slot, &SlotRow<Box<str>>) -> u64,
    ) -> Result<(), Halt> {
        if slots.is_empty() {
            return Ok(());
        }
        let rows = self.rows(slots).await?;
        let changes = rows.iter().map(|(slot, row)| {
            let epoch = claimed(*slot, row);
            let change = moving::change(step, row, self.hold.attempt, peer.into(), epoch);
            change.map(|change| (*slot, change))
        });
        let changes = changes
            .collect::<Result<Vec<_>, _>>()
            .map_err(|illegal| Halt::Again(illegal.to_string()))?;
        match self.moves.change(self.leader(), &changes).await? {
            Some(()) => Ok(()),
            None => Err(self.disproved(slots).await),
        }
    }

    /// Notes where the leader is. One that has less than before was replaced by somebody who lacks
    /// what this mover did, whatever its fence shows.
    pub(crate) async fn note(&mut self) -> Result<(), Halt> {
        let now = self.moves.position().await?;
        let has_all = match (&self.noted, &now) {
            (None, _) => true,
            (Some(noted), Some(now)) => now.covers(noted),
            (Some(_), None) => false,
        };
        if !has_all {
            return Err(Halt::Again(format!("'{}' lost what it had", self.name)));
        }
        self.noted = now;
        Ok(())
    }

    /// Waits until every server that may be promoted has what was noted, and the leader still leads
    /// and has it, too.
    pub(crate) async fn wait(
        &mut self,
        mover: &Mover,
        slots: &SlotSet,
        wait_max: Duration,
    ) -> Result<(), Halt> {
        let Some(noted) = self.noted.clone() else {
            return Ok(());
        };
        let began = Instant::now();
        let mut left: Vec<usize> = (0..self.heirs.len()).collect();
        while !left.is_empty() {
            let mut behind = Vec::new();
            for index in left {
                if !self.heirs[index].has(&noted, wait_max).await {
                    behind.push(index);
                }
            }
            if !behind.is_empty() && began.elapsed() >= wait_max {
                let servers = behind
                    .iter()
                    .map(|index| self.heirs[*index].address.as_str());
                return Err(MoveError::Behind {
                    shard: self.name.clone(),
                    servers: servers.collect::<Vec<_>>().join(", "),
                    waited: wait_max,
                }
                .into());
            }
            left = behind;
            if !left.is_empty() {
                // Nobody's writes wait where it may take that long.
                if began.elapsed() > mover.settings.wait_max {
                    mover.go_on()?;
                }
                sleep(POLL).await;
            }
        }
        if !self.heirs.is_empty() {
            self.rows(slots).await?;
            self.note().await?;
        }
        Ok(())
    }

    /// The first replica that lacks what was noted, if one does: for a mover that need not wait. One that
    /// does not answer lacks it, unless only those count that `answer`.
    pub(crate) async fn laggard(&mut self, noted: &Position, answer: bool) -> Option<String> {
        for heir in &mut self.heirs {
            let seen = heir.look(Duration::from_secs(1)).await;
            if !seen.map_or(answer, |seen| has(&seen, noted)) {
                return Some(heir.address.clone());
            }
        }
        None
    }

    /// What was noted last.
    pub(crate) fn noted(&self) -> Option<Position> {
        self.noted.clone()
    }
}

impl Heir {
    /// Whether the server has it. One that does not answer has nothing.
    async fn has(&mut self, noted: &Position, wait_max: Duration) -> bool {
        let seen = self.look(wait_max).await;
        seen.is_some_and(|seen| has(&seen, noted))
    }

    async fn look(&mut self, wait_max: Duration) -> Option<Sight> {
        let look = async {
            if self.watch.is_none() {
                self.watch = Some(self.server.connect_watch().await.ok()?);
            }
            self.watch.as_mut()?.look().await.ok()
        };
        let sight = timeout(wait_max, look).await.ok().flatten();
        if sight.is_none() {
            self.watch = None;
        }
        sight
    }
}

fn has(seen: &Sight, noted: &Position) -> bool {
    let position = seen.position.as_ref();
    position.is_some_and(|position| position.covers(noted))
}
