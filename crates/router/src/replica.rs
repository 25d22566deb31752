//! Choosing a replica: a pure function.

/// The first usable replica from `turn` on, round robin.
#[must_use]
pub fn choose(usable: impl ExactSizeIterator<Item = bool>, turn: usize) -> Option<usize> {
    let count = usable.len();
    if count == 0 {
        return None;
    }
    let first = turn % count;
    let (mut before, mut from) = (None, None);
    for (index, _) in usable.enumerate().filter(|(_, usable)| *usable) {
        if index >= first {
            from = from.or(Some(index));
        } else {
            before = before.or(Some(index));
        }
    }
    from.or(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_round_those_that_answer() {
        let usable = [true, false, true];
        let chosen: Vec<_> = (0..6)
            .map(|turn| choose(usable.into_iter(), turn))
            .collect();
        assert_eq!(chosen, [0, 2, 2, 0, 2, 2].map(Some));
        assert_eq!(choose([false; 3].into_iter(), 1), None);
        assert_eq!(choose([].into_iter(), 1), None);
    }
}
