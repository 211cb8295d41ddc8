//! Affine maps by ridge regression, from [`Statistics`].
//!
//! For a pair with inputs `x` (the source's states, concatenated if there are several layers) and targets `y`, the map
//! minimises over `A` and `p`
//!
//! ```text
//! mean over train rows of ||y - A x - p||^2  +  lambda ||A||_F^2
//! ```
//!
//! The intercept is not penalised, and since the first term is a mean, lambda doesn't depend on the corpus' size
//! (scikit-learn's `Ridge` has a sum there: its `alpha` is `lambda` times the number of rows). With lambda 0 it is the
//! objective of arXiv 2506.00653, whose optimum is found in closed form here.
//!
//! | module | role |
//! | --- | --- |
//! | [`ridge`] | one decomposition per input, then every pair from it |
//! | [`quality`] | how good a map is on test rows, and how good doing nothing is |
//! | [`error`] | what can go wrong |
//!
//! nalgebra's types at this edge; every large product and factorisation inside is faer's.

pub mod error;
pub mod quality;
pub mod ridge;

#[cfg(test)]
mod tests;

use nalgebra::{DMatrix, DVector};

use crate::stats::layout::Plan;
use crate::stats::{PairSpec, Split, Statistics};

pub use error::FitError;
pub use ridge::RidgeChoice;

use quality::{Quality, TestSet};
use ridge::Solver;

/// A map, what it was fitted on, and how good it is. Every measure is of the map with its weights as they are here,
/// rounded to f32.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedPair {
    /// Which layers.
    pub spec: PairSpec,
    /// `A`, `[d_T, d_in]`.
    pub weight: DMatrix<f32>,
    /// `p`, `[d_T]`.
    pub bias: DVector<f32>,
    /// The penalty: given, or the grid's best on validation rows.
    pub lambda: f64,
    /// Directions of the input that its train rows span: eigenvalues of their covariance above the cut-off. Below
    /// `d_in`, lambda 0 means the least-squares map of minimum norm. Solved by Cholesky (see [`fit_pairs`]) no
    /// eigenvalue is known; with the penalty all directions count, and it is `d_in`.
    pub rank: usize,
    /// Train rows.
    pub rows: u64,
    /// Rows that lambda was chosen on.
    pub validation_rows: u64,
    /// Rows that all measures below come from.
    pub test_rows: u64,
    /// R² over all dimensions at once: 1 less the sum of squared errors over the sum of squares about the test mean.
    pub r2: f64,
    /// Median of the dimensions' own R², those that are constant on the test rows left out.
    pub r2_median: f64,
    /// R² of predicting the train rows' mean.
    pub r2_mean_baseline: f64,
    /// Its median over dimensions.
    pub r2_mean_baseline_median: f64,
    /// R² of handing the source's state over as it is; only with one source layer and equal hidden sizes.
    pub r2_identity_baseline: Option<f64>,
    /// Its median over dimensions.
    pub r2_identity_baseline_median: Option<f64>,
    /// Dimensions that are constant on the test rows, which the medians leave out.
    pub constant_dimensions: usize,
    /// Mean over sampled test rows of the cosine between `A x + p` and `y`, the whole states, means included.
    pub cosine: f64,
    /// Rows that the cosine is of.
    pub cosine_rows: usize,
    /// Per source layer of the pair: mean L2 norm of the train rows' states.
    pub source_mean_norms: Vec<f64>,
    /// Mean L2 norm of the target layer's states on train rows.
    pub target_mean_norm: f64,
}

/// Fits the map of every pair, in the layout's order. `progress` is told after each how many are done.
///
/// A lambda that is given, above 0 and not so small that the covariance's rounding matters takes per input one Cholesky
/// factorisation and per pair two triangular solves of `[d_in, d_in]` with `[d_in, d_T]`. Else it is one symmetric
/// eigendecomposition per input and two products of `[d_in, d_T]` per pair; [`RidgeChoice::Auto`] adds two products of
/// `[d_in, d_in]` matrices per input and two with `[d_in, d_T]` per pair, whatever the number of lambdas. The measures
/// cost half such a product per pair. All on all cores, and independent of the number of rows.
///
/// # Errors
///
/// See [`FitError`].
pub fn fit_pairs(
    statistics: &Statistics,
    choice: RidgeChoice,
    mut progress: impl FnMut(usize),
) -> Result<Vec<FittedPair>, FitError> {
    choice.check()?;
    statistics.check_flushed()?;
    check_rows(statistics, choice)?;
    let plan = statistics.plan();
    let mut fitted: Vec<Option<FittedPair>> = vec![None; plan.pairs.len()];
    let mut done = 0;
    for input in 0..plan.inputs.len() {
        let solver = Solver::of(statistics, input, choice)?;
        let test = TestSet::of(statistics, input);
        for place in (0..plan.pairs.len()).filter(|&place| plan.pairs[place].input == input) {
            let solution = solver.solve(statistics, place)?;
            let quality = test.measure(statistics, place, &solution)?;
            fitted[place] = Some(report(statistics, plan, place, solver.rank(), solution, quality));
            done += 1;
            progress(done);
        }
    }
    Ok(fitted.into_iter().flatten().collect())
}

/// Puts a map and its numbers together.
fn report(
    statistics: &Statistics,
    plan: &Plan,
    place: usize,
    rank: usize,
    solution: ridge::Solution,
    quality: Quality,
) -> FittedPair {
    let spec = plan.layout.pairs[place].clone();
    let train = statistics.moments(Split::Train);
    let mean = |sum: f64| sum / train.count as f64;
    let pair = plan.pairs[place];
    let sources = &plan.inputs[pair.input].sources;
    FittedPair {
        lambda: solution.lambda,
        rank,
        rows: statistics.rows(Split::Train),
        validation_rows: statistics.rows(Split::Validation),
        test_rows: statistics.rows(Split::Test),
        r2: quality.map.all,
        r2_median: quality.map.median,
        r2_mean_baseline: quality.mean.all,
        r2_mean_baseline_median: quality.mean.median,
        r2_identity_baseline: quality.identity.map(|r2| r2.all),
        r2_identity_baseline_median: quality.identity.map(|r2| r2.median),
        constant_dimensions: quality.constant_dimensions,
        cosine: quality.cosine,
        cosine_rows: statistics.sample().rows().len(),
        source_mean_norms: sources.iter().map(|&s| mean(train.source_norms[s])).collect(),
        target_mean_norm: mean(train.target_norms[pair.target]),
        weight: solution.weight_f32(),
        bias: DVector::from_vec(solution.bias),
        spec,
    }
}

/// Checks that every split that is needed has rows enough for what is asked of it.
fn check_rows(statistics: &Statistics, choice: RidgeChoice) -> Result<(), FitError> {
    // One row has no spread: neither slopes nor an R² can come from it.
    let validation = match choice {
        RidgeChoice::Auto => 1,
        RidgeChoice::Fixed(_) => 0,
    };
    for (split, needed) in Split::ALL.into_iter().zip([2, validation, 2]) {
        match statistics.rows(split) {
            found if found >= needed => {}
            0 => return Err(FitError::NoRows { split }),
            found => return Err(FitError::TooFewRows { split, found, needed }),
        }
    }
    Ok(())
}
