//! Writes a vector to bytes in the layout of repeng and `cvector-generator`: the tensors in ascending order, each
//! padded to the alignment, including the last one, without which llama.cpp reports an incomplete file.

use steermap_maps::VectorFile;

use super::format::{ARCHITECTURE, DEFAULT_ALIGNMENT, F32, MAGIC, kind};
use crate::foreign::error::ForeignError as GgufError;

/// The version that both programs write.
const VERSION: u32 = 3;

/// How a vector is written.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteOptions {
    /// `controlvector.model_hint`: the model's architecture as llama.cpp and repeng name it, such as `llama` or
    /// `gemma3`.
    pub hint: String,
    /// The factor of every direction, so that the file's user can leave the scale at 1. Finite, not 0.
    pub scale: f64,
    /// Whether every direction is first normalised, as in steering without `normalize = false`; `scale` is then alpha.
    pub normalize: bool,
}

impl WriteOptions {
    /// Options for the unchanged directions, for a model of the architecture `hint`.
    pub fn new(hint: impl Into<String>) -> Self {
        Self {
            hint: hint.into(),
            scale: 1.0,
            normalize: false,
        }
    }
}

/// A control vector, and which layers of the vector it has.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlVectorFile {
    /// The GGUF file.
    pub bytes: Vec<u8>,
    /// The layers (0-based) in the file, ascending.
    pub layers: Vec<usize>,
    /// The layers that are left out: layer 0, for which llama.cpp has no direction, or none.
    pub left_out: Vec<usize>,
}

/// Writes a vector as a control vector, without mean norms, provenance and model, which the format can't hold.
///
/// # Errors
///
/// The hint is empty, the scale is 0 or not finite, the vector has only layer 0, or scaled values overflow F32 (or all
/// underflow, at a tiny scale).
pub fn write(vector: &VectorFile, options: &WriteOptions) -> Result<ControlVectorFile, GgufError> {
    if options.hint.trim().is_empty() {
        let expected = "an architecture, such as \"llama\"";
        return Err(GgufError::value("controlvector.model_hint", "nothing", expected));
    }
    if !options.scale.is_finite() || options.scale == 0.0 {
        return Err(GgufError::value("scale", options.scale, "a finite number other than 0"));
    }
    let (kept, left_out): (Vec<_>, Vec<_>) = vector.layers().iter().partition(|layer| layer.layer > 0);
    if kept.is_empty() {
        let expected = "a layer after the first: llama.cpp has no direction.0";
        return Err(GgufError::value("layers", "only layer 0", expected));
    }
    let count = u32::try_from(kept.len()).map_err(|_| GgufError::value("layers", kept.len(), "fewer than 2^32"))?;

    let mut file = MAGIC.to_vec();
    file.extend(VERSION.to_le_bytes());
    file.extend((kept.len() as u64).to_le_bytes());
    file.extend(3u64.to_le_bytes());
    push_text_entry(&mut file, "general.architecture", ARCHITECTURE);
    push_text_entry(&mut file, "controlvector.model_hint", &options.hint);
    push_text(&mut file, "controlvector.layer_count");
    file.extend(kind::U32.to_le_bytes());
    file.extend(count.to_le_bytes());

    let mut data = Vec::new();
    for layer in &kept {
        let name = format!("direction.{}", layer.layer);
        push_text(&mut file, &name);
        file.extend(1u32.to_le_bytes());
        file.extend((layer.direction.len() as u64).to_le_bytes());
        file.extend(F32.to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());

        let norm = if options.normalize { layer.norm() } else { 1.0 };
        let scaled = |value: &f32| (f64::from(*value) / norm * options.scale) as f32;
        let scaled: Vec<f32> = layer.direction.iter().map(scaled).collect();
        if let Some(value) = scaled.iter().find(|value| !value.is_finite()) {
            let expected = "values that F32 can hold: the scale is too large";
            return Err(GgufError::value(name, value, expected));
        }
        if scaled.iter().all(|value| *value == 0.0) {
            let expected = "a direction: the scale is too small";
            return Err(GgufError::value(name, "only zeros", expected));
        }
        data.extend(scaled.iter().flat_map(|value| value.to_le_bytes()));
        fill_up(&mut data);
    }
    fill_up(&mut file);
    file.extend(data);
    Ok(ControlVectorFile {
        bytes: file,
        layers: kept.iter().map(|layer| layer.layer).collect(),
        left_out: left_out.iter().map(|layer| layer.layer).collect(),
    })
}

fn push_text(file: &mut Vec<u8>, text: &str) {
    file.extend((text.len() as u64).to_le_bytes());
    file.extend(text.as_bytes());
}

fn push_text_entry(file: &mut Vec<u8>, key: &str, value: &str) {
    push_text(file, key);
    file.extend(kind::TEXT.to_le_bytes());
    push_text(file, value);
}

/// Appends zeros up to the next multiple of the alignment.
fn fill_up(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(DEFAULT_ALIGNMENT as usize), 0);
}

#[cfg(test)]
mod tests;
