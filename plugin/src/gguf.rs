//! Control vectors in GGUF, as llama.cpp's `cvector-generator`, repeng and EasySteer write them.
//!
//! | what | where |
//! | --- | --- |
//! | `general.architecture` | `controlvector` |
//! | `controlvector.model_hint` | the architecture of the model it was found on, such as `llama`; may be absent |
//! | `controlvector.layer_count` | how many directions there are; may be absent |
//! | `controlvector.method` | EasySteer's alone: how it was found, such as `diffmean` |
//! | tensors `direction.l` | F32, F16 or BF16, `[hidden_size]`: added to the stream after block `l` |
//!
//! All programs count the tensors for `layer_count`, not the model's layers, and none reads it. llama.cpp takes `l` for
//! the 0-based number of the block after which it adds, and refuses a file with `direction.0`; repeng counts in the same
//! way. What `cvector-generator` found after block `l - 1` it names `direction.l`; what counts is where it is added.
//! EasySteer counts as they do and has a `direction.0`, so that is read where `controlvector.method` says that the file
//! is its.
//!
//! No program is known that says in the file what is to be done with the directions: EasySteer's `erase` and `replace`
//! are chosen when the file is used, and llama.cpp adds. A file that says anything else than addition is refused.
//!
//! | module | role |
//! | --- | --- |
//! | `read` | bytes of anyone's, made into a vector file: [`read()`], [`read_with()`] |
//! | `operation` | refuses a file that is not meant to be added |
//! | `write` | a vector file, made into bytes: [`write()`] |

mod operation;
mod read;
mod write;

pub use crate::foreign::ForeignError as GgufError;
pub(crate) use read::unknown_origin;
pub use read::{read, read_with};
pub use write::{WriteOptions, Written, write};

/// What [`read()`] is told from other files by, and [`write()`] starts with.
const MAGIC: &[u8; 4] = b"GGUF";

/// Where tensors start at a multiple of, unless `general.alignment` says otherwise.
const DEFAULT_ALIGNMENT: u64 = 32;

/// What `general.architecture` says.
const ARCHITECTURE: &str = "controlvector";

/// GGML's number for F32.
const F32: u32 = 0;

/// GGML's number for F16.
const F16: u32 = 1;

/// GGML's number for BF16.
const BF16: u32 = 30;

/// GGUF's numbers for the types of metadata that are written.
mod kind {
    pub const U32: u32 = 4;
    pub const TEXT: u32 = 8;
}

#[cfg(test)]
pub(crate) mod tests;
