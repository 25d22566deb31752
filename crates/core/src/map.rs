//! The shard map: which shard owns each slot, as the masters themselves say.
//!
//! A map never changes. A new snapshot of one shard makes a new map, which readers find whole
//! behind one pointer.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    claims::{ShardClaims, SlotClaim, SlotState},
    fence::Fence,
    slot::{SLOTS, Slot},
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
    /// All its rows, ordered by slot.
    pub claims: Arc<[SlotClaim]>,
}

impl ShardView {
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
        let view = |name: Arc<str>| ShardView {
            name,
            fence: None,
            claims: Arc::new([]),
        };
        Self {
            generation: 0,
            shards: names.into_iter().map(Into::into).map(view).collect(),
            routes: vec![Route::Unowned; SLOTS].into_boxed_slice(),
        }
    }

    /// How many snapshots made this map: of two maps of one router, the later one's is higher.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The slots that each shard owns here and does not own in `next`, ascending.
    #[must_use]
    pub fn departures(&self, next: &Self) -> BTreeMap<ShardId, Vec<Slot>> {
        let mut departures: BTreeMap<ShardId, Vec<Slot>> = BTreeMap::new();
        for slot in Slot::all() {
            let Route::Owner { shard, .. } = self.route(slot) else {
                continue;
            };
            if !matches!(next.route(slot), Route::Owner { shard: owner, .. } if owner == shard) {
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

    /// Whether the shard serves the slot's reads, and its writes too if `write`.
    #[must_use]
    pub fn serves(&self, shard: ShardId, slot: Slot, write: bool) -> bool {
        matches!(self.route(slot), Route::Owner { shard: owner, state }
            if owner == shard && (!write || state.is_writable()))
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

    /// All shards in the order of the config.
    pub fn shards(&self) -> impl ExactSizeIterator<Item = (ShardId, &ShardView)> {
        self.shards
            .iter()
            .enumerate()
            .map(|(index, view)| (ShardId(narrow(index)), view))
    }

    /// How many slots the shard serves.
    #[must_use]
    pub fn slots_owned(&self, shard: ShardId) -> usize {
        let owned = |route: &&Route| matches!(route, Route::Owner { shard: s, .. } if *s == shard);
        self.routes.iter().filter(owned).count()
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
            Route::Owner { .. } | Route::Conflict { .. } => {
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
