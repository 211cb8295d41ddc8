//! Errors of a fit.

use thiserror::Error;

use crate::stats::{Split, StatsError};

/// Maps could not be fitted.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum FitError {
    /// The statistics have rows that are staged but not in the sums yet.
    #[error(transparent)]
    Statistics(#[from] StatsError),
    /// A split is empty.
    #[error(
        "the {split} split has no rows: give more documents (each document's hash decides its split: about 8 of 10 are train, 1 \
         validation and 1 test)"
    )]
    NoRows {
        /// Which.
        split: Split,
    },
    /// A split has rows, but too few.
    #[error("the {split} split has {found} rows, expected at least {needed}: give more or longer documents")]
    TooFewRows {
        /// Which.
        split: Split,
        /// Its rows.
        found: u64,
        /// The fewest that are enough.
        needed: u64,
    },
    /// A fixed lambda that is negative or not finite.
    #[error("lambda: found {found}, expected a finite number of 0 or more")]
    Lambda {
        /// What was asked for.
        found: f64,
    },
    /// A fixed rank that is too large for some pair.
    #[error("rank: found {found}, expected 1 to {largest}, the smaller of the sizes of both states")]
    Rank {
        /// What was asked for.
        found: usize,
        /// The largest that fits all pairs.
        largest: usize,
    },
    /// Sums, weights or measures that overflowed.
    #[error(
        "{what} of source layers {source_layers:?}: found a value that is not finite, expected finite values; are there states \
         above 1e15?"
    )]
    NotFinite {
        /// `the Gram matrix`, ...
        what: &'static str,
        /// The input.
        source_layers: Vec<usize>,
    },
    /// The target is constant on test rows, so R² is not defined.
    #[error(
        "target layer {layer}: found the same state in all test rows, expected states that vary: R² is not defined"
    )]
    ConstantTarget {
        /// 0-based.
        layer: usize,
    },
    /// The eigenvalue iteration didn't converge.
    #[error("the eigendecomposition of the covariance of {what} of source layers {source_layers:?} did not converge")]
    Eigen {
        /// `the states`, or `the fitted states` of a low-rank map.
        what: &'static str,
        /// The input.
        source_layers: Vec<usize>,
    },
}
