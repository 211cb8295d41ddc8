//! The first principal component of few rows of many values.

use faer::{Mat, MatRef, Side};

use crate::ExtractError;
use crate::error::ensure;

/// The direction in which rows (already centred as they are meant to be) have the most squared length, at norm 1, of
/// either sign: the first right singular vector. `rows` is `[n, d]`; the answer `[d]`. Found from the smaller of the Gram
/// matrix `R R^T` and `R^T R`.
///
/// # Errors
///
/// Rows that are all 0, up to rounding; an eigenvalue iteration that does not converge.
pub fn first_component(rows: &Mat<f64>) -> Result<Vec<f64>, ExtractError> {
    let (n, d) = (rows.nrows(), rows.ncols());
    let size = rows.norm_max();
    ensure!(
        size > 0.0,
        "the states' differences are all the same: they have no principal component"
    );
    // So that no square is too large or too small for f64.
    let rows = Mat::from_fn(n, d, |i, j| rows[(i, j)] / size);
    let (tall, wide) = (rows.as_ref(), rows.transpose());
    let component = if n < d {
        let weights = last_eigenvector(tall * wide)?;
        wide * weights
    } else {
        last_eigenvector(wide * tall)?
    };
    let norm = component.norm_l2();
    ensure!(norm > 0.0, "the states' differences have no principal component");
    Ok(component.col(0).iter().map(|value| value / norm).collect())
}

/// The eigenvector of the largest eigenvalue of a symmetric matrix, as a column.
fn last_eigenvector(matrix: Mat<f64>) -> Result<Mat<f64>, ExtractError> {
    let eigen = matrix.self_adjoint_eigen(Side::Lower);
    let unconverged = |_| ExtractError::Input("the eigendecomposition of the states did not converge".to_string());
    let eigen = eigen.map_err(unconverged)?;
    let vectors: MatRef<'_, f64> = eigen.U();
    // Eigenvalues ascend.
    Ok(vectors.subcols(matrix.ncols() - 1, 1).to_owned())
}
