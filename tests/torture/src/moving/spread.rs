//! How figures are spread, and their medians.

use serde::Serialize;

/// Percentiles of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Half of all are no greater.
    pub p50: f64,
    /// 99 of 100 are no greater.
    pub p99: f64,
    /// None is greater.
    pub max: f64,
}

impl Spread {
    /// Of values that each count so often; `None` without any.
    pub fn of(values: impl IntoIterator<Item = (f64, usize)>) -> Option<Self> {
        let values = values.into_iter().filter(|(_, weight)| *weight > 0);
        let mut values: Vec<(f64, usize)> = values.collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        let all: usize = values.iter().map(|(_, weight)| weight).sum();
        let percentile = |percent: usize| {
            let mut left = (all * percent).div_ceil(100);
            let found = values.iter().find(|(_, weight)| {
                let is_here = left <= *weight;
                left = left.saturating_sub(*weight);
                is_here
            });
            found.map(|(value, _)| *value)
        };
        Some(Self {
            p50: percentile(50)?,
            p99: percentile(99)?,
            max: values.last()?.0,
        })
    }
}

/// The middle of some figures; of an even number the lower of the two, so that it was measured.
pub fn median(figures: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let place = figures.len().checked_sub(1)? / 2;
    figures.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_count_a_value_as_often_as_it_weighs() {
        let of = |values: &[(f64, usize)]| {
            Spread::of(values.iter().copied()).map(|spread| (spread.p50, spread.p99, spread.max))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(7.0, 0)]), None);
        assert_eq!(of(&[(9.0, 1), (1.0, 98), (5.0, 1)]), Some((1.0, 5.0, 9.0)));
        assert_eq!(of(&[(9.0, 3), (1.0, 1)]), Some((9.0, 9.0, 9.0)));
        let even: Vec<(f64, usize)> = (1..=200).map(|n| (f64::from(n), 1)).collect();
        assert_eq!(of(&even), Some((100.0, 198.0, 200.0)));
    }

    #[test]
    fn a_median_was_measured_and_lies_in_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median([9.0, 1.0, 5.0, 6.0]), Some(5.0));
    }
}
