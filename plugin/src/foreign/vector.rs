//! The vector that every reader returns, and its vector file.

use steermap_maps::{LayerVector, ModelInfo, Numerics, Provenance, TokenPosition, VectorFile, VectorHeader, digest};

use super::error::{ForeignError, shown};

/// Options for what a file does not state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// The layer of the one vector in a file that doesn't state it. From a file with several vectors, only that layer
    /// is taken. Counted as in the file, before `shift`.
    pub layer: Option<usize>,
    /// The pattern of the tensors' names, with `{}` for the layer's number, such as `"happy.{}.mean"`; or the name of
    /// one tensor. `None` for the known names.
    pub key: Option<String>,
    /// Added to every layer's number: -1 for a file that counts from 1.
    pub shift: i64,
}

/// A vector that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct ForeignVector {
    /// The vector, native to the given model.
    pub vector: VectorFile,
    /// Layers that are left out since their directions are all zeros. Ascending.
    pub skipped: Vec<usize>,
    /// The architecture of the model that the vector was found on, as the file states it: `controlvector.model_hint` of
    /// GGUF.
    pub hint: Option<String>,
    /// How the file was understood, if it is ambiguous.
    pub remarks: Vec<String>,
}

impl ForeignVector {
    /// Notes for the user, one line each.
    ///
    /// `architecture` is the model's, as llama.cpp and Hugging Face name it; if it is `None`, the hint isn't compared.
    pub fn notes(&self, architecture: Option<&str>) -> Vec<String> {
        let mut notes = self.remarks.clone();
        if !self.skipped.is_empty() {
            let skipped: Vec<String> = self.skipped.iter().map(usize::to_string).collect();
            notes.push(format!(
                "left out: layer {}, whose direction is all zeros",
                skipped.join(", ")
            ));
        }
        if let (Some(hint), Some(architecture)) = (&self.hint, architecture)
            && !is_same_family(hint, architecture)
        {
            notes.push(format!(
                "controlvector.model_hint: found {hint:?}, expected {architecture:?}, the model's architecture: the vector was \
                 probably found on another one"
            ));
        }
        notes
    }
}

/// Whether a hint may mean the architecture. EasySteer's hints are free text: its files have `qwen` and `qwen2.5` for a
/// `qwen2`, and `unknown` if the user gave none.
fn is_same_family(hint: &str, architecture: &str) -> bool {
    let (hint, architecture) = (family(hint), family(architecture));
    hint == "unknown" || hint.starts_with(&architecture) || architecture.starts_with(&hint)
}

/// An architecture's name, normalised for the differences between llama.cpp and Hugging Face.
fn family(architecture: &str) -> String {
    let name = architecture.to_ascii_lowercase();
    let name = name.strip_suffix("_text").unwrap_or(&name).replace(['-', '_'], "");
    match &*name {
        // llama.cpp runs it as a Llama.
        "mistral" => "llama".to_string(),
        _ => name,
    }
}

/// A vector of a file, with the number of the block after which it is added, as the file counts.
#[derive(Debug, PartialEq)]
pub(crate) struct LayerTensor {
    pub(crate) block: usize,
    /// The tensor's name, for messages.
    pub(crate) name: String,
    pub(crate) values: Vec<f32>,
}

/// The header of a vector of unknown origin; `corpus` names what it was made from, with the bytes `content`.
pub(crate) fn unknown_origin(
    concept: &str,
    method: &str,
    model: ModelInfo,
    corpus: &str,
    content: &[u8],
) -> VectorHeader {
    let unknown = || "unknown".to_string();
    VectorHeader {
        concept: concept.to_string(),
        method: method.to_string(),
        token_position: TokenPosition::Last,
        pairs: 0,
        model,
        numerics: Numerics {
            dtype: unknown(),
            quantization: None,
        },
        provenance: Provenance {
            tool: unknown(),
            date: unknown(),
            command: unknown(),
            seed: None,
            corpus: corpus.to_string(),
            corpus_sha256: digest::sha256(content),
        },
    }
}

/// Makes a vector file of the vectors of a file in any format.
pub(crate) fn assemble(
    found: Vec<LayerTensor>,
    header: VectorHeader,
    shift: i64,
    hint: Option<String>,
) -> Result<ForeignVector, ForeignError> {
    let model = &header.model;
    let (mut layers, mut skipped) = (Vec::with_capacity(found.len()), Vec::new());
    for LayerTensor { block, name, values } in found {
        let layer = shifted(block, shift).filter(|layer| *layer < model.num_layers);
        let layer = layer.ok_or_else(|| out_of_range(&name, block, shift, model))?;
        if values.iter().all(|value| *value == 0.0) {
            skipped.push(layer);
            continue;
        }
        layers.push(LayerVector {
            layer,
            direction: values,
            mean_norm: 0.0,
            auroc: None,
            neutral: None,
        });
    }
    if layers.is_empty() && !skipped.is_empty() {
        return Err(ForeignError::value(
            "tensors",
            "only zeros",
            "a direction: one of a norm above 0",
        ));
    }
    skipped.sort_unstable();
    Ok(ForeignVector {
        vector: VectorFile::new(header, layers)?,
        skipped,
        hint,
        remarks: Vec::new(),
    })
}

/// A block's number with `shift` added.
pub(crate) fn shifted(block: usize, shift: i64) -> Option<usize> {
    let shifted = i64::try_from(block).ok()?.checked_add(shift)?;
    usize::try_from(shifted).ok()
}

/// The error for a block that the model does not have.
pub(crate) fn out_of_range(name: &str, block: usize, shift: i64, model: &ModelInfo) -> ForeignError {
    let (layers, last) = (model.num_layers, model.num_layers.saturating_sub(1));
    let field = shown(name);
    let found = match shift {
        0 => format!("block {block}"),
        shift => format!("block {block} shifted by {shift}"),
    };
    let expected = format!("one of the {layers} blocks of {}, 0 to {last}", model.model);
    if block == layers && shift == 0 {
        let hint = format!(
            "{expected}: vectors are added after a block, and blocks count from 0. A file that is numbered from 1 to {layers} \
             probably counts from 1: `mapper convert --shift -1` takes 1 from all its numbers"
        );
        return ForeignError::value(field, found, hint);
    }
    ForeignError::value(field, found, expected)
}
