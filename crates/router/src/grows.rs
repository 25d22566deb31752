//! A list that only grows, and whose members stay where they are: readers hold on to one while
//! others are added, without a lock.

use std::{
    ops::Index,
    sync::{Mutex, OnceLock, PoisonError},
};

/// What follows the first members, in pieces each twice as large as the one before.
const FIRST_PIECE: usize = 4;

/// Shards, or the servers of one. What is there at the start lies in one piece, which costs a look-up
/// nothing; each doubling of what came later costs one step more.
#[derive(Debug)]
pub struct Grows<T> {
    first: Box<[T]>,
    more: OnceLock<Box<Piece<T>>>,
    /// Held while one is added.
    adding: Mutex<()>,
}

#[derive(Debug)]
struct Piece<T> {
    items: Box<[OnceLock<T>]>,
    next: OnceLock<Box<Self>>,
}

impl<T> Piece<T> {
    fn new(size: usize) -> Box<Self> {
        Box::new(Self {
            items: (0..size).map(|_| OnceLock::new()).collect(),
            next: OnceLock::new(),
        })
    }
}

impl<T> Grows<T> {
    /// Adds one at the end, and says where that is.
    pub fn push(&self, item: T) -> usize {
        let _one_at_a_time = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let place = self.iter().count();
        let (mut index, mut size) = (place - self.first.len(), FIRST_PIECE);
        let mut piece = self.more.get_or_init(|| Piece::new(size));
        while index >= piece.items.len() {
            index -= piece.items.len();
            size *= 2;
            piece = piece.next.get_or_init(|| Piece::new(size));
        }
        let was_free = piece.items[index].set(item).is_ok();
        assert!(was_free, "places are filled in order");
        place
    }

    /// The member at this place, if there is one.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<&T> {
        if let Some(item) = self.first.get(place) {
            return Some(item);
        }
        let mut index = place - self.first.len();
        let mut piece = self.more.get()?;
        while index >= piece.items.len() {
            index -= piece.items.len();
            piece = piece.next.get()?;
        }
        piece.items[index].get()
    }

    /// All that are there now, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let pieces = std::iter::successors(self.more.get(), |piece| piece.next.get());
        let more = pieces.flat_map(|piece| &piece.items);
        self.first.iter().chain(more.map_while(OnceLock::get))
    }
}

impl<T> FromIterator<T> for Grows<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self {
            first: items.into_iter().collect(),
            more: OnceLock::new(),
            adding: Mutex::default(),
        }
    }
}

impl<T> Index<usize> for Grows<T> {
    type Output = T;

    fn index(&self, place: usize) -> &T {
        self.get(place).expect("nothing is ever taken out")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_found_at_its_place_and_nothing_before_it_moves() {
        for first in [0, 1, 3] {
            let list: Grows<usize> = (0..first).collect();
            let at = |place: usize| std::ptr::from_ref(&list[place]);
            let mut addresses: Vec<_> = (0..first).map(at).collect();
            for next in first..100 {
                assert_eq!(list.get(next), None);
                assert_eq!(list.push(next), next);
                addresses.push(at(next));
                assert!(list.iter().copied().eq(0..=next));
            }
            assert!(
                addresses
                    .iter()
                    .enumerate()
                    .all(|(place, was)| *was == at(place))
            );
        }
    }
}
