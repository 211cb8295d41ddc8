//! Reads a vector from bytes.
//!
//! The files are untrusted, so every length is checked against the bytes of the file. candle's reader trusts lengths: a
//! file of a few bytes can make it reserve all memory, which ends the process.

use std::collections::{BTreeMap, BTreeSet};

use steermap_maps::{ModelInfo, VectorFile};

use super::format::{ARCHITECTURE, BF16, DEFAULT_ALIGNMENT, F16, F32, MAGIC, kind};
use super::operation;
use super::value::{METHOD, MetadataValue};
use crate::foreign::error::ForeignError as GgufError;
use crate::foreign::tensors::Dtype;
use crate::foreign::vector::{
    ForeignVector, LayerTensor, ReadOptions, assemble, out_of_range, shifted, unknown_origin,
};

/// The versions with 64-bit lengths. Version 1 had 32 bits, and no control vector was ever written in it.
const VERSIONS: [u32; 2] = [2, 3];

/// The most dimensions of a tensor in GGML.
const MAX_DIMENSIONS: u32 = 4;

/// The most metadata entries. llama.cpp and repeng write three; each takes memory.
const MAX_METADATA: u64 = 1024;

/// The key of the architecture that the vector was found on.
const MODEL_HINT: &str = "controlvector.model_hint";

/// As [`read_with`] without options; returns only the vector.
///
/// # Errors
///
/// As [`read_with`].
pub fn read(bytes: &[u8], concept: &str, model: ModelInfo) -> Result<VectorFile, GgufError> {
    Ok(read_with(bytes, concept, model, &ReadOptions::default())?.vector)
}

/// Reads the control vector in `bytes` as a vector for `concept`, native to `model`.
///
/// The file does not state the stream's mean norms, so these are 0, which means not known. Directions that are all
/// zeros are left out: writers put them where they found nothing.
///
/// # Errors
///
/// The file is incomplete, in another format or version, meant for another operation than addition, or has tensors
/// other than finite directions of the model's layers and size in F32, F16 or BF16. Or the options have a key, though
/// the names are fixed.
pub fn read_with(
    bytes: &[u8],
    concept: &str,
    model: ModelInfo,
    options: &ReadOptions,
) -> Result<ForeignVector, GgufError> {
    if let Some(key) = &options.key {
        let expected = "none: the directions of a .gguf are called direction.1 and so on";
        return Err(GgufError::value("key", format!("{key:?}"), expected));
    }
    let mut reader = GgufReader { bytes, at: 0 };
    let magic = reader.take("magic", 4)?;
    if magic != MAGIC {
        let found = String::from_utf8_lossy(magic).into_owned();
        return Err(GgufError::Magic {
            found,
            expected: "GGUF",
        });
    }
    let version = reader.u32("version")?;
    if !VERSIONS.contains(&version) {
        return Err(GgufError::Version { found: version });
    }
    let tensor_count = reader.u64("tensor count")?;
    if tensor_count > model.num_layers as u64 {
        let expected = format!("at most {}, the layers of {}", model.num_layers, model.model);
        return Err(GgufError::value("tensor count", tensor_count, expected));
    }
    let metadata_count = reader.u64("metadata count")?;
    if metadata_count > MAX_METADATA {
        return Err(GgufError::value(
            "metadata count",
            metadata_count,
            format!("at most {MAX_METADATA}"),
        ));
    }
    let mut metadata = BTreeMap::new();
    for _ in 0..metadata_count {
        let key = reader.text("a metadata key")?;
        let value = reader.value(key)?;
        if metadata.insert(key, value).is_some() {
            return Err(GgufError::value(key, "the key twice", "it once"));
        }
    }
    let alignment = check_metadata(&metadata)?;
    let first = usize::from(!metadata.contains_key(METHOD));
    let mut tensors = BTreeMap::new();
    let mut names = BTreeSet::new();
    for _ in 0..tensor_count {
        let tensor = reader.tensor(&model, first, options.shift)?;
        if !names.insert(tensor.layer) {
            return Err(GgufError::value(tensor.name, "the tensor twice", "it once"));
        }
        tensors.insert(tensor.layer, tensor);
    }
    let data = (reader.at as u64).next_multiple_of(alignment);
    if let Some(layer) = options.layer {
        let layers: Vec<usize> = tensors.keys().copied().collect();
        tensors.retain(|number, _| *number == layer);
        if tensors.is_empty() {
            return Err(GgufError::value(
                "layer",
                layer,
                format!("one of the file's: {layers:?}"),
            ));
        }
    }
    let mut found = Vec::with_capacity(tensors.len());
    for (block, tensor) in tensors {
        if tensor.offset % alignment != 0 {
            let found = format!("the offset {}", tensor.offset);
            return Err(GgufError::value(
                tensor.name,
                found,
                format!("a multiple of {alignment}"),
            ));
        }
        let start = data.checked_add(tensor.offset);
        let mut at = GgufReader {
            bytes,
            at: start
                .and_then(|start| usize::try_from(start).ok())
                .unwrap_or(usize::MAX),
        };
        // The size of the tensor: `GgufReader::tensor` compared its shape with this.
        let values = at.take(tensor.name, (tensor.dtype.width() * model.hidden_size) as u64)?;
        found.push(LayerTensor {
            block,
            name: tensor.name.to_string(),
            values: tensor.dtype.decode(values),
        });
    }
    let hint = match metadata.get(MODEL_HINT) {
        Some(MetadataValue::Text(hint)) => Some(hint.to_string()),
        _ => None,
    };
    let header = unknown_origin(concept, &method(hint.as_deref()), model, "the GGUF file", bytes);
    assemble(found, header, options.shift, hint)
}

/// How the vector was found, as far as the file states it.
fn method(hint: Option<&str>) -> String {
    match hint {
        Some(hint) => format!("GGUF control vector of a {hint} model"),
        None => "GGUF control vector".to_string(),
    }
}

/// Checks the metadata. Returns the alignment.
fn check_metadata(metadata: &BTreeMap<&str, MetadataValue<'_>>) -> Result<u64, GgufError> {
    let architecture = "general.architecture";
    match metadata.get(architecture) {
        Some(MetadataValue::Text(ARCHITECTURE)) => (),
        other => {
            let found = other.map_or("nothing".to_string(), MetadataValue::to_string);
            return Err(GgufError::value(architecture, found, "\"controlvector\""));
        }
    }
    if let Some(other) = metadata
        .get(MODEL_HINT)
        .filter(|hint| !matches!(hint, MetadataValue::Text(_)))
    {
        return Err(GgufError::value(MODEL_HINT, other, "a text"));
    }
    if let Some(other) = metadata
        .get("controlvector.layer_count")
        .filter(|count| !matches!(count, MetadataValue::Integer(1..)))
    {
        return Err(GgufError::value(
            "controlvector.layer_count",
            other,
            "a number of layers",
        ));
    }
    for (key, value) in metadata {
        operation::check(key, value)?;
    }
    match metadata.get("general.alignment") {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(MetadataValue::Integer(alignment)) if alignment.is_power_of_two() && *alignment <= 1 << 20 => {
            Ok(*alignment)
        }
        Some(other) => Err(GgufError::value(
            "general.alignment",
            other,
            "a power of two up to 1048576",
        )),
    }
}

/// The file's entry of a tensor, which is a direction of the model.
struct TensorEntry<'a> {
    name: &'a str,
    layer: usize,
    dtype: Dtype,
    /// In bytes from the start of the tensors' data.
    offset: u64,
}

/// Reads the bytes in order, with bounds checks.
struct GgufReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> GgufReader<'a> {
    fn take(&mut self, field: &str, length: u64) -> Result<&'a [u8], GgufError> {
        let left = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(length).ok().and_then(|length| left.get(..length));
        let Some(taken) = taken else {
            return Err(GgufError::Short {
                field: field.to_string(),
                found: left.len() as u64,
                expected: length,
            });
        };
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N], GgufError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(field, N as u64)?);
        Ok(array)
    }

    fn u32(&mut self, field: &str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(field)?))
    }

    fn u64(&mut self, field: &str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(field)?))
    }

    fn text(&mut self, field: &str) -> Result<&'a str, GgufError> {
        let length = self.u64(field)?;
        let bytes = self.take(field, length)?;
        std::str::from_utf8(bytes).map_err(|_| GgufError::value(field, "bytes that are not UTF-8", "a text"))
    }

    /// A metadata value after its key.
    fn value(&mut self, key: &str) -> Result<MetadataValue<'a>, GgufError> {
        let kind = self.u32(key)?;
        self.value_of(key, kind)
    }

    fn value_of(&mut self, key: &str, kind: u32) -> Result<MetadataValue<'a>, GgufError> {
        let integer = |value: Option<u64>| value.map_or(MetadataValue::Other, MetadataValue::Integer);
        Ok(match kind {
            0 => MetadataValue::Integer(u8::from_le_bytes(self.array(key)?).into()),
            1 => integer(i8::from_le_bytes(self.array(key)?).try_into().ok()),
            2 => MetadataValue::Integer(u16::from_le_bytes(self.array(key)?).into()),
            3 => integer(i16::from_le_bytes(self.array(key)?).try_into().ok()),
            kind::U32 => MetadataValue::Integer(self.u32(key)?.into()),
            5 => integer(i32::from_le_bytes(self.array(key)?).try_into().ok()),
            7 => {
                let [byte] = self.array(key)?;
                MetadataValue::Bool(byte != 0)
            }
            kind::TEXT => MetadataValue::Text(self.text(key)?),
            9 => {
                self.skip_array(key)?;
                MetadataValue::Other
            }
            10 => MetadataValue::Integer(self.u64(key)?),
            11 => integer(i64::from_le_bytes(self.array(key)?).try_into().ok()),
            other => {
                let Some(width) = width(other) else {
                    return Err(GgufError::value(
                        key,
                        format!("the type {other}"),
                        "a type of GGUF, 0 to 12",
                    ));
                };
                self.take(key, width)?;
                MetadataValue::Other
            }
        })
    }

    /// Skips an array, which control vectors don't use. Arrays of arrays are refused, since no program writes them.
    fn skip_array(&mut self, key: &str) -> Result<(), GgufError> {
        let kind = self.u32(key)?;
        let length = self.u64(key)?;
        if kind == kind::TEXT {
            for _ in 0..length {
                self.text(key)?;
            }
            return Ok(());
        }
        let Some(width) = width(kind) else {
            return Err(GgufError::value(
                key,
                format!("an array of the type {kind}"),
                "numbers or texts",
            ));
        };
        self.take(key, length.saturating_mul(width)).map(drop)
    }

    /// Reads the entry of one tensor and checks it against the model. `first` is the lowest number of a direction.
    fn tensor(&mut self, model: &ModelInfo, first: usize, shift: i64) -> Result<TensorEntry<'a>, GgufError> {
        let name = self.text("a tensor's name")?;
        let dimensions = self.u32(name)?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(GgufError::value(name, format!("{dimensions} dimensions"), "one"));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.u64(name)?);
        }
        let dtype = self.u32(name)?;
        let offset = self.u64(name)?;
        let last = model.num_layers.saturating_sub(1);
        let number = name.strip_prefix("direction.");
        // No program writes `+1` or `01`, which would be a second name of the same layer.
        let layer = number.and_then(|number| number.parse().ok().filter(|layer: &usize| layer.to_string() == number));
        if let Some(layer) = layer.filter(|layer| *layer == model.num_layers && shift == 0) {
            return Err(out_of_range(name, layer, shift, model));
        }
        let in_model = |layer: &usize| shifted(*layer, shift).is_some_and(|layer| layer <= last);
        let Some(layer) = layer.filter(|layer| *layer >= first && in_model(layer)) else {
            let shown: String = name.chars().take(64).collect();
            let shift_note = if shift == 0 {
                String::new()
            } else {
                format!(", once shifted by {shift}")
            };
            let expected = match (first, shift) {
                (1, 0) => format!(
                    "direction.1 to direction.{last}: blocks of {} after the first",
                    model.model
                ),
                _ => format!("directions of blocks 0 to {last} of {}{shift_note}", model.model),
            };
            return Err(GgufError::value("tensors", format!("{shown:?}"), expected));
        };
        let dtype = match dtype {
            F32 => Dtype::F32,
            F16 => Dtype::F16,
            BF16 => Dtype::Bf16,
            other => {
                let expected = "F32, F16 or BF16, which are 0, 1 and 30";
                return Err(GgufError::value(name, format!("GGML's type {other}"), expected));
            }
        };
        let (length, others) = shape.split_first().unwrap_or((&0, &[]));
        if *length != model.hidden_size as u64 || others.iter().any(|length| *length != 1) {
            let expected = format!("[{}], the hidden size of {}", model.hidden_size, model.model);
            return Err(GgufError::value(name, format!("shape {shape:?}"), expected));
        }
        Ok(TensorEntry {
            name,
            layer,
            dtype,
            offset,
        })
    }
}

/// The bytes of a value of a type with fixed size.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}
