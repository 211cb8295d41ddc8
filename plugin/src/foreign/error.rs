//! Errors of files that other programs wrote.

use steermap_maps::Problem;
use thiserror::Error;

/// The file is not valid in its format, or does not fit the model; or a vector can't be written in that format. Lengths
/// and positions are in bytes.
#[derive(Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ForeignError {
    /// It starts with other bytes.
    #[error("magic: found {found:?}, expected {expected:?}")]
    Magic {
        /// The first bytes.
        found: String,
        /// The first bytes of a file of this format.
        expected: &'static str,
    },
    /// A version of GGUF that is not supported.
    #[error("version: found {found}, expected 2 or 3, in little-endian byte order")]
    Version {
        /// The version in the file.
        found: u32,
    },
    /// The file ends within a value.
    #[error("{field}: found {found} bytes left, expected {expected}")]
    Short {
        /// The value that is incomplete.
        field: String,
        /// How many bytes are left.
        found: u64,
        /// How many bytes the file states.
        expected: u64,
    },
    /// A value is invalid.
    #[error("{field}: found {found}, expected {expected}")]
    Value {
        /// The key or tensor.
        field: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// The vector is invalid.
    #[error(transparent)]
    Problem(#[from] Problem),
}

impl ForeignError {
    pub(crate) fn value(field: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> Self {
        Self::Value {
            field: field.into(),
            found: found.to_string(),
            expected: expected.into(),
        }
    }
}

/// A name from the file for a message: in quotation marks, and cut if it is long.
pub(crate) fn shown(name: &str) -> String {
    format!("{:?}", name.chars().take(64).collect::<String>())
}
