//! A plain matrix of numbers that faer can read and write.

use faer::{MatMut, MatRef};

/// `[rows, columns]`, column by column in one piece.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matrix<T> {
    rows: usize,
    columns: usize,
    values: Vec<T>,
}

impl<T: Copy + Default> Matrix<T> {
    /// All zeros; `None` if there isn't the memory.
    pub fn zeros(rows: usize, columns: usize) -> Option<Self> {
        let length = rows.checked_mul(columns)?;
        let mut values = Vec::new();
        values.try_reserve_exact(length).ok()?;
        values.resize(length, T::default());
        Some(Self { rows, columns, values })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The values, column by column.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The values, column by column.
    pub fn values_mut(&mut self) -> &mut [T] {
        &mut self.values
    }

    /// One column. The index is below [`columns`](Self::columns).
    pub fn column(&self, index: usize) -> &[T] {
        &self.values[index * self.rows..][..self.rows]
    }

    /// As faer's.
    pub fn view(&self) -> MatRef<'_, T> {
        MatRef::from_column_major_slice(&self.values, self.rows, self.columns)
    }

    /// As faer's.
    pub fn view_mut(&mut self) -> MatMut<'_, T> {
        MatMut::from_column_major_slice_mut(&mut self.values, self.rows, self.columns)
    }
}
