//! The tensors of one file as F32 values, which all readers return and [`layout`](super::layout) interprets.

use std::collections::BTreeMap;

use half::{bf16, f16};

use super::error::{ForeignError, shown};

/// The most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

/// The most values of all tensors together: 256 MiB, forty times a vector of 100 layers of 16,384. Tensors can share
/// storage, so a small file could otherwise describe any number.
const MAX_VALUES: usize = 1 << 26;

/// The number format, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    F16,
    Bf16,
    F32,
    F64,
}

impl Dtype {
    /// Bytes per number.
    pub(crate) fn width(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// The numbers in `bytes` as F32. An incomplete number at the end is ignored.
    pub(crate) fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let halves = bytes.as_chunks::<2>().0.iter();
        match self {
            Self::F16 => halves.map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
            Self::Bf16 => halves.map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
            Self::F32 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect(),
            Self::F64 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|bytes| f64::from_le_bytes(*bytes) as f32)
                .collect(),
        }
    }
}

/// One tensor, with its values row by row, as many as its shape states.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// The contents of a file.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Contents {
    /// The floating-point tensors. The only tensor of a file without names is called "".
    pub(crate) tensors: Vec<Tensor>,
    /// Everything else by name, as text: numbers and texts as they are, other tensors as a description.
    pub(crate) others: BTreeMap<String, String>,
    values: usize,
}

impl Contents {
    /// Adds a tensor whose numbers lie in `bytes`, the first at index `offset`, and the next along each dimension
    /// `strides` further. Everything is checked against `bytes` before memory is taken.
    ///
    /// # Errors
    ///
    /// Numbers lie beyond the end of `bytes`, a tensor has more numbers than are stored (an expanded tensor), or there
    /// are too many in total.
    pub(crate) fn push(&mut self, name: &str, view: &View, bytes: &[u8]) -> Result<(), ForeignError> {
        let values = view.values(name, bytes)?;
        self.values = self.values.saturating_add(values.len());
        if self.values > MAX_VALUES {
            let found = format!("{} numbers so far", self.values);
            return Err(ForeignError::value(
                shown(name),
                found,
                format!("at most {MAX_VALUES} in a file"),
            ));
        }
        self.tensors.push(Tensor {
            name: name.to_string(),
            shape: view.shape.clone(),
            values,
        });
        Ok(())
    }
}

/// The positions of a tensor's numbers among others of one dtype. Counted in numbers, not bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) strides: Vec<usize>,
    pub(crate) offset: usize,
}

impl View {
    /// A view of numbers stored row by row without gaps; `None` if its shape overflows.
    pub(crate) fn rows(dtype: Dtype, shape: Vec<usize>) -> Option<Self> {
        let strides = row_strides(&shape)?;
        Some(Self {
            dtype,
            shape,
            strides,
            offset: 0,
        })
    }

    /// The number of elements of the shape.
    fn elements(&self) -> Option<usize> {
        self.shape
            .iter()
            .try_fold(1usize, |product, length| product.checked_mul(*length))
    }

    fn values(&self, name: &str, bytes: &[u8]) -> Result<Vec<f32>, ForeignError> {
        let Self {
            dtype,
            shape,
            strides,
            offset,
        } = self;
        if shape.len() > MAX_DIMENSIONS || shape.len() != strides.len() {
            let found = format!("{} dimensions with {} strides", shape.len(), strides.len());
            return Err(ForeignError::value(
                shown(name),
                found,
                format!("at most {MAX_DIMENSIONS}"),
            ));
        }
        let there = bytes.len() / dtype.width();
        let wrong = || {
            let found = format!("shape {shape:?} with strides {strides:?} from {offset}");
            ForeignError::value(
                shown(name),
                found,
                format!("numbers within the {there} that are stored"),
            )
        };
        let elements = self
            .elements()
            .filter(|elements| *elements <= there)
            .ok_or_else(wrong)?;
        if elements == 0 {
            return Ok(Vec::new());
        }
        let steps = shape
            .iter()
            .zip(strides)
            .map(|(length, stride)| (length - 1).checked_mul(*stride));
        let last = steps.into_iter().try_fold(*offset, |sum, step| sum.checked_add(step?));
        last.filter(|last| *last < there).ok_or_else(wrong)?;
        let width = dtype.width();
        if Some(strides) == row_strides(shape).as_ref() {
            return Ok(dtype.decode(&bytes[offset * width..(offset + elements) * width]));
        }
        let mut values = Vec::with_capacity(elements);
        let mut index = vec![0; shape.len()];
        for _ in 0..elements {
            let at = index
                .iter()
                .zip(strides)
                .fold(*offset, |at, (index, stride)| at + index * stride);
            values.extend(dtype.decode(&bytes[at * width..(at + 1) * width]));
            // The last dimension runs fastest.
            for (index, length) in index.iter_mut().zip(shape).rev() {
                *index += 1;
                if *index < *length {
                    break;
                }
                *index = 0;
            }
        }
        Ok(values)
    }
}

/// The strides of a tensor stored row by row.
fn row_strides(shape: &[usize]) -> Option<Vec<usize>> {
    let mut strides = vec![1usize; shape.len()];
    for at in (1..shape.len()).rev() {
        strides[at - 1] = strides[at].checked_mul(shape[at])?;
    }
    Some(strides)
}

/// The strides of a tensor stored column by column.
pub(crate) fn column_strides(shape: &[usize]) -> Option<Vec<usize>> {
    let mut strides = vec![1usize; shape.len()];
    for at in 1..shape.len() {
        strides[at] = strides[at - 1].checked_mul(shape[at - 1])?;
    }
    Some(strides)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(view: &View, numbers: &[f32]) -> Result<Vec<f32>, String> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let mut contents = Contents::default();
        contents.push("t", view, &bytes).map_err(|error| error.to_string())?;
        Ok(contents.tensors.remove(0).values)
    }

    fn view(shape: &[usize], strides: &[usize], offset: usize) -> View {
        View {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
            offset,
        }
    }

    #[test]
    fn strides_and_offsets_are_followed() {
        let numbers = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(values(&view(&[2, 3], &[3, 1], 0), &numbers).unwrap(), numbers);
        let transposed = [0.0, 3.0, 1.0, 4.0, 2.0, 5.0];
        assert_eq!(values(&view(&[3, 2], &[1, 3], 0), &numbers).unwrap(), transposed);
        assert_eq!(values(&view(&[3], &[1], 3), &numbers).unwrap(), numbers[3..]);
        assert_eq!(values(&view(&[2], &[3], 2), &numbers).unwrap(), [2.0, 5.0]);
        assert_eq!(values(&view(&[], &[], 4), &numbers).unwrap(), [4.0]);
        assert_eq!(values(&view(&[0, 5], &[5, 1], 0), &numbers).unwrap(), [0.0; 0]);
        assert_eq!(column_strides(&[2, 3, 4]).unwrap(), [1, 2, 6]);
    }

    #[test]
    fn nothing_is_read_beyond_the_end() {
        let numbers = [0.0; 6];
        let huge = usize::MAX;
        for (shape, strides, offset) in [
            (&[7][..], &[1][..], 0),
            (&[3], &[1], 4),
            (&[2], &[6], 0),
            (&[1], &[1], 6),
            // Expanded: more numbers than are stored.
            (&[1 << 40], &[0], 0),
            (&[huge, huge], &[1, 1], 0),
            (&[2], &[huge], 1),
            (&[1], &[1], huge),
            (&[2, 2], &[1], 0),
        ] {
            let error = values(&view(shape, strides, offset), &numbers).unwrap_err();
            assert!(error.starts_with("\"t\": found"), "{error}");
        }
        assert_eq!(View::rows(Dtype::F32, vec![1, huge, huge]), None);
    }

    #[test]
    fn all_dtypes_are_decoded() {
        assert_eq!(Dtype::F16.decode(&[0x00, 0x3c, 0x00, 0xc0]), [1.0, -2.0]);
        assert_eq!(Dtype::Bf16.decode(&[0x80, 0x3f, 0x00, 0xc0]), [1.0, -2.0]);
        assert_eq!(Dtype::F32.decode(&1.5f32.to_le_bytes()), [1.5]);
        assert_eq!(Dtype::F64.decode(&0.1f64.to_le_bytes()), [0.1]);
    }
}
