//! Statistics of the order of values.

use super::pearson;

/// Spearman's rank correlation, -1 to 1: Pearson's of the ranks, tied values sharing their mean rank. `None` if either
/// side is constant or has a NaN, for fewer than two items, or if the sides differ in length.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    // A NaN would have a rank.
    if x.iter().chain(y).any(|value| value.is_nan()) {
        return None;
    }
    pearson(&mid_ranks(x), &mid_ranks(y))
}

/// By value, its rank from 1 on; tied values share their mean rank. A NaN is tied with nothing.
pub(super) fn mid_ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for ties in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = before as f64 + (ties.len() as f64 + 1.0) / 2.0;
        ties.iter().for_each(|&place| ranks[place] = rank);
        before += ties.len();
    }
    ranks
}
