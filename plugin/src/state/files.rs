//! The files of the state folder.

use std::path::Path;

use steermap_maps::read;

use crate::SteeringError;

/// The folder of the vectors that records name.
pub(super) const VECTORS: &str = "vectors";

/// Most bytes of a record. Several default specs at their limits fit.
const MAX_RECORD_BYTES: u64 = 64 << 20;

/// The error of a file or a folder.
pub(super) fn failed(path: &Path, why: impl ToString) -> SteeringError {
    SteeringError::State {
        path: path.to_path_buf(),
        message: why.to_string(),
    }
}

/// Reads a record's text.
pub(super) fn read_text(path: &Path) -> Result<String, SteeringError> {
    let bytes = read::whole(path, "a record of the state", MAX_RECORD_BYTES).map_err(SteeringError::ModelFiles)?;
    String::from_utf8(bytes).map_err(|_| failed(path, "found bytes that are not UTF-8, expected a record of the state"))
}
