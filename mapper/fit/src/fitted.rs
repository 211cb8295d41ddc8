//! A fitted map, and its quality.

use nalgebra::{DMatrix, DVector};

use crate::stats::PairSpec;

/// A fitted map with its rows and its quality. Every measure is of the map with its rounded weights.
#[derive(Clone, Debug, PartialEq)]
pub struct FittedPair {
    /// Which layers.
    pub spec: PairSpec,
    /// `A`, `[d_T, d_in]`.
    pub weight: FittedWeight,
    /// `p`, `[d_T]`.
    pub bias: DVector<f32>,
    /// The penalty: given, or the grid's best on validation rows.
    pub lambda: f64,
    /// Directions of the input that its train rows span: eigenvalues of their covariance above the cut-off. Below
    /// `d_in`, lambda 0 means the least-squares map of minimum norm. Solved by Cholesky (see
    /// [`fit_each`](crate::fit_each)) no eigenvalue is known; with the penalty all directions count, and it is `d_in`.
    pub input_rank: usize,
    /// The largest rank that `A` was allowed: given or chosen on validation rows; the smaller of `d_T` and `d_in` with
    /// [`RankChoice::Full`](crate::RankChoice::Full).
    pub map_rank: usize,
    /// Train rows.
    pub rows: u64,
    /// Rows that lambda and the rank are chosen on.
    pub validation_rows: u64,
    /// Rows that all measures below come from.
    pub test_rows: u64,
    /// R² over all dimensions at once: 1 minus the sum of squared errors over the sum of squares about the test mean.
    pub r2: f64,
    /// Median of the R² of single dimensions, without those that are constant on the test rows.
    pub r2_median: f64,
    /// R² over all dimensions by the map's rank, ascending: 1, 2, 4, 8 and so on, the largest possible, and `map_rank`;
    /// all at the same lambda, not rounded to f32. Empty with [`RankChoice::Full`](crate::RankChoice::Full).
    pub by_rank: Vec<RankQuality>,
    /// R² of predicting the train rows' mean.
    pub r2_mean_baseline: f64,
    /// Its median over dimensions.
    pub r2_mean_baseline_median: f64,
    /// R² of the source's state as a prediction of the target's; only with one source layer and equal hidden sizes.
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

/// A fitted map's linear part, `A`, `[d_T, d_in]`.
#[derive(Clone, Debug, PartialEq)]
pub enum FittedWeight {
    /// One matrix.
    Full(DMatrix<f32>),
    /// The product of two matrices: `A = left right`.
    LowRank {
        /// `[d_T, rank]`. Columns of length 1, those that explain most first, and orthogonal as far as they explain
        /// more than rounding; zeros where nothing was left to explain.
        left: DMatrix<f32>,
        /// `[rank, d_in]`
        right: DMatrix<f32>,
    },
}

/// The quality of the map of one rank.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RankQuality {
    /// The map's rank.
    pub rank: usize,
    /// R² over all dimensions at once, on test rows.
    pub r2: f64,
}
