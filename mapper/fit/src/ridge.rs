//! Ridge regression from centred moments.
//!
//! With `G` the train rows' centred Gram matrix, `C` their centred cross products and `n` their number, the optimum is
//! `A^T = (G/n + lambda I)^-1 C/n` and `p = mean_y - A mean_x` (Hastie, Tibshirani & Friedman, "The Elements of
//! Statistical Learning", 3.4.1). With `G/n = Q S Q^T` and `B = Q^T C/n` it is `A^T = Q diag(f) B`, `f = 1/(s +
//! lambda)`, for any lambda; with lambda given, a Cholesky factorisation of `G/n + lambda I` costs a small part of
//! that. `Solver::of` decides.
//!
//! Both give a root `R` with `R R^T = G/n + lambda I`: the Cholesky factor, or `Q diag(1/sqrt(f))`. The solution is
//! taken in two steps, `F = R^-1 C/n` and `A^T = R^-T F`, since a low-rank map needs `F` (see `low_rank`).
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
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Accum, Mat, MatMut, MatRef, Par, Side};
use rayon::prelude::*;

use crate::FitError;
use crate::stats::held_out::InputMoments;
use crate::stats::{Precision, Statistics};

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
    pub(crate) fn check(self) -> Result<(), FitError> {
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
pub(crate) const PANEL: usize = 128;
/// The smallest penalty that is solved for by Cholesky, as a part of the largest eigenvalue: the root of f64's epsilon.
/// Half of the digits are left then, as many as the map's rounding to f32 keeps.
const SMALLEST: f64 = 1.5e-8;

/// An input's covariance on train rows, decomposed once for all its pairs.
pub(crate) enum Solver<'a> {
    /// For one lambda.
    Cholesky(Cholesky),
    /// For any, 0 included.
    Eigen(Box<Spectrum>, Penalty<'a>),
}

/// How lambda is determined during a fit.
pub(crate) enum Penalty<'a> {
    /// This.
    Given(f64),
    /// Each pair's best on validation rows.
    Best(Box<Validation<'a>>),
}

impl<'a> Solver<'a> {
    /// Decomposes. By Cholesky if lambda is given, unless `G/n + lambda I` is too near to singular for it.
    ///
    /// # Errors
    ///
    /// [`FitError::NotFinite`], [`FitError::Eigen`].
    pub fn of(statistics: &'a Statistics, input: usize, choice: RidgeChoice) -> Result<Self, FitError> {
        let gram = &statistics.train().gram[input];
        if !gram.values().iter().all(|value| value.is_finite()) {
            return Err(FitError::NotFinite {
                what: "the Gram matrix",
                source_layers: statistics.plan().inputs[input].layers.clone(),
            });
        }
        let RidgeChoice::Fixed(lambda) = choice else {
            let spectrum = Spectrum::of(statistics, input)?;
            let validation = Validation::of(statistics, input, &spectrum);
            return Ok(Self::Eigen(Box::new(spectrum), Penalty::Best(Box::new(validation))));
        };
        let count = statistics.train().count;
        Ok(match Cholesky::of(gram.view(), count, statistics.precision(), lambda) {
            Some(cholesky) => Self::Cholesky(cholesky),
            None => Self::Eigen(Box::new(Spectrum::of(statistics, input)?), Penalty::Given(lambda)),
        })
    }

    /// Directions of the input that are solved for: all by Cholesky, else those with an eigenvalue above the cut-off.
    pub fn rank(&self) -> usize {
        match self {
            Self::Cholesky(cholesky) => cholesky.factor.nrows(),
            Self::Eigen(spectrum, _) => spectrum.rank(),
        }
    }

    /// The validation rows' moments, if lambda is chosen on them.
    pub fn validation(&self) -> Option<&InputMoments<'a>> {
        match self {
            Self::Eigen(_, Penalty::Best(validation)) => Some(&validation.moments),
            _ => None,
        }
    }

    /// `F` of one pair of this input, and its lambda.
    pub fn whiten(&self, statistics: &Statistics, pair: usize) -> Whitened {
        let train = statistics.train();
        let cross = train.cross[pair].view();
        match self {
            Self::Cholesky(cholesky) => Whitened {
                lambda: cholesky.lambda,
                cross: cholesky.whiten(cross, train.count),
            },
            Self::Eigen(spectrum, penalty) => {
                let rotated = spectrum.rotate(cross, train.count);
                let lambda = match penalty {
                    Penalty::Given(lambda) => *lambda,
                    Penalty::Best(validation) => validation.choose(statistics, pair, spectrum, rotated.as_ref()),
                };
                Whitened {
                    lambda,
                    cross: spectrum.whiten(rotated, lambda),
                }
            }
        }
    }

    /// `R^-T` times columns of whitened coordinates: `A^T` of `F`, not rounded.
    pub fn unwhiten(&self, columns: Mat<f64>, lambda: f64) -> Mat<f64> {
        match self {
            Self::Cholesky(cholesky) => cholesky.unwhiten(columns),
            Self::Eigen(spectrum, _) => spectrum.unwhiten(columns, lambda),
        }
    }
}

/// A pair's cross products in coordinates in which the penalised covariance of the input is the identity.
pub(crate) struct Whitened {
    pub lambda: f64,
    /// `F = R^-1 C/n`, `[d_in, d_T]`
    pub cross: Mat<f64>,
}

/// The part of a covariance's largest eigenvalue that its own error may be as large as, by the bound or the estimate
/// of the precision's rounding.
fn relative_error(precision: Precision, d: usize) -> f64 {
    let (d, epsilon) = (d as f64, precision.epsilon());
    match precision {
        // The bound of the decomposition's own rounding, as in numpy's `matrix_rank`.
        Precision::F64 => d * epsilon,
        // The spectral norm of independent errors of an epsilon in each entry (Wigner) is of this size.
        Precision::F32 => d.sqrt() * epsilon,
    }
}

/// `L L^T = G/n + lambda I`
pub(crate) struct Cholesky {
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

    /// `L^-1 C/n` of cross products.
    pub fn whiten(&self, cross: MatRef<'_, f64>, count: u64) -> Mat<f64> {
        let n = count as f64;
        let mut whitened = cross.to_owned();
        // Columns are solved for apart: no thread waits for another.
        whitened.par_col_chunks_mut(PANEL).for_each(|mut part| {
            let values = part.as_mut().col_iter_mut().flat_map(|column| column.iter_mut());
            values.for_each(|value| *value /= n);
            solve_lower_triangular_in_place(self.factor.as_ref(), part, Par::Seq);
        });
        whitened
    }

    /// `L^-T` times columns.
    pub fn unwhiten(&self, mut columns: Mat<f64>) -> Mat<f64> {
        columns
            .par_col_chunks_mut(PANEL)
            .for_each(|part| solve_upper_triangular_in_place(self.factor.transpose(), part, Par::Seq));
        columns
    }
}

/// The eigendecomposition of an input's covariance on train rows.
pub(crate) struct Spectrum {
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
        let (train, input_plan) = (statistics.train(), &statistics.plan().inputs[input]);
        let Ok(eigen) = train.gram[input].view().self_adjoint_eigen(Side::Lower) else {
            return Err(FitError::Eigen {
                what: "the states",
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
    pub(crate) fn rotate(&self, cross: MatRef<'_, f64>, count: u64) -> Mat<f64> {
        product(self.vectors().transpose(), cross, 1.0 / count as f64)
    }

    /// `diag(sqrt(f)) B`
    pub fn whiten(&self, rotated: Mat<f64>, lambda: f64) -> Mat<f64> {
        self.scale(rotated, lambda)
    }

    /// `Q diag(sqrt(f))` times columns.
    pub fn unwhiten(&self, columns: Mat<f64>, lambda: f64) -> Mat<f64> {
        product(self.vectors(), self.scale(columns, lambda).as_ref(), 1.0)
    }

    /// `diag(sqrt(f))` times columns.
    fn scale(&self, mut columns: Mat<f64>, lambda: f64) -> Mat<f64> {
        let roots: Vec<f64> = self.factors(lambda).into_iter().map(f64::sqrt).collect();
        for column in columns.col_iter_mut() {
            column.iter_mut().zip(&roots).for_each(|(value, root)| *value *= root);
        }
        columns
    }
}

/// The validation rows' moments in the eigenbasis of an input.
pub(crate) struct Validation<'a> {
    moments: InputMoments<'a>,
    /// `Q^T G' Q`; the lower triangle alone. `[d_in, d_in]`
    rotated_gram: Mat<f64>,
    /// `Q^T (mean_x' - mean_x)`, `[d_in]`
    rotated_shift: Vec<f64>,
}

impl<'a> Validation<'a> {
    /// Rotates.
    pub fn of(statistics: &'a Statistics, input: usize, spectrum: &Spectrum) -> Self {
        let validation = statistics.validation().input(statistics.plan(), input);
        let shift: Vec<f64> = validation
            .mean
            .iter()
            .zip(&spectrum.mean)
            .map(|(ours, train)| ours - train)
            .collect();
        let rotated_shift = matvec(spectrum.vectors().transpose(), &shift);
        let half = product(mirrored(validation.gram()).as_ref(), spectrum.vectors(), 1.0);
        let mut rotated_gram = lower_product(spectrum.vectors().transpose(), half.as_ref());
        let n = validation.count;
        for (k, column) in rotated_gram.col_iter_mut().enumerate() {
            let factor = n * rotated_shift[k];
            column
                .iter_mut()
                .zip(&rotated_shift)
                .skip(k)
                .for_each(|(value, shift)| *value += factor * shift);
        }
        Self {
            moments: validation,
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
    pub(crate) fn errors(
        &self,
        statistics: &Statistics,
        pair: usize,
        spectrum: &Spectrum,
        rotated: MatRef<'_, f64>,
    ) -> Vec<(f64, f64)> {
        let (train, validation) = (statistics.train(), self.moments.pair(pair));
        let (n, target) = (self.moments.count, statistics.plan().pairs[pair].target);
        let shift: Vec<f64> = validation
            .mean
            .iter()
            .zip(&train.target_mean[target])
            .map(|(ours, train)| ours - train)
            .collect();
        let total: f64 = validation
            .squares
            .iter()
            .zip(&shift)
            .map(|(squares, shift)| squares + n * shift * shift)
            .sum();
        // c = diag(Q^T C' B^T), the recentring's part added by itself.
        let rotated_cross = product(spectrum.vectors().transpose(), validation.cross(), 1.0);
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
pub(crate) fn product(left: MatRef<'_, f64>, right: MatRef<'_, f64>, factor: f64) -> Mat<f64> {
    let mut to = Mat::zeros(left.nrows(), right.ncols());
    matmul(&mut to, Accum::Replace, left, right, factor, Par::rayon(0));
    to
}

/// The lower triangle of `left right`; zeros above.
pub(crate) fn lower_product(left: MatRef<'_, f64>, right: MatRef<'_, f64>) -> Mat<f64> {
    let (all, half) = (BlockStructure::Rectangular, BlockStructure::TriangularLower);
    let mut to = Mat::zeros(left.nrows(), right.ncols());
    triangular::matmul(&mut to, half, Accum::Replace, left, all, right, all, 1.0, Par::rayon(0));
    to
}

/// `matrix vector`
pub(crate) fn matvec(matrix: MatRef<'_, f64>, vector: &[f64]) -> Vec<f64> {
    let mut to = vec![0.0; matrix.nrows()];
    let rows = to.len();
    let out = MatMut::from_column_major_slice_mut(to.as_mut_slice(), rows, 1);
    let vector = MatRef::from_column_major_slice(vector, vector.len(), 1);
    matmul(out, Accum::Replace, matrix, vector, 1.0, Par::rayon(0));
    to
}
