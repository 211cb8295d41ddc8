//! Statistics of the order of values.

use steermap_extract::statistics::mid_ranks;

use super::paired::pearson;

/// Spearman's rank correlation, -1 to 1: Pearson's of the ranks, tied values sharing their mean rank. `None` if either
/// side is constant or has a NaN, for fewer than two items, or if the sides differ in length.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    // A NaN would have a rank.
    if x.iter().chain(y).any(|value| value.is_nan()) {
        return None;
    }
    pearson(&mid_ranks(x), &mid_ranks(y))
}
