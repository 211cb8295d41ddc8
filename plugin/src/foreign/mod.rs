//! Vectors that other programs wrote: safetensors, NumPy and PyTorch files, GGUF control vectors, and sparse
//! autoencoders.
//!
//! The files are untrusted, so every length is checked against the bytes of the file, and nothing in a file is
//! executed: of pickles, only the opcodes of state files of tensors are read.
//!
//! | module | role |
//! | --- | --- |
//! | [`sae`] | a feature of a sparse autoencoder as a vector |
//! | `layout` | which tensor is the vector of which layer: a table of programs and their names |
//! | [`gguf`] | `.gguf` |
//! | `safetensor` | `.safetensors` |
//! | `numpy` | `.npy` and `.npz` |
//! | `torch`, `pickle` | `.pt`, `.pth` and `.bin` of `torch.save` |
//! | `archive` | zip files, the container of some formats |
//! | `tensors` | the tensors that all of these readers return |
//! | `vector` | the vector that is made of them: [`ForeignVector`] |
//! | `error` | [`ForeignError`] |

use std::path::Path;

use steermap_maps::ModelInfo;

mod archive;
mod error;
pub mod gguf;
mod layout;
mod numpy;
mod pickle;
pub mod sae;
mod safetensor;
mod tensors;
mod torch;
mod vector;

pub use error::ForeignError;
use vector::assemble;
pub(crate) use vector::unknown_origin;
pub use vector::{ForeignVector, ReadOptions};

/// The formats of other programs' vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// `.gguf`: control vectors of llama.cpp, repeng and EasySteer.
    Gguf,
    /// `.safetensors`.
    Safetensors,
    /// `.npy`: one array.
    Npy,
    /// `.npz`: arrays by name.
    Npz,
    /// `.pt`, `.pth`, `.bin`: what `torch.save` writes.
    Torch,
}

/// The supported file endings, as messages list them.
pub const ENDINGS: &str = ".gguf, .safetensors, .npy, .npz, .pt, .pth or .bin";

impl Format {
    /// The format of a file's ending; `None` for an unknown ending, or none.
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Some(match &*extension {
            "gguf" => Self::Gguf,
            "safetensors" => Self::Safetensors,
            "npy" => Self::Npy,
            "npz" => Self::Npz,
            "pt" | "pth" | "bin" => Self::Torch,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gguf => "GGUF",
            Self::Safetensors => "safetensors",
            Self::Npy | Self::Npz => "NumPy",
            Self::Torch => "PyTorch",
        }
    }
}

/// Reads a vector for `concept`, native to `model`. `name` is the file's name, which may contain the layer.
///
/// The files don't state the stream's mean norms, so these are 0, which means not known.
///
/// # Errors
///
/// The file is broken or in another format, contains code, or its tensors are not vectors of the model's layers and
/// size.
pub fn read(
    format: Format,
    bytes: &[u8],
    name: &str,
    concept: &str,
    model: ModelInfo,
    options: &ReadOptions,
) -> Result<ForeignVector, ForeignError> {
    let contents = match format {
        Format::Gguf => return gguf::read_with(bytes, concept, model, options),
        Format::Safetensors => safetensor::read(bytes)?,
        Format::Npy => numpy::read_npy(bytes)?,
        Format::Npz => numpy::read_npz(bytes)?,
        Format::Torch => torch::read(bytes)?,
    };
    let layout::FileVectors { found, remarks } = layout::vectors(contents, name, &model, options)?;
    let method = format!("vector of a {} file", format.name());
    let header = unknown_origin(concept, &method, model, name, bytes);
    let read = assemble(found, header, options.shift, None)?;
    Ok(ForeignVector { remarks, ..read })
}

#[cfg(test)]
mod tests;
