//! Safetensors bytes to checked values, F32 or F64, and back: what every file of tensors goes through.
//!
//! For the crate's own kinds of file, and for those of other crates that keep tensors only (a fit's statistics, say):
//!
//! ```
//! use std::collections::BTreeMap;
//! use steermap_maps::tensors::{Tensor, Tensors, encode};
//!
//! let sums = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
//! let about = BTreeMap::from([("format".to_owned(), "statistics/1".to_owned())]);
//! let bytes = encode([("xtx".to_owned(), Tensor::f64(vec![2, 3], &sums))], &about)?;
//!
//! let tensors = Tensors::parse(&bytes)?;
//! assert_eq!(tensors.metadata(), about);
//! assert_eq!(tensors.values_f64("xtx", &[2, 3])?, sums);
//! # Ok::<(), steermap_maps::Problem>(())
//! ```
//!
//! An error here doesn't know the file; [`Problem::within`] ties it to one.

use std::collections::{BTreeMap, BTreeSet};

use safetensors::tensor::{Dtype, TensorInfo};
use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::error::Problem;

pub(crate) use layout::{LENGTH_BYTES, Layout, header_length};
pub(crate) use stream::TensorWriter;

mod layout;
mod stream;

/// The key of a safetensors header that no tensor can have for a name: it holds the file's own metadata.
const METADATA: &str = "__metadata__";

/// The most bytes a header may have: what the safetensors crate reads.
pub(crate) const MAX_HEADER_BYTES: usize = 100_000_000;

/// A safetensors file in memory whose layout has been checked: every tensor lies within the data.
#[derive(Debug)]
pub struct Tensors<'a> {
    layout: Layout,
    data: &'a [u8],
}

impl<'a> Tensors<'a> {
    /// Reads the layout.
    ///
    /// # Errors
    ///
    /// [`Problem::Safetensors`] if the bytes aren't a whole safetensors file, to the byte.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Problem> {
        let length = header_length(bytes, bytes.len() as u64)?;
        let (header, data) = bytes[LENGTH_BYTES..].split_at(length);
        let layout = Layout::parse(header, data.len() as u64)?;
        Ok(Self { layout, data })
    }

    /// The file's own texts, by key: `__metadata__` of the safetensors header. Empty if it has none.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let texts = self.layout.metadata.metadata().iter().flatten();
        texts.map(|(key, text)| (key.clone(), text.clone())).collect()
    }

    /// The tensors' names.
    pub fn names(&self) -> BTreeSet<String> {
        self.layout.names()
    }

    /// A tensor's shape, if the file has it.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.layout.metadata.info(name).map(|info| info.shape.as_slice())
    }

    /// Checks that the file has the listed tensors and no others.
    ///
    /// # Errors
    ///
    /// [`Problem::MissingTensor`] or [`Problem::ExtraTensor`].
    pub fn check_names(&self, listed: &BTreeSet<String>) -> Result<(), Problem> {
        self.layout.check_names(listed)
    }

    /// One tensor's values, row by row, if it is F32 and of the shape expected. The values themselves aren't checked:
    /// see [`check_finite`].
    ///
    /// # Errors
    ///
    /// [`Problem::MissingTensor`], [`Problem::Dtype`] or [`Problem::Shape`].
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Problem> {
        let (numbers, _) = self.bytes(name, Dtype::F32, shape)?.as_chunks();
        Ok(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
    }

    /// As [`Tensors::values`], of a tensor that is F64.
    ///
    /// # Errors
    ///
    /// [`Problem::MissingTensor`], [`Problem::Dtype`] or [`Problem::Shape`].
    pub fn values_f64(&self, name: &str, shape: &[usize]) -> Result<Vec<f64>, Problem> {
        let (numbers, _) = self.bytes(name, Dtype::F64, shape)?.as_chunks();
        Ok(numbers.iter().map(|number| f64::from_le_bytes(*number)).collect())
    }

    /// One tensor's bytes, if it is of the dtype and the shape expected.
    fn bytes(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<&'a [u8], Problem> {
        Ok(&self.data[self.layout.range(name, dtype, shape)?])
    }
}

/// Checks that all values of a tensor are numbers.
///
/// # Errors
///
/// [`Problem::NotFinite`], with the first that isn't.
pub fn check_finite<T: Copy + Into<f64>>(name: &str, values: &[T]) -> Result<(), Problem> {
    let values = values.iter().map(|value| (*value).into());
    match values.enumerate().find(|(_, value)| !value.is_finite()) {
        Some((index, found)) => Err(Problem::NotFinite {
            tensor: name.to_owned(),
            index,
            found,
        }),
        None => Ok(()),
    }
}

/// A tensor to write.
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    shape: Vec<usize>,
    values: Values<'a>,
}

/// A tensor's values, row by row.
#[derive(Debug, Clone)]
enum Values<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
}

impl<'a> Tensor<'a> {
    /// A tensor of dtype F32: its shape, and its values row by row.
    pub fn f32(shape: Vec<usize>, values: &'a [f32]) -> Self {
        let values = Values::F32(values);
        Self { shape, values }
    }

    /// A tensor of dtype F64: its shape, and its values row by row.
    pub fn f64(shape: Vec<usize>, values: &'a [f64]) -> Self {
        let values = Values::F64(values);
        Self { shape, values }
    }

    fn dtype(&self) -> Dtype {
        match self.values {
            Values::F32(_) => Dtype::F32,
            Values::F64(_) => Dtype::F64,
        }
    }

    /// Number and size in bytes of the values.
    fn len(&self) -> (usize, usize) {
        match self.values {
            Values::F32(values) => (values.len(), size_of_val(values)),
            Values::F64(values) => (values.len(), size_of_val(values)),
        }
    }

    fn append_to(&self, bytes: &mut Vec<u8>) {
        match self.values {
            Values::F32(values) => values.iter().for_each(|value| bytes.extend(value.to_le_bytes())),
            Values::F64(values) => values.iter().for_each(|value| bytes.extend(value.to_le_bytes())),
        }
    }
}

/// The bytes of a safetensors file. The same tensors and texts always give the same bytes, in whatever order the
/// tensors come. `metadata` goes to the header's `__metadata__`, which is left out if there is none.
///
/// # Errors
///
/// [`Problem::Shape`] if a tensor has more or fewer values than its shape, [`Problem::DuplicateTensor`],
/// [`Problem::Value`] if one is called `__metadata__`, [`Problem::Safetensors`] if names and texts take more than
/// 100 MB.
// `safetensors::serialize` keeps metadata in a hash map, so that the bytes would be others each time.
pub fn encode<'a>(
    tensors: impl IntoIterator<Item = (String, Tensor<'a>)>,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<u8>, Problem> {
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    // As the safetensors crate sorts them: the widest numbers first, so that all are aligned.
    tensors.sort_by(|(name, tensor), (other_name, other)| {
        (other.dtype().cmp(&tensor.dtype())).then_with(|| name.cmp(other_name))
    });
    check_layout(&tensors)?;

    let mut end = 0;
    let layout = tensors.iter().map(|(name, tensor)| {
        let start = end;
        end += tensor.len().1;
        let info = TensorInfo {
            dtype: tensor.dtype(),
            shape: tensor.shape.clone(),
            data_offsets: (start, end),
        };
        (name.as_str(), info)
    });
    let layout: Vec<_> = layout.collect();
    let mut header = Header { metadata, layout }.to_json()?;
    // The data begins at a multiple of 8 bytes, the size of the widest number.
    header.resize(header.len().next_multiple_of(8), b' ');
    check_header(header.len())?;

    let mut bytes = Vec::with_capacity(8 + header.len() + end);
    bytes.extend((header.len() as u64).to_le_bytes());
    bytes.extend(header);
    for (_, tensor) in &tensors {
        tensor.append_to(&mut bytes);
    }
    Ok(bytes)
}

/// Checks all that [`encode`] asks of its tensors.
fn check_layout(tensors: &[(String, Tensor)]) -> Result<(), Problem> {
    let mut seen = BTreeSet::new();
    for (name, tensor) in tensors {
        if name == METADATA {
            let expected = "another name: this one is for the file's metadata";
            return Err(Problem::value("name of a tensor", format!("{name:?}"), expected));
        }
        if !seen.insert(name) {
            return Err(Problem::DuplicateTensor { tensor: name.clone() });
        }
        let (count, _) = tensor.len();
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

fn check_header(length: usize) -> Result<(), Problem> {
    if length > MAX_HEADER_BYTES {
        let message = format!("a header of {length} bytes, expected at most {MAX_HEADER_BYTES}");
        return Err(Problem::Safetensors { message });
    }
    Ok(())
}

/// A safetensors header, in the order in which it is written.
struct Header<'a> {
    metadata: &'a BTreeMap<String, String>,
    layout: Vec<(&'a str, TensorInfo)>,
}

impl Header<'_> {
    fn to_json(&self) -> Result<Vec<u8>, Problem> {
        serde_json::to_vec(self).map_err(|error| Problem::Safetensors {
            message: format!("its header: {error}"),
        })
    }
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA, self.metadata)?;
        }
        for (name, info) in &self.layout {
            map.serialize_entry(name, info)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests;
