//! Ridge regression from centred moments.
//!
//! With `G` the train rows' centred Gram matrix, `C` their centred cross products and `n` their number, the optimum is
//! `A^T = (G/n + lambda I)^-1 C/n` and `p = mean_y - A mean_x` (Hastie, Tibshirani & Friedman, "The Elements of
//! Statistical Learning", 3.4.1). With `G/n = Q S Q^T` and `B = Q^T C/n` it is `A^T = Q diag(f) B`, `f = 1/(s + lambda)`,
//! for any lambda; with lambda given, a Cholesky factorisation of `G/n + lambda I` costs a small part of that.
//! `Solver::of` decides.
//!
//! The error on other rows needs no solution either. With their moments `G', C'` and squares `t'` about the *train*
//! means,
//!
//! ```text
//! sum ||y - A x - p||^2 = t' - 2 tr(A C') + tr(A G' A^T) = t' - 2 f.c + f^T M f
//! c = diag(Q^T C' B^T)        M = (B B^T) o (Q^T G' Q)        (o: entry by entry)
//! ```

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt;
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::linalg::solvers::SelfAdjointEigen;
use faer::{Accum, Mat, MatMut, MatRef, Par, Side};
use nalgebra::DMatrix;
use rayon::prelude::*;

use super::FitError;
use crate::stats::{Precision, Split, Statistics};

/// How lambda is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RidgeChoice {
    /// The best on validation rows of 0 and `r * trace(G/n) / d` for `r` in half decades from 1e-9 to 10.
    #[default]
    Auto,
    /// This one; 0 for plain least squares.
    Fixed(f64),
}

impl RidgeChoice {
    pub(super) fn check(self) -> Result<(), FitError> {
        match self {
            Self::Fixed(found) if !(found.is_finite() && found >= 0.0) => Err(FitError::Lambda { found }),
            _ => Ok(()),
        }
    }
}

/// The candidates of [`RidgeChoice::Auto`], largest first, in units of the mean eigenvalue.
fn grid() -> impl Iterator<Item = f64> {
    (0..=20)
        .map(|half_decades| 10f64.powf(1.0 - f64::from(half_decades) / 2.0))
        .chain([0.0])
}

/// Dimensions of the target that a thread solves for, or measures, at a time.
pub(super) const PANEL: usize = 128;
/// The smallest penalty that is solved for by Cholesky, as a part of the largest eigenvalue: the root of f64's epsilon.
/// Half of the digits are left then, as many as the map's rounding to f32 keeps.
const SMALLEST: f64 = 1.5e-8;

/// An input's covariance on train rows, decomposed once for all its pairs.
pub(super) enum Solver {
    /// For one lambda.
    Cholesky(Cholesky),
    /// For any, 0 included.
    Eigen(Spectrum, Penalty),
}

/// What lambda is once there is a spectrum.
pub(super) enum Penalty {
    /// This.
    Given(f64),
    /// Each pair's best on validation rows.
    Best(Validation),
}

impl Solver {
    /// Decomposes. By Cholesky if lambda is given, unless `G/n + lambda I` is too near to singular for it.
    ///
    /// # Errors
    ///
    /// [`FitError::NotFinite`], [`FitError::Eigen`].
    pub fn of(statistics: &Statistics, input: usize, choice: RidgeChoice) -> Result<Self, FitError> {
        let gram = &statistics.moments(Split::Train).gram[input];
        if !gram.values().iter().all(|value| value.is_finite()) {
            return Err(FitError::NotFinite {
                what: "the Gram matrix",
                source_layers: statistics.plan().inputs[input].layers.clone(),
            });
        }
        let RidgeChoice::Fixed(lambda) = choice else {
            let spectrum = Spectrum::of(statistics, input)?;
            let validation = Validation::of(statistics, input, &spectrum);
            return Ok(Self::Eigen(spectrum, Penalty::Best(validation)));
        };
        let count = statistics.moments(Split::Train).count;
        Ok(match Cholesky::of(gram.view(), count, statistics.precision(), lambda) {
            Some(cholesky) => Self::Cholesky(cholesky),
            None => Self::Eigen(Spectrum::of(statistics, input)?, Penalty::Given(lambda)),
        })
    }

    /// Directions of the input that are solved for: all by Cholesky, else those with an eigenvalue above the cut-off.
    pub fn rank(&self) -> usize {
        match self {
            Self::Cholesky(cholesky) => cholesky.factor.nrows(),
            Self::Eigen(spectrum, _) => spectrum.rank(),
        }
    }

    /// The map of one pair of this input.
    ///
    /// # Errors
    ///
    /// [`FitError::NotFinite`] if a weight doesn't fit in f32.
    pub fn solve(&self, statistics: &Statistics, pair: usize) -> Result<Solution, FitError> {
        let train = statistics.moments(Split::Train);
        let cross = train.cross[pair].view();
        let (lambda, mut weight) = match self {
            Self::Cholesky(cholesky) => (cholesky.lambda, cholesky.weight(cross, train.count)),
            Self::Eigen(spectrum, penalty) => {
                let rotated = spectrum.rotate(cross, train.count);
                let lambda = match penalty {
                    Penalty::Given(lambda) => *lambda,
                    Penalty::Best(validation) => validation.choose(statistics, pair, spectrum, rotated.as_ref()),
                };
                (lambda, spectrum.weight(rotated, lambda))
            }
        };
        // Rounded here, so that the intercept and all measures are those of the map that is written.
        for column in weight.col_iter_mut() {
            column.iter_mut().for_each(|value| *value = f64::from(*value as f32));
        }
        let places = statistics.plan().pairs[pair];
        let input = &statistics.plan().inputs[places.input];
        let shift = matvec(weight.transpose(), &train.input_mean(&input.sources));
        let bias: Vec<f32> = train.target_mean[places.target]
            .iter()
            .zip(&shift)
            .map(|(mean, shift)| (mean - shift) as f32)
            .collect();
        let finite = weight
            .col_iter()
            .all(|column| column.iter().all(|value| value.is_finite()));
        if !finite || !bias.iter().all(|value| value.is_finite()) {
            return Err(FitError::NotFinite {
                what: "the map",
                source_layers: input.layers.clone(),
            });
        }
        Ok(Solution { lambda, weight, bias })
    }
}

/// The part of a covariance's largest eigenvalue that its own error may be as large as, by the bound or the estimate
/// of the precision's rounding.
fn relative_error(precision: Precision, d: usize) -> f64 {
    let (d, epsilon) = (d as f64, precision.epsilon());
    match precision {
        // The bound of the decomposition's own rounding, as numpy's `matrix_rank` has it.
        Precision::F64 => d * epsilon,
        // The spectral norm of independent errors of an epsilon in each entry (Wigner) is of this size.
        Precision::F32 => d.sqrt() * epsilon,
    }
}

/// `L L^T = G/n + lambda I`
pub(super) struct Cholesky {
    lambda: f64,
    /// `L`; what is above the diagonal is never read. `[d_in, d_in]`
    factor: Mat<f64>,
}

impl Cholesky {
    /// Factorises, given `G`'s lower triangle; `None` if the result is not to be trusted, as with lambda 0.
    pub fn of(gram: MatRef<'_, f64>, count: u64, precision: Precision, lambda: f64) -> Option<Self> {
        let mut factor = gram.to_owned();
        let (d, n) = (factor.nrows(), count as f64);
        let mut squares = 0.0;
        for (k, column) in factor.col_iter_mut().enumerate() {
            for (i, value) in column.iter_mut().enumerate().skip(k) {
                *value /= n;
                squares += *value * *value * if i == k { 1.0 } else { 2.0 };
            }
        }
        // No eigenvalue is larger than the Frobenius norm, and none of the sum is smaller than lambda less the
        // covariance's error, which has to be the smaller of the two.
        let largest = squares.sqrt();
        if lambda <= largest * SMALLEST.max(relative_error(precision, d)) {
            return None;
        }
        (0..d).for_each(|k| factor[(k, k)] += lambda);
        let mut memory = MemBuffer::new(llt::factor::cholesky_in_place_scratch::<f64>(
            d,
            Par::rayon(0),
            Default::default(),
        ));
        llt::factor::cholesky_in_place(
            factor.as_mut(),
            Default::default(),
            Par::rayon(0),
            MemStack::new(&mut memory),
            Default::default(),
        )
        .ok()?;
        // Of a covariance without error, each squared pivot is lambda at least.
        let sound = |k: usize| factor[(k, k)] * factor[(k, k)] > 0.5 * lambda;
        (0..d).all(sound).then_some(Self { lambda, factor })
    }

    /// `A^T` of cross products, not rounded.
    pub fn weight(&self, cross: MatRef<'_, f64>, count: u64) -> Mat<f64> {
        let n = count as f64;
        let mut weight = cross.to_owned();
        // Columns are solved for apart: no thread waits for another.
        weight.par_col_chunks_mut(PANEL).for_each(|mut part| {
            let values = part.as_mut().col_iter_mut().flat_map(|column| column.iter_mut());
            values.for_each(|value| *value /= n);
            // The solve needs no memory of its own.
            llt::solve::solve_in_place(self.factor.as_ref(), part, Par::Seq, MemStack::new(&mut []));
        });
        weight
    }
}

/// The eigendecomposition of an input's covariance on train rows.
pub(super) struct Spectrum {
    /// Eigenvalues of `G/n`, ascending, none below 0.
    values: Vec<f64>,
    /// Of `G`.
    eigen: SelfAdjointEigen<f64>,
    /// Eigenvalues up to this can't be told from 0.
    cutoff: f64,
    /// Mean of the rows. `[d_in]`
    mean: Vec<f64>,
}

impl Spectrum {
    /// Decomposes a covariance that is finite.
    ///
    /// # Errors
    ///
    /// [`FitError::Eigen`].
    pub fn of(statistics: &Statistics, input: usize) -> Result<Self, FitError> {
        let (train, input_plan) = (statistics.moments(Split::Train), &statistics.plan().inputs[input]);
        let Ok(eigen) = train.gram[input].view().self_adjoint_eigen(Side::Lower) else {
            return Err(FitError::Eigen {
                source_layers: input_plan.layers.clone(),
            });
        };
        let n = train.count as f64;
        let values: Vec<f64> = eigen
            .S()
            .column_vector()
            .iter()
            .map(|value| value.max(0.0) / n)
            .collect();
        let largest = values.last().copied().unwrap_or(0.0);
        Ok(Self {
            cutoff: largest * relative_error(statistics.precision(), values.len()),
            values,
            eigen,
            mean: train.input_mean(&input_plan.sources),
        })
    }

    /// The eigenvectors, column by column. `[d_in, d_in]`
    fn vectors(&self) -> MatRef<'_, f64> {
        self.eigen.U()
    }

    /// Number of eigenvalues above the cut-off.
    pub fn rank(&self) -> usize {
        self.values.iter().filter(|&&value| value > self.cutoff).count()
    }

    /// `f`: what each eigendirection is divided by. With lambda 0, directions without variance get nothing, which is
    /// the solution of minimum norm (numpy's `lstsq`).
    fn factors(&self, lambda: f64) -> Vec<f64> {
        let factor = |&value: &f64| {
            if lambda > 0.0 || value > self.cutoff {
                1.0 / (value + lambda)
            } else {
                0.0
            }
        };
        self.values.iter().map(factor).collect()
    }

    /// `B` of cross products.
    pub(super) fn rotate(&self, cross: MatRef<'_, f64>, count: u64) -> Mat<f64> {
        product(self.vectors().transpose(), cross, 1.0 / count as f64)
    }

    /// `A^T` of `B`, not rounded.
    pub fn weight(&self, mut rotated: Mat<f64>, lambda: f64) -> Mat<f64> {
        let factors = self.factors(lambda);
        for column in rotated.col_iter_mut() {
            column
                .iter_mut()
                .zip(&factors)
                .for_each(|(value, factor)| *value *= factor);
        }
        product(self.vectors(), rotated.as_ref(), 1.0)
    }
}

/// A fitted map.
pub(super) struct Solution {
    pub lambda: f64,
    /// `A^T`, `[d_in, d_T]`, of f32 values.
    pub weight: Mat<f64>,
    /// `p`, `[d_T]`.
    pub bias: Vec<f32>,
}

impl Solution {
    /// `A` as nalgebra's.
    pub fn weight_f32(&self) -> DMatrix<f32> {
        /// Columns that are written side by side: what is read of each row then fills a line of the cache.
        const COLUMNS: usize = 16;
        let (d, targets) = (self.weight.nrows(), self.weight.ncols());
        let mut values = vec![0f32; d * targets];
        for (part, columns) in values.chunks_mut(COLUMNS * targets).enumerate() {
            let rows = self.weight.subrows(part * COLUMNS, columns.len() / targets);
            for (j, column) in rows.col_iter().enumerate() {
                for (to, &value) in columns.iter_mut().skip(j).step_by(targets).zip(column.iter()) {
                    *to = value as f32;
                }
            }
        }
        DMatrix::from_vec(targets, d, values)
    }
}

/// The validation rows' moments in the eigenbasis of an input.
pub(super) struct Validation {
    /// `Q^T G' Q`; the lower triangle alone. `[d_in, d_in]`
    rotated_gram: Mat<f64>,
    /// `Q^T (mean_x' - mean_x)`, `[d_in]`
    rotated_shift: Vec<f64>,
}

impl Validation {
    /// Rotates.
    pub fn of(statistics: &Statistics, input: usize, spectrum: &Spectrum) -> Self {
        let validation = statistics.moments(Split::Validation);
        let mean = validation.input_mean(&statistics.plan().inputs[input].sources);
        let shift: Vec<f64> = mean
            .iter()
            .zip(&spectrum.mean)
            .map(|(ours, train)| ours - train)
            .collect();
        let rotated_shift = matvec(spectrum.vectors().transpose(), &shift);
        let half = product(
            mirrored(validation.gram[input].view()).as_ref(),
            spectrum.vectors(),
            1.0,
        );
        let mut rotated_gram = lower_product(spectrum.vectors().transpose(), half.as_ref());
        let n = validation.count as f64;
        for (k, column) in rotated_gram.col_iter_mut().enumerate() {
            let factor = n * rotated_shift[k];
            column
                .iter_mut()
                .zip(&rotated_shift)
                .skip(k)
                .for_each(|(value, shift)| *value += factor * shift);
        }
        Self {
            rotated_gram,
            rotated_shift,
        }
    }

    /// The lambda of the grid with the smallest error; of equal ones the largest. `rotated` is `B`.
    fn choose(&self, statistics: &Statistics, pair: usize, spectrum: &Spectrum, rotated: MatRef<'_, f64>) -> f64 {
        let mut best = (0.0, f64::INFINITY);
        for (lambda, error) in self.errors(statistics, pair, spectrum, rotated) {
            if error < best.1 {
                best = (lambda, error);
            }
        }
        best.0
    }

    /// Every lambda of the grid, largest first, with the sum of its squared errors on validation rows.
    pub(super) fn errors(
        &self,
        statistics: &Statistics,
        pair: usize,
        spectrum: &Spectrum,
        rotated: MatRef<'_, f64>,
    ) -> Vec<(f64, f64)> {
        let (train, validation) = (statistics.moments(Split::Train), statistics.moments(Split::Validation));
        let (n, target) = (validation.count as f64, statistics.plan().pairs[pair].target);
        let shift: Vec<f64> = validation.target_mean[target]
            .iter()
            .zip(&train.target_mean[target])
            .map(|(ours, train)| ours - train)
            .collect();
        let total: f64 = validation.target_squares[target]
            .iter()
            .zip(&shift)
            .map(|(squares, shift)| squares + n * shift * shift)
            .sum();
        // c = diag(Q^T C' B^T), the recentring's part added by itself.
        let rotated_cross = product(spectrum.vectors().transpose(), validation.cross[pair].view(), 1.0);
        let mut c = vec![0.0; spectrum.values.len()];
        for (ours, train) in rotated_cross.col_iter().zip(rotated.col_iter()) {
            let products = ours.iter().zip(train.iter()).map(|(a, b)| a * b);
            c.iter_mut().zip(products).for_each(|(c, product)| *c += product);
        }
        let along_shift = matvec(rotated, &shift);
        for ((c, x), y) in c.iter_mut().zip(&self.rotated_shift).zip(&along_shift) {
            *c += n * x * y;
        }
        let mut m = lower_product(rotated, rotated.transpose());
        for (column, gram) in m.col_iter_mut().zip(self.rotated_gram.col_iter()) {
            column.iter_mut().zip(gram.iter()).for_each(|(m, gram)| *m *= gram);
        }
        let d = spectrum.values.len() as f64;
        let unit = spectrum.values.iter().sum::<f64>() / d;
        let error = |lambda: f64| {
            let factors = spectrum.factors(lambda);
            let linear: f64 = c.iter().zip(&factors).map(|(c, f)| c * f).sum();
            total - 2.0 * linear + quadratic(m.as_ref(), &factors)
        };
        grid()
            .map(|ratio| ratio * unit)
            .map(|lambda| (lambda, error(lambda)))
            .collect()
    }
}

/// `f^T M f` of a symmetric matrix whose lower triangle is given.
fn quadratic(lower: MatRef<'_, f64>, f: &[f64]) -> f64 {
    let mut sum = 0.0;
    for (k, column) in lower.col_iter().enumerate() {
        let below: f64 = column.iter().zip(f).skip(k + 1).map(|(m, f)| m * f).sum();
        sum += f[k] * (lower[(k, k)] * f[k] + 2.0 * below);
    }
    sum
}

/// A symmetric matrix whole, from its lower triangle.
fn mirrored(lower: MatRef<'_, f64>) -> Mat<f64> {
    Mat::from_fn(lower.nrows(), lower.ncols(), |i, j| lower[(i.max(j), i.min(j))])
}

/// `factor * left right`
pub(super) fn product(left: MatRef<'_, f64>, right: MatRef<'_, f64>, factor: f64) -> Mat<f64> {
    let mut to = Mat::zeros(left.nrows(), right.ncols());
    matmul(&mut to, Accum::Replace, left, right, factor, Par::rayon(0));
    to
}

/// The lower triangle of `left right`; zeros above.
fn lower_product(left: MatRef<'_, f64>, right: MatRef<'_, f64>) -> Mat<f64> {
    let (all, half) = (BlockStructure::Rectangular, BlockStructure::TriangularLower);
    let mut to = Mat::zeros(left.nrows(), right.ncols());
    triangular::matmul(&mut to, half, Accum::Replace, left, all, right, all, 1.0, Par::rayon(0));
    to
}

/// `matrix vector`
pub(super) fn matvec(matrix: MatRef<'_, f64>, vector: &[f64]) -> Vec<f64> {
    let mut to = vec![0.0; matrix.nrows()];
    let rows = to.len();
    let out = MatMut::from_column_major_slice_mut(to.as_mut_slice(), rows, 1);
    let vector = MatRef::from_column_major_slice(vector, vector.len(), 1);
    matmul(out, Accum::Replace, matrix, vector, 1.0, Par::rayon(0));
    to
}
