//! Small GGUF files for tests of the conversion.

use std::fs::{self, File};
use std::path::Path;

use anyhow::Result;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use half::bf16;
use safetensors::{Dtype, SafeTensors};

use super::gguf_to_hf::convert;

/// A list of strings of the metadata.
pub fn strings(list: &[&str]) -> Value {
    let list = list.iter().map(|&text| Value::String(text.to_owned()));
    Value::Array(list.collect())
}

/// The tensor `name.weight`, whose values count up from zero.
pub fn counting(name: &str, shape: &[usize]) -> (String, QTensor) {
    let n: usize = shape.iter().product();
    let values = Tensor::arange(0u32, n as u32, &Device::Cpu)
        .and_then(|t| t.to_dtype(DType::F32))
        .and_then(|t| t.reshape(shape))
        .and_then(|t| QTensor::quantize(&t, GgmlDType::F32))
        .expect("a small tensor");
    (format!("{name}.weight"), values)
}

/// Writes a GGUF file, converts it, and returns the folder.
pub fn converted(metadata: &[(&str, Value)], tensors: &[(String, QTensor)]) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("tiny.gguf");
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, t)| (name.as_str(), t)).collect();
    gguf_file::write(&mut File::create(&path)?, &metadata, &tensors)?;
    convert(&path, folder.path())?;
    Ok(folder)
}

/// A JSON file of a converted folder.
pub fn json(folder: &Path, name: &str) -> serde_json::Value {
    let text = fs::read(folder.join(name)).expect("written");
    serde_json::from_slice(&text).expect("JSON")
}

/// One row of a BF16 tensor; a vector is one row.
pub fn bf16_row(file: &SafeTensors<'_>, name: &str, row: usize) -> Vec<f32> {
    let tensor = file.tensor(name).expect("there");
    assert_eq!(tensor.dtype(), Dtype::BF16);
    let columns = *tensor.shape().last().expect("an axis");
    let bytes = &tensor.data()[row * columns * 2..][..columns * 2];
    let value = |pair: &[u8]| bf16::from_le_bytes([pair[0], pair[1]]).to_f32();
    bytes.chunks_exact(2).map(value).collect()
}
