//! How well states are predicted.

use super::summary::quantiles;

/// R² of predicted states.
#[derive(Clone, Debug, PartialEq)]
pub struct RSquared {
    /// Over all dimensions: `1 - sum SSE_j / sum SS_j`. What is wrong with constant dimensions counts.
    pub all: f64,
    /// Of each dimension `j`: `1 - SSE_j / SS_j`, scikit-learn's `r2_score` with `multioutput="raw_values"`. `None`
    /// where the target is constant.
    pub dimensions: Vec<Option<f64>>,
}

impl RSquared {
    /// Quantiles (0 to 1) over the dimensions that aren't constant.
    pub fn quantiles<const N: usize>(&self, at: [f64; N]) -> [f64; N] {
        let known: Vec<f64> = self.dimensions.iter().flatten().copied().collect();
        quantiles(&known, at).unwrap_or([f64::NAN; N])
    }
}

/// R² of predictions against targets, both `[rows, width]` row by row: with `SSE_j` the sum of squared errors of
/// dimension `j` and `SS_j` that of its target's distances from their mean, in f64. `None` if the sides differ in
/// length, if that is not a multiple of the width, if all of the target is constant (as that of a single row is), or if
/// a value is not finite.
pub fn r_squared(predicted: &[f32], target: &[f32], width: usize) -> Option<RSquared> {
    if width == 0 || predicted.len() != target.len() || !target.len().is_multiple_of(width) {
        return None;
    }
    let rows = target.len() / width;
    let mut means = vec![0f64; width];
    for row in target.chunks_exact(width) {
        means
            .iter_mut()
            .zip(row)
            .for_each(|(mean, &value)| *mean += f64::from(value) / rows as f64);
    }
    let (mut errors, mut squares, mut constant) = (vec![0f64; width], vec![0f64; width], vec![true; width]);
    for (predicted, row) in predicted.chunks_exact(width).zip(target.chunks_exact(width)) {
        for (j, (&guess, &truth)) in predicted.iter().zip(row).enumerate() {
            errors[j] += (f64::from(truth) - f64::from(guess)).powi(2);
            squares[j] += (f64::from(truth) - means[j]).powi(2);
            // Asked of the values themselves: the mean is rounded.
            constant[j] &= truth == target[j];
        }
    }
    for (squares, _) in squares.iter_mut().zip(&constant).filter(|(_, constant)| **constant) {
        *squares = 0.0;
    }
    let total: f64 = squares.iter().sum();
    let own = |(error, squares): (&f64, &f64)| (*squares > 0.0).then(|| 1.0 - error / squares);
    let all = 1.0 - errors.iter().sum::<f64>() / total;
    (total > 0.0 && all.is_finite()).then(|| RSquared {
        all,
        dimensions: errors.iter().zip(&squares).map(own).collect(),
    })
}

/// Mean over rows of the cosine of prediction and target, both `[rows, width]` row by row; a row of norm 0 on either
/// side counts as 0. `None` of nothing, if the sides differ in length, if that is not a multiple of the width, or if a
/// value is not finite.
pub fn mean_cosine(predicted: &[f32], target: &[f32], width: usize) -> Option<f64> {
    if width == 0 || target.is_empty() || predicted.len() != target.len() || !target.len().is_multiple_of(width) {
        return None;
    }
    let rows = predicted.chunks_exact(width).zip(target.chunks_exact(width));
    let cosines = rows.map(|(predicted, target)| {
        let (mut dot, mut ours, mut theirs) = (0.0, 0.0, 0.0);
        for (&a, &b) in predicted.iter().zip(target) {
            let (a, b) = (f64::from(a), f64::from(b));
            dot += a * b;
            ours += a * a;
            theirs += b * b;
        }
        if ours == 0.0 || theirs == 0.0 {
            0.0
        } else {
            dot / (ours.sqrt() * theirs.sqrt())
        }
    });
    let mean = cosines.sum::<f64>() / (target.len() / width) as f64;
    mean.is_finite().then_some(mean)
}
