//! A matrix of weights in its stored dtype, in memory or mapped from its file.

use std::fmt;
use std::sync::Arc;

use memmap2::Mmap;
use nalgebra::{DMatrix, DMatrixView};

use crate::dtype::{FloatDtype, PIECE, bf16_from_le_bytes};
use crate::error::Problem;

/// Number of partial sums of a row, for the processor's vector units. Fixed, so that a product has the same bits on
/// every machine.
const LANES: usize = 32;

/// Rows that are decoded at a time in a product with many states.
const ROWS_AT_A_TIME: usize = 128;

/// Maximum number of bytes of a piece of [`WeightMatrix::pieces`].
const PIECE_BYTES: usize = 1 << 20;

/// A matrix of weights: `[rows, columns]`, row by row, in its stored dtype. Numbers are converted to `f32` when they
/// are used, a piece at a time.
#[derive(Clone)]
pub struct WeightMatrix {
    rows: usize,
    columns: usize,
    dtype: FloatDtype,
    storage: MatrixStorage,
}

#[derive(Clone)]
enum MatrixStorage {
    Memory(Arc<Vec<u8>>),
    File(Arc<Mmap>),
}

impl WeightMatrix {
    /// A matrix in memory, of dtype `f32`. `fill` gets the index of each row and its `columns` numbers, all 0, to fill
    /// in.
    pub fn from_rows(rows: usize, columns: usize, mut fill: impl FnMut(usize, &mut [f32])) -> Self {
        let mut bytes = Vec::with_capacity(rows * columns * size_of::<f32>());
        let mut numbers = vec![0.0; columns];
        for row in 0..rows {
            numbers.fill(0.0);
            fill(row, &mut numbers);
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        Self {
            rows,
            columns,
            dtype: FloatDtype::F32,
            storage: MatrixStorage::Memory(Arc::new(bytes)),
        }
    }

    /// A matrix whose bytes are mapped from a file. Their number must match shape and dtype.
    pub(super) fn mapped(rows: usize, columns: usize, dtype: FloatDtype, bytes: Mmap) -> Self {
        debug_assert_eq!(bytes.len(), rows * columns * dtype.bytes());
        let storage = MatrixStorage::File(Arc::new(bytes));
        Self {
            rows,
            columns,
            dtype,
            storage,
        }
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns it has.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How its numbers are stored.
    pub fn dtype(&self) -> FloatDtype {
        self.dtype
    }

    /// Its numbers as they are stored, row by row, little-endian.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.storage {
            MatrixStorage::Memory(bytes) => bytes,
            MatrixStorage::File(bytes) => bytes,
        }
    }

    /// All of it in memory, as `f32`.
    pub fn to_dense(&self) -> DMatrix<f32> {
        let mut dense = DMatrix::zeros(self.rows, self.columns);
        let mut numbers = vec![0.0; self.columns];
        for row in 0..self.rows {
            self.row(row, &mut numbers);
            dense.row_mut(row).copy_from_slice(&numbers);
        }
        dense
    }

    fn row_bytes(&self, row: usize) -> &[u8] {
        let length = self.columns * self.dtype.bytes();
        &self.as_bytes()[row * length..][..length]
    }

    /// Decodes a row.
    fn row(&self, row: usize, numbers: &mut [f32]) {
        self.dtype.decode(self.row_bytes(row), numbers);
    }

    /// The product with a vector, each sum taken in `f64`: `[columns] -> [rows]`.
    ///
    /// # Panics
    ///
    /// If `v` hasn't as many values as there are columns.
    pub(super) fn product(&self, v: &[f64]) -> Vec<f64> {
        let (values, columns) = (v.len(), self.columns);
        assert_eq!(
            values, columns,
            "a vector of {values} values for a matrix of {columns} columns"
        );
        (0..self.rows).map(|row| self.row_product(row, v)).collect()
    }

    fn row_product(&self, row: usize, v: &[f64]) -> f64 {
        let bytes = self.row_bytes(row);
        match self.dtype {
            FloatDtype::F32 => dot(bytes.as_chunks().0, v, f32::from_le_bytes),
            FloatDtype::Bf16 => dot(bytes.as_chunks().0, v, bf16_from_le_bytes),
            // `half` converts slices fast, but not single numbers.
            FloatDtype::F16 => {
                let mut numbers = [0.0; PIECE];
                let pieces = bytes.chunks(PIECE * self.dtype.bytes()).zip(v.chunks(PIECE));
                let products = pieces.map(|(bytes, v)| {
                    let numbers = &mut numbers[..v.len()];
                    self.dtype.decode(bytes, numbers);
                    dot(numbers, v, |number| number)
                });
                products.sum()
            }
        }
    }

    /// The products with many vectors in `f32`: `[n, columns]` row by row to `[n, rows]` row by row.
    ///
    /// # Panics
    ///
    /// If `vectors` isn't a whole number of vectors.
    pub(super) fn products(&self, vectors: &[f32]) -> Vec<f32> {
        let (values, columns) = (vectors.len(), self.columns);
        assert!(
            values.is_multiple_of(columns),
            "{values} values for a matrix of {columns} columns"
        );
        let count = values / columns;
        // Kept column by column, so that a vector is a column.
        let vectors = DMatrixView::from_slice(vectors, columns, count);
        let mut products = vec![0.0; self.rows * count];
        let mut numbers = vec![0.0; columns];
        for first in (0..self.rows).step_by(ROWS_AT_A_TIME) {
            let mut block = DMatrix::zeros(ROWS_AT_A_TIME.min(self.rows - first), columns);
            for row in 0..block.nrows() {
                self.row(first + row, &mut numbers);
                block.row_mut(row).copy_from_slice(&numbers);
            }
            let block = block * vectors;
            for (vector, product) in products.chunks_mut(self.rows).zip(block.column_iter()) {
                vector[first..first + block.nrows()].copy_from_slice(product.as_slice());
            }
        }
        products
    }

    /// Calls `take` with its bytes in a dtype, in order, in pieces of at most 1 MiB.
    ///
    /// # Errors
    ///
    /// What `take` returns.
    pub(super) fn pieces<E>(&self, dtype: FloatDtype, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let bytes = self.as_bytes();
        if dtype == self.dtype {
            return bytes.chunks(PIECE_BYTES).try_for_each(take);
        }
        let mut numbers = [0.0; PIECE];
        let mut converted = Vec::with_capacity(PIECE_BYTES);
        for bytes in bytes.chunks(PIECE * self.dtype.bytes()) {
            let numbers = &mut numbers[..bytes.len() / self.dtype.bytes()];
            self.dtype.decode(bytes, numbers);
            if converted.len() + PIECE * dtype.bytes() > PIECE_BYTES {
                take(&converted)?;
                converted.clear();
            }
            dtype.encode(numbers, &mut converted);
        }
        take(&converted)
    }

    /// Checks that all numbers are finite, and stay so in `dtype`. `tensor` is the matrix's name, for messages.
    ///
    /// # Errors
    ///
    /// [`Problem::NotFinite`], [`Problem::BeyondDtype`].
    pub(super) fn check(&self, tensor: &str, dtype: FloatDtype) -> Result<(), Problem> {
        let stays_finite = |number: f32| {
            if dtype == self.dtype {
                number.is_finite()
            } else {
                dtype.round(number).is_finite()
            }
        };
        let mut numbers = [0.0; PIECE];
        for (piece, bytes) in self.as_bytes().chunks(PIECE * self.dtype.bytes()).enumerate() {
            let numbers = &mut numbers[..bytes.len() / self.dtype.bytes()];
            self.dtype.decode(bytes, numbers);
            // `all` would stop at the first, which keeps the compiler from comparing several at once.
            if numbers.iter().fold(true, |all, number| all & stays_finite(*number)) {
                continue;
            }
            let wrong = numbers.iter().position(|number| !stays_finite(*number));
            let place = wrong.unwrap_or_default();
            let (index, found) = (piece * PIECE + place, numbers[place]);
            let tensor = tensor.to_owned();
            return Err(if found.is_finite() {
                Problem::BeyondDtype {
                    tensor,
                    index,
                    found,
                    dtype,
                }
            } else {
                let found = f64::from(found);
                Problem::NotFinite { tensor, index, found }
            });
        }
        Ok(())
    }
}

/// The sum of products of numbers and values, as many of each.
fn dot<T: Copy>(numbers: &[T], values: &[f64], decode: impl Fn(T) -> f32) -> f64 {
    let mut sums = [0.0; LANES];
    let (numbers, last_numbers) = numbers.as_chunks::<LANES>();
    let (values, last_values) = values.as_chunks::<LANES>();
    for (numbers, values) in numbers.iter().zip(values) {
        for lane in 0..LANES {
            sums[lane] += f64::from(decode(numbers[lane])) * values[lane];
        }
    }
    let last = last_numbers.iter().zip(last_values);
    let last: f64 = last.map(|(number, value)| f64::from(decode(*number)) * value).sum();
    sums.iter().sum::<f64>() + last
}

impl From<&DMatrix<f32>> for WeightMatrix {
    fn from(dense: &DMatrix<f32>) -> Self {
        Self::from_rows(dense.nrows(), dense.ncols(), |row, numbers| {
            for (number, value) in numbers.iter_mut().zip(dense.row(row).iter()) {
                *number = *value;
            }
        })
    }
}

/// Equal if shape, dtype and bytes are.
impl PartialEq for WeightMatrix {
    fn eq(&self, other: &Self) -> bool {
        (self.rows, self.columns, self.dtype) == (other.rows, other.columns, other.dtype)
            && self.as_bytes() == other.as_bytes()
    }
}

/// Without the numbers, of which there may be many millions.
impl fmt::Debug for WeightMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WeightMatrix([{}, {}], {})", self.rows, self.columns, self.dtype)
    }
}
