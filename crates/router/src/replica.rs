//! Choosing a replica: a pure function.

/// What a server costs that may be used: what it has to do, times how long it takes to answer.
pub type Cost = u64;

/// One of two servers that may be used, where `turn` says which two are compared: the first, unless
/// the second is not half as dear. So turns go round while nothing is the matter, load goes where
/// there is room, and routers that think alike do not all choose the same.
#[must_use]
pub fn choose(costs: impl Iterator<Item = Option<Cost>>, turn: usize) -> Option<usize> {
    let usable: Vec<(usize, Cost)> = costs
        .enumerate()
        .filter_map(|(index, cost)| Some((index, cost?)))
        .collect();
    let count = usable.len();
    let first = usable.get(turn.checked_rem(count)?)?;
    if count == 1 {
        return Some(first.0);
    }
    // Each pair has its turn, in both orders.
    let apart = 1 + turn / count % (count - 1);
    let second = usable.get((turn + apart) % count)?;
    let is_dear = first.1 > second.1.saturating_mul(2);
    Some(if is_dear { second.0 } else { first.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(costs: &[Option<Cost>], turns: usize) -> Vec<usize> {
        let turns = 0..turns;
        let chosen = turns.map(|turn| choose(costs.iter().copied(), turn));
        chosen.collect::<Option<_>>().unwrap()
    }

    #[test]
    fn turns_go_round_those_that_cost_about_the_same() {
        assert_eq!(chosen(&[Some(5), None, Some(6)], 4), [0, 2, 0, 2]);
        let mut all = chosen(&[Some(1); 4], 4);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    }

    #[test]
    fn what_is_dear_is_left_alone() {
        assert_eq!(chosen(&[Some(9), Some(1)], 3), [1, 1, 1]);
        assert!(!chosen(&[Some(3), Some(9), Some(2), Some(3)], 100).contains(&1));
    }

    #[test]
    fn nobody_is_chosen_where_nobody_may_be() {
        assert_eq!(choose([None; 3].into_iter(), 1), None);
        assert_eq!(choose([].into_iter(), 1), None);
    }
}
