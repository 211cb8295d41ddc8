//! What can go wrong with a fit.

use thiserror::Error;

use crate::stats::{Split, StatsError};

/// Maps could not be fitted.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum FitError {
    /// Rows are staged that the sums don't hold.
    #[error(transparent)]
    Statistics(#[from] StatsError),
    /// A split is empty.
    #[error(
        "the {split} split has no rows: give more documents (the hash of each decides its split, about 8 of 10 train, 1 \
         validation, 1 test)"
    )]
    NoRows {
        /// Which.
        split: Split,
    },
    /// A split has rows, but too few.
    #[error("the {split} split has {found} rows, expected {needed} at least: give more or longer documents")]
    TooFewRows {
        /// Which.
        split: Split,
        /// Its rows.
        found: u64,
        /// The fewest that do.
        needed: u64,
    },
    /// A fixed lambda that is no penalty.
    #[error("lambda: found {found}, expected a finite number of 0 or more")]
    Lambda {
        /// What was asked for.
        found: f64,
    },
    /// A fixed rank that not all pairs can have.
    #[error("rank: found {found}, expected 1 to {largest}, the smaller of the sizes of both states")]
    Rank {
        /// What was asked for.
        found: usize,
        /// The largest that does.
        largest: usize,
    },
    /// Sums, weights or measures that overflowed.
    #[error(
        "{what} of source layers {source_layers:?}: found a value that is not finite; are states above 1e15 in it?"
    )]
    NotFinite {
        /// `the Gram matrix`, ...
        what: &'static str,
        /// The input.
        source_layers: Vec<usize>,
    },
    /// The target never changes on test rows, so no R² exists.
    #[error("target layer {layer} is the same in all test rows: nothing can be measured on it")]
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
