//! Errors of files: [`FileError`] names the file, [`Problem`] says what is wrong in its content.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::dtype::FloatDtype;

/// A file could not be read or written, or its content is wrong. Every variant names the path.
///
/// The message includes the cause, so [`source`](std::error::Error::source) is always `None` and a chain of messages
/// doesn't repeat it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The path of a TOML file has a name that this crate doesn't read or write.
    #[error("{}: {why}", path.display())]
    Name {
        /// The path as given.
        path: PathBuf,
        /// What is wrong with the name, and what is expected.
        why: &'static str,
    },
    /// The file doesn't exist.
    #[error("{}: {role} does not exist", path.display())]
    Missing {
        /// The missing path.
        path: PathBuf,
        /// What the file is for.
        role: &'static str,
    },
    /// The path is not a regular file or a link to one.
    #[error("{}: found no regular file, expected {role}", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What the file is for.
        role: &'static str,
    },
    /// The file is larger than this crate reads or writes. When reading, the size is checked before the content is
    /// read.
    #[error("{}: found {found} bytes, expected at most {limit}", path.display())]
    TooLarge {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The most bytes it may have.
        limit: u64,
    },
    /// The operating system refused to read the file.
    #[error("{}: can't be read: {error}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The operating system refused to write the file. An earlier file in its place is unchanged.
    #[error("{}: can't be written: {error}", path.display())]
    Write {
        /// The path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The folder has no weights to take a fingerprint of.
    #[error("{}: found no weights, expected at least one *.safetensors file", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// The file was read, and its content is wrong.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// The file that holds the wrong content.
        path: PathBuf,
        /// What is wrong.
        problem: Problem,
    },
}

impl FileError {
    pub(crate) fn read(path: &Path, error: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            error,
        }
    }

    pub(crate) fn write(path: &Path, error: io::Error) -> Self {
        Self::Write {
            path: path.to_owned(),
            error,
        }
    }
}

/// A broken invariant: the field, what was found there, and what was expected.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// The TOML file isn't UTF-8.
    #[error("found invalid UTF-8 after byte {valid_up_to}, expected text")]
    NotText {
        /// How many bytes from the start are valid.
        valid_up_to: usize,
    },
    /// The TOML is malformed, lacks a key, or has a value of the wrong type.
    #[error("{message}")]
    Toml {
        /// The parser's message, with line and column.
        message: String,
    },
    /// The TOML has a key that files of this kind don't have.
    #[error("{message}")]
    UnknownKey {
        /// The parser's message, with line and column, and the keys that are known there.
        message: String,
    },
    /// The file is of another kind or version.
    #[error("format: found {found}, expected \"{expected}\"{hint}")]
    Format {
        /// What `format` says, as TOML, or `nothing`.
        found: String,
        /// The accepted value; the newest of several.
        expected: &'static str,
        /// What kind of file it seems to be, as the end of a sentence, or empty.
        hint: &'static str,
    },
    /// A single value is out of its range.
    #[error("{field}: found {found}, expected {expected}")]
    Value {
        /// The key, as `table.key`, or `key of layer N`.
        field: String,
        /// The value.
        found: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A value isn't the one that other values imply.
    #[error("{field}: found {found}, expected {expected}")]
    Implied {
        /// The key, or the place.
        field: String,
        /// The value.
        found: Box<str>,
        /// What it must be.
        expected: Box<str>,
    },
    /// `weights.file` may point outside of the TOML file's folder, or isn't named like a safetensors file.
    #[error(
        "weights.file: found {found:?}, expected the bare name of a .safetensors file in the same folder, \
         not starting with a dot"
    )]
    WeightsName {
        /// The name.
        found: String,
    },
    /// The tensors are not those that the TOML was written with.
    #[error("weights.sha256: the file's content hashes to {found}, expected {expected}")]
    Sha256 {
        /// Hash of the bytes read.
        found: String,
        /// Hash that the TOML states.
        expected: String,
    },
    /// Bytes that come from no file are more than this crate reads. Of files, [`FileError::TooLarge`] says so.
    #[error("found {found} bytes, expected at most {limit}")]
    TooLarge {
        /// How many there are.
        found: u64,
        /// The most that there may be.
        limit: u64,
    },
    /// The file isn't safetensors, is cut short, or is longer than its header states.
    #[error("not a whole safetensors file: {message}")]
    Safetensors {
        /// What doesn't fit.
        message: String,
    },
    /// The file isn't GGUF.
    #[error("found a file that starts with {found:?}, expected a GGUF file, which starts with \"GGUF\"")]
    Gguf {
        /// The first four bytes.
        found: String,
    },
    /// A tensor that the TOML file lists, or that the caller asked for, isn't in the safetensors file.
    #[error("tensor {tensor:?}: found no such tensor, expected it in this file")]
    MissingTensor {
        /// Its name.
        tensor: String,
    },
    /// The safetensors file has a tensor that the TOML file doesn't list, or that wasn't expected otherwise.
    #[error("tensor {tensor:?}: found in this file, but not expected")]
    ExtraTensor {
        /// Its name.
        tensor: String,
    },
    /// Two tensors of one name were to be written.
    #[error("tensor {tensor:?}: found twice, expected every name once")]
    DuplicateTensor {
        /// Its name.
        tensor: String,
    },
    /// A `[[layer]]` table names another layer's tensor.
    #[error("tensor of layer {layer}: found {found:?}, expected \"layer.{layer}\"")]
    TensorName {
        /// The layer, 0-based.
        layer: usize,
        /// The name.
        found: String,
    },
    /// A `[[pair]]` table names another tensor than its own.
    #[error("{expected}: found {found:?}, expected {expected:?} (pairs count from 0, in the order listed)")]
    PairTensorName {
        /// The only name accepted, `pair.N.KEY`.
        expected: String,
        /// The name.
        found: String,
    },
    /// A tensor isn't of the floating-point type expected: F32 in vectors, in maps what their TOML file says.
    #[error("tensor {tensor:?}: found dtype {found}, expected {expected}")]
    Dtype {
        /// Its name.
        tensor: String,
        /// Its dtype, as safetensors spells it.
        found: String,
        /// The dtype it must have.
        expected: &'static str,
    },
    /// A tensor's shape isn't the one that the TOML implies, or its number of values doesn't match its shape.
    #[error("tensor {tensor:?}: found shape {found:?}, expected {expected:?}")]
    Shape {
        /// Its name.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it must have.
        expected: Vec<usize>,
    },
    /// A tensor holds a NaN or an infinity.
    #[error("tensor {tensor:?}: found {found} at index {index}, expected finite numbers")]
    NotFinite {
        /// Its name.
        tensor: String,
        /// Where, in elements from the tensor's start, row by row.
        index: usize,
        /// The value.
        found: f64,
    },
    /// A tensor holds a number that the dtype it is to be written in can't hold.
    #[error("tensor {tensor:?}: found {found} at index {index}, expected numbers that {dtype} can hold")]
    BeyondDtype {
        /// Its name.
        tensor: String,
        /// Where, in elements from the tensor's start, row by row.
        index: usize,
        /// The value.
        found: f32,
        /// The dtype.
        dtype: FloatDtype,
    },
    /// A direction has norm 0, so it points nowhere and can't be normalised.
    #[error("tensor {tensor:?}: found a norm of 0, expected a direction")]
    ZeroVector {
        /// Its name.
        tensor: String,
    },
    /// The stated norm isn't that of the tensor.
    #[error("norm of layer {layer}: found {stated}, expected {actual}, the norm of the tensor (within 0.1%)")]
    Norm {
        /// The layer, 0-based.
        layer: usize,
        /// What the TOML says.
        stated: f64,
        /// L2 norm of the tensor.
        actual: f64,
    },
    /// No layer is listed.
    #[error("layer: found no [[layer]] table, expected at least one")]
    NoLayers,
    /// A layer is listed twice.
    #[error("layer: found {layer} twice, expected every layer once")]
    DuplicateLayer {
        /// The layer, 0-based.
        layer: usize,
    },
    /// A layer that the model doesn't have.
    #[error("layer: found {layer}, expected less than {num_layers}, the model's num_layers (layers count from 0)")]
    LayerOutOfRange {
        /// The layer, 0-based.
        layer: usize,
        /// The model's number of layers.
        num_layers: usize,
    },
    /// No pair of layers is listed.
    #[error("pair: found no [[pair]] table, expected at least one")]
    NoPairs,
    /// The same target layer is mapped twice from the same source layers.
    #[error("pair: found {layers} twice, expected every pair of source layers and target layer once")]
    DuplicatePair {
        /// Its layers, such as `14->11`.
        layers: String,
    },
    /// A pair's map is of a kind that this version of steermap, or this version of the format, doesn't know.
    #[error("pair.{pair}.kind: found {found}, expected {expected}")]
    Kind {
        /// The pair, counted from 0 in the order listed.
        pair: usize,
        /// What `kind` says, as TOML.
        found: String,
        /// The kinds that are known.
        expected: &'static str,
    },
    /// The rank of a low-rank map is 0, or more than any matrix of its shape can have.
    #[error("pair.{pair}.rank: found {found}, expected 1 to {most}, the smaller side of the map's matrix")]
    Rank {
        /// The pair, counted from 0 in the order listed.
        pair: usize,
        /// The rank.
        found: usize,
        /// The most that it may be.
        most: usize,
    },
    /// The two factors of a low-rank map are kept in different dtypes.
    #[error("pair.{pair}: found a left factor of {left} and a right one of {right}, expected the same dtype")]
    MixedDtypes {
        /// The pair, counted from 0 in the order listed.
        pair: usize,
        /// Dtype of `left`.
        left: FloatDtype,
        /// Dtype of `right`.
        right: FloatDtype,
    },
    /// A pair's tensors aren't those that the TOML was written with.
    #[error("pair.{pair}.sha256: its tensors hash to {found}, expected {expected}")]
    PairSha256 {
        /// The pair, counted from 0 in the order listed.
        pair: usize,
        /// Hash of the bytes read.
        found: String,
        /// Hash that the TOML states.
        expected: String,
    },
    /// A pair names a file of weights that isn't listed.
    #[error("pair.{pair}.weights: found {found}, expected less than {files}, the number of [[weights]] tables")]
    WeightsIndex {
        /// The pair, counted from 0 in the order listed.
        pair: usize,
        /// The index.
        found: usize,
        /// How many files are listed.
        files: usize,
    },
    /// A pair names a layer that its model doesn't have.
    #[error("{field}: found {layer}, expected less than {num_layers}, the model's num_layers (layers count from 0)")]
    PairLayerOutOfRange {
        /// The key, as `pair.N.key`; pairs count from 0, in the order listed.
        field: String,
        /// The layer, 0-based.
        layer: usize,
        /// The model's number of layers.
        num_layers: usize,
    },
    /// A list of layers has one twice.
    #[error("{field}: found {layer} twice, expected every layer once")]
    RepeatedLayer {
        /// The key of the list.
        field: String,
        /// The layer, 0-based.
        layer: usize,
    },
    /// A list doesn't have one number for each source layer.
    #[error("{field}: found {found} numbers, expected {expected}, one for each of source_layers")]
    Count {
        /// The key of the list.
        field: String,
        /// How many numbers it has.
        found: usize,
        /// How many it must have.
        expected: usize,
    },
    /// The file's format is not one that steermap writes, or its version is not one that this program reads.
    #[error("format: found {found}, expected \"steermap-map/2\", \"steermap-map/1\" or \"steermap-vector/1\"{hint}")]
    UnknownFormat {
        /// What `format` says, as TOML, or `nothing`.
        found: String,
        /// What the file seems to be, as the end of a sentence, or empty.
        hint: &'static str,
    },
}

impl Problem {
    /// The problem as an error of the file that it was found in.
    pub fn within(self, path: &Path) -> FileError {
        FileError::Invalid {
            path: path.to_owned(),
            problem: self,
        }
    }

    /// A value out of its range.
    pub(crate) fn value(field: impl Into<String>, found: impl ToString, expected: &'static str) -> Self {
        Self::Value {
            field: field.into(),
            found: found.to_string(),
            expected,
        }
    }

    /// A value that isn't the one that others imply.
    pub(crate) fn implied(field: impl Into<String>, found: impl ToString, expected: impl ToString) -> Self {
        Self::Implied {
            field: field.into(),
            found: found.to_string().into(),
            expected: expected.to_string().into(),
        }
    }

    /// Checks that a count fits a TOML integer (64 bits, signed).
    pub(crate) fn unless_counted(field: &str, count: u64) -> Result<(), Self> {
        match i64::try_from(count) {
            Ok(_) => Ok(()),
            Err(_) => Err(Self::value(field, count, "at most 9223372036854775807")),
        }
    }

    /// Checks a mean of norms.
    pub(crate) fn unless_norm(field: impl Into<String>, norm: f64) -> Result<(), Self> {
        if norm.is_finite() && norm >= 0.0 {
            return Ok(());
        }
        Err(Self::value(field, norm, "a finite number, 0 or more"))
    }

    /// Checks a list of layers: at least one, and none twice.
    pub(crate) fn unless_distinct(field: impl Into<String>, layers: &[usize]) -> Result<(), Self> {
        if layers.is_empty() {
            return Err(Self::value(field, "[]", "at least one layer"));
        }
        let mut seen = BTreeSet::new();
        match layers.iter().find(|layer| !seen.insert(**layer)) {
            Some(layer) => Err(Self::RepeatedLayer {
                field: field.into(),
                layer: *layer,
            }),
            None => Ok(()),
        }
    }

    /// Checks that a text is not blank.
    pub(crate) fn unless_said(field: &str, text: &str) -> Result<(), Self> {
        if text.trim().is_empty() {
            return Err(Self::value(field, format!("{text:?}"), "a text that is not blank"));
        }
        Ok(())
    }
}
