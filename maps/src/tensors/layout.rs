//! The header of a safetensors file: where its tensors are.

use std::collections::BTreeSet;
use std::ops::Range;

use safetensors::tensor::{Dtype, Metadata};

use super::header::MAX_HEADER_BYTES;
use crate::error::Problem;

/// Bytes at the start of a file that say how long the header is.
pub(crate) const LENGTH_BYTES: usize = 8;

/// Where the tensors of a safetensors file are. Checked: they follow one another without gaps, from the header to the
/// end of the file, and each has as many bytes as its shape and dtype say.
#[derive(Debug)]
pub(crate) struct TensorLayout {
    metadata: Metadata,
}

/// Bytes of the header that a file with these first bytes has. `file` is how long the file is.
pub(crate) fn header_length(first: &[u8], file: u64) -> Result<usize, Problem> {
    let broken = |message: String| Err(Problem::Safetensors { message });
    let Some(length) = first.first_chunk() else {
        return broken(format!("{file} bytes, expected at least {LENGTH_BYTES}"));
    };
    let length = u64::from_le_bytes(*length);
    let follow = file.saturating_sub(LENGTH_BYTES as u64);
    if length > follow {
        return broken(format!("a header of {length} bytes, but only {follow} bytes follow"));
    }
    match usize::try_from(length) {
        Ok(length) if length <= MAX_HEADER_BYTES => Ok(length),
        _ => broken(format!(
            "a header of {length} bytes, expected at most {MAX_HEADER_BYTES}"
        )),
    }
}

impl TensorLayout {
    /// Reads a header (without its length) that `data` bytes follow.
    ///
    /// # Errors
    ///
    /// [`Problem::Safetensors`].
    // `SafeTensors::deserialize` isn't used, because in safetensors 0.7.0 it adds up the header's offsets unchecked:
    // a crafted header makes it panic, or in a release build wrap round and panic later, when a tensor is looked up.
    // `Metadata` checks all that the header says of itself (no gaps, no overlap, offsets that fit shape and dtype);
    // left to check here is that it fits the bytes that are there.
    pub(crate) fn parse(header: &[u8], data: u64) -> Result<Self, Problem> {
        let broken = |message: String| Problem::Safetensors { message };
        let metadata: Metadata =
            serde_json::from_slice(header).map_err(|error| broken(format!("its header: {error}")))?;
        if metadata.data_len() as u64 != data {
            return Err(broken(format!(
                "tensors of {} bytes, but {data} bytes follow",
                metadata.data_len()
            )));
        }
        Ok(Self { metadata })
    }

    /// The tensors' names.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.metadata.offset_keys().into_iter().collect()
    }

    /// Checks that the file has the listed tensors and no others.
    ///
    /// # Errors
    ///
    /// [`Problem::MissingTensor`] or [`Problem::ExtraTensor`].
    pub(crate) fn check_names(&self, listed: &BTreeSet<String>) -> Result<(), Problem> {
        let there = self.names();
        if let Some(tensor) = listed.difference(&there).next() {
            return Err(Problem::MissingTensor { tensor: tensor.clone() });
        }
        match there.difference(listed).next() {
            Some(tensor) => Err(Problem::ExtraTensor { tensor: tensor.clone() }),
            None => Ok(()),
        }
    }

    /// Where a tensor's bytes are, from the header's end on, if it is of the dtype and the shape expected.
    ///
    /// # Errors
    ///
    /// [`Problem::MissingTensor`], [`Problem::Dtype`] or [`Problem::Shape`].
    pub(crate) fn range(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<Range<usize>, Problem> {
        let tensor = name.to_owned();
        let Some(info) = self.metadata.info(name) else {
            return Err(Problem::MissingTensor { tensor });
        };
        if info.dtype != dtype {
            return Err(Problem::Dtype {
                tensor,
                found: info.dtype.to_string(),
                expected: spell(dtype),
            });
        }
        if info.shape != shape {
            return Err(Problem::Shape {
                tensor,
                found: info.shape.clone(),
                expected: shape.to_vec(),
            });
        }
        let (start, end) = info.data_offsets;
        Ok(start..end)
    }
}

/// The dtypes that are read, as safetensors spells them.
fn spell(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => "F32",
        Dtype::BF16 => "BF16",
        Dtype::F16 => "F16",
        _ => "another",
    }
}
