//! Products of columns that several measures need.

use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

use crate::ridge::PANEL;

/// `a G a^T` of each column `a^T` of `columns`; `lower` is `G`'s lower triangle. With `L` that triangle and `D` the
/// diagonal it is `2 a L a^T - a D a^T`, which takes half the work of a product with the whole matrix.
pub(crate) fn quadratics(lower: MatRef<'_, f64>, columns: MatRef<'_, f64>) -> Vec<f64> {
    let (all, half) = (BlockStructure::Rectangular, BlockStructure::TriangularLower);
    let diagonal: Vec<f64> = lower.diagonal().column_vector().iter().copied().collect();
    let panel = |start: usize| {
        let part = columns.subcols(start, PANEL.min(columns.ncols() - start));
        let mut product = Mat::zeros(part.nrows(), part.ncols());
        triangular::matmul(&mut product, all, Accum::Replace, lower, half, part, all, 2.0, Par::Seq);
        for (product, column) in product.col_iter_mut().zip(part.col_iter()) {
            let pairs = product.iter_mut().zip(column.iter().zip(&diagonal));
            pairs.for_each(|(product, (value, diagonal))| *product -= diagonal * value);
        }
        column_dots(product.as_ref(), part)
    };
    let starts: Vec<usize> = (0..columns.ncols()).step_by(PANEL).collect();
    starts.into_par_iter().flat_map_iter(panel).collect()
}

/// The dot product of each column of `a` with that of `b`.
pub(crate) fn column_dots(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Vec<f64> {
    let dot = |(a, b): (faer::ColRef<'_, f64>, faer::ColRef<'_, f64>)| a.iter().zip(b.iter()).map(|(a, b)| a * b).sum();
    a.col_iter().zip(b.col_iter()).map(dot).collect()
}
