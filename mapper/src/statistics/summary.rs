//! Means, deviations and quantiles.

/// Mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Harmonic mean: the number of scores over the sum of `1 / score`; 0 if a score is 0, as is its limit. `None` of
/// nothing, or if a score is below 0 or NaN.
pub fn harmonic_mean(scores: &[f64]) -> Option<f64> {
    // Written so that a NaN fails.
    if scores.is_empty() || !scores.iter().all(|&score| score >= 0.0) {
        return None;
    }
    if scores.contains(&0.0) {
        return Some(0.0);
    }
    let inverses: f64 = scores.iter().map(|score| 1.0 / score).sum();
    Some(scores.len() as f64 / inverses)
}

/// Standard deviation of a sample, with `n - 1` below the sum. `None` of fewer than two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// The `at`-quantile (0 to 1), interpolated linearly between the two values next to it: numpy's default, type 7 of
/// Hyndman & Fan 1996. NaN if a value is. `None` of nothing.
pub fn quantile(values: &[f64], at: f64) -> Option<f64> {
    quantiles(values, [at]).map(|[quantile]| quantile)
}

/// Several quantiles at once, as [`quantile`].
pub fn quantiles<const N: usize>(values: &[f64], at: [f64; N]) -> Option<[f64; N]> {
    if values.is_empty() {
        return None;
    }
    if values.iter().any(|value| value.is_nan()) {
        return Some([f64::NAN; N]);
    }
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let last = sorted.len() - 1;
    Some(at.map(|at| {
        let place = at.clamp(0.0, 1.0) * last as f64;
        let below = (place.floor() as usize).min(last);
        let (a, b, part) = (sorted[below], sorted[(below + 1).min(last)], place - below as f64);
        // From the nearer end, as numpy does it. Equal ends aren't subtracted: they may be infinite.
        if a == b {
            a
        } else if part < 0.5 {
            a + (b - a) * part
        } else {
            b - (b - a) * (1.0 - part)
        }
    }))
}
