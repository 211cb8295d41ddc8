//! The first principal component of a few long rows.

use faer::{ColRef, Mat, MatRef, Side};

use crate::ExtractError;
use crate::error::ensure;

/// Rows minus their mean. A column that is constant becomes exactly 0, without rounding errors.
pub(crate) fn centred(rows: &Mat<f64>) -> Mat<f64> {
    let mean = |column: ColRef<'_, f64>| {
        if column.iter().all(|value| *value == column[0]) {
            column[0]
        } else {
            column.iter().sum::<f64>() / column.nrows() as f64
        }
    };
    let means: Vec<f64> = rows.col_iter().map(mean).collect();
    Mat::from_fn(rows.nrows(), rows.ncols(), |i, j| rows[(i, j)] - means[j])
}

/// The direction along which rows (already centred by the caller) have the largest sum of squares: the first right
/// singular vector, with norm 1 and arbitrary sign. `rows` is `[n, d]`; the result is `[d]`. Computed from the smaller
/// of the Gram matrices `R R^T` and `R^T R`.
///
/// # Errors
///
/// All rows are 0, up to rounding, or the eigenvalue iteration does not converge.
pub fn first_component(rows: &Mat<f64>) -> Result<Vec<f64>, ExtractError> {
    let (n, d) = (rows.nrows(), rows.ncols());
    let size = rows.norm_max();
    ensure!(
        size > 0.0,
        "the states' differences are all the same: they have no principal component"
    );
    // Scaled so that squares neither overflow nor underflow.
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
    // Eigenvalues are ascending.
    Ok(vectors.subcols(matrix.ncols() - 1, 1).to_owned())
}
