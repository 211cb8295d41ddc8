//! Methods that find a direction from pairs of states.
//!
//! Every method finds a line; the result is the projection of the mean difference onto that line,
//!
//! ```text
//! v = (u . (mean_positive - mean_negative)) u        ||u|| = 1
//! ```
//!
//! So positives project higher on average than negatives, regardless of the sign of `u`, and adding the whole vector
//! moves the negatives' mean to that of the positives along the line, for every method. With [`Sign::Vote`] the sign is
//! such that the positive projects higher in most pairs; the length stays the same.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use faer::Mat;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{bail, ensure};
use crate::pca::{centred, first_component};
use crate::sign::Sign;
use crate::statistics::{self, Folds};
use crate::{ExtractError, logistic};

/// The least part of the mean difference along a direction: about the rounding of f32, below which equal and different
/// states can't be distinguished.
const LEAST_PART: f64 = 1e-6;

/// How a direction is found from pairs of states.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The mean of the positives minus that of the negatives
    #[default]
    MeanDifference,
    /// The first principal component of the pairs' centred differences (repeng's `pca_diff`)
    PcaDifference,
    /// The first principal component of all states, each minus its pair's mean (repeng's `pca_center`)
    PcaCentred,
    /// The weight of a logistic regression of the two sides, L2-regularised (scikit-learn's, with C = 1)
    Logistic,
    /// The first principal component of normalised differences of randomly paired states (Zou et al. 2023)
    Lat,
}

impl Method {
    /// All methods.
    pub const ALL: [Self; 5] = [
        Self::MeanDifference,
        Self::PcaDifference,
        Self::PcaCentred,
        Self::Logistic,
        Self::Lat,
    ];

    /// The name in files and arguments.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MeanDifference => "mean-difference",
            Self::PcaDifference => "pca-difference",
            Self::PcaCentred => "pca-centred",
            Self::Logistic => "logistic",
            Self::Lat => "lat",
        }
    }

    /// Whether the method makes random choices.
    pub fn uses_seed(self) -> bool {
        self == Self::Lat
    }

    /// Whether the method finds a line without a sign: the principal components.
    pub fn finds_a_line(self) -> bool {
        matches!(self, Self::PcaDifference | Self::PcaCentred | Self::Lat)
    }

    /// About how many multiplications a direction takes, for `pairs` pairs of states of `width`.
    pub fn work(self, pairs: usize, width: usize) -> u64 {
        let (pairs, width) = (pairs as u64, width as u64);
        let (one, all) = (pairs.min(width), (2 * pairs).min(width));
        let square = |rows: u64, side: u64| rows.saturating_mul(width).saturating_mul(side);
        let cube = |side: u64| side.saturating_mul(side).saturating_mul(side);
        match self {
            Self::MeanDifference => pairs * width,
            // A Gram matrix and all its eigenvectors.
            Self::PcaDifference | Self::PcaCentred | Self::Lat => square(pairs, one).saturating_add(10 * cube(one)),
            // An orthonormal basis, and a few dozen steps that each factorise a Hessian.
            Self::Logistic => square(2 * pairs, all).saturating_add(50 * cube(all)),
        }
    }

    /// The direction from the negatives to the positives, `[hidden_size]`, with the length of the [module](self)'s
    /// formula. `positive[i]` and `negative[i]` are the states of pair `i`, all `[hidden_size]`. `sign` matters only if
    /// the method [finds a line](Self::finds_a_line).
    ///
    /// * `mean-difference`: the mean difference itself.
    /// * `pca-difference`: the first principal component of `positive[i] - negative[i]`, centred. So it is the direction
    ///   in which the differences vary most, which need not be the one that they share.
    /// * `pca-centred`: the first principal component of `+-(positive[i] - negative[i]) / 2`, both signs, which is that
    ///   of the differences without centring.
    /// * `logistic`: the weight `w` of `min sum log(1 + exp(-y (w . h + b))) + ||w||^2 / 2` over all states `h`,
    ///   `y = 1` of a positive and -1 of a negative: scikit-learn's `LogisticRegression(C=1.0)` on states as they are.
    /// * `lat`: all states are shuffled by `seed` and paired in that order, regardless of side. Their differences are
    ///   normalised (Zou et al. 2023, "Representation Engineering", appendix C.1) and then centred as in the authors'
    ///   code: the first principal component.
    ///
    /// # Errors
    ///
    /// There are no pairs, sides or states have different lengths, a state is not finite, the differences have no
    /// principal component, or positives and negatives have the same mean along the direction.
    pub fn direction(
        self,
        positive: &[&[f32]],
        negative: &[&[f32]],
        sign: Sign,
        seed: u64,
    ) -> Result<Vec<f32>, ExtractError> {
        check(positive, negative)?;
        let pairs = positive.iter().copied().zip(negative.iter().copied());
        let line = match self {
            Self::MeanDifference => mean_difference(positive, negative),
            Self::PcaDifference => first_component(&centred(&differences(pairs)))?,
            // With both signs of each difference, the mean is 0.
            Self::PcaCentred => first_component(&differences(pairs))?,
            Self::Logistic => logistic::weight(positive, negative)?,
            Self::Lat => {
                let mut order: Vec<usize> = (0..positive.len() + negative.len()).collect();
                order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
                lat(positive, negative, &order)?
            }
        };
        let direction = along(&line, &mean_difference(positive, negative))?;
        if self.finds_a_line() {
            Ok(sign.apply(direction, positive, negative))
        } else {
            Ok(direction)
        }
    }

    /// How well the method's directions separate held-out pairs: [`statistics::held_out_auroc`]. `None` if a fold
    /// leaves too few pairs to find a direction.
    pub fn held_out_auroc(
        self,
        positive: &[&[f32]],
        negative: &[&[f32]],
        folds: &Folds,
        sign: Sign,
        seed: u64,
    ) -> Option<f64> {
        statistics::held_out_auroc(positive, negative, folds, |p, n| self.direction(p, n, sign, seed).ok())
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Method {
    type Err = ExtractError;

    /// # Errors
    ///
    /// Any other text than [`as_str`](Method::as_str) gives.
    fn from_str(text: &str) -> Result<Self, ExtractError> {
        match Self::ALL.into_iter().find(|method| method.as_str() == text) {
            Some(method) => Ok(method),
            None => bail!(
                "method: found {text:?}, expected {}",
                Self::ALL.map(|method| format!("{:?}", method.as_str())).join(", ")
            ),
        }
    }
}

/// Checks that there are pairs, and that all states are finite and of the same width.
fn check(positive: &[&[f32]], negative: &[&[f32]]) -> Result<(), ExtractError> {
    ensure!(!positive.is_empty(), "found no pairs, expected at least one");
    ensure!(
        positive.len() == negative.len(),
        "found {} positive and {} negative states, expected equal numbers",
        positive.len(),
        negative.len()
    );
    let width = positive[0].len();
    for state in positive.iter().chain(negative) {
        ensure!(
            state.len() == width,
            "found states of {width} and of {} values, expected one width",
            state.len()
        );
        ensure!(
            state.iter().all(|value| value.is_finite()),
            "found a state that is not finite"
        );
    }
    Ok(())
}

/// `[hidden_size]`, in f64.
fn mean_difference(positive: &[&[f32]], negative: &[&[f32]]) -> Vec<f64> {
    let mut mean = vec![0f64; positive[0].len()];
    for (p, n) in positive.iter().zip(negative) {
        for (mean, (&p, &n)) in mean.iter_mut().zip(p.iter().zip(*n)) {
            *mean += f64::from(p) - f64::from(n);
        }
    }
    mean.iter_mut().for_each(|mean| *mean /= positive.len() as f64);
    mean
}

/// The projection of the mean difference onto a line.
fn along(line: &[f64], mean_difference: &[f64]) -> Result<Vec<f32>, ExtractError> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    // Exactly 1 for the mean difference.
    let factor = dot(line, mean_difference) / dot(line, line);
    let gap = factor * dot(line, line).sqrt();
    let least = LEAST_PART * dot(mean_difference, mean_difference).sqrt();
    let direction: Vec<f32> = line.iter().map(|value| (factor * value) as f32).collect();
    // NaN fails this comparison.
    ensure!(
        gap.abs() > least && direction.iter().all(|value| value.is_finite()),
        "the direction does not separate the sides: along it the mean of the positives less that of the negatives is \
         {gap}, expected a finite number other than 0"
    );
    Ok(direction)
}

/// `a - b` of each couple, one per row: `[couples, hidden_size]`
fn differences<'a>(couples: impl Iterator<Item = (&'a [f32], &'a [f32])>) -> Mat<f64> {
    let couples: Vec<_> = couples.collect();
    let width = couples.first().map_or(0, |(a, _)| a.len());
    Mat::from_fn(couples.len(), width, |i, j| {
        f64::from(couples[i].0[j]) - f64::from(couples[i].1[j])
    })
}

/// The line of [`Method::Lat`] for the states in this order. Indices count positives first, then negatives; couples of
/// equal states, which have no direction, are left out.
fn lat(positive: &[&[f32]], negative: &[&[f32]], order: &[usize]) -> Result<Vec<f64>, ExtractError> {
    let states: Vec<&[f32]> = positive.iter().chain(negative).copied().collect();
    let couples = order
        .chunks_exact(2)
        .map(|couple| (states[couple[0]], states[couple[1]]));
    let differences = differences(couples.filter(|(a, b)| a != b));
    let norms: Vec<f64> = differences.row_iter().map(|row| row.norm_l2()).collect();
    let units = Mat::from_fn(differences.nrows(), differences.ncols(), |i, j| {
        differences[(i, j)] / norms[i]
    });
    first_component(&centred(&units))
}

#[cfg(test)]
mod tests;
