//! Two values of each item.

use super::summary::mean;

/// Pearson's correlation, -1 to 1. `None` if either side is constant, for fewer than two items, or if the sides differ
/// in length.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() != y.len() || constant(x) || constant(y) {
        return None;
    }
    let (mean_x, mean_y) = (mean(x), mean(y));
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (x, y) = (x - mean_x, y - mean_y);
        xy += x * y;
        xx += x * x;
        yy += y * y;
    }
    // The roots one by one: the product of the squares may be too large or too small for f64.
    let norms = xx.sqrt() * yy.sqrt();
    (norms > 0.0 && norms.is_finite()).then(|| (xy / norms).clamp(-1.0, 1.0))
}

/// Mean squared error: the mean of `(x[i] - y[i])^2`. `None` of nothing, or if the sides differ in length.
pub fn mse(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.is_empty() || x.len() != y.len() {
        return None;
    }
    let squares: f64 = x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum();
    Some(squares / x.len() as f64)
}

/// Slope of the least-squares line through `(x[i], y[i])`, intercept free. `None` if all `x` are equal, for fewer than
/// two items, or if the sides differ in length.
pub fn slope(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() != y.len() || constant(x) {
        return None;
    }
    let (mean_x, mean_y) = (mean(x), mean(y));
    let (mut up, mut down) = (0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        up += (x - mean_x) * (y - mean_y);
        down += (x - mean_x).powi(2);
    }
    (down > 0.0).then(|| up / down)
}

/// Whether all values are the same, asked of the values themselves: their distances from a rounded mean need not be 0.
fn constant(values: &[f64]) -> bool {
    values.iter().all(|value| *value == values[0])
}
