//! Medians of repetitions.

use crate::{measure::Record, plan::Cell, targets::Target, workload::Workload};

/// The middle of a figure over the repetitions of a target in a cell; `None` without any. Of an
/// even number, the lower of the two in the middle: every median is something that was measured.
pub(super) fn median(
    records: &[Record],
    target: Target,
    cell: Cell,
    figure: impl Fn(&Record) -> f64,
) -> Option<f64> {
    let figures = records
        .iter()
        .filter(|record| (record.target, record.cell) == (target, cell))
        .map(figure);
    middle(figures.collect())
}

fn middle(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    let place = figures.len().checked_sub(1)? / 2;
    figures.get(place).copied()
}

/// The cell of a workload with so many callers and the first size of values.
pub(super) fn cell(cells: &[Cell], workload: Workload, callers: usize) -> Option<Cell> {
    cells
        .iter()
        .copied()
        .find(|cell| cell.workload == workload && cell.callers == callers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_was_measured_and_lies_in_the_middle() {
        assert_eq!(middle(vec![]), None);
        assert_eq!(middle(vec![3.0]), Some(3.0));
        assert_eq!(middle(vec![9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(middle(vec![9.0, 1.0, 5.0, 6.0]), Some(5.0));
    }
}
