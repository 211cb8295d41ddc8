//! A solved map, rounded to the dtype that it is written in, with the intercept for the rounded weights.

use faer::{Mat, MatRef};
use nalgebra::{DMatrix, DVector};
use steermap_maps::FloatDtype;

use crate::error::FitError;
use crate::fitted::FittedWeight;
use crate::ridge::{matvec, product};
use crate::stats::Statistics;

/// A map of one pair. The intercept and all measures are of the rounded weights.
pub(crate) struct Solution {
    pub lambda: f64,
    /// The largest rank that was allowed.
    pub rank: usize,
    /// `A^T`, `[d_in, d_T]`: of rounded values, or the product of two factors of such.
    pub weight: Mat<f64>,
    /// `p`, `[d_T]`.
    pub bias: Vec<f32>,
    /// The factors of a map that is kept as two.
    factors: Option<LowRankFactors>,
}

/// `A = left right`, both of rounded values.
struct LowRankFactors {
    /// `[d_T, r]`
    left: Mat<f64>,
    /// The right factor's transpose, `[d_in, r]`.
    right: Mat<f64>,
}

impl Solution {
    /// Rounds a map that is kept whole; `weight` is `A^T`.
    ///
    /// # Errors
    ///
    /// [`FitError::NotFinite`] if a weight or the intercept doesn't fit in f32.
    pub fn whole(
        statistics: &Statistics,
        pair: usize,
        lambda: f64,
        rank: usize,
        dtype: FloatDtype,
        mut weight: Mat<f64>,
    ) -> Result<Self, FitError> {
        round(&mut weight, dtype);
        let bias = intercept(statistics, pair, weight.as_ref())?;
        Ok(Self {
            lambda,
            rank,
            weight,
            bias,
            factors: None,
        })
    }

    /// Rounds the factors of a map that is kept as two: `left` is `[d_T, r]`, `right` the right factor's transpose,
    /// `[d_in, r]`.
    ///
    /// # Errors
    ///
    /// As [`Solution::whole`].
    pub fn low_rank(
        statistics: &Statistics,
        pair: usize,
        lambda: f64,
        dtype: FloatDtype,
        mut left: Mat<f64>,
        mut right: Mat<f64>,
    ) -> Result<Self, FitError> {
        round(&mut left, dtype);
        round(&mut right, dtype);
        let weight = product(right.as_ref(), left.transpose(), 1.0);
        let bias = intercept(statistics, pair, weight.as_ref())?;
        Ok(Self {
            lambda,
            rank: left.ncols(),
            weight,
            bias,
            factors: Some(LowRankFactors { left, right }),
        })
    }

    /// `A` and `p` as nalgebra's.
    pub fn into_parts(self) -> (FittedWeight, DVector<f32>) {
        let weight = match &self.factors {
            None => FittedWeight::Full(transposed(self.weight.as_ref())),
            Some(factors) => FittedWeight::LowRank {
                left: transposed(factors.left.transpose()),
                right: transposed(factors.right.as_ref()),
            },
        };
        (weight, DVector::from_vec(self.bias))
    }
}

/// `p` of `A^T`.
///
/// # Errors
///
/// [`FitError::NotFinite`] if it or a weight is not finite.
fn intercept(statistics: &Statistics, pair: usize, weight: MatRef<'_, f64>) -> Result<Vec<f32>, FitError> {
    let (train, plan) = (statistics.train(), statistics.plan());
    let places = plan.pairs[pair];
    let input = &plan.inputs[places.input];
    let shift = matvec(weight.transpose(), &train.input_mean(&input.sources));
    let bias: Vec<f32> = train.target_mean[places.target]
        .iter()
        .zip(&shift)
        .map(|(mean, shift)| (mean - shift) as f32)
        .collect();
    // A factor that overflowed makes its product infinite or no number.
    let finite = weight
        .col_iter()
        .all(|column| column.iter().all(|value| value.is_finite()));
    if !finite || !bias.iter().all(|value| value.is_finite()) {
        return Err(FitError::NotFinite {
            what: "the map",
            source_layers: input.layers.clone(),
        });
    }
    Ok(bias)
}

/// Rounds to f32.
fn round(matrix: &mut Mat<f64>, dtype: FloatDtype) {
    for column in matrix.col_iter_mut() {
        column
            .iter_mut()
            .for_each(|value| *value = f64::from(dtype.round(*value as f32)));
    }
}

/// The transpose as nalgebra's.
fn transposed(matrix: MatRef<'_, f64>) -> DMatrix<f32> {
    /// Columns that are written side by side: what is read of each row then fills a line of the cache.
    const COLUMNS: usize = 16;
    let (rows, columns) = (matrix.ncols(), matrix.nrows());
    let mut values = vec![0f32; rows * columns];
    for (part, written) in values.chunks_mut(COLUMNS * rows).enumerate() {
        let read = matrix.subrows(part * COLUMNS, written.len() / rows);
        for (j, column) in read.col_iter().enumerate() {
            for (to, &value) in written.iter_mut().skip(j).step_by(rows).zip(column.iter()) {
                *to = value as f32;
            }
        }
    }
    DMatrix::from_vec(rows, columns, values)
}
