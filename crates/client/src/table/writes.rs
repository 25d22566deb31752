//! The writes of a table, found by their keys' hashes.
//!
//! Each write is in one of a fixed number of chains, by its hash. A chain is linked through the
//! table's places, so that adding and removing one costs a few memory accesses and no allocation,
//! and looking for the writes to one key costs as many steps as its chain is long.

/// How many chains: four times as many as calls that may be in flight on a pipe by default, so that
/// a chain stays short. 16 KiB per pipe.
const CHAINS: usize = 4_096;

/// No place.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(super) struct Writes {
    /// The first place of each chain.
    heads: Box<[u32]>,
    /// By place.
    links: Vec<Link>,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    before: u32,
    next: u32,
    /// Its chain, or [`NONE`] if it is in none.
    chain: u32,
}

impl Writes {
    pub(super) fn new() -> Self {
        Self {
            heads: vec![NONE; CHAINS].into(),
            links: Vec::new(),
        }
    }

    /// A write with this hash is at this place.
    pub(super) fn add(&mut self, place: u32, hash: u64) {
        let unlinked = Link {
            before: NONE,
            next: NONE,
            chain: NONE,
        };
        let index = place as usize;
        if self.links.len() <= index {
            self.links.resize(index + 1, unlinked);
        }
        debug_assert_eq!(self.links[index].chain, NONE, "a place has one call");
        let chain = chain_of(hash);
        let next = std::mem::replace(&mut self.heads[chain as usize], place);
        if let Some(next) = self.links.get_mut(next as usize) {
            next.before = place;
        }
        self.links[index] = Link {
            before: NONE,
            next,
            chain,
        };
    }

    /// What was at this place, a write or not, is gone.
    pub(super) fn remove(&mut self, place: u32) {
        let Some(link) = self.links.get_mut(place as usize) else {
            return;
        };
        let Link {
            before,
            next,
            chain,
        } = *link;
        if chain == NONE {
            return;
        }
        link.chain = NONE;
        match self.links.get_mut(before as usize) {
            Some(before) => before.next = next,
            None => self.heads[chain as usize] = next,
        }
        if let Some(next) = self.links.get_mut(next as usize) {
            next.before = before;
        }
    }

    /// The places of all writes with this hash, and of some with others; the last added first.
    pub(super) fn near(&self, hash: u64) -> impl Iterator<Item = u32> {
        let mut at = self.heads[chain_of(hash) as usize];
        std::iter::from_fn(move || {
            let place = at;
            at = self.links.get(place as usize)?.next;
            Some(place)
        })
    }
}

fn chain_of(hash: u64) -> u32 {
    // A pipe has the keys of whole ranges of slots, which are the upper bits.
    (hash % CHAINS as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(writes: &Writes, hash: u64) -> Vec<u32> {
        writes.near(hash).collect()
    }

    #[test]
    fn writes_are_found_until_they_are_removed_wherever_they_stand_in_their_chain() {
        let mut writes = Writes::new();
        let same_chain = 7 + CHAINS as u64;
        for (place, hash) in [(3, 7), (0, 8), (5, same_chain), (1, 7)] {
            writes.add(place, hash);
        }
        assert_eq!(near(&writes, 7), [1, 5, 3]);
        assert_eq!(near(&writes, same_chain), [1, 5, 3]);
        assert_eq!(near(&writes, 8), [0]);
        assert_eq!(near(&writes, 9), [0; 0]);
        // One that was never there, in the middle, at the end, at the head, and again.
        for (place, left) in [
            (9, &[1, 5, 3][..]),
            (4, &[1, 5, 3]),
            (5, &[1, 3]),
            (3, &[1]),
            (3, &[1]),
            (1, &[]),
        ] {
            writes.remove(place);
            assert_eq!(near(&writes, 7), left);
        }
        writes.add(5, 7);
        assert_eq!(near(&writes, 7), [5]);
    }
}
