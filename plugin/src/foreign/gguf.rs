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
//! All programs write the number of tensors, not of the model's layers, as `layer_count`, and none reads it. llama.cpp
//! takes `l` as the 0-based number of the block after which it adds, and refuses a file with `direction.0`; repeng
//! counts in the same way. `cvector-generator` writes what it found after block `l - 1` as `direction.l`; the point of
//! addition decides. EasySteer counts in the same way and writes a `direction.0`, which is read if
//! `controlvector.method` shows that the file is EasySteer's.
//!
//! No known program states the operation in the file: EasySteer's `erase` and `replace` are chosen when the file is
//! used, and llama.cpp always adds. A file that states another operation than addition is refused.
//!
//! | module | role |
//! | --- | --- |
//! | `read` | untrusted bytes to a vector file: [`read()`], [`read_with()`] |
//! | `format` | the numbers and names of the format |
//! | `value` | a value of the metadata |
//! | `operation` | refuses a file that is not meant to be added |
//! | `write` | a vector file to bytes: [`write()`] |

mod format;
mod operation;
mod read;
mod value;
mod write;

pub use super::error::ForeignError as GgufError;
pub use read::{read, read_with};
pub use write::{ControlVectorFile, WriteOptions, write};

#[cfg(test)]
pub(crate) mod tests;
