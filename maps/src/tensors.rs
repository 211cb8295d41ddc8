//! Safetensors bytes to checked F32 values and back, and safetensors files that are written tensor by tensor.
//!
//! An error here doesn't know the file; [`Problem::within`] ties it to one.

use std::collections::BTreeSet;

use safetensors::tensor::{Dtype, TensorInfo};

use crate::error::Problem;

use header::{HeaderEntries, check_header};
pub(crate) use layout::{LENGTH_BYTES, TensorLayout, header_length};
pub(crate) use stream::TensorWriter;

mod header;
mod layout;
mod stream;

/// The key of a safetensors header that no tensor can have for a name: it holds the file's own metadata.
const METADATA: &str = "__metadata__";

/// A safetensors file in memory whose layout has been checked: every tensor lies within the data.
#[derive(Debug)]
pub(crate) struct Tensors<'a> {
    layout: TensorLayout,
    data: &'a [u8],
}

impl<'a> Tensors<'a> {
    /// Reads the layout.
    ///
    /// # Errors
    ///
    /// [`Problem::Safetensors`] if the bytes aren't a whole safetensors file, to the byte.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Problem> {
        let length = header_length(bytes, bytes.len() as u64)?;
        let (header, data) = bytes[LENGTH_BYTES..].split_at(length);
        let layout = TensorLayout::parse(header, data.len() as u64)?;
        Ok(Self { layout, data })
    }

    /// Checks that the file has the listed tensors and no others.
    ///
    /// # Errors
    ///
    /// [`Problem::MissingTensor`] or [`Problem::ExtraTensor`].
    pub(crate) fn check_names(&self, listed: &BTreeSet<String>) -> Result<(), Problem> {
        self.layout.check_names(listed)
    }

    /// One tensor's values, row by row, if it is F32 and of the shape expected. The values themselves aren't checked:
    /// see [`check_finite`].
    ///
    /// # Errors
    ///
    /// [`Problem::MissingTensor`], [`Problem::Dtype`] or [`Problem::Shape`].
    pub(crate) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Problem> {
        let range = self.layout.range(name, Dtype::F32, shape)?;
        let (numbers, _) = self.data[range].as_chunks();
        Ok(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
    }
}

/// Checks that all values of a tensor are numbers.
///
/// # Errors
///
/// [`Problem::NotFinite`], with the first that isn't.
pub(crate) fn check_finite(name: &str, values: &[f32]) -> Result<(), Problem> {
    match values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        Some((index, found)) => Err(Problem::NotFinite {
            tensor: name.to_owned(),
            index,
            found: f64::from(*found),
        }),
        None => Ok(()),
    }
}

/// A tensor to write, of dtype F32.
#[derive(Debug, Clone)]
pub(crate) struct TensorToWrite<'a> {
    shape: Vec<usize>,
    values: &'a [f32],
}

impl<'a> TensorToWrite<'a> {
    /// A tensor of this shape, and its values row by row.
    pub(crate) fn f32(shape: Vec<usize>, values: &'a [f32]) -> Self {
        Self { shape, values }
    }
}

/// The bytes of a safetensors file. The same tensors always give the same bytes, in whatever order they come.
///
/// # Errors
///
/// [`Problem::Shape`] if a tensor has more or fewer values than its shape, [`Problem::DuplicateTensor`],
/// [`Problem::Value`] if one is called `__metadata__`, [`Problem::Safetensors`] if the names take more than 100 MB.
pub(crate) fn encode<'a>(tensors: impl IntoIterator<Item = (String, TensorToWrite<'a>)>) -> Result<Vec<u8>, Problem> {
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    // As the safetensors crate sorts tensors of one dtype.
    tensors.sort_by(|(name, _), (other, _)| name.cmp(other));
    check_layout(&tensors)?;

    let mut end = 0;
    let layout = tensors.iter().map(|(name, tensor)| {
        let start = end;
        end += size_of_val(tensor.values);
        let info = TensorInfo {
            dtype: Dtype::F32,
            shape: tensor.shape.clone(),
            data_offsets: (start, end),
        };
        (name.as_str(), info)
    });
    let mut header = HeaderEntries(layout.collect()).to_json()?;
    // The data begins at a multiple of 8 bytes, as the safetensors crate writes it.
    header.resize(header.len().next_multiple_of(8), b' ');
    check_header(header.len())?;

    let mut bytes = Vec::with_capacity(8 + header.len() + end);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header);
    for (_, tensor) in &tensors {
        bytes.extend(tensor.values.iter().flat_map(|value| value.to_le_bytes()));
    }
    Ok(bytes)
}

/// Checks all that [`encode`] asks of its tensors.
fn check_layout(tensors: &[(String, TensorToWrite)]) -> Result<(), Problem> {
    let mut seen = BTreeSet::new();
    for (name, tensor) in tensors {
        if name == METADATA {
            let expected = "another name: this one is for the file's metadata";
            return Err(Problem::value("name of a tensor", format!("{name:?}"), expected));
        }
        if !seen.insert(name) {
            return Err(Problem::DuplicateTensor { tensor: name.clone() });
        }
        let count = tensor.values.len();
        let implied = tensor
            .shape
            .iter()
            .try_fold(1usize, |count, size| count.checked_mul(*size));
        if implied != Some(count) {
            return Err(Problem::Shape {
                tensor: name.clone(),
                found: vec![count],
                expected: tensor.shape.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
