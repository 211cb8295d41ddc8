//! The conversion of each tensor from a GGUF file to a Hugging Face folder.

use anyhow::{Context, Result, bail, ensure};

/// One tensor of the model: its names on both sides, and its conversion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorPlan {
    /// Its name in the GGUF file.
    pub gguf: String,
    /// Its name in a Hugging Face folder.
    pub hf: String,
    /// The shape it must have (the same on both sides).
    pub shape: Vec<usize>,
    /// How its values are converted.
    pub change: ValueChange,
}

/// How the values of a tensor in a GGUF file differ from Hugging Face's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueChange {
    /// Not at all.
    None,
    /// The rows are in llama.cpp's order for rotary embeddings, in each of this many heads.
    RotaryPairs {
        /// The number of heads.
        heads: usize,
    },
    /// One has been added to every value.
    OnePlus,
}

impl TensorPlan {
    /// A tensor whose names, without the ending `.weight`, are `gguf` and `hf`.
    pub fn new(gguf: &str, hf: &str, shape: &[usize], change: ValueChange) -> Self {
        Self {
            gguf: format!("{gguf}.weight"),
            hf: format!("{hf}.weight"),
            shape: shape.to_vec(),
            change,
        }
    }

    /// A tensor of the decoder block `layer`, with its names inside that block.
    pub fn of_block(layer: usize, gguf: &str, hf: &str, shape: &[usize], change: ValueChange) -> Self {
        let (gguf, hf) = (format!("blk.{layer}.{gguf}"), format!("model.layers.{layer}.{hf}"));
        Self::new(&gguf, &hf, shape, change)
    }
}

impl ValueChange {
    /// Number of a tensor's rows that must be converted together.
    ///
    /// # Errors
    ///
    /// If the change does not apply to a tensor of this shape.
    pub fn rows_together(self, shape: &[usize]) -> Result<usize> {
        let Self::RotaryPairs { heads } = self else {
            return Ok(1);
        };
        let &[rows, columns] = shape else {
            bail!("a tensor of shape {shape:?} has no rows to reorder");
        };
        ensure!(
            heads > 0 && rows.is_multiple_of(2 * heads) && columns > 0,
            "a tensor of shape {shape:?} cannot be split into {heads} heads"
        );
        Ok(rows / heads)
    }

    /// Converts values of a GGUF file to Hugging Face's.
    ///
    /// `values` are one or more complete groups of [`ValueChange::rows_together`] rows of a tensor of `shape`.
    pub fn to_hf(self, mut values: Vec<f32>, shape: &[usize]) -> Result<Vec<f32>> {
        match self {
            Self::None => Ok(values),
            Self::OnePlus => {
                values.iter_mut().for_each(|value| *value -= 1.0);
                Ok(values)
            }
            Self::RotaryPairs { .. } => {
                let (rows, columns) = (self.rows_together(shape)?, shape[1]);
                halves_from_pairs(&values, rows, columns)
            }
        }
    }
}

/// Reorders the rows of complete heads, of `rows` rows each, to Hugging Face's order.
///
/// Rotary embeddings rotate a head's dimensions in pairs. Hugging Face pairs dimension `i` with `i + half`, llama.cpp
/// `2 i` with `2 i + 1`; so llama.cpp stores the rows of each head as 0, half, 1, half + 1, ... This takes them back to
/// 0, 1, 2, ...
fn halves_from_pairs(values: &[f32], rows: usize, columns: usize) -> Result<Vec<f32>> {
    ensure!(
        values.len().is_multiple_of(rows * columns),
        "{} values are not whole heads of {rows} x {columns}",
        values.len()
    );
    let half = rows / 2;
    let mut ordered = Vec::with_capacity(values.len());
    for head in values.chunks_exact(rows * columns) {
        for second in [false, true] {
            for i in 0..half {
                let from = (2 * i + usize::from(second)) * columns;
                let row = head.get(from..from + columns).context("row outside its head")?;
                ordered.extend_from_slice(row);
            }
        }
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What llama.cpp does when it makes a GGUF file: Hugging Face's row `p * half + i` of a head
    /// becomes row `2 i + p`.
    fn llama_cpp_row(row: usize, head_dim: usize) -> usize {
        let (head, within) = (row / head_dim, row % head_dim);
        let half = head_dim / 2;
        head * head_dim + 2 * (within % half) + within / half
    }

    #[test]
    fn rows_in_pairs_go_back_to_halves() {
        // One column. A row's value is its index in Hugging Face's order. Two heads of six.
        let stored = [0., 3., 1., 4., 2., 5., 6., 9., 7., 10., 8., 11.];
        let pairs = ValueChange::RotaryPairs { heads: 2 };
        let ordered = pairs.to_hf(stored.to_vec(), &[12, 1]).expect("it fits");
        let expected: Vec<f32> = (0..12u8).map(f32::from).collect();
        assert_eq!(ordered, expected);
        assert_eq!(pairs.rows_together(&[12, 1]).expect("it fits"), 6);
        let head = pairs.to_hf(stored[6..].to_vec(), &[12, 1]).expect("it fits");
        assert_eq!(head, expected[6..], "a head alone gives the same");
    }

    #[test]
    fn reordering_undoes_llama_cpp_for_whole_rows() {
        let (heads, head_dim, columns) = (3, 8, 5);
        let rows = heads * head_dim;
        let value = |row: usize, column: usize| (row * columns + column) as f32;
        let mut stored = vec![f32::NAN; rows * columns];
        for row in 0..rows {
            for column in 0..columns {
                stored[llama_cpp_row(row, head_dim) * columns + column] = value(row, column);
            }
        }
        let ordered = ValueChange::RotaryPairs { heads }
            .to_hf(stored, &[rows, columns])
            .expect("it fits");
        let expected: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        assert_eq!(ordered, expected);
    }

    #[test]
    fn shapes_that_are_not_whole_heads_are_refused() {
        let pairs = ValueChange::RotaryPairs { heads: 2 };
        assert!(pairs.to_hf(vec![0.0; 6], &[6, 1]).is_err(), "heads of three");
        assert!(pairs.to_hf(vec![0.0; 8], &[8]).is_err(), "no matrix");
        assert!(pairs.to_hf(vec![0.0; 7], &[8, 1]).is_err(), "a value short");
    }

    #[test]
    fn one_plus_is_subtracted() {
        let values = ValueChange::OnePlus
            .to_hf(vec![1.0, 0.5, 17.25], &[3])
            .expect("any shape");
        assert_eq!(values, [0.0, -0.5, 16.25]);
        assert_eq!(ValueChange::OnePlus.rows_together(&[3]).expect("any shape"), 1);
    }
}
