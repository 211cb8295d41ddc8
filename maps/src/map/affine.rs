//! The map of one pair of layers: `h_T ~ A h_S + p`.

use nalgebra::{DMatrix, DVector};

use crate::error::Problem;
use crate::tensors;

/// An affine map from the source's residual stream (or several of its layers, concatenated) to the target's.
#[derive(Debug, Clone, PartialEq)]
pub struct AffineMap {
    /// `A`: `[hidden_T, number of source layers * hidden_S]`.
    pub weight: DMatrix<f32>,
    /// `p`: `[hidden_T]`.
    pub bias: DVector<f32>,
}

impl AffineMap {
    /// `A v`, each sum taken in `f64`: `[columns of weight] -> [rows of weight]`. How a difference of states moves.
    ///
    /// # Panics
    ///
    /// If `v` hasn't as many values as `weight` has columns.
    pub fn linear(&self, v: &[f32]) -> Vec<f32> {
        narrow(self.product(v))
    }

    /// `A v + p`, each sum taken in `f64`: `[columns of weight] -> [rows of weight]`. How a state moves.
    ///
    /// # Panics
    ///
    /// If `v` hasn't as many values as `weight` has columns, or `bias` not as many as `weight` has rows.
    pub fn affine(&self, v: &[f32]) -> Vec<f32> {
        let (rows, values) = (self.weight.nrows(), self.bias.len());
        assert_eq!(values, rows, "a bias of {values} values for a weight of {rows} rows");
        let mut sums = self.product(v);
        for (sum, bias) in sums.iter_mut().zip(self.bias.iter()) {
            *sum += f64::from(*bias);
        }
        narrow(sums)
    }

    fn product(&self, v: &[f32]) -> Vec<f64> {
        let (rows, columns, values) = (self.weight.nrows(), self.weight.ncols(), v.len());
        assert_eq!(
            values, columns,
            "a vector of {values} values for a weight of {columns} columns"
        );
        let mut sums = vec![0.0; rows];
        // nalgebra keeps a matrix column by column.
        for (column, value) in self.weight.as_slice().chunks_exact(rows.max(1)).zip(v) {
            let value = f64::from(*value);
            for (sum, weight) in sums.iter_mut().zip(column) {
                *sum += f64::from(*weight) * value;
            }
        }
        sums
    }

    /// Checks shapes and values of the map that is called `pair.{pair}` in the file.
    pub(super) fn check(&self, pair: usize, rows: usize, columns: usize) -> Result<(), Problem> {
        let (weight, bias) = (weight_name(pair), bias_name(pair));
        check_shape(
            &weight,
            vec![self.weight.nrows(), self.weight.ncols()],
            vec![rows, columns],
        )?;
        check_shape(&bias, vec![self.bias.len()], vec![rows])?;
        if let Err(Problem::NotFinite { tensor, index, found }) = tensors::check_finite(&weight, self.weight.as_slice())
        {
            // Where it is in the file, which has the weight row by row.
            let index = index % rows * columns + index / rows;
            return Err(Problem::NotFinite { tensor, index, found });
        }
        tensors::check_finite(&bias, self.bias.as_slice())
    }
}

/// The tensor that holds a pair's `A`.
pub(super) fn weight_name(pair: usize) -> String {
    format!("pair.{pair}.weight")
}

/// The tensor that holds a pair's `p`.
pub(super) fn bias_name(pair: usize) -> String {
    format!("pair.{pair}.bias")
}

fn check_shape(tensor: &str, found: Vec<usize>, expected: Vec<usize>) -> Result<(), Problem> {
    if found == expected {
        return Ok(());
    }
    let tensor = tensor.to_owned();
    Err(Problem::Shape {
        tensor,
        found,
        expected,
    })
}

fn narrow(sums: Vec<f64>) -> Vec<f32> {
    sums.into_iter().map(|sum| sum as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> AffineMap {
        AffineMap {
            weight: DMatrix::from_row_slice(2, 3, &[1.0, 2.0, -3.0, 0.5, 0.0, 4.0]),
            bias: DVector::from_row_slice(&[10.0, -20.0]),
        }
    }

    #[test]
    fn known_products() {
        assert_eq!(map().linear(&[1.0, 10.0, 100.0]), [-279.0, 400.5]);
        assert_eq!(map().affine(&[1.0, 10.0, 100.0]), [-269.0, 380.5]);
        assert_eq!(map().linear(&[0.0; 3]), [0.0, 0.0]);
        assert_eq!(map().affine(&[0.0; 3]), [10.0, -20.0]);
    }

    /// Why a steering vector moves by the linear part: `A (h + a v) + p - (A h + p) = a A v`.
    #[test]
    fn differences_of_states_move_by_the_linear_part() {
        let (h, v, a) = ([3.0, -1.0, 0.25], [1.0, 0.5, -2.0], 4.0);
        let steered: Vec<f32> = h.iter().zip(v).map(|(h, v)| h + a * v).collect();
        let (before, after) = (map().affine(&h), map().affine(&steered));
        let moved: Vec<f32> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        let expected: Vec<f32> = map().linear(&v).iter().map(|value| a * value).collect();
        assert_eq!(moved, expected);
        assert_eq!(moved, [32.0, -30.0]);
    }

    #[test]
    fn sums_are_taken_in_f64() {
        let map = AffineMap {
            weight: DMatrix::from_row_slice(1, 3, &[1e8, 1.0, -1e8]),
            bias: DVector::from_row_slice(&[-1.0]),
        };
        assert_eq!(map.linear(&[1.0; 3]), [1.0]);
        // Before the bias, nothing is rounded to f32.
        assert_eq!(map.affine(&[1.0, 1.0 + f32::EPSILON, 1.0]), [f32::EPSILON]);
        // What f32 can't hold.
        assert_eq!(map.linear(&[f32::MAX, 0.0, 0.0]), [f32::INFINITY]);
    }

    #[test]
    #[should_panic(expected = "a vector of 2 values for a weight of 3 columns")]
    fn vectors_must_fit() {
        map().linear(&[1.0; 2]);
    }

    #[test]
    #[should_panic(expected = "a bias of 3 values for a weight of 2 rows")]
    fn biases_must_fit() {
        let bias = DVector::zeros(3);
        AffineMap { bias, ..map() }.affine(&[1.0; 3]);
    }

    #[test]
    fn what_is_not_finite_is_found_where_the_file_has_it() {
        let mut map = map();
        assert_eq!(map.check(0, 2, 3), Ok(()));
        map.weight[(1, 0)] = f32::NAN;
        let problem = map.check(7, 2, 3).unwrap_err().to_string();
        assert_eq!(
            problem,
            "tensor \"pair.7.weight\": found NaN at index 3, expected finite numbers"
        );
    }
}
