//! A feature of a sparse autoencoder as a vector: its row of the decoder, which is the direction that the feature adds
//! to the residual stream.
//!
//! | who writes it | files | the point that it reads |
//! | --- | --- | --- |
//! | SAELens | `sae_weights.safetensors` beside `cfg.json` | `hook_name` in `cfg.json` |
//! | Gemma Scope | `layer_20/width_16k/average_l0_71/params.npz` | after the block in the path, in `-res` repositories |
//!
//! Both call the decoder `W_dec`, `[features, hidden size]`. SAELens writes `hook_name` in `metadata` since 6.0, before
//! that at the top, and earlier as `hook_point`. Gemma Scope's paths are interpreted as SAELens does.
//!
//! Only the row of the feature is read, and from `cfg.json` only the point that the decoder writes to. An autoencoder
//! of another point than the stream before or after a block is refused: the outputs of an MLP or attention live in
//! another space than the stream, with another mean and scale.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;
use steermap_maps::digest::sha256_file;
use steermap_maps::{FileError, ModelInfo, VectorFile, read};
use thiserror::Error;
use zip::ZipArchive;

use super::Format;
use super::error::{ForeignError, shown};
use super::layout::{ModelPoint, number};
use super::numpy::{Array, Descr, MAX_PREFIX};
use super::safetensor::{self, SafetensorsHeader};
use super::tensors::Dtype;
use super::vector::{LayerTensor, assemble, unknown_origin};

/// SAELens's name for the weights.
const WEIGHTS: &str = "sae_weights.safetensors";

/// SAELens's name for the configuration.
const CONFIG: &str = "cfg.json";

/// Gemma Scope's name for the weights.
const PARAMS: &str = "params.npz";

/// The largest configuration.
const MAX_CONFIG: u64 = 16 << 20;

/// The names of the decoder.
const DECODER: [&str; 2] = ["W_dec", "w_dec"];

/// A feature of an autoencoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its number, from 0.
    pub index: usize,
    /// The layer after which the autoencoder reads the stream, if its files don't state it.
    pub layer: Option<usize>,
    /// What it stands for; `None` for `feature N`.
    pub concept: Option<String>,
}

/// A feature's vector.
#[derive(Clone, Debug, PartialEq)]
pub struct SaeVector {
    /// The vector, of one layer, native to the model that it was read for.
    pub vector: VectorFile,
    /// The file that it was read from.
    pub weights: PathBuf,
    /// Notes for the user, one line each.
    pub notes: Vec<String>,
}

/// An autoencoder can't be read, or does not fit the model.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SaeError {
    /// A file can't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The content of a file is invalid.
    #[error("{}: {reason}", path.display())]
    Within {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: ForeignError,
    },
}

/// Reads a feature of the autoencoder at `path`: its folder, or its file of weights.
///
/// # Errors
///
/// Files are missing or broken, the feature does not exist, or the autoencoder has another width than the model, a
/// layer that the model doesn't have, or another point than the residual stream before or after a block.
pub fn load(path: &Path, feature: &Feature, model: ModelInfo) -> Result<SaeVector, SaeError> {
    let weights = find(path)?;
    let within = |reason: ForeignError| SaeError::Within {
        path: weights.clone(),
        reason,
    };
    let format = Format::of(&weights);
    let (place, mut notes) = match format {
        Some(Format::Safetensors) => {
            let config = weights.with_file_name(CONFIG);
            if config.is_file() {
                let (hook, notes) = read_config(&config, &model)?;
                (hook, notes)
            } else {
                (None, Vec::new())
            }
        }
        _ => (place_of_path(&weights).map_err(within)?, Vec::new()),
    };
    let block = match (place, feature.layer) {
        (Some(block), Some(layer)) if block != layer => {
            let expected = format!("{block}, as in the autoencoder's files, or no layer");
            return Err(within(ForeignError::value("layer", layer, expected)));
        }
        (Some(block), _) => block,
        (None, Some(layer)) => {
            notes.push(format!(
                "layer {layer} is not verified: the files do not state the point that the autoencoder reads"
            ));
            layer
        }
        (None, None) => {
            let expected = "the block after which the autoencoder reads the stream: give it with layer (neither cfg.json nor the \
                            path says it)";
            return Err(within(ForeignError::value("layer", "nothing", expected)));
        }
    };
    let file = File::open(&weights).map_err(|error| unreadable(&weights, error))?;
    let row = match format {
        Some(Format::Safetensors) => row_of_safetensors(file, feature.index, &model),
        _ => row_of_npz(file, feature.index, &model),
    };
    let values = row.map_err(within)?;
    let name = weights.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let concept = feature
        .concept
        .clone()
        .unwrap_or_else(|| format!("feature {}", feature.index));
    let method = format!("decoder row {} of a sparse autoencoder", feature.index);
    let mut header = unknown_origin(&concept, &method, model, &name, b"");
    header.provenance.corpus_sha256 = sha256_file(&weights)?;
    let found = LayerTensor {
        block,
        name: format!("feature {}", feature.index),
        values,
    };
    let read = assemble(vec![found], header, 0, None).map_err(within)?;
    Ok(SaeVector {
        vector: read.vector,
        weights,
        notes,
    })
}

/// The file of weights: `path`, or the one in that folder.
fn find(path: &Path) -> Result<PathBuf, SaeError> {
    let wrong = |found: String, expected: String| SaeError::Within {
        path: path.to_path_buf(),
        reason: ForeignError::value("file", found, expected),
    };
    if path.is_dir() {
        let mut files = [WEIGHTS, PARAMS].map(|name| path.join(name)).into_iter();
        let file = files.find(|file| file.is_file());
        return file.ok_or_else(|| {
            wrong(
                "a folder with neither".to_string(),
                format!("{WEIGHTS} or {PARAMS} in it"),
            )
        });
    }
    match Format::of(path) {
        Some(Format::Safetensors | Format::Npz) => Ok(path.to_path_buf()),
        _ => Err(wrong(
            "another ending".to_string(),
            "a folder of SAELens or Gemma Scope, or a file that ends in .safetensors or .npz".to_string(),
        )),
    }
}

/// The block after which a SAELens autoencoder's decoder adds, from its configuration, and notes.
fn read_config(path: &Path, model: &ModelInfo) -> Result<(Option<usize>, Vec<String>), SaeError> {
    let bytes = read::whole(path, "the autoencoder's configuration", MAX_CONFIG)?;
    config(&bytes, model).map_err(|reason| SaeError::Within {
        path: path.to_path_buf(),
        reason,
    })
}

fn config(bytes: &[u8], model: &ModelInfo) -> Result<(Option<usize>, Vec<String>), ForeignError> {
    let config: Value = serde_json::from_slice(bytes).map_err(|error| ForeignError::value(CONFIG, error, "JSON"))?;
    let get = |key: &str| {
        let value = config
            .get("metadata")
            .and_then(|metadata| metadata.get(key))
            .or_else(|| config.get(key));
        value.filter(|value| !value.is_null())
    };
    let text = |key: &str| get(key).and_then(Value::as_str);
    // A transcoder's decoder writes to another point than its encoder reads.
    let hooks = ["hook_name_out", "hook_name", "hook_point"];
    let hook = hooks.into_iter().find_map(|key| Some((key, text(key)?)));
    let mut notes = Vec::new();
    if let Some(other) = text("model_name").filter(|name| !is_same_model(name, &model.model)) {
        notes.push(format!(
            "the autoencoder was trained on {other:?}, and is used for {:?}",
            model.model
        ));
    }
    if let Some(kind) = text("normalize_activations").filter(|kind| *kind != "none") {
        notes.push(format!(
            "normalize_activations is {kind:?}: the vector has the feature's direction, but not its length in the stream"
        ));
    }
    let Some((key, hook)) = hook else {
        return Ok((None, notes));
    };
    match ModelPoint::of(hook) {
        Some(ModelPoint::After(block)) => Ok((Some(block), notes)),
        Some(ModelPoint::Embeddings) => {
            let expected = "the stream after a block: nothing is added before the first one";
            Err(ForeignError::value(key, shown(hook), expected))
        }
        Some(ModelPoint::Within) | None => {
            let expected = "blocks.N.hook_resid_post or hook_resid_pre: vectors are added to the stream between blocks, and what \
                            was learned within one (mlp_out, attn, resid_mid) lies elsewhere";
            Err(ForeignError::value(key, shown(hook), expected))
        }
    }
}

/// Whether two names may mean the same model: ignores the owner and the case.
fn is_same_model(a: &str, b: &str) -> bool {
    let plain = |name: &str| name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    plain(a) == plain(b)
}

/// The block in a Gemma Scope path.
fn place_of_path(path: &Path) -> Result<Option<usize>, ForeignError> {
    // Links are not followed: those of the model hub's cache lead to names without the layer.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut block = None;
    for part in path.iter().filter_map(|part| part.to_str()) {
        let is_gemma_scope = part.contains("gemma-scope");
        let within = ["-mlp", "-att", "transcoder"]
            .iter()
            .any(|kind| is_gemma_scope && part.contains(kind));
        if within || part == "embedding" {
            let expected = "an autoencoder of the residual stream after a block, as those in the -res repositories are";
            return Err(ForeignError::value("path", shown(part), expected));
        }
        if let Some(layer) = part.strip_prefix("layer_").and_then(number) {
            block = Some(layer);
        }
    }
    Ok(block)
}

fn unreadable(path: &Path, error: io::Error) -> FileError {
    FileError::Read {
        path: path.to_path_buf(),
        error,
    }
}

fn failed(error: impl ToString) -> ForeignError {
    ForeignError::value("W_dec", error, "a decoder that can be read")
}

/// Checks the decoder's shape. Returns the index of the first number of the feature's row.
fn start_of_row(shape: &[usize], index: usize, model: &ModelInfo) -> Result<u64, ForeignError> {
    let [features, width] = shape[..] else {
        return Err(ForeignError::value(
            "W_dec",
            format!("shape {shape:?}"),
            "[features, hidden size]",
        ));
    };
    if width != model.hidden_size {
        let expected = format!("[features, {}], the hidden size of {}", model.hidden_size, model.model);
        return Err(ForeignError::value("W_dec", format!("shape {shape:?}"), expected));
    }
    if index >= features {
        let expected = format!("one of the {features}, from 0");
        return Err(ForeignError::value("feature", index, expected));
    }
    // `index < features`, and `features * width` is checked below or was checked with the header.
    (index as u64)
        .checked_mul(width as u64)
        .ok_or_else(|| failed(format!("shape {shape:?}")))
}

fn row_of_safetensors(mut file: impl Read + Seek, index: usize, model: &ModelInfo) -> Result<Vec<f32>, ForeignError> {
    let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
    file.rewind().map_err(failed)?;
    let header = SafetensorsHeader::read(&mut file, length)?;
    let Some(info) = DECODER.iter().find_map(|name| header.info(name)) else {
        return Err(missing(&header.names()));
    };
    let dtype = safetensor::dtype(info.dtype).ok_or_else(|| failed(format!("numbers of type {}", info.dtype)))?;
    let start = start_of_row(&info.shape, index, model)?;
    // The header was checked: the tensor lies within the file.
    let at = header.data + info.data_offsets.0 as u64 + start * dtype.width() as u64;
    file.seek(SeekFrom::Start(at)).map_err(failed)?;
    row(&mut file, dtype, model)
}

fn row_of_npz(file: impl Read + Seek, index: usize, model: &ModelInfo) -> Result<Vec<f32>, ForeignError> {
    let mut zip =
        ZipArchive::new(file).map_err(|error| ForeignError::value("archive", error, "a complete zip file"))?;
    let names: Vec<String> = zip.file_names().take(1 << 10).map(String::from).collect();
    let Some(name) = DECODER
        .iter()
        .map(|name| format!("{name}.npy"))
        .find(|name| names.contains(name))
    else {
        return Err(missing(&names));
    };
    let mut entry = zip.by_name(&name).map_err(failed)?;
    let mut first = Vec::new();
    (&mut entry)
        .take(MAX_PREFIX as u64)
        .read_to_end(&mut first)
        .map_err(failed)?;
    let (array, data) = Array::parse("W_dec", &first)?;
    let Descr::Float(dtype) = array.dtype else {
        return Err(failed("numbers of another type"));
    };
    if array.columns {
        return Err(failed("an array column by column"));
    }
    let start = start_of_row(&array.shape, index, model)?;
    let skip = start
        .checked_mul(dtype.width() as u64)
        .ok_or_else(|| failed(format!("shape {:?}", array.shape)))?;
    let mut rest = data.chain(entry);
    // Earlier rows are read and dropped, so that a compressed decoder takes no memory.
    let skipped = io::copy(&mut (&mut rest).take(skip), &mut io::sink()).map_err(failed)?;
    if skipped < skip {
        return Err(ForeignError::Short {
            field: "W_dec".to_string(),
            found: skipped,
            expected: skip,
        });
    }
    row(&mut rest, dtype, model)
}

/// Reads the next row.
fn row(file: &mut impl Read, dtype: Dtype, model: &ModelInfo) -> Result<Vec<f32>, ForeignError> {
    let expected = (model.hidden_size as u64).saturating_mul(dtype.width() as u64);
    let mut bytes = Vec::new();
    file.take(expected).read_to_end(&mut bytes).map_err(failed)?;
    if (bytes.len() as u64) < expected {
        return Err(ForeignError::Short {
            field: "W_dec".to_string(),
            found: bytes.len() as u64,
            expected,
        });
    }
    Ok(dtype.decode(&bytes))
}

fn missing(names: &[String]) -> ForeignError {
    let names: Vec<String> = names.iter().take(8).map(|name| shown(name)).collect();
    ForeignError::value("tensors", names.join(", "), "W_dec, the decoder, among them")
}

#[cfg(test)]
mod tests;
