//! What the commands share that move slots: the shards of a config, and a move under way.
//!
//! [`carry`] is the way of `move`, `rebalance` and `drain`: a plan, as it is `planned`, a question,
//! and its moves, one after another. Who plans and moves is a [`Field`] here, which works on the
//! databases itself, or `by_router`. Both show it alike (`show`), and come to what `ended` tells.

mod by_router;
pub(super) mod carry;
mod ended;
mod planned;
mod show;
pub(super) mod spread;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use freehold_core::{Slot, SlotSet, SlotState};
use freehold_mover::{Aim, MoveError, Mover, MoverSettings, Shard};
use freehold_router::movers::{Limits, Wish};
use freehold_storage::moves::{MoveRecord, MoveState};
use rand::{Rng as _, rngs::StdRng};
use tokio::{signal, sync::oneshot};

use self::ended::Ended;
pub(super) use self::ended::tell;
use super::{Site, open_site, random};
use crate::{
    app::{limited, own_name},
    args::{AccountArgs, ConfigArgs},
    embedded::FolderLock,
    exit::Failure,
    output::Output,
    planning::{Plan, in_the_way, place, plan, records},
};

/// What becomes of a move that this command cannot go on with.
const LEFT: &str = "routers go on with the move as soon as they can ([mover] in their config); \
                    freehold moves shows it, and takes it back with --cancel";

/// The id of what is no move in the list.
pub(super) const NO_ID: u64 = 0;

/// The shards of a config, ready for moves.
pub(super) struct Field {
    shards: Vec<Shard>,
    /// As the config has them.
    settings: MoverSettings,
    random: StdRng,
    _lock: Option<FolderLock>,
}

/// One move, as it is to be run.
pub(super) struct Task {
    pub(super) id: u64,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) slots: SlotSet,
    pub(super) aim: Aim,
}

impl Field {
    /// Opens the config, as the account given or else the one of `[mover]`. `changes` takes the folder
    /// of embedded shards.
    pub(super) fn open(
        config: &ConfigArgs,
        account: &AccountArgs,
        changes: bool,
    ) -> Result<Self, Failure> {
        let mut random = random()?;
        let site = open_site(config, Some(account), 1, changes, &mut random)?;
        let Site {
            shards,
            moved,
            mover_settings,
            lock,
            ..
        } = site;
        let shards = match account.user {
            Some(_) => shards,
            None => moved,
        };
        Ok(Self {
            shards: shards.into_iter().map(Into::into).collect(),
            settings: mover_settings,
            random,
            _lock: lock,
        })
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.random.next_u64()
    }

    fn shard(&self, name: &str) -> Result<&Shard, Failure> {
        Ok(&self.shards[place(&self.shards, "shard", name)?])
    }

    /// What the shards have written down of moves, newest first, each once.
    pub(super) async fn records(&self) -> Result<Vec<MoveRecord>, Failure> {
        Ok(records(&self.shards).await?)
    }

    /// What it takes to have it as it is wished.
    async fn plan(&self, wish: &Wish) -> Result<Plan, Failure> {
        Ok(plan(&self.shards, wish).await?)
    }

    /// Slots on their way that none of the moves that are open is about, as moves that stopped: by
    /// source and target. A failover may lose the word of a move.
    pub(super) async fn orphans(&self) -> Result<Vec<MoveRecord>, Failure> {
        // A move may begin or end between two looks.
        let before = self.records().await?;
        let mut found: BTreeMap<(String, String), Vec<Slot>> = BTreeMap::new();
        for shard in &self.shards {
            for (slot, row) in shard.on_their_way().await? {
                let peer = row.peer.as_deref().unwrap_or_default().to_owned();
                let way = match row.state {
                    SlotState::Incoming => (peer, shard.name.clone()),
                    _ => (shard.name.clone(), peer),
                };
                found.entry(way).or_default().push(slot);
            }
        }
        let after = self.records().await?;
        let open = before.iter().chain(&after);
        let open = open.filter(|record| record.state.is_open());
        let known: BTreeSet<Slot> = open.flat_map(|record| record.slots.iter()).collect();
        let found = found.into_iter().map(|((source, target), mut slots)| {
            slots.retain(|slot| !known.contains(slot));
            orphan(&source, &target, &slots.into_iter().collect())
        });
        Ok(found.filter(|record| !record.slots.is_empty()).collect())
    }

    /// Whether it may begin, or has begun already.
    async fn may_begin(&self, task: &Task) -> Result<(), Failure> {
        let records = self.records().await?;
        if task.aim == Aim::Cancel || records.iter().any(|record| record.id == task.id) {
            return Ok(());
        }
        match in_the_way(&records, &task.slots) {
            None => Ok(()),
            Some(problem) => Err(Failure::Stopped(problem)),
        }
    }

    /// Runs a move to its end. Ctrl-C stops it in order.
    pub(super) async fn run(
        &mut self,
        task: &Task,
        limits: &Limits,
        output: Output,
    ) -> Result<Ended, Failure> {
        self.may_begin(task).await?;
        let seed = self.draw();
        let settings = limited(self.settings.clone(), limits);
        let (source, target) = (self.shard(&task.source)?, self.shard(&task.target)?);
        let name = own_name();
        let mover = Mover::new(source.clone(), target.clone(), settings, seed, name);
        let bar = show::Bar::new(output, task.slots.len() as u64);
        let shown = bar.follow(mover.progress());
        let run = mover.run(task.id, &task.slots, task.aim);
        tokio::pin!(run);
        let ended = tokio::select! {
            ended = &mut run => ended,
            _ = signal::ctrl_c() => {
                output.note("stopping; press Ctrl-C again to leave it to the routers as it is");
                mover.stop();
                tokio::select! {
                    ended = &mut run => ended,
                    // As it is means as a kill leaves it.
                    _ = signal::ctrl_c() => Err(MoveError::LeftToOthers),
                }
            }
        };
        shown.abort();
        bar.clear();
        if ended.as_ref().is_err_and(MoveError::passes) {
            output.note(LEFT);
        }
        Ok(ended?.into())
    }
}

fn orphan(source: &str, target: &str, slots: &SlotSet) -> MoveRecord {
    MoveRecord {
        state: MoveState::Stopped,
        error: "half-way, and no move in the list is about them".to_owned(),
        ..MoveRecord::begin(NO_ID, source, target, slots)
    }
}

/// Asks whether to go on; without a terminal `--yes` has to say so. Ctrl-C means no.
pub(super) async fn confirm(yes: bool, question: &str) -> Result<bool, Failure> {
    if yes {
        return Ok(true);
    }
    let terminal = console::Term::stderr();
    if !console::user_attended() || !terminal.is_term() {
        return Err(Failure::Usage(
            "nobody is there to ask: use --yes to go on, or --dry-run to see the plan".to_owned(),
        ));
    }
    let cannot = |error| Failure::io("cannot ask", error);
    terminal
        .write_str(&format!("{question} [y/N] "))
        .map_err(cannot)?;
    let (tells, told) = oneshot::channel();
    // A thread of its own: what waits for a line must not keep the process from ending.
    std::thread::spawn(move || tells.send(terminal.read_line()));
    let answer = tokio::select! {
        answer = told => answer.map_err(io::Error::other).flatten().map_err(cannot)?,
        _ = signal::ctrl_c() => return Ok(false),
    };
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
