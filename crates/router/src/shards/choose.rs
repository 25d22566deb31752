//! Which server of its shard answers a read.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use freehold_core::{Beat, Position, ShardId, ShardMap, ShardTag, Term, Token};
use tokio::time::Instant;

use super::{ServerLanes, Shard, Shards};
use crate::{
    failure::Failure,
    fitness::Fitness,
    replica::{self, Cost},
    request::{Level, Needs, Request},
    sightings::Seen,
    waits::wait_until,
};

/// How long a read waits for this router to hear of the term that its token is of.
const TERM_WAIT_MAX: Duration = Duration::from_secs(1);

/// Where a request goes.
pub(super) enum Target<'a> {
    /// To this server. With a generation of its connections on which it is known to find what the
    /// read's token names, if it is a replica that was chosen for that.
    Server(&'a ServerLanes, Option<u64>),
    /// Nowhere before something is known, or this time has come.
    Wait(Instant),
    /// To its caller.
    End(Failure),
}

impl Shards {
    pub(super) fn target(&self, map: &ShardMap, id: ShardId, request: &Request) -> Target<'_> {
        let leader = Target::Server(&self.shard(id).servers[map.shard(id).leader], None);
        match &request.level {
            _ if request.needs() == Needs::Writes => leader,
            Level::Session(tokens) => match self.session(map, id, request, tokens) {
                Some(target) => target,
                None => leader,
            },
            _ if request.needs() == Needs::Leader => leader,
            // Only of a planted bug is a STRONG read for anyone.
            Level::Strong | Level::Eventual => {
                let turn = self.shard(id).next_replica.fetch_add(1, Ordering::Relaxed);
                match self.choose_replica(map, id, turn) {
                    Some(index) => Target::Server(&self.shard(id).servers[index], None),
                    None if self.settings.eventual_falls_back_to_master => leader,
                    None => Target::End(self.no_replica(self.shard(id))),
                }
            }
            Level::Bounded(max) => {
                let not_before = request.received.checked_sub(*max);
                let is_fresh = |seen: &Seen| {
                    let known = self.fresh_since(id, seen.beat);
                    known.is_some_and(|known| not_before.is_none_or(|min| known >= min))
                };
                match self.choose_follower(map, id, is_fresh) {
                    Some((server, _)) => Target::Server(server, None),
                    None => leader,
                }
            }
        }
    }

    /// The server that takes an EVENTUAL read at this turn, if a replica can.
    #[must_use]
    pub fn choose_replica(&self, map: &ShardMap, shard: ShardId, turn: usize) -> Option<usize> {
        let (now, term) = (Instant::now(), map.shard(shard).term());
        let servers = self.servers(map, shard);
        let cost = |(server, leads): (&ServerLanes, bool)| {
            let serves = !leads && server.is_usable() && self.serves_eventual(server, term, now);
            serves.then(|| server.cost())
        };
        replica::choose(servers.map(cost), turn)
    }

    /// Whether a replica may serve EVENTUAL reads in this term, as far as watching it has shown.
    #[must_use]
    pub fn serves_eventual(&self, server: &ServerLanes, term: Option<Term>, now: Instant) -> bool {
        let seen = server.watch.seen();
        let since = seen.unfit_since;
        seen.answers
            && seen.is_of(term)
            && match seen.fitness {
                Fitness::Follows | Fitness::OnlyEventual(_) => true,
                Fitness::Astray(_) => {
                    since.is_none_or(|since| now - since < self.settings.replica_unusable_after)
                }
                Fitness::Foreign(_) => false,
            }
    }

    /// A replica that follows the leader and of which this is true, and what was seen of it.
    fn choose_follower(
        &self,
        map: &ShardMap,
        id: ShardId,
        serves: impl Fn(&Seen) -> bool,
    ) -> Option<(&ServerLanes, Arc<Seen>)> {
        let turn = self.shard(id).next_replica.fetch_add(1, Ordering::Relaxed);
        let mut all = Vec::new();
        let term = map.shard(id).term();
        for (server, leads) in self.servers(map, id) {
            let seen = server.watch.seen();
            let follows = seen.fitness == Fitness::Follows && seen.is_of(term);
            let follows = follows && !leads && server.is_usable();
            let cost: Option<Cost> = (follows && serves(&seen)).then(|| server.cost());
            all.push((server, seen, cost));
        }
        let chosen = replica::choose(all.iter().map(|(_, _, cost)| *cost), turn)?;
        let (server, seen, _) = all.swap_remove(chosen);
        Some((server, seen))
    }

    /// A time such that everything that was committed before is in what shows this beat; `None` if
    /// none is known.
    #[must_use]
    pub fn fresh_since(&self, shard: ShardId, beat: Beat) -> Option<Instant> {
        self.shard(shard).beat_times().not_before(beat)
    }

    /// How old what the last look at a replica showed is by now at most; `None` if that is not known.
    #[must_use]
    pub fn staleness(&self, shard: ShardId, seen: &Seen) -> Option<Duration> {
        let follows = seen.fitness == Fitness::Follows;
        let since = follows
            .then(|| self.fresh_since(shard, seen.beat))
            .flatten();
        since.map(|since| since.elapsed())
    }

    /// A time such that everything that was committed before is in rows that this server, a
    /// replica, brought with this beat; `None` if none is known, or it is not the server that was
    /// seen to follow.
    #[must_use]
    pub fn proven_since(
        &self,
        shard: ShardId,
        server: &ServerLanes,
        beat: Option<Beat>,
        answered_by: u64,
    ) -> Option<Instant> {
        let seen = server.watch.seen();
        let follows = seen.fitness == Fitness::Follows && seen.answered_by == answered_by;
        self.fresh_since(shard, beat.filter(|_| follows)?)
    }

    /// What token entries of shards call this one; `None` before any master was reached.
    #[must_use]
    pub fn tag(&self, shard: ShardId) -> Option<ShardTag> {
        let cluster_id = self.cluster_id()?;
        let shard = self.shard(shard);
        let tag = || ShardTag::new(cluster_id, &shard.name);
        Some(*shard.tag.get_or_init(tag))
    }

    /// Where a SESSION read goes; `None` to the leader.
    fn session(
        &self,
        map: &ShardMap,
        id: ShardId,
        request: &Request,
        tokens: &[Token],
    ) -> Option<Target<'_>> {
        // Nobody was reached: the request ends where it would without a token.
        let own = self.tag(id)?;
        let mut needs = Vec::new();
        let mut leader_only = false;
        for token in tokens {
            if !token.shard.is_of_same_cluster(&own) {
                return Some(Target::End(Failure::invalid(
                    "read.session_token",
                    "session_token is of another cluster",
                )));
            }
            let mut ids = map.shards().map(|(id, _)| id);
            // A shard that is not in the config has no slots here: its slots have moved.
            let Some(of) = ids.find(|id| self.tag(*id) == Some(token.shard)) else {
                continue;
            };
            match self.judge_token(map, of, token) {
                Ok(()) => {}
                Err(Doubt::Repeated) if !self.leads_since(map, of, request.received) => {
                    return Some(self.ask_for_term(of, request));
                }
                Err(Doubt::Lost | Doubt::Repeated) => {
                    let shard = self.shard(of).name.clone();
                    return Some(Target::End(Failure::SessionLost { shard }));
                }
                // Another shard cannot have had these slots, if the leader of their own says so still:
                // whatever is wrong with that shard does not concern them.
                Err(Doubt::Unknown) if of != id && never_moved(map, id, request) => {
                    self.shard(of).reload.notify_one();
                    leader_only = true;
                    continue;
                }
                Err(Doubt::Unknown) => return Some(self.ask_for_term(of, request)),
            }
            let is_current = map.shard(of).term() == Some(token.term);
            // An earlier term's token that is kept is in everything that shows this term.
            if of == id && is_current {
                needs.push(token.position.as_ref());
            }
        }
        // The slot came from elsewhere since, or the position is not known.
        let needs: Vec<&Position> = needs.into_iter().collect::<Option<_>>()?;
        if leader_only
            || request.needs() == Needs::Leader
            || !tokens.iter().any(|token| token.shard == own)
        {
            return None;
        }
        let has_all = |seen: &Seen| {
            let has = seen.position.as_ref();
            has.is_some_and(|has| needs.iter().all(|needed| has.covers(needed)))
        };
        if let Some((server, seen)) = self.choose_follower(map, id, has_all) {
            return Some(Target::Server(server, Some(seen.generation)));
        }
        self.is_worth_waiting(map, id)
            .then(|| Target::Wait(self.wait_until(request)))
    }

    fn wait_until(&self, request: &Request) -> Instant {
        wait_until(
            request.received,
            request.deadline,
            self.settings.session_wait,
        )
    }

    /// Whether some replica may have soon what it has not yet.
    fn is_worth_waiting(&self, map: &ShardMap, id: ShardId) -> bool {
        let now = Instant::now();
        // A beat is as old as the last one, and looks come once in a beat.
        let patience = self.settings.session_wait + 3 * self.settings.heartbeat;
        let is_near = |seen: &Seen| {
            let known = self.fresh_since(id, seen.beat);
            known.is_some_and(|known| now - known <= patience)
        };
        !self.settings.session_wait.is_zero() && self.choose_follower(map, id, is_near).is_some()
    }

    /// Whether what a token names is part of the shard's history.
    fn judge_token(&self, map: &ShardMap, of: ShardId, token: &Token) -> Result<(), Doubt> {
        let fence = map.shard(of).fence.ok_or(Doubt::Unknown)?;
        let term = Term::from(&fence);
        if token.term == term {
            // Slots have changed hands there since this router looked: to it, perhaps, or from it.
            let is_behind = fence.epoch < u64::from(token.epoch);
            return match is_behind {
                true => Err(Doubt::Unknown),
                false => Ok(()),
            };
        }
        if token.term.number == term.number {
            return Err(Doubt::Repeated);
        }
        let ended = self.shard(of).ended.load();
        if token.term.number > term.number || ended.of_term != Some(term) {
            return Err(Doubt::Unknown);
        }
        match ended.kept(token.term, token.position.as_ref()) {
            true => Ok(()),
            false => Err(Doubt::Lost),
        }
    }

    /// Whether the leader of the map was seen to lead since then.
    fn leads_since(&self, map: &ShardMap, id: ShardId, since: Instant) -> bool {
        self.shard(id).answers_since(map.shard(id).leader, since)
    }

    /// Waits until the shard's term and epoch are known that a token is of, or where earlier ones ended.
    fn ask_for_term(&self, of: ShardId, request: &Request) -> Target<'_> {
        let shard = self.shard(of);
        if request.has_waited {
            return Target::End(Failure::Unavailable {
                shard: shard.name.clone(),
                reason: "session_token is of a term, or of an owner of slots, that this router has not seen yet".into(),
            });
        }
        shard.reload.notify_one();
        Target::Wait(wait_until(
            request.received,
            request.deadline,
            TERM_WAIT_MAX,
        ))
    }

    /// Sends on what waited for long enough, and what need not wait any more.
    pub fn serve_waiting(&self, id: ShardId) {
        let shard = self.shard(id);
        if shard.waits.is_empty() {
            return;
        }
        let is_ready = |request: &Request| {
            let map = self.map.load();
            let owner = self.route(&map, request);
            owner.map_or(true, |owner| {
                !matches!(self.target(&map, owner, request), Target::Wait(_))
            })
        };
        let (ready, late) = shard.waits.take(is_ready, Instant::now());
        for request in ready {
            self.dispatch(request);
        }
        for mut request in late {
            request.leader_only = true;
            request.has_waited = true;
            self.dispatch(request);
        }
    }

    /// Has a read wait, and wakes whoever can end that.
    pub(super) fn wait(&self, shard: &Shard, request: Request, until: Instant) {
        match shard.waits.add(request, until) {
            Ok(()) => {
                for server in shard.servers_now() {
                    server.watch.wake.notify_one();
                }
            }
            Err(mut request) => {
                request.leader_only = true;
                request.has_waited = true;
                self.dispatch(*request);
            }
        }
    }
}

/// Whether none of the slots was ever another shard's, as far as this map knows.
fn never_moved(map: &ShardMap, id: ShardId, request: &Request) -> bool {
    let view = map.shard(id);
    let is_first = |slot| view.claim(slot).is_some_and(|claim| claim.peer.is_none());
    request.operation.slots().all(is_first)
}

/// Why a token does not stand for a write that is there.
enum Doubt {
    /// The write is gone: its term ended before it.
    Lost,
    /// Two servers led in terms of this number: one adoption was lost. It is the token's, if a look that
    /// began later finds the other one leading.
    Repeated,
    /// This router cannot tell yet.
    Unknown,
}
