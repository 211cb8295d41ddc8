//! Reads a GGUF file with candle's reader, with typed look-ups and errors that name the key.

use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use candle_core::{Device, Shape};

/// An open GGUF file.
pub struct Gguf {
    content: Content,
    file: BufReader<File>,
}

impl Gguf {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || {
            let mut file = BufReader::new(File::open(path)?);
            let content = Content::read(&mut file)?;
            anyhow::Ok(Self { content, file })
        };
        open().with_context(|| format!("cannot read {} as GGUF", path.display()))
    }

    /// Whether the metadata has `key`.
    pub fn has(&self, key: &str) -> bool {
        self.content.metadata.contains_key(key)
    }

    /// A string of the metadata.
    pub fn string(&self, key: &str) -> Result<&str> {
        Ok(self.typed(key, Value::to_string)?)
    }

    /// A string of the metadata, if present.
    pub fn string_if_any(&self, key: &str) -> Result<Option<&str>> {
        self.if_any(key, |key| self.string(key))
    }

    /// A count of the metadata, of any integer type.
    pub fn count(&self, key: &str) -> Result<usize> {
        let value = self.typed(key, Value::to_u64)?;
        usize::try_from(value).with_context(|| format!("GGUF metadata {key} is too large"))
    }

    /// A count of the metadata, if present.
    pub fn count_if_any(&self, key: &str) -> Result<Option<usize>> {
        self.if_any(key, |key| self.count(key))
    }

    /// A token id of the metadata.
    pub fn id(&self, key: &str) -> Result<u32> {
        self.typed(key, Value::to_u32)
    }

    /// A token id of the metadata, if present.
    pub fn id_if_any(&self, key: &str) -> Result<Option<u32>> {
        self.if_any(key, |key| self.id(key))
    }

    /// A number of the metadata.
    pub fn float(&self, key: &str) -> Result<f32> {
        self.typed(key, Value::to_f32)
    }

    /// A number of the metadata, if present.
    pub fn float_if_any(&self, key: &str) -> Result<Option<f32>> {
        self.if_any(key, |key| self.float(key))
    }

    /// A boolean of the metadata, if present.
    pub fn flag_if_any(&self, key: &str) -> Result<Option<bool>> {
        self.if_any(key, |key| self.typed(key, Value::to_bool))
    }

    /// A list of strings of the metadata.
    pub fn strings(&self, key: &str) -> Result<Vec<&str>> {
        self.list(key, |value| value.to_string().map(String::as_str))
    }

    /// A list of integers of the metadata.
    pub fn integers(&self, key: &str) -> Result<Vec<i32>> {
        self.list(key, Value::to_i32)
    }

    /// A list of numbers of the metadata.
    pub fn floats(&self, key: &str) -> Result<Vec<f32>> {
        self.list(key, Value::to_f32)
    }

    /// Whether there is a tensor of this name.
    pub fn has_tensor(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// The names of all tensors, in no particular order.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.content.tensor_infos.keys().map(String::as_str)
    }

    /// The sizes of a tensor's axes, slowest first (GGUF itself writes them the other way round).
    pub fn shape(&self, name: &str) -> Result<&[usize]> {
        Ok(self.info(name)?.shape.dims())
    }

    /// Reads and dequantises some rows of a tensor, a vector counting as one row.
    ///
    /// It reads rows because one tensor, such as the embeddings of a large vocabulary, can be most of a model.
    pub fn rows(&mut self, name: &str, rows: Range<usize>) -> Result<Vec<f32>> {
        let whole = self.info(name)?;
        let kind = whole.ggml_dtype;
        let row = whole.shape.dims().last().copied().unwrap_or(1);
        // llama.cpp only writes such files.
        ensure!(
            row.is_multiple_of(kind.block_size()),
            "GGUF tensor {name} has rows of {row} values in blocks of {}",
            kind.block_size()
        );
        let row_bytes = row / kind.block_size() * kind.type_size();
        let part = TensorInfo {
            ggml_dtype: kind,
            shape: Shape::from(rows.len() * row),
            offset: whole.offset + (rows.start * row_bytes) as u64,
        };
        let start = self.content.tensor_data_offset;
        let mut read = || {
            let quantised = part.read(&mut self.file, start, &Device::Cpu)?;
            quantised.dequantize(&Device::Cpu)?.to_vec1()
        };
        read().with_context(|| format!("cannot read GGUF tensor {name}"))
    }

    fn info(&self, name: &str) -> Result<&TensorInfo> {
        let info = self.content.tensor_infos.get(name);
        info.with_context(|| format!("GGUF tensor {name} is missing"))
    }

    fn typed<'a, T>(&'a self, key: &str, get: impl FnOnce(&'a Value) -> candle_core::Result<T>) -> Result<T> {
        let value = self.content.metadata.get(key);
        let value = value.with_context(|| format!("GGUF metadata {key} is missing"))?;
        get(value).with_context(|| format!("GGUF metadata {key} has the wrong type"))
    }

    fn list<'a, T>(&'a self, key: &str, get: impl Fn(&'a Value) -> candle_core::Result<T>) -> Result<Vec<T>> {
        self.typed(key, |value| value.to_vec()?.iter().map(get).collect())
    }

    fn if_any<'a, T>(&'a self, key: &'a str, get: impl FnOnce(&'a str) -> Result<T>) -> Result<Option<T>> {
        self.has(key).then(|| get(key)).transpose()
    }
}
