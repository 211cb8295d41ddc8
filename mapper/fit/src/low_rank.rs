//! Maps of low rank: reduced-rank ridge regression in closed form.
//!
//! Of all `A` of rank `r` at most, `U_r U_r^T A` minimises the objective of the ridge fit, with its solution `A` and
//! the first `r` eigenvectors `U_r` of `A (G/n + lambda I) A^T` (Mukherjee & Zhu, "Reduced rank ridge regression and
//! its kernel extensions", Statistical Analysis and Data Mining 4, 2011; without penalty Izenman, "Reduced-rank
//! regression for the multivariate linear model", Journal of Multivariate Analysis 5, 1975). The reason: for any `A'`
//! the objective is that of `A` plus `||(A' - A) R||_F^2`, `R R^T = G/n + lambda I`, so the best `A' R` of rank `r` is
//! the truncated singular value decomposition of `A R = F^T` (Eckart & Young).
//!
//! `F` is `[d_in, d_T]`. Its singular vectors come from the eigenvectors of the smaller of `F^T F` and `F F^T`. That
//! squares singular values, so directions that explain less than 1e-16 of what the first one explains can't be
//! separated. This does no harm: the vectors are orthogonal up to rounding, so all of them together give `A` again.
//!
//! The error at every rank comes from one pass. With `u_i`, `a_i` the columns of both factors, centred on the *train*
//! means,
//!
//! ```text
//! sum ||y - A_r x||^2 = sum ||y||^2 - sum over i <= r and rows of (2 (u_i.y)(a_i.x) - (a_i.x)^2)
//! ```

#[cfg(test)]
mod tests;

use faer::{Mat, Side};
use steermap_maps::FloatDtype;

use crate::FitError;
use crate::products::{column_dots, quadratics};
use crate::ridge::{Solver, Whitened, lower_product, matvec, product};
use crate::solution::Solution;
use crate::stats::held_out::{InputMoments, PairMoments};
use crate::stats::{Layout, Statistics};

/// How much the squared error on validation rows of [`RankChoice::Auto`]'s rank may exceed that of the best rank.
pub const AUTO_TOLERANCE: f64 = 0.01;
/// Errors below this part of the sum of squares count as 0.
const ROUNDING: f64 = 1e-12;

/// The rank of maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RankChoice {
    /// Full: maps are kept as one matrix.
    #[default]
    Full,
    /// At most this; from 1 to the smaller of the two sizes of every pair.
    Fixed(usize),
    /// Per pair the smallest whose squared error on validation rows is at most [`AUTO_TOLERANCE`] (1%) above the best
    /// rank's, at the lambda that was chosen for the full map. Where two factors would hold no fewer numbers than the
    /// map, it is kept whole.
    Auto,
}

impl RankChoice {
    /// Checks that all pairs of a layout can have this rank. [`fit_pairs`](crate::fit_pairs) checks it too; this is for
    /// a check before statistics are collected.
    ///
    /// # Errors
    ///
    /// [`FitError::Rank`].
    pub fn check(self, layout: &Layout) -> Result<(), FitError> {
        let Self::Fixed(found) = self else {
            return Ok(());
        };
        let inputs = layout.pairs.iter().map(|pair| pair.source_layers.len());
        let narrowest = inputs.min().unwrap_or(0).saturating_mul(layout.source_hidden);
        let largest = narrowest.min(layout.target_hidden);
        if (1..=largest).contains(&found) {
            return Ok(());
        }
        Err(FitError::Rank { found, largest })
    }
}

/// How the rank of a pair is determined during a fit.
pub(crate) enum RankRule<'a> {
    /// Any.
    Full,
    /// This.
    Given(usize),
    /// Each pair's best on these validation rows.
    Best(&'a InputMoments<'a>),
}

/// A ridge solution as a sum of maps of rank 1, of which the first `r` are the best map of rank `r`.
pub(crate) struct Components {
    lambda: f64,
    /// `u_i`: of length 1, or 0 where nothing is left to explain, and orthogonal as far as they explain more than
    /// rounding. `[d_T, k]`, `k` the smaller of both sizes.
    left: Mat<f64>,
    /// `a_i`: `A = sum of u_i a_i^T`. `[d_in, k]`
    right: Mat<f64>,
}

impl Components {
    /// Decomposes the map of one pair of the solver's input.
    ///
    /// # Errors
    ///
    /// [`FitError::NotFinite`], [`FitError::Eigen`], of the input with these layers.
    pub fn of(solver: &Solver<'_>, whitened: Whitened, source_layers: &[usize]) -> Result<Self, FitError> {
        let Whitened { lambda, cross } = whitened;
        let by_input = cross.nrows() < cross.ncols();
        let square = if by_input {
            lower_product(cross.as_ref(), cross.transpose())
        } else {
            lower_product(cross.transpose(), cross.as_ref())
        };
        if !square
            .col_iter()
            .all(|column| column.iter().all(|value| value.is_finite()))
        {
            return Err(FitError::NotFinite {
                what: "the map",
                source_layers: source_layers.to_vec(),
            });
        }
        let Ok(eigen) = square.self_adjoint_eigen(Side::Lower) else {
            return Err(FitError::Eigen {
                what: "the fitted states",
                source_layers: source_layers.to_vec(),
            });
        };
        drop(square);
        // Ascending there.
        let vectors = eigen.U().reverse_cols().to_owned();
        drop(eigen);
        // F = sum of p_i u_i^T
        let (mut left, mut coordinates) = if by_input {
            let mut left = product(cross.transpose(), vectors.as_ref(), 1.0);
            let mut coordinates = vectors;
            normalise(&mut left, &mut coordinates);
            (left, coordinates)
        } else {
            let coordinates = product(cross.as_ref(), vectors.as_ref(), 1.0);
            (vectors, coordinates)
        };
        drop(cross);
        fix_signs(&mut left, &mut coordinates);
        Ok(Self {
            lambda,
            left,
            right: solver.unwhiten(coordinates, lambda),
        })
    }

    /// How many there are: the smaller of both sizes.
    pub fn count(&self) -> usize {
        self.left.ncols()
    }

    /// Sums of squared errors on held-out rows: of the train mean, of the map of rank 1, and so on to the whole one,
    /// none of them rounded. `input` and `target` are the moments of one pair.
    pub fn errors(
        &self,
        statistics: &Statistics,
        pair: usize,
        input: &InputMoments<'_>,
        target: &PairMoments<'_>,
    ) -> Vec<f64> {
        let (train, plan) = (statistics.train(), statistics.plan());
        let places = plan.pairs[pair];
        let n = input.count;
        let apart = |ours: &[f64], train: &[f64]| -> Vec<f64> { ours.iter().zip(train).map(|(a, b)| a - b).collect() };
        let input_shift = apart(&input.mean, &train.input_mean(&plan.inputs[places.input].sources));
        let target_shift = apart(&target.mean, &train.target_mean[places.target]);
        let (left, right) = (self.left.as_ref(), self.right.as_ref());
        let cross = product(target.cross(), left, 1.0);
        let linear = column_dots(right, cross.as_ref());
        drop(cross);
        let squares = quadratics(input.gram(), right);
        let truth = matvec(left.transpose(), &target_shift);
        let guess = matvec(right.transpose(), &input_shift);
        let total = target.squares.iter().sum::<f64>() + n * target_shift.iter().map(|s| s * s).sum::<f64>();
        let explained = (0..self.count())
            .map(|i| 2.0 * linear[i] - squares[i] + n * (2.0 * truth[i] * guess[i] - guess[i] * guess[i]));
        let mut error = total;
        let rest = explained.map(|explained| {
            error -= explained;
            error
        });
        std::iter::once(total).chain(rest).collect()
    }

    /// The map of this rank, rounded, as two factors.
    ///
    /// # Errors
    ///
    /// [`FitError::NotFinite`] if a weight doesn't fit in f32.
    pub fn truncate(
        &self,
        statistics: &Statistics,
        pair: usize,
        rank: usize,
        dtype: FloatDtype,
    ) -> Result<Solution, FitError> {
        let part = |factor: &Mat<f64>| factor.subcols(0, rank).to_owned();
        let (left, right) = (part(&self.left), part(&self.right));
        Solution::low_rank(statistics, pair, self.lambda, dtype, left, right)
    }

    /// The map of this rank, rounded, as two factors if they hold fewer numbers than the whole, else whole.
    ///
    /// # Errors
    ///
    /// [`FitError::NotFinite`] if a weight doesn't fit in f32.
    pub fn truncate_if_smaller(
        &self,
        statistics: &Statistics,
        pair: usize,
        rank: usize,
        dtype: FloatDtype,
    ) -> Result<Solution, FitError> {
        let (d, targets) = (self.right.nrows(), self.left.nrows());
        if rank * (d + targets) < d * targets {
            return self.truncate(statistics, pair, rank, dtype);
        }
        let (left, right) = (self.left.subcols(0, rank), self.right.subcols(0, rank));
        let weight = product(right, left.transpose(), 1.0);
        Solution::whole(statistics, pair, self.lambda, rank, dtype, weight)
    }
}

/// Moves the norms of `left`'s columns into those of `right`.
fn normalise(left: &mut Mat<f64>, right: &mut Mat<f64>) {
    for (mut left, mut right) in left.col_iter_mut().zip(right.col_iter_mut()) {
        let norm = left.norm_l2();
        let divisor = if norm > 0.0 { norm } else { 1.0 };
        left.as_mut().iter_mut().for_each(|value| *value /= divisor);
        right.as_mut().iter_mut().for_each(|value| *value *= norm);
    }
}

/// Makes the largest entry of each column of `left` positive, by the signs of both: which of two a decomposition gives
/// may depend on the machine.
fn fix_signs(left: &mut Mat<f64>, right: &mut Mat<f64>) {
    for (mut left, mut right) in left.col_iter_mut().zip(right.col_iter_mut()) {
        let larger = |a: f64, b: f64| if b.abs() > a.abs() { b } else { a };
        if left.as_ref().iter().copied().fold(0.0, larger) < 0.0 {
            left.as_mut().iter_mut().for_each(|value| *value = -*value);
            right.as_mut().iter_mut().for_each(|value| *value = -*value);
        }
    }
}

/// The smallest rank of 1 or more whose error is within [`AUTO_TOLERANCE`] of the best rank's; `errors` begin with rank
/// 0.
pub(crate) fn smallest_sufficient(errors: &[f64]) -> usize {
    let from_one = errors.get(1..).unwrap_or_default();
    let floor = errors.first().map_or(0.0, |total| total * ROUNDING);
    let best = from_one.iter().copied().fold(f64::INFINITY, f64::min).max(floor);
    let within = |error: &f64| *error <= best * (1.0 + AUTO_TOLERANCE);
    from_one
        .iter()
        .position(within)
        .map_or(from_one.len(), |place| place + 1)
}

/// The ranks whose quality is reported: 1, 2, 4, 8 and so on below `all`, `all`, and the chosen one. Ascending.
pub(crate) fn reported_ranks(chosen: usize, all: usize) -> Vec<usize> {
    let powers = std::iter::successors(Some(1usize), |rank| rank.checked_mul(2));
    let mut ranks: Vec<usize> = powers.take_while(|&rank| rank < all).chain([chosen, all]).collect();
    ranks.sort_unstable();
    ranks.dedup();
    ranks
}
