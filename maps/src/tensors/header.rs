//! The header of a safetensors file that is written, and how long headers may be.

use safetensors::tensor::TensorInfo;
use serde::ser::{Serialize, Serializer};

use crate::error::Problem;

/// The most bytes a header may have: what the safetensors crate reads.
pub(super) const MAX_HEADER_BYTES: usize = 100_000_000;

/// Checks the length of a header.
pub(super) fn check_header(length: usize) -> Result<(), Problem> {
    if length > MAX_HEADER_BYTES {
        let message = format!("a header of {length} bytes, expected at most {MAX_HEADER_BYTES}");
        return Err(Problem::Safetensors { message });
    }
    Ok(())
}

/// A safetensors header: the tensors' entries, in the order in which they are written.
pub(super) struct HeaderEntries<'a>(pub(super) Vec<(&'a str, TensorInfo)>);

impl HeaderEntries<'_> {
    /// The header as JSON.
    pub(super) fn to_json(&self) -> Result<Vec<u8>, Problem> {
        serde_json::to_vec(self).map_err(|error| Problem::Safetensors {
            message: format!("its header: {error}"),
        })
    }
}

impl Serialize for HeaderEntries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, info)| (name, info)))
    }
}
