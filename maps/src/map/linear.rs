//! The map of one pair of layers: `h_T ~ A h_S + p`, with `A` whole or as two factors.

use std::fmt;

use nalgebra::{DMatrix, DVector};

use super::matrix::WeightMatrix;
use crate::dtype::FloatDtype;
use crate::error::Problem;
use crate::offset::OffsetRule;
use crate::tensors;

/// How the matrix `A` of a map `h_T ~ A h_S + p` is stored and applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MapKind {
    /// `A` as one matrix.
    Affine,
    /// `A = left right`, applied as two products.
    LowRank {
        /// Columns of `left` and rows of `right`.
        rank: usize,
    },
}

impl MapKind {
    /// As files and messages spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Affine => "affine",
            Self::LowRank { .. } => "low-rank",
        }
    }

    /// The rank, of a low-rank map.
    pub fn rank(self) -> Option<usize> {
        match self {
            Self::Affine => None,
            Self::LowRank { rank } => Some(rank),
        }
    }

    /// The matrices of a map whose `A` is `[rows, columns]`: their names and shapes, in the file's order. The bias, a
    /// vector of `rows`, comes after them.
    pub(super) fn matrices(self, rows: usize, columns: usize) -> Vec<(&'static str, [usize; 2])> {
        match self {
            Self::Affine => vec![("weight", [rows, columns])],
            Self::LowRank { rank } => vec![("left", [rows, rank]), ("right", [rank, columns])],
        }
    }
}

impl fmt::Display for MapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The parts of a map of kind [`MapKind::Affine`], in memory. A [`LinearMap`] is made of them.
#[derive(Debug, Clone, PartialEq)]
pub struct AffineMap {
    /// `A`: `[hidden_T, number of source layers * hidden_S]`.
    pub weight: DMatrix<f32>,
    /// `p`: `[hidden_T]`.
    pub bias: DVector<f32>,
}

/// The parts of a map of kind [`MapKind::LowRank`], in memory. A [`LinearMap`] is made of them.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRankMap {
    /// `[hidden_T, rank]`.
    pub left: DMatrix<f32>,
    /// `[rank, number of source layers * hidden_S]`; `A` is `left right`.
    pub right: DMatrix<f32>,
    /// `p`: `[hidden_T]`.
    pub bias: DVector<f32>,
}

/// A map from the source's residual stream (or several of its layers, concatenated) to the target's, of any kind.
///
/// Its matrices are kept in the dtype they are stored in, in memory or mapped from a file.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearMap {
    /// The products that make `A`, the left one first: one, or two.
    matrices: Vec<WeightMatrix>,
    /// `p`.
    bias: Vec<f32>,
}

impl LinearMap {
    /// A map of one matrix.
    pub fn new_affine(weight: WeightMatrix, bias: Vec<f32>) -> Self {
        let matrices = vec![weight];
        Self { matrices, bias }
    }

    /// A map of two factors.
    pub fn new_low_rank(left: WeightMatrix, right: WeightMatrix, bias: Vec<f32>) -> Self {
        let matrices = vec![left, right];
        Self { matrices, bias }
    }

    /// An affine map of one matrix, or a low-rank map of two.
    pub(super) fn of(matrices: Vec<WeightMatrix>, bias: Vec<f32>) -> Self {
        Self { matrices, bias }
    }

    /// How `A` is stored.
    pub fn kind(&self) -> MapKind {
        match &self.matrices[..] {
            [left, _] => MapKind::LowRank { rank: left.columns() },
            _ => MapKind::Affine,
        }
    }

    /// Number of outputs: rows of `A`.
    pub fn rows(&self) -> usize {
        self.matrices.first().map_or(0, WeightMatrix::rows)
    }

    /// Number of inputs: columns of `A`.
    pub fn columns(&self) -> usize {
        self.matrices.last().map_or(0, WeightMatrix::columns)
    }

    /// The dtype of its matrices (the bias is `f32` in all maps).
    pub fn dtype(&self) -> FloatDtype {
        self.matrices
            .first()
            .map_or_else(FloatDtype::default, WeightMatrix::dtype)
    }

    /// The matrix `A`, or its factors `left` and `right`.
    pub fn matrices(&self) -> &[WeightMatrix] {
        &self.matrices
    }

    /// `p`: `[rows]`.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Bytes of all its numbers, bias included.
    pub fn bytes(&self) -> u64 {
        self.bytes_as(self.dtype())
    }

    /// As [`bytes`](Self::bytes), with its matrices in another dtype.
    pub(super) fn bytes_as(&self, dtype: FloatDtype) -> u64 {
        let numbers = self.matrices.iter().map(|matrix| matrix.rows() * matrix.columns());
        (numbers.sum::<usize>() * dtype.bytes() + size_of_val(&self.bias[..])) as u64
    }

    /// `A v`, each sum taken in `f64`: `[columns] -> [rows]`. Maps a difference of states.
    ///
    /// # Panics
    ///
    /// If the length of `v` isn't the number of columns of `A`, or the shapes of the factors of `A` don't match.
    pub fn linear(&self, v: &[f32]) -> Vec<f32> {
        narrow(self.product(v))
    }

    /// `A v + p`, each sum taken in `f64`: `[columns] -> [rows]`. Maps a state.
    ///
    /// # Panics
    ///
    /// As [`linear`](Self::linear), or if the length of the bias isn't the number of rows of `A`.
    pub fn affine(&self, v: &[f32]) -> Vec<f32> {
        self.check_bias();
        let mut sums = self.product(v);
        for (sum, bias) in sums.iter_mut().zip(&self.bias) {
            *sum += f64::from(*bias);
        }
        narrow(sums)
    }

    /// A vector carried over by a rule: [`linear`](Self::linear) or [`affine`](Self::affine).
    pub fn carry(&self, v: &[f32], offset: OffsetRule) -> Vec<f32> {
        match offset {
            OffsetRule::Linear => self.linear(v),
            OffsetRule::Affine => self.affine(v),
        }
    }

    /// `A x + p` of many states, in `f32`: `[n, columns]` row by row to `[n, rows]` row by row.
    ///
    /// # Panics
    ///
    /// As [`affine`](Self::affine), or if `states` isn't a whole number of states.
    pub fn affine_rows(&self, states: &[f32]) -> Vec<f32> {
        self.check_bias();
        let mut factors = self.matrices.iter().rev();
        let first = factors.next().map(|matrix| matrix.products(states));
        let mut rows = factors.fold(first.unwrap_or_default(), |rows, matrix| matrix.products(&rows));
        for row in rows.chunks_mut(self.bias.len().max(1)) {
            for (value, bias) in row.iter_mut().zip(&self.bias) {
                *value += bias;
            }
        }
        rows
    }

    /// `A` as one matrix, and `p`, all in memory and as `f32`: for maps that are small.
    pub fn to_affine(&self) -> AffineMap {
        let mut factors = self.matrices.iter().map(WeightMatrix::to_dense);
        let first = factors.next().unwrap_or_default();
        AffineMap {
            weight: factors.fold(first, |left, right| {
                // In f64, as in `linear`.
                let product = left.map(f64::from) * right.map(f64::from);
                product.map(|value| value as f32)
            }),
            bias: DVector::from_column_slice(&self.bias),
        }
    }

    fn product(&self, v: &[f32]) -> Vec<f64> {
        let v: Vec<f64> = v.iter().map(|value| f64::from(*value)).collect();
        self.matrices.iter().rev().fold(v, |v, matrix| matrix.product(&v))
    }

    fn check_bias(&self) {
        let (rows, values) = (self.rows(), self.bias.len());
        assert_eq!(values, rows, "a bias of {values} values for a map of {rows} rows");
    }

    /// Checks the shapes of the map that is called `pair.{pair}` in a file; its `A` must be `[rows, columns]`.
    ///
    /// # Errors
    ///
    /// [`Problem::Shape`], [`Problem::Rank`], and [`Problem::MixedDtypes`] of factors.
    pub(super) fn check_shape(&self, pair: usize, rows: usize, columns: usize) -> Result<(), Problem> {
        let kind = self.kind();
        if let Some(rank) = kind.rank() {
            check_rank(pair, rank, rows, columns)?;
        }
        for ((key, shape), matrix) in kind.matrices(rows, columns).into_iter().zip(&self.matrices) {
            let found = vec![matrix.rows(), matrix.columns()];
            check_tensor_shape(tensor_name(pair, key), found, shape.to_vec())?;
            if matrix.dtype() != self.dtype() {
                return Err(Problem::MixedDtypes {
                    pair,
                    left: self.dtype(),
                    right: matrix.dtype(),
                });
            }
        }
        check_tensor_shape(bias_name(pair), vec![self.bias.len()], vec![rows])
    }

    /// Checks that all numbers of the map that is called `pair.{pair}` in a file are finite, and stay so in `dtype`.
    ///
    /// # Errors
    ///
    /// [`Problem::NotFinite`], [`Problem::BeyondDtype`].
    pub(super) fn check_numbers(&self, pair: usize, dtype: FloatDtype) -> Result<(), Problem> {
        for ((key, _), matrix) in self.kind().matrices(0, 0).into_iter().zip(&self.matrices) {
            matrix.check(&tensor_name(pair, key), dtype)?;
        }
        tensors::check_finite(&bias_name(pair), &self.bias)
    }
}

impl From<AffineMap> for LinearMap {
    fn from(map: AffineMap) -> Self {
        Self::new_affine((&map.weight).into(), map.bias.as_slice().to_vec())
    }
}

impl From<LowRankMap> for LinearMap {
    fn from(map: LowRankMap) -> Self {
        Self::new_low_rank((&map.left).into(), (&map.right).into(), map.bias.as_slice().to_vec())
    }
}

/// Checks the rank of a low-rank map whose `A` is `[rows, columns]`.
pub(super) fn check_rank(pair: usize, rank: usize, rows: usize, columns: usize) -> Result<(), Problem> {
    let most = rows.min(columns);
    if (1..=most).contains(&rank) {
        return Ok(());
    }
    Err(Problem::Rank {
        pair,
        found: rank,
        most,
    })
}

/// The tensor that holds a pair's `weight`, `left` or `right`.
pub(super) fn tensor_name(pair: usize, key: &str) -> String {
    format!("pair.{pair}.{key}")
}

/// The tensor that holds a pair's `p`.
pub(super) fn bias_name(pair: usize) -> String {
    tensor_name(pair, "bias")
}

fn check_tensor_shape(tensor: String, found: Vec<usize>, expected: Vec<usize>) -> Result<(), Problem> {
    if found == expected {
        return Ok(());
    }
    Err(Problem::Shape {
        tensor,
        found,
        expected,
    })
}

fn narrow(sums: Vec<f64>) -> Vec<f32> {
    sums.into_iter().map(|sum| sum as f32).collect()
}

/// Checks that a pair names its own tensor.
pub(super) fn check_tensor_name(expected: &str, found: &str) -> Result<(), Problem> {
    if found == expected {
        return Ok(());
    }
    let (expected, found) = (expected.to_owned(), found.to_owned());
    Err(Problem::PairTensorName { expected, found })
}

#[cfg(test)]
mod tests;
