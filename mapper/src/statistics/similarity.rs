//! Whether two models' states have the same geometry.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par};

/// Fewest rows of states that can be compared: the unbiased estimate divides by `n - 3`.
const LEAST_ROWS: usize = 4;

/// Below this part of the states' sum of squares, what is left of their products is rounding.
const ROUNDING: f64 = 1e-12;

/// The inner products of a layer's states, centred for comparisons with other layers on the same positions.
///
/// A layer costs one product of its states, a pair of layers only an inner product of two triangles. Held are
/// `n (n - 1) / 2` products of n rows at norm 1, in f32: 2 n² bytes. Their rounding moves a CKA by less than 2e-7.
#[derive(Clone, Debug)]
pub struct Gram {
    /// Number of states.
    rows: usize,
    /// The centred products below the diagonal, column by column.
    products: Vec<f32>,
    /// Norm of `products` as they are held, near 1.
    norm: f64,
}

impl Gram {
    /// Takes the inner products of `states`: `[n, d]`, row by row. Needs up to `8 n d + 12 n²` bytes more while it
    /// runs.
    ///
    /// `None` for fewer than four rows, for a length that is not a multiple of the width, for states that are all the
    /// same or all equally far from each other, or if one is not finite.
    pub fn new(states: &[f32], d: usize) -> Option<Self> {
        // Products do not depend on the mean once they are centred, but their rounding does.
        let states = centred(states, d)?;
        let rows = states.nrows();
        if rows < LEAST_ROWS {
            return None;
        }
        let gram = symmetric(states.transpose());
        drop(states);
        let trace: f64 = gram.diagonal().column_vector().iter().sum();
        let mut centred = u_centred(gram.as_ref());
        drop(gram);
        let norm = dot(&centred, &centred).sqrt();
        if !trace.is_finite() || norm.is_nan() || norm <= ROUNDING * trace {
            return None;
        }
        // At norm 1 the products fit into f32, however large or small the states.
        centred.iter_mut().for_each(|product| *product /= norm);
        let products: Vec<f32> = centred.iter().map(|&product| product as f32).collect();
        let norm = dot(&products, &products).sqrt();
        Some(Self { rows, products, norm })
    }

    /// Debiased linear CKA of two layers' states `X: [n, dx]` and `Y: [n, dy]` on the same n positions, at most 1:
    ///
    /// ```text
    /// HSIC(X, Y) / sqrt(HSIC(X, X) HSIC(Y, Y))
    /// ```
    ///
    /// HSIC is the unbiased estimate of Song et al. 2012 ("Feature Selection via Dependence Maximization", equation 5),
    /// with `K` for `X X^T` and `L` for `Y Y^T`, both with a diagonal of 0:
    ///
    /// ```text
    /// (tr(K L) + sum(K) sum(L) / ((n - 1) (n - 2)) - 2 / (n - 2) sum(K L)) / (n (n - 3))
    /// ```
    ///
    /// CKA itself (Kornblith, Norouzi, Lee & Hinton 2019) is near 1 for any states that are wider than there are
    /// positions; this one (Nguyen, Raghu & Kornblith 2020) is near 0 for unrelated states, whatever the widths. It may
    /// be below 0. `None` if the numbers of rows differ.
    pub fn cka(&self, other: &Self) -> Option<f64> {
        if self.rows != other.rows {
            return None;
        }
        let cka = dot(&self.products, &other.products) / (self.norm * other.norm);
        // Only rounding can exceed these bounds.
        Some(cka.clamp(-1.0, 1.0))
    }
}

/// States less their mean, `[n, d]`; `None` if there are none, or if their length is not a multiple of `d`.
fn centred(states: &[f32], d: usize) -> Option<Mat<f64>> {
    if d == 0 || states.is_empty() || !states.len().is_multiple_of(d) {
        return None;
    }
    let n = states.len() / d;
    let mut means = vec![0f64; d];
    for row in states.chunks_exact(d) {
        for (mean, &value) in means.iter_mut().zip(row) {
            *mean += f64::from(value) / n as f64;
        }
    }
    // Constant dimensions become exactly 0, without the rounding of their mean.
    for (j, mean) in means.iter_mut().enumerate() {
        if states.iter().skip(j).step_by(d).all(|&value| value == states[j]) {
            *mean = f64::from(states[j]);
        }
    }
    Some(Mat::from_fn(n, d, |i, j| f64::from(states[i * d + j]) - means[j]))
}

/// The lower triangle of `M^T M`; zeros above.
fn symmetric(matrix: MatRef<'_, f64>) -> Mat<f64> {
    let (all, half) = (BlockStructure::Rectangular, BlockStructure::TriangularLower);
    let mut to = Mat::zeros(matrix.ncols(), matrix.ncols());
    let (left, right) = (matrix.transpose(), matrix);
    triangular::matmul(&mut to, half, Accum::Replace, left, all, right, all, 1.0, Par::rayon(0));
    to
}

/// What is below the diagonal of a symmetric matrix, column by column, with rows and columns that sum to 0 when the
/// diagonal is left out (the U-centring of Székely & Rizzo 2014, "Partial distance correlation with methods for
/// dissimilarities"). The inner product of two such triangles is the unbiased HSIC times `n (n - 3) / 2`. Reads the
/// lower triangle.
fn u_centred(gram: MatRef<'_, f64>) -> Vec<f64> {
    let n = gram.nrows();
    let mut sums = vec![0f64; n];
    for (j, column) in gram.col_iter().enumerate() {
        for (i, &product) in column.iter().enumerate().skip(j + 1) {
            sums[i] += product;
            sums[j] += product;
        }
    }
    let total: f64 = sums.iter().sum();
    let rows = n as f64;
    let shares: Vec<f64> = sums
        .iter()
        .map(|sum| (sum - total / (2.0 * (rows - 1.0))) / (rows - 2.0))
        .collect();
    let mut below = Vec::with_capacity(n * (n - 1) / 2);
    for (j, column) in gram.col_iter().enumerate() {
        let centred = |(product, share): (&f64, &f64)| product - share - shares[j];
        below.extend(column.iter().zip(&shares).skip(j + 1).map(centred));
    }
    below
}

/// Sum of products, in f64.
fn dot<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> f64 {
    // Eight sums side by side, which the compiler makes vectors of.
    let mut lanes = [0f64; 8];
    let (a_chunks, a_rest) = a.as_chunks::<8>();
    let (b_chunks, b_rest) = b.as_chunks::<8>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for (lane, (&a, &b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a.into() * b.into();
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(&a, &b)| a.into() * b.into()).sum();
    lanes.iter().sum::<f64>() + rest
}
