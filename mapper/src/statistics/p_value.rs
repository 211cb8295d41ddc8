//! Whether an effect is more than controls have, and of many effects at once.

/// The p-value of an effect among controls, by rank: `(1 + #{|control| >= observed}) / (1 + controls)`, never 0
/// (Phipson & Smyth 2010, "Permutation p-values should never be zero").
///
/// One-sided: an effect below 0 has 1. Controls are as likely to have either sign, so their absolute values count. An
/// effect that is drawn as the controls are is then below a level half as often as the level says; its absolute value
/// as `observed` makes the test two-sided and exact.
///
/// `None` without controls, or if a value is NaN.
pub fn rank_p_value(observed: f64, controls: &[f64]) -> Option<f64> {
    if controls.is_empty() || observed.is_nan() || controls.iter().any(|control| control.is_nan()) {
        return None;
    }
    let as_large = controls.iter().filter(|control| control.abs() >= observed).count();
    Some((1 + as_large) as f64 / (1 + controls.len()) as f64)
}

/// Fewest controls for each of `tests` effects with which the first step of [`holm`] can be passed at a level (above 0,
/// at most 1): `ceil(tests / level) - 1`, since no [`rank_p_value`] is below `1 / (1 + controls)`.
pub fn least_draws(tests: usize, level: f64) -> usize {
    let draws = ((tests as f64 / level).ceil() as usize).saturating_sub(1);
    // Rounding may leave the smallest p-value just above.
    let passes = tests as f64 * (1.0 / (1 + draws) as f64) <= level;
    if passes { draws } else { draws + 1 }
}

/// P-values adjusted for their number by Holm's step-down procedure (1979, "A simple sequentially rejective multiple
/// test procedure"), in the order of `p_values`. Rejecting those at most at a level keeps the probability of any false
/// rejection at most there, however the tests depend on each other. The i-th smallest of m (from 1) becomes
///
/// ```text
/// max over j <= i of min(1, (m - j + 1) p_(j))
/// ```
///
/// A NaN counts as a test and stays NaN.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let tests = p_values.len();
    let mut order: Vec<usize> = (0..tests).filter(|&test| !p_values[test].is_nan()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![f64::NAN; tests];
    let mut largest = 0f64;
    for (smaller, test) in order.into_iter().enumerate() {
        largest = largest.max(((tests - smaller) as f64 * p_values[test]).min(1.0));
        adjusted[test] = largest;
    }
    adjusted
}
