//! Control vectors in GGUF, as llama.cpp's `cvector-generator` and repeng write them.
//!
//! | what | where |
//! | --- | --- |
//! | `general.architecture` | `controlvector` |
//! | `controlvector.model_hint` | the architecture of the model it was found on, such as `llama`; may be absent |
//! | `controlvector.layer_count` | how many directions there are; may be absent |
//! | tensors `direction.l` | F32, `[hidden_size]`: added to the stream after block `l`, which is 1 at least |
//!
//! Both programs count the tensors for `layer_count`, not the model's layers, and neither reads it. llama.cpp takes `l`
//! for the 0-based number of the block after which it adds, and refuses a file with `direction.0`; repeng counts in the
//! same way. What `cvector-generator` found after block `l - 1` it names `direction.l`; what counts is where it is added.
//!
//! | module | role |
//! | --- | --- |
//! | `read` | bytes of anyone's, made into a vector file: [`read()`] |
//! | `write` | a vector file, made into bytes: [`write()`] |

use steermap_maps::Problem;
use thiserror::Error;

mod read;
mod write;

pub use read::read;
pub(crate) use read::unknown_origin;
pub use write::{WriteOptions, Written, write};

/// What [`read()`] is told from other files by, and [`write()`] starts with.
const MAGIC: &[u8; 4] = b"GGUF";

/// Where tensors start at a multiple of, unless `general.alignment` says otherwise.
const DEFAULT_ALIGNMENT: u64 = 32;

/// What `general.architecture` says.
const ARCHITECTURE: &str = "controlvector";

/// GGML's number for F32.
const F32: u32 = 0;

/// GGUF's numbers for the types of metadata that are written.
mod kind {
    pub const U32: u32 = 4;
    pub const TEXT: u32 = 8;
}

/// The file is no control vector, or not one for the model; or a vector can't be made one. Lengths and positions are in
/// bytes.
#[derive(Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum GgufError {
    /// It starts with something else.
    #[error("magic: found {found:?}, expected \"GGUF\"")]
    Magic {
        /// The first bytes.
        found: String,
    },
    /// A version that is not read.
    #[error("version: found {found}, expected 2 or 3, in little-endian byte order")]
    Version {
        /// What the file says.
        found: u32,
    },
    /// The file ends within something.
    #[error("{field}: found {found} bytes left, expected {expected}")]
    Short {
        /// What is cut short.
        field: String,
        /// How many bytes are left.
        found: u64,
        /// How many it says there are.
        expected: u64,
    },
    /// A value can't be right.
    #[error("{field}: found {found}, expected {expected}")]
    Value {
        /// The key or tensor.
        field: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// The vector can't be right.
    #[error(transparent)]
    Problem(#[from] Problem),
}

impl GgufError {
    fn value(field: impl Into<String>, found: impl ToString, expected: impl Into<String>) -> Self {
        Self::Value {
            field: field.into(),
            found: found.to_string(),
            expected: expected.into(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
