//! Decides which tensor of a file is the vector of which layer.
//!
//! | names | layer | who writes them |
//! | --- | --- | --- |
//! | none, in `vec_layer_13_MODEL.pt` | after block 13 | CAA's `generate_vectors.py`: one tensor in each file |
//! | `layer_activations.13`, `13` | after block 13 | steering-vectors' `SteeringVector`, or its `layer_activations` |
//! | `direction.13`, `directions.13`, `13` | after block 13 | repeng's and EasySteer's `directions`, saved by layer |
//! | `layer.13`, `layers.13`, `layer_13`, `layers_13` | after block 13 | own scripts |
//! | `model.layers.13`, with `.output` or `.output.0` | after block 13 | nnsight, module paths of transformers |
//! | `model.layers.13.input` | after block 12 | the same |
//! | `transformer.h.13`, `gpt_neox.layers.13` | after block 13 | the same, for other models |
//! | `blocks.13.hook_resid_post` | after block 13 | TransformerLens |
//! | `blocks.13.hook_resid_pre` | after block 12 | TransformerLens |
//! | one tensor `[layers, hidden]` or `[layers, 1, hidden]`, or a list of tensors | the row | own scripts |
//! | the same with a row more, the embeddings', first | the row less 1 | persona vectors' `*_response_avg_diff.pt` |
//! | `--key "PREFIX{}SUFFIX"`, with `{}` for the number | after that block | anything else |
//!
//! Layers count from 0. A point within a block is refused: a vector found there does not belong to the residual stream
//! after a block, where it would be added. The last of Hugging Face's `hidden_states` comes from after the final norm
//! in most models; a remark says so.

use std::collections::BTreeMap;

use steermap_maps::ModelInfo;

use super::error::{ForeignError, shown};
use super::tensors::{Contents, Tensor};
use super::vector::{LayerTensor, ReadOptions};

/// Prefixes before the layer's number in names for the stream after a block.
const PREFIXES: [&str; 8] = [
    "",
    "layer_activations.",
    "layer.",
    "layers.",
    "direction.",
    "directions.",
    "layer_",
    "layers_",
];

/// Prefixes before it in module paths of transformers.
const MODULES: [&str; 6] = [
    "model.layers.",
    "model.model.layers.",
    "model.language_model.layers.",
    "model.decoder.layers.",
    "transformer.h.",
    "gpt_neox.layers.",
];

/// Names of tensors of interventions that don't add: pyreft's LoReFT and LM-Steer, which EasySteer also reads.
const INTERVENTIONS: [&str; 3] = ["rotate_layer", "learned_source", "projector"];

/// Most names that a message lists.
const LISTED: usize = 6;

/// The point of a model that a tensor's name states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ModelPoint {
    /// The residual stream after this block.
    After(usize),
    /// The stream before the first block: the embeddings.
    Embeddings,
    /// Within a block.
    Within,
}

impl ModelPoint {
    fn before(block: usize) -> Self {
        block.checked_sub(1).map_or(Self::Embeddings, Self::After)
    }

    /// The point of a name, if it is one of the known names.
    pub(crate) fn of(name: &str) -> Option<Self> {
        if matches!(name, "hook_embed" | "blocks.0.hook_resid_pre") {
            return Some(Self::Embeddings);
        }
        if let Some((block, rest)) = name.strip_prefix("blocks.").and_then(leading_number) {
            return Some(match rest {
                ".hook_resid_post" => Self::After(block),
                ".hook_resid_pre" => Self::before(block),
                rest if rest.starts_with('.') => Self::Within,
                _ => return None,
            });
        }
        let module = MODULES
            .iter()
            .find_map(|prefix| leading_number(name.strip_prefix(prefix)?));
        if let Some((block, rest)) = module {
            return Some(match rest {
                "" | ".output" | ".output.0" => Self::After(block),
                ".input" => Self::before(block),
                rest if rest.starts_with('.') => Self::Within,
                _ => return None,
            });
        }
        let mut numbers = PREFIXES.iter().filter_map(|prefix| number(name.strip_prefix(prefix)?));
        numbers.next().map(Self::After)
    }
}

/// Parses a number without a sign or leading zeros.
pub(crate) fn number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|number: &usize| number.to_string() == text)
}

/// The number at the start of a text, and the rest.
fn leading_number(text: &str) -> Option<(usize, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((number(&text[..end])?, &text[end..]))
}

/// The vectors of a file, by its layout.
#[derive(Debug, PartialEq)]
pub(crate) struct FileVectors {
    pub(crate) found: Vec<LayerTensor>,
    /// Remarks for the user on how the file was understood.
    pub(crate) remarks: Vec<String>,
}

impl From<Vec<LayerTensor>> for FileVectors {
    fn from(found: Vec<LayerTensor>) -> Self {
        let remarks = Vec::new();
        Self { found, remarks }
    }
}

/// The vectors of a file with the name `file`.
///
/// # Errors
///
/// Tensors whose names don't state a layer, two tensors of one layer, points within a block, or shapes that don't fit
/// the model.
pub(crate) fn vectors(
    contents: Contents,
    file: &str,
    model: &ModelInfo,
    options: &ReadOptions,
) -> Result<FileVectors, ForeignError> {
    let Contents { tensors, others, .. } = contents;
    if let Some(kind) = others.get("layer_type").filter(|kind| *kind != "decoder_block") {
        let expected = "\"decoder_block\": another point of a block is not where vectors are added";
        return Err(ForeignError::value("layer_type", shown(kind), expected));
    }
    if let Some(pattern) = &options.key {
        return by_key(tensors, pattern, model, options);
    }
    if tensors.is_empty() {
        return Err(ForeignError::value(
            "tensors",
            "none of floating-point numbers",
            "a vector of each layer",
        ));
    }
    if tensors.len() == 1 && ModelPoint::of(&tensors[0].name).is_none() {
        let said = others
            .get("layer")
            .and_then(|layer| number(layer))
            .or_else(|| layer_of_file(file));
        let tensor = tensors.into_iter().next();
        return tensor.map_or(Ok(Vec::new().into()), |tensor| {
            unnamed(tensor, options.layer, said, model)
        });
    }
    if let Some(tensor) = tensors
        .iter()
        .find(|tensor| INTERVENTIONS.iter().any(|part| tensor.name.contains(part)))
    {
        let expected = "vectors alone: this is a trained intervention (pyreft, LM-Steer), which multiplies the stream with a \
                        matrix";
        return Err(ForeignError::value("tensors", shown(&tensor.name), expected));
    }
    let names = listed(&tensors);
    let mut found = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let block = match ModelPoint::of(&tensor.name) {
            Some(ModelPoint::After(block)) => block,
            Some(ModelPoint::Embeddings) => {
                let expected = "the stream after a block: nothing is added before the first one";
                return Err(ForeignError::value("tensors", shown(&tensor.name), expected));
            }
            Some(ModelPoint::Within) => {
                let expected =
                    "the stream after a block: vectors are not added within one, as into its MLP or attention";
                return Err(ForeignError::value("tensors", shown(&tensor.name), expected));
            }
            None => {
                let expected =
                    format!("names that state a layer: give their pattern with key, {{}} for the number ({names})");
                return Err(ForeignError::value("tensors", shown(&tensor.name), expected));
            }
        };
        found.push(vector(block, tensor, model)?);
    }
    Ok(distinct(found, options)?.into())
}

/// The tensors that match a pattern: with `{}`, one per layer; without, the vector, or the rows, of that name.
fn by_key(
    tensors: Vec<Tensor>,
    pattern: &str,
    model: &ModelInfo,
    options: &ReadOptions,
) -> Result<FileVectors, ForeignError> {
    let names = listed(&tensors);
    let none = || {
        ForeignError::value(
            "key",
            shown(pattern),
            format!("the pattern of a tensor's name: {names}"),
        )
    };
    let Some((prefix, suffix)) = pattern.split_once("{}") else {
        let tensor = tensors
            .into_iter()
            .find(|tensor| tensor.name == pattern)
            .ok_or_else(none)?;
        return unnamed(tensor, options.layer, None, model);
    };
    if suffix.contains("{}") {
        return Err(ForeignError::value(
            "key",
            shown(pattern),
            "{} once, for the layer's number",
        ));
    }
    let mut found = Vec::new();
    for tensor in tensors {
        let block = tensor
            .name
            .strip_prefix(prefix)
            .and_then(|rest| number(rest.strip_suffix(suffix)?));
        if let Some(block) = block {
            found.push(vector(block, tensor, model)?);
        }
    }
    if found.is_empty() {
        return Err(none());
    }
    Ok(distinct(found, options)?.into())
}

/// Checks that no block occurs twice, and selects the requested layer.
fn distinct(mut found: Vec<LayerTensor>, options: &ReadOptions) -> Result<Vec<LayerTensor>, ForeignError> {
    found.sort_by_key(|found| found.block);
    let mut seen: BTreeMap<usize, &str> = BTreeMap::new();
    for LayerTensor { block, name, .. } in &found {
        if let Some(other) = seen.insert(*block, name) {
            let both = format!("{} and {}, both of block {block}", shown(other), shown(name));
            return Err(ForeignError::value("tensors", both, "one of each: choose with key"));
        }
    }
    only(found, options.layer)
}

/// Only the vector of `layer`, if one is requested.
fn only(mut found: Vec<LayerTensor>, layer: Option<usize>) -> Result<Vec<LayerTensor>, ForeignError> {
    let Some(layer) = layer else { return Ok(found) };
    let blocks: Vec<usize> = found.iter().map(|found| found.block).collect();
    found.retain(|found| found.block == layer);
    if found.is_empty() {
        return Err(ForeignError::value(
            "layer",
            layer,
            format!("one of the file's: {blocks:?}"),
        ));
    }
    Ok(found)
}

/// The vector of a tensor whose name states no layer, or those in its rows. `layer` is the requested layer; `said` is
/// the layer that the file states in another way, for one vector.
fn unnamed(
    tensor: Tensor,
    layer: Option<usize>,
    said: Option<usize>,
    model: &ModelInfo,
) -> Result<FileVectors, ForeignError> {
    if is_vector(&tensor.shape, model.hidden_size) {
        let Some(block) = layer.or(said) else {
            let expected = "the layer of the one vector in the file: give it with layer (neither a name in the file nor \
                            the file's own says it)";
            return Err(ForeignError::value("layer", "nothing", expected));
        };
        return Ok(vec![vector(block, tensor, model)?].into());
    }
    let rows = match tensor.shape[..] {
        [rows, hidden] | [rows, 1, hidden] if hidden == model.hidden_size => rows,
        _ => return Err(wrong_shape(&tensor, model)),
    };
    // Hugging Face's `hidden_states` begin with the embeddings.
    let skipped = match rows.checked_sub(model.num_layers) {
        Some(more @ (0 | 1)) => more,
        _ => return Err(wrong_shape(&tensor, model)),
    };
    let found = tensor.values.chunks_exact(model.hidden_size).skip(skipped).enumerate();
    let found = found.map(|(block, values)| LayerTensor {
        block,
        name: format!("row {} of {}", block + skipped, shown(&tensor.name)),
        values: values.to_vec(),
    });
    let found = only(found.collect(), layer)?;
    let mut remarks = Vec::new();
    if skipped > 0 {
        let has_last = found.iter().any(|found| found.block + 1 == model.num_layers);
        let last = if has_last {
            ", and the last, which may be from after the final norm, as the stream of the last layer"
        } else {
            ""
        };
        remarks.push(format!(
            "{rows} rows for {} layers: the first is taken as the embeddings{last}",
            model.num_layers
        ));
    }
    Ok(FileVectors { found, remarks })
}

fn vector(block: usize, tensor: Tensor, model: &ModelInfo) -> Result<LayerTensor, ForeignError> {
    if !is_vector(&tensor.shape, model.hidden_size) {
        let expected = format!("[{}], the hidden size of {}", model.hidden_size, model.model);
        return Err(ForeignError::value(
            shown(&tensor.name),
            format!("shape {:?}", tensor.shape),
            expected,
        ));
    }
    Ok(LayerTensor {
        block,
        name: tensor.name,
        values: tensor.values,
    })
}

/// Whether a shape is that of one vector, ignoring dimensions of 1.
fn is_vector(shape: &[usize], hidden_size: usize) -> bool {
    let mut lengths = shape.iter().filter(|length| **length != 1);
    !shape.is_empty() && *lengths.next().unwrap_or(&1) == hidden_size && lengths.next().is_none()
}

fn wrong_shape(tensor: &Tensor, model: &ModelInfo) -> ForeignError {
    let (hidden, layers) = (model.hidden_size, model.num_layers);
    let expected = format!(
        "[{hidden}], [{layers}, {hidden}], or [{}, {hidden}] with the embeddings first: the sizes of {}",
        layers + 1,
        model.model
    );
    ForeignError::value(shown(&tensor.name), format!("shape {:?}", tensor.shape), expected)
}

/// The names of the first tensors.
fn listed(tensors: &[Tensor]) -> String {
    let names: Vec<String> = tensors.iter().take(LISTED).map(|tensor| shown(&tensor.name)).collect();
    let more = tensors.len().saturating_sub(LISTED);
    match (names.is_empty(), more) {
        (true, _) => "the file has no tensor".to_string(),
        (false, 0) => format!("the file has {}", names.join(", ")),
        (false, more) => format!("the file has {} and {more} more", names.join(", ")),
    }
}

/// The layer in a file's name, if there is exactly one: `vec_layer_13_Llama-2-7b-hf.pt`.
fn layer_of_file(file: &str) -> Option<usize> {
    let file = file.to_ascii_lowercase();
    let numbers = file.split("layer").skip(1).filter_map(|rest| {
        let rest = rest.strip_prefix(['_', '-', '.', '=']).unwrap_or(rest);
        leading_number(rest).map(|(number, _)| number)
    });
    let numbers: Vec<usize> = numbers.collect();
    match numbers[..] {
        [number] => Some(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
