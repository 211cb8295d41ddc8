//! Fits affine maps by ridge regression, from rows of paired states.
//!
//! [`stats`] collects sums and samples of the rows, and [`fit_pairs`] fits maps from them. This crate does not depend
//! on models, text or the engine.
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
//! objective of arXiv 2506.00653, whose optimum is found in closed form here. With [`RankChoice`] it is minimised over
//! the `A` of a given rank, in closed form too.
//!
//! | module | role |
//! | --- | --- |
//! | [`stats`] | rows in, sums and samples out; their files |
//! | `ridge` | one decomposition per input, then every pair from it |
//! | `low_rank` | the best map of every rank; which rank to take |
//! | `fitted` | a fitted map, and its quality |
//! | `solution` | a map rounded to f32, with its intercept |
//! | `products` | products of columns |
//! | `quality` | a map's quality on test rows, and that of the baselines |
//! | [`memory`] | the memory of fits, before any row is added |
//! | [`error`] | errors of a fit |
//!
//! The public interface uses nalgebra's types; every large product and factorisation inside uses faer.

#![warn(missing_docs)]

pub mod error;
mod fitted;
mod low_rank;
pub mod memory;
mod products;
mod quality;
mod ridge;
mod solution;
pub mod stats;

#[cfg(test)]
mod tests;

use steermap_maps::FloatDtype;

use crate::stats::{Split, Statistics};

pub use error::FitError;
pub use fitted::{FittedPair, FittedWeight, RankQuality};
pub use low_rank::{AUTO_TOLERANCE, RankChoice};
pub use quality::median;
pub use ridge::RidgeChoice;

use low_rank::{Components, RankRule, smallest_sufficient};
use quality::{Quality, TestSet};
use ridge::Solver;
use solution::Solution;

/// Rank and dtype of the maps to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapShape {
    /// Their rank.
    pub rank: RankChoice,
    /// The dtype that their weights are rounded to before they are measured. They are still returned in f32.
    pub dtype: FloatDtype,
}

impl From<RankChoice> for MapShape {
    /// In f32.
    fn from(rank: RankChoice) -> Self {
        Self {
            rank,
            dtype: FloatDtype::F32,
        }
    }
}

/// As [`fit_each`], but returns all maps, in the layout's order. `progress` is called after each with the number done.
///
/// # Errors
///
/// See [`FitError`].
pub fn fit_pairs(
    statistics: &Statistics,
    ridge: RidgeChoice,
    shape: impl Into<MapShape>,
    mut progress: impl FnMut(usize),
) -> Result<Vec<FittedPair>, FitError> {
    let mut fitted: Vec<Option<FittedPair>> = vec![None; statistics.plan().pairs.len()];
    let mut done = 0;
    fit_each(statistics, ridge, shape, |place, pair| {
        fitted[place] = Some(pair);
        done += 1;
        progress(done);
        Ok::<_, FitError>(())
    })?;
    Ok(fitted.into_iter().flatten().collect())
}

/// Fits the map of every pair and calls `each` with its index in the layout and the map, so that only one map is in
/// memory at a time. Pairs with the same input follow each other, so the order is not the layout's.
///
/// A lambda that is given, above 0 and not so small that the covariance's rounding matters takes per input one Cholesky
/// factorisation and per pair two triangular solves of `[d_in, d_in]` with `[d_in, d_T]`. Else it is one symmetric
/// eigendecomposition per input and two products of `[d_in, d_T]` per pair; [`RidgeChoice::Auto`] adds two products of
/// `[d_in, d_in]` matrices per input and two with `[d_in, d_T]` per pair, whatever the number of lambdas. The measures
/// cost half such a product per pair.
///
/// A rank other than [`RankChoice::Full`] adds per pair one symmetric eigendecomposition of the smaller of `d_in` and
/// `d_T`, and four to six products of the size of the map with that. All on all cores, and independent of the number of
/// rows.
///
/// # Errors
///
/// An error of `each`, which ends the fit; otherwise see [`FitError`].
pub fn fit_each<E: From<FitError>>(
    statistics: &Statistics,
    ridge: RidgeChoice,
    shape: impl Into<MapShape>,
    mut each: impl FnMut(usize, FittedPair) -> Result<(), E>,
) -> Result<(), E> {
    let MapShape { rank, dtype } = shape.into();
    ridge.check()?;
    rank.check(statistics.layout())?;
    statistics.check_flushed().map_err(FitError::from)?;
    check_rows(statistics, ridge, rank)?;
    let plan = statistics.plan();
    for input in 0..plan.inputs.len() {
        let solver = Solver::of(statistics, input, ridge)?;
        let test = TestSet::of(statistics, input);
        // If lambda is chosen on the validation rows too, their moments are computed already.
        let own;
        let rule = match rank {
            RankChoice::Full => RankRule::Full,
            RankChoice::Fixed(rank) => RankRule::Given(rank),
            RankChoice::Auto => RankRule::Best(match solver.validation() {
                Some(moments) => moments,
                None => {
                    own = statistics.validation().input(plan, input);
                    &own
                }
            }),
        };
        for place in (0..plan.pairs.len()).filter(|&place| plan.pairs[place].input == input) {
            let (solution, components) = solve(statistics, place, &solver, &rule, dtype)?;
            let quality = test.measure(statistics, place, &solution, components.as_ref())?;
            // What `each` does may need the memory.
            drop(components);
            each(place, report(statistics, place, solver.rank(), solution, quality))?;
        }
    }
    Ok(())
}

/// The map of one pair; for a low-rank fit also the components, the first of which form the map.
fn solve(
    statistics: &Statistics,
    place: usize,
    solver: &Solver<'_>,
    rule: &RankRule<'_>,
    dtype: FloatDtype,
) -> Result<(Solution, Option<Components>), FitError> {
    let whitened = solver.whiten(statistics, place);
    let source_layers = &statistics.layout().pairs[place].source_layers;
    Ok(match rule {
        RankRule::Full => {
            let lambda = whitened.lambda;
            let weight = solver.unwhiten(whitened.cross, lambda);
            let rank = weight.nrows().min(weight.ncols());
            (Solution::whole(statistics, place, lambda, rank, dtype, weight)?, None)
        }
        RankRule::Given(rank) => {
            let components = Components::of(solver, whitened, source_layers)?;
            (components.truncate(statistics, place, *rank, dtype)?, Some(components))
        }
        RankRule::Best(validation) => {
            let components = Components::of(solver, whitened, source_layers)?;
            let errors = components.errors(statistics, place, validation, &validation.pair(place));
            let rank = smallest_sufficient(&errors);
            let solution = components.truncate_if_smaller(statistics, place, rank, dtype)?;
            (solution, Some(components))
        }
    })
}

/// Assembles a map and its measures.
fn report(
    statistics: &Statistics,
    place: usize,
    input_rank: usize,
    solution: Solution,
    quality: Quality,
) -> FittedPair {
    let plan = statistics.plan();
    let spec = plan.layout.pairs[place].clone();
    let train = statistics.train();
    let mean = |sum: f64| sum / train.count as f64;
    let pair = plan.pairs[place];
    let sources = &plan.inputs[pair.input].sources;
    let (lambda, map_rank) = (solution.lambda, solution.rank);
    let (weight, bias) = solution.into_parts();
    FittedPair {
        spec,
        weight,
        bias,
        lambda,
        input_rank,
        map_rank,
        rows: statistics.rows(Split::Train),
        validation_rows: statistics.validation().measured(),
        test_rows: statistics.test().measured(),
        r2: quality.map.all,
        by_rank: quality.by_rank,
        r2_median: quality.map.median,
        r2_mean_baseline: quality.mean.all,
        r2_mean_baseline_median: quality.mean.median,
        r2_identity_baseline: quality.identity.map(|r2| r2.all),
        r2_identity_baseline_median: quality.identity.map(|r2| r2.median),
        constant_dimensions: quality.constant_dimensions,
        cosine: quality.cosine,
        cosine_rows: statistics.test().sample().rows().len(),
        source_mean_norms: sources.iter().map(|&s| mean(train.source_norms[s])).collect(),
        target_mean_norm: mean(train.target_norms[pair.target]),
    }
}

/// Checks that every split that is used has enough rows.
fn check_rows(statistics: &Statistics, ridge: RidgeChoice, rank: RankChoice) -> Result<(), FitError> {
    // One row has no variance, so neither slopes nor R² are defined.
    let validation = u64::from(ridge == RidgeChoice::Auto || rank == RankChoice::Auto);
    for (split, needed) in Split::ALL.into_iter().zip([2, validation, 2]) {
        let rows = match split {
            Split::Train => statistics.rows(split),
            Split::Validation => statistics.validation().measured(),
            Split::Test => statistics.test().measured(),
        };
        match rows {
            found if found >= needed => {}
            0 => return Err(FitError::NoRows { split }),
            found => return Err(FitError::TooFewRows { split, found, needed }),
        }
    }
    Ok(())
}
