//! The shard map: which shard owns each slot, as the masters themselves say.
//!
//! A map never changes. A new snapshot of one shard makes a new map, which readers find whole
//! behind one pointer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    claims::{ShardClaims, SlotClaim, SlotState},
    fence::Fence,
    slot::{SLOTS, Slot},
    token::Term,
};

/// A shard's place in the config, and in every list of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard's place in a list of all shards.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Who serves a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// One shard owns it, in a state that is a claim.
    Owner {
        /// Which.
        shard: ShardId,
        /// Owned, outgoing or fenced.
        state: SlotState,
    },
    /// One shard has the best claim to it, which its adoption found on the way and nobody has
    /// compared with the peer's yet: it is not served.
    ToBeCompared {
        /// Which.
        shard: ShardId,
    },
    /// No loaded shard claims it.
    Unowned,
    /// Two shards claim it with the same slot_epoch: neither is served.
    Conflict {
        /// One of them.
        shard: ShardId,
        /// The other.
        other: ShardId,
    },
}

/// What a shard does for requests to a slot now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// It serves them.
    Serves,
    /// It takes writes, which log their keys.
    Logs,
    /// It will serve them, or say who does, in a moment: the slot is changing hands.
    Later,
    /// Not its own.
    Elsewhere,
}

/// How much of a shard a snapshot covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All its rows: what it does not hold is not there.
    Whole,
    /// The rows above the epoch that the map has of the shard.
    Changes,
}

/// What is known of one shard.
#[derive(Debug, Clone)]
pub struct ShardView {
    /// Its name in the config.
    pub name: Arc<str>,
    /// Its fence when its claims were read; absent until it was first reached.
    pub fence: Option<Fence>,
    /// The server that leads it, by its place in the config: it takes writes and STRONG reads, and
    /// the fence and the rows are what it said. The first one, until another was found to lead.
    pub leader: usize,
    /// All its rows, ordered by slot.
    pub claims: Arc<[SlotClaim]>,
    /// Whether it was taken out of the config. Its place stays.
    pub is_retired: bool,
}

impl ShardView {
    /// A shard of which nothing is known but its name.
    fn unreached(name: Arc<str>) -> Self {
        Self {
            name,
            fence: None,
            leader: 0,
            claims: Arc::new([]),
            is_retired: false,
        }
    }

    /// The term that the shard is in, once it was loaded.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        self.fence.as_ref().map(Term::from)
    }

    /// The shard's row for a slot.
    #[must_use]
    pub fn claim(&self, slot: Slot) -> Option<&SlotClaim> {
        let index = self
            .claims
            .binary_search_by_key(&slot, |claim| claim.slot)
            .ok()?;
        self.claims.get(index)
    }
}

/// Which shard owns each slot.
#[derive(Debug, Clone)]
pub struct ShardMap {
    /// How many snapshots made it.
    generation: u64,
    shards: Vec<ShardView>,
    /// One per slot. Eight bytes each, so that all of them fit a core's cache.
    routes: Box<[Route]>,
}

impl ShardMap {
    /// A map in which no shard was reached yet. Shards keep the order of `names`.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        let names = names.into_iter().map(Into::into);
        Self {
            generation: 0,
            shards: names.map(ShardView::unreached).collect(),
            routes: vec![Route::Unowned; SLOTS].into_boxed_slice(),
        }
    }

    /// How many snapshots made this map: of two maps of one router, the later one's is higher.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The slots that each shard serves here and that `next` has another shard serve, or another
    /// server of the same shard; ascending.
    #[must_use]
    pub fn departures(&self, next: &Self) -> BTreeMap<ShardId, Vec<Slot>> {
        let mut departures: BTreeMap<ShardId, Vec<Slot>> = BTreeMap::new();
        for slot in Slot::all() {
            let Route::Owner { shard, .. } = self.route(slot) else {
                continue;
            };
            let stays = self.shard(shard).leader == next.shard(shard).leader
                && matches!(next.route(slot), Route::Owner { shard: owner, .. } if owner == shard);
            if !stays {
                departures.entry(shard).or_default().push(slot);
            }
        }
        departures
    }

    /// Who serves the slot.
    #[must_use]
    pub fn route(&self, slot: Slot) -> Route {
        self.routes[slot.index()]
    }

    /// What the shard does for the slot's reads, or (if `write`) its writes.
    #[must_use]
    pub fn service(&self, shard: ShardId, slot: Slot, write: bool) -> Service {
        match self.route(slot) {
            Route::Owner {
                shard: owner,
                state,
            } if owner == shard => match (write, state) {
                (true, SlotState::Fenced) => Service::Later,
                (true, SlotState::Outgoing) => Service::Logs,
                _ => Service::Serves,
            },
            Route::Unowned | Route::ToBeCompared { .. } if self.heir(slot) == Some(shard) => {
                Service::Later
            }
            _ => Service::Elsewhere,
        }
    }

    /// Whether the shard serves the slot's reads, and its writes too if `write`.
    #[must_use]
    pub fn serves(&self, shard: ShardId, slot: Slot, write: bool) -> bool {
        let service = self.service(shard, slot, write);
        matches!(service, Service::Serves | Service::Logs)
    }

    /// The shard of this map that will serve a slot that nobody serves, or say who does: it was given
    /// to it last, or its claim is being compared.
    #[must_use]
    pub fn heir(&self, slot: Slot) -> Option<ShardId> {
        match self.route(slot) {
            Route::Unowned => self.named(self.successor(slot)?),
            Route::ToBeCompared { shard } => Some(shard),
            Route::Owner { .. } | Route::Conflict { .. } => None,
        }
    }

    /// The shards to which, by its own rows, the shard has given slots that nobody claims yet.
    #[must_use]
    pub fn heirs_of(&self, shard: ShardId) -> BTreeSet<ShardId> {
        let claims = self.shard(shard).claims.iter();
        let gone = claims.filter(|claim| claim.state == SlotState::Gone);
        gone.filter_map(|claim| self.heir(claim.slot)).collect()
    }

    /// Whether slots that this shard has, or is to have, are changing hands just now, so that
    /// requests may wait for what it says next.
    #[must_use]
    pub fn is_handing_over(&self, shard: ShardId) -> bool {
        let fenced =
            |claim: &SlotClaim| claim.state == SlotState::Fenced || claim.is_to_be_compared();
        let others = self.shards().filter(|(other, _)| *other != shard);
        self.shard(shard).claims.iter().any(fenced)
            || others
                .into_iter()
                .any(|(other, _)| self.heirs_of(other).contains(&shard))
    }

    /// The other shard of a slot's last move, by this shard's row.
    #[must_use]
    pub fn peer(&self, shard: ShardId, slot: Slot) -> Option<&str> {
        self.shard(shard).claim(slot)?.peer.as_deref()
    }

    fn named(&self, name: &str) -> Option<ShardId> {
        let mut shards = self.shards();
        shards.find_map(|(shard, view)| (*view.name == *name).then_some(shard))
    }

    /// The shard that a slot without an owner was given to last: its claim was not loaded yet, or
    /// is still to be made.
    #[must_use]
    pub fn successor(&self, slot: Slot) -> Option<&str> {
        let farewells = self.shards.iter().filter_map(|view| view.claim(slot));
        let gone = farewells.filter(|claim| claim.state == SlotState::Gone);
        gone.max_by_key(|claim| claim.slot_epoch)?.peer.as_deref()
    }

    /// What is known of a shard.
    ///
    /// # Panics
    /// If the map has no such shard.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> &ShardView {
        &self.shards[shard.index()]
    }

    /// All shards of the config, in the order in which they came into it.
    pub fn shards(&self) -> impl Iterator<Item = (ShardId, &ShardView)> {
        self.shards
            .iter()
            .enumerate()
            .filter(|(_, view)| !view.is_retired)
            .map(|(index, view)| (ShardId(narrow(index)), view))
    }

    /// How many shards have ever been in it: every [`ShardId`] is below.
    #[must_use]
    pub fn places(&self) -> usize {
        self.shards.len()
    }

    /// The map after a shard came into the config, which nobody has reached yet; its place is the
    /// last.
    #[must_use]
    pub fn with_shard(&self, name: impl Into<Arc<str>>) -> Self {
        let mut next = self.clone();
        next.generation += 1;
        next.shards.push(ShardView::unreached(name.into()));
        next
    }

    /// The map without a shard that [may go](Self::obstacle_to_removal).
    #[must_use]
    pub fn without_shard(&self, shard: ShardId) -> Self {
        debug_assert_eq!(self.obstacle_to_removal(shard), None);
        let mut next = self.clone();
        next.generation += 1;
        let view = &mut next.shards[shard.index()];
        view.is_retired = true;
        view.claims = Arc::new([]);
        next
    }

    /// Why a shard must stay in the config, in words; `None` if nobody will miss it.
    #[must_use]
    pub fn obstacle_to_removal(&self, shard: ShardId) -> Option<String> {
        let view = self.shard(shard);
        let owned = self.slots_owned(shard);
        if owned > 0 {
            return Some(format!(
                "it owns {owned} slots: move them to other shards first"
            ));
        }
        let stays = |claim: &&SlotClaim| claim.state != SlotState::Gone;
        let coming = view.claims.iter().filter(stays).count();
        let mut others = self.shards().filter(|(other, _)| *other != shard);
        if coming > 0 || others.any(|(other, _)| self.heirs_of(other).contains(&shard)) {
            return Some("slots are on their way to it: let their moves end first".to_owned());
        }
        let is_owned = |route: &Route| *route != Route::Unowned;
        if view.fence.is_none() && !self.routes.iter().all(is_owned) {
            return Some(
                "it was not reached yet, so slots that nobody owns may be its own: wait until it \
                 or their owners are up"
                    .to_owned(),
            );
        }
        None
    }

    /// How many slots the shard serves.
    #[must_use]
    pub fn slots_owned(&self, shard: ShardId) -> usize {
        let owned = |route: &&Route| matches!(route, Route::Owner { shard: s, .. } if *s == shard);
        self.routes.iter().filter(owned).count()
    }

    /// The map after another server began to lead a shard.
    #[must_use]
    pub fn with_leader(&self, shard: ShardId, leader: usize) -> Self {
        let mut next = self.clone();
        next.generation += 1;
        next.shards[shard.index()].leader = leader;
        next
    }

    /// The map after a snapshot of one shard. One that is older than what is known changes nothing,
    /// so snapshots may come in any order.
    #[must_use]
    pub fn with_snapshot(&self, shard: ShardId, snapshot: ShardClaims, extent: Extent) -> Self {
        let mut next = self.clone();
        next.generation += 1;
        let view = &mut next.shards[shard.index()];
        if view
            .fence
            .is_some_and(|known| known.is_newer_than(&snapshot.fence))
        {
            return next;
        }
        view.fence = Some(snapshot.fence);
        let mut changed: Vec<Slot> = snapshot.claims.iter().map(|claim| claim.slot).collect();
        view.claims = match extent {
            Extent::Changes => merge(&view.claims, snapshot.claims).into(),
            Extent::Whole => {
                changed.extend(view.claims.iter().map(|claim| claim.slot));
                snapshot.claims.into()
            }
        };
        for slot in changed {
            next.routes[slot.index()] = next.decide(shard, slot);
        }
        next
    }

    /// Who serves a slot after `changed` said something new of it.
    fn decide(&self, changed: ShardId, slot: Slot) -> Route {
        let candidates = match self.route(slot) {
            // The usual case costs two look-ups, however many shards there are.
            Route::Unowned => vec![changed],
            Route::Owner { shard, .. } if shard != changed => vec![shard, changed],
            Route::Owner { .. } | Route::ToBeCompared { .. } | Route::Conflict { .. } => {
                self.shards().map(|(shard, _)| shard).collect()
            }
        };
        let mut claims = candidates.into_iter().filter_map(|shard| {
            let claim = self.shard(shard).claim(slot)?;
            claim.state.is_claim().then_some((shard, claim))
        });
        let Some(mut best) = claims.next() else {
            return Route::Unowned;
        };
        let mut rival = None;
        for (shard, claim) in claims {
            match claim.slot_epoch.cmp(&best.1.slot_epoch) {
                std::cmp::Ordering::Greater => (best, rival) = ((shard, claim), None),
                std::cmp::Ordering::Equal => rival = Some(shard),
                std::cmp::Ordering::Less => {}
            }
        }
        match rival {
            Some(other) => Route::Conflict {
                shard: best.0,
                other,
            },
            None if best.1.is_to_be_compared() => Route::ToBeCompared { shard: best.0 },
            None => Route::Owner {
                shard: best.0,
                state: best.1.state,
            },
        }
    }
}

/// `known` with the rows of `news` put over it; both ordered by slot.
fn merge(known: &[SlotClaim], news: Vec<SlotClaim>) -> Vec<SlotClaim> {
    debug_assert!(
        news.is_sorted_by(|a, b| a.slot < b.slot),
        "each slot once, in order"
    );
    let mut merged = Vec::with_capacity(known.len().max(news.len()));
    let mut known = known.iter().peekable();
    for claim in news {
        while let Some(before) = known.next_if(|old| old.slot < claim.slot) {
            merged.push(before.clone());
        }
        known.next_if(|old| old.slot == claim.slot);
        merged.push(claim);
    }
    merged.extend(known.cloned());
    merged
}

fn narrow(index: usize) -> u16 {
    u16::try_from(index).expect("the config allows no more shards than fit 16 bits")
}

const _: () = assert!(size_of::<Route>() <= 8);

#[cfg(test)]
#[path = "map_tests.rs"]
mod tests;
