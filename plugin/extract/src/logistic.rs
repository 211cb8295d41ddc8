//! L2-regularised logistic regression of two sides, by Newton's method.
//!
//! ```text
//! min over w, b:  sum_i log(1 + exp(-y_i (w . x_i + b))) + ||w||^2 / 2
//! ```
//!
//! This is scikit-learn's `LogisticRegression(C=1.0)`. The intercept has no penalty, so subtracting the mean from all
//! rows changes only `b`. The optimal `w` lies in the span of the rows, so for `n` rows of `d > n` values the problem
//! is solved in the coordinates of an orthonormal basis of that span: `X^T = Q R`, `w = Q z`, `X w = R^T z`, `||w|| =
//! ||z||`.

use faer::linalg::solvers::Solve;
use faer::{Col, Mat, Side};

use crate::ExtractError;
use crate::error::{bail, ensure};
use crate::pca::centred;

/// Most Newton steps. A problem that needs more than a few dozen is degenerate.
const MAX_STEPS: usize = 200;
/// Stops when a step would lower the objective by less than this part of it. Newton's method converges quadratically
/// there, so the weight is exact up to rounding.
const TOLERANCE: f64 = 1e-14;

/// The weight that separates positives (`y = 1`) from negatives (-1): `[hidden_size]`. All states have that length.
///
/// # Errors
///
/// The optimisation does not converge.
pub fn weight(positive: &[&[f32]], negative: &[&[f32]]) -> Result<Vec<f64>, ExtractError> {
    let states: Vec<&[f32]> = positive.iter().chain(negative).copied().collect();
    let labels: Vec<f64> = (0..states.len())
        .map(|i| if i < positive.len() { 1.0 } else { -1.0 })
        .collect();
    let (n, d) = (states.len(), states.first().map_or(0, |state| state.len()));
    let rows = centred(&Mat::from_fn(n, d, |i, j| f64::from(states[i][j])));
    if n < d {
        let qr = rows.transpose().qr();
        let reduced = optimum(&qr.thin_R().transpose().to_owned(), &labels)?;
        Ok((qr.compute_thin_Q() * reduced).iter().copied().collect())
    } else {
        Ok(optimum(&rows, &labels)?.iter().copied().collect())
    }
}

/// The optimal weight of rows, `[columns]`.
fn optimum(rows: &Mat<f64>, labels: &[f64]) -> Result<Col<f64>, ExtractError> {
    let d = rows.ncols();
    // The intercept is an additional column of ones, without penalty.
    let design = Mat::from_fn(rows.nrows(), d + 1, |i, j| if j < d { rows[(i, j)] } else { 1.0 });
    let penalty = |j: usize| if j < d { 1.0 } else { 0.0 };
    let mut weight: Col<f64> = Col::zeros(d + 1);
    let mut value = objective(&design, labels, &weight);
    for _ in 0..MAX_STEPS {
        let margins = &design * &weight;
        // First and second derivative of -log(sigmoid(y m)) by m.
        let first = Col::from_fn(labels.len(), |i| -labels[i] * sigmoid(-labels[i] * margins[i]));
        let second: Vec<f64> = margins
            .iter()
            .map(|&margin| sigmoid(margin) * sigmoid(-margin))
            .collect();
        let mut gradient = design.transpose() * &first;
        for j in 0..=d {
            gradient[j] += penalty(j) * weight[j];
        }
        let scaled = Mat::from_fn(design.nrows(), d + 1, |i, j| second[i] * design[(i, j)]);
        let mut hessian = design.transpose() * &scaled;
        for j in 0..=d {
            hessian[(j, j)] += penalty(j);
        }
        let Ok(factor) = hessian.llt(Side::Lower) else {
            bail!("the logistic regression is degenerate");
        };
        let step = factor.solve(&gradient);
        // Twice the expected decrease of the step.
        let decrement: f64 = gradient.iter().zip(step.iter()).map(|(g, s)| g * s).sum();
        ensure!(decrement.is_finite(), "the logistic regression is not finite");
        let Some((next, lower)) = line_search(&design, labels, &weight, &step, value, decrement) else {
            // No step lowers the objective; only rounding errors are left.
            return Ok(without_intercept(&weight));
        };
        (weight, value) = (next, lower);
        if decrement <= TOLERANCE * value.abs() {
            return Ok(without_intercept(&weight));
        }
    }
    bail!("the logistic regression did not converge in {MAX_STEPS} steps")
}

/// The longest of the steps 1, 1/2, 1/4, .. that lowers the objective by a ten-thousandth of its expected decrease
/// (Armijo's rule): the new weight and its objective. `None` if there is none.
fn line_search(
    design: &Mat<f64>,
    labels: &[f64],
    weight: &Col<f64>,
    step: &Col<f64>,
    value: f64,
    decrement: f64,
) -> Option<(Col<f64>, f64)> {
    (0..50).find_map(|halvings| {
        let length = 0.5f64.powi(halvings);
        let next = Col::from_fn(weight.nrows(), |j| weight[j] - length * step[j]);
        let lower = objective(design, labels, &next);
        (lower <= value - 1e-4 * length * decrement).then_some((next, lower))
    })
}

fn objective(design: &Mat<f64>, labels: &[f64], weight: &Col<f64>) -> f64 {
    let margins = design * weight;
    let loss: f64 = labels
        .iter()
        .zip(margins.iter())
        .map(|(label, margin)| softplus(-label * margin))
        .sum();
    let squares: f64 = without_intercept(weight).iter().map(|w| w * w).sum();
    loss + squares / 2.0
}

fn without_intercept(weight: &Col<f64>) -> Col<f64> {
    Col::from_fn(weight.nrows() - 1, |j| weight[j])
}

/// `1 / (1 + exp(-x))`, without overflow.
fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        x.exp() / (1.0 + x.exp())
    }
}

/// `log(1 + exp(x))`, without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
