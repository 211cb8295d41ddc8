//! Turns a GGUF file into a folder in Hugging Face's layout.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use half::bf16;
use indicatif::{ProgressBar, ProgressStyle};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde::Serialize;

use super::gguf::Gguf;
use super::llama::{LlamaConfig, TensorPlan};
use super::tokenizer::TokenizerFiles;

/// The version of what [`convert`] writes. Raise it whenever the same GGUF file would give other
/// files, so that folders of an earlier version are made again.
pub const CONVERTER_VERSION: u32 = 1;

/// Converts the GGUF file at `gguf` into the existing, empty folder `out`.
pub fn convert(gguf: &Path, out: &Path) -> Result<()> {
    let mut gguf = Gguf::open(gguf)?;
    let config = LlamaConfig::from_gguf(&gguf)?;
    let tokenizer = TokenizerFiles::from_gguf(&gguf, config.context_length())?;
    ensure!(
        tokenizer.vocab_size() <= config.vocab_size(),
        "{} tokens do not fit a vocabulary of {}",
        tokenizer.vocab_size(),
        config.vocab_size()
    );
    write_json(out, "config.json", &config)?;
    write_json(out, "generation_config.json", &config.generation_config())?;
    write_json(out, "tokenizer_config.json", &tokenizer.config)?;
    write_json(out, "special_tokens_map.json", &tokenizer.special_tokens)?;
    write(out, "tokenizer.json", &tokenizer.tokenizer_json)?;
    write_tensors(&mut gguf, &config.tensors(), &out.join("model.safetensors"))
}

fn write_tensors(gguf: &mut Gguf, plans: &[TensorPlan], to: &Path) -> Result<()> {
    // A tensor that we would leave out (a bias, say) means a model that we do not understand.
    let planned: HashSet<&str> = plans.iter().map(|plan| plan.gguf.as_str()).collect();
    if let Some(name) = gguf.tensor_names().find(|name| !planned.contains(name)) {
        bail!("GGUF tensor {name} is not part of a plain llama model");
    }

    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} tensors")?;
    let bar = ProgressBar::new(plans.len() as u64).with_style(style);
    bar.set_message("converting");
    let mut converted = Vec::with_capacity(plans.len());
    for plan in plans {
        converted.push(read_as_bf16(gguf, plan)?);
        bar.inc(1);
    }

    bar.set_message("writing");
    let mut views = Vec::with_capacity(plans.len());
    for (plan, bytes) in plans.iter().zip(&converted) {
        let view = TensorView::new(Dtype::BF16, plan.shape.clone(), bytes)
            .with_context(|| format!("cannot write tensor {}", plan.hf))?;
        views.push((plan.hf.as_str(), view));
    }
    // transformers refuses a file that does not say what it was made for.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize_to_file(views, Some(metadata), to).with_context(|| format!("cannot write {}", to.display()))?;
    bar.finish_and_clear();
    Ok(())
}

/// Reads one tensor, in Hugging Face's row order, as little-endian BF16.
fn read_as_bf16(gguf: &mut Gguf, plan: &TensorPlan) -> Result<Vec<u8>> {
    let tensor = gguf.tensor(&plan.gguf)?;
    ensure!(
        tensor.shape == plan.shape,
        "GGUF tensor {} has shape {:?}, expected {:?}",
        plan.gguf,
        tensor.shape,
        plan.shape
    );
    let values = plan.rows.to_hf(tensor.values, &tensor.shape)?;
    let bytes = values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes());
    Ok(bytes.collect())
}

fn write_json(folder: &Path, name: &str, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    write(folder, name, &text)
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use candle_core::quantized::gguf_file::{self, Value};
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{DType, Device, Tensor};
    use safetensors::SafeTensors;
    use serde_json::Value as Json;

    use super::*;

    const HIDDEN: usize = 8;
    const HEADS: usize = 2;
    const INNER: usize = 12;
    const TOKENS: [&str; 5] = ["<eos>", "a", "b", "ab", "Ġ"];

    fn strings(list: &[&str]) -> Value {
        let list = list.iter().map(|&text| Value::String(text.to_owned()));
        Value::Array(list.collect())
    }

    fn metadata() -> Vec<(&'static str, Value)> {
        let kinds = [3, 1, 1, 1, 1].map(Value::I32);
        vec![
            ("general.architecture", Value::String("llama".to_owned())),
            ("llama.embedding_length", Value::U32(HIDDEN as u32)),
            ("llama.block_count", Value::U32(1)),
            ("llama.context_length", Value::U32(16)),
            ("llama.feed_forward_length", Value::U32(INNER as u32)),
            ("llama.attention.head_count", Value::U32(HEADS as u32)),
            ("llama.attention.head_count_kv", Value::U32(1)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("llama.rope.freq_base", Value::F32(1e5)),
            ("tokenizer.ggml.model", Value::String("gpt2".to_owned())),
            ("tokenizer.ggml.pre", Value::String("smollm".to_owned())),
            ("tokenizer.ggml.tokens", strings(&TOKENS)),
            ("tokenizer.ggml.token_type", Value::Array(kinds.to_vec())),
            ("tokenizer.ggml.merges", strings(&["a b"])),
            ("tokenizer.ggml.eos_token_id", Value::U32(0)),
        ]
    }

    /// The tensors of a model of one block; the values of each count up from zero.
    fn tensors() -> Vec<(String, QTensor)> {
        let shapes: [(&str, &[usize]); 11] = [
            ("token_embd", &[TOKENS.len(), HIDDEN]),
            ("output_norm", &[HIDDEN]),
            ("blk.0.attn_norm", &[HIDDEN]),
            ("blk.0.attn_q", &[HIDDEN, HIDDEN]),
            ("blk.0.attn_k", &[HIDDEN / HEADS, HIDDEN]),
            ("blk.0.attn_v", &[HIDDEN / HEADS, HIDDEN]),
            ("blk.0.attn_output", &[HIDDEN, HIDDEN]),
            ("blk.0.ffn_norm", &[HIDDEN]),
            ("blk.0.ffn_gate", &[INNER, HIDDEN]),
            ("blk.0.ffn_up", &[INNER, HIDDEN]),
            ("blk.0.ffn_down", &[HIDDEN, INNER]),
        ];
        let tensor = |(name, shape): (&str, &[usize])| {
            let n: usize = shape.iter().product();
            let values = Tensor::arange(0u32, n as u32, &Device::Cpu)
                .and_then(|t| t.to_dtype(DType::F32))
                .and_then(|t| t.reshape(shape))
                .and_then(|t| QTensor::quantize(&t, GgmlDType::F32))
                .expect("a small tensor");
            (format!("{name}.weight"), values)
        };
        shapes.into_iter().map(tensor).collect()
    }

    /// Writes a GGUF file and converts it into the folder that is returned.
    fn converted(metadata: &[(&str, Value)], tensors: &[(String, QTensor)]) -> Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("tiny.gguf");
        let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
        let tensors: Vec<_> = tensors.iter().map(|(name, t)| (name.as_str(), t)).collect();
        gguf_file::write(&mut File::create(&path)?, &metadata, &tensors)?;
        convert(&path, folder.path())?;
        Ok(folder)
    }

    fn json(folder: &Path, name: &str) -> Json {
        let text = fs::read(folder.join(name)).expect("written");
        serde_json::from_slice(&text).expect("JSON")
    }

    fn bf16_row(file: &SafeTensors<'_>, name: &str, row: usize) -> Vec<f32> {
        let tensor = file.tensor(name).expect("there");
        assert_eq!(tensor.dtype(), Dtype::BF16);
        let columns = tensor.shape()[1];
        let bytes = &tensor.data()[row * columns * 2..][..columns * 2];
        let value = |pair: &[u8]| bf16::from_le_bytes([pair[0], pair[1]]).to_f32();
        bytes.chunks_exact(2).map(value).collect()
    }

    #[test]
    fn a_small_llama_is_converted() {
        let folder = converted(&metadata(), &tensors()).expect("converted");

        let config = fs::read_to_string(folder.path().join("config.json")).expect("written");
        assert!(config.contains("\"rms_norm_eps\": 0.00001,"), "{config}");
        let config = json(folder.path(), "config.json");
        assert_eq!(config["architectures"][0], "LlamaForCausalLM");
        assert_eq!(config["rope_theta"], 100_000.0);
        assert_eq!(config["num_key_value_heads"], 1);
        assert_eq!(config["head_dim"], 4);
        assert_eq!(config["vocab_size"], TOKENS.len());
        assert_eq!(config["tie_word_embeddings"], true);
        assert_eq!(config["bos_token_id"], Json::Null);
        assert_eq!(config["eos_token_id"], 0);
        assert_eq!(json(folder.path(), "generation_config.json")["eos_token_id"], 0);

        let bytes = fs::read(folder.path().join("model.safetensors")).expect("written");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        assert_eq!(file.len(), 11, "no lm_head: the embeddings are tied");
        let counted = |row: usize| -> Vec<f32> { (0..HIDDEN).map(|column| (row * HIDDEN + column) as f32).collect() };
        // Values keep their places, but for the rows of q and k: each head's rows were 0 2 1 3.
        let (q, v) = (
            "model.layers.0.self_attn.q_proj.weight",
            "model.layers.0.self_attn.v_proj.weight",
        );
        for (row, stored_row) in [(0, 0), (1, 2), (2, 1), (3, 3), (4, 4), (5, 6), (6, 5), (7, 7)] {
            assert_eq!(bf16_row(&file, q, row), counted(stored_row), "row {row}");
        }
        assert_eq!(bf16_row(&file, v, 1), counted(1));
        assert_eq!(bf16_row(&file, "model.embed_tokens.weight", 3), counted(3));
    }

    #[test]
    fn a_model_with_its_own_output_matrix_is_not_tied() {
        let mut tensors = tensors();
        let output = QTensor::quantize(
            &Tensor::ones((TOKENS.len(), HIDDEN), DType::F32, &Device::Cpu).expect("small"),
            GgmlDType::F32,
        );
        tensors.push(("output.weight".to_owned(), output.expect("small")));
        let folder = converted(&metadata(), &tensors).expect("converted");
        assert_eq!(json(folder.path(), "config.json")["tie_word_embeddings"], false);
        let bytes = fs::read(folder.path().join("model.safetensors")).expect("written");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        assert_eq!(bf16_row(&file, "lm_head.weight", 0), [1.0; HIDDEN]);
    }

    #[test]
    fn models_that_are_not_understood_are_refused() {
        let refused = |metadata: &[(&str, Value)], tensors: &[(String, QTensor)]| {
            let error = converted(metadata, tensors).expect_err("refused");
            format!("{error:#}")
        };
        let mut gemma = metadata();
        gemma[0].1 = Value::String("gemma3".to_owned());
        let error = refused(&gemma, &tensors());
        assert!(error.contains("architecture \"gemma3\""), "{error}");

        let mut missing = tensors();
        missing.retain(|(name, _)| name != "blk.0.attn_v.weight");
        let error = refused(&metadata(), &missing);
        assert!(error.contains("cannot read GGUF tensor blk.0.attn_v.weight"), "{error}");

        let mut extra = tensors();
        let norm = extra.pop().expect("some tensor").1;
        extra.extend(tensors().pop());
        extra.push(("blk.0.attn_q.bias".to_owned(), norm));
        let error = refused(&metadata(), &extra);
        assert!(error.contains("blk.0.attn_q.bias is not part"), "{error}");

        let mut narrow = metadata();
        narrow[4].1 = Value::U32(11);
        let error = refused(&narrow, &tensors());
        assert!(error.contains("has shape [12, 8], expected [11, 8]"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_gguf_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("no.gguf");
        fs::write(&path, "plain text").expect("writable");
        let error = convert(&path, folder.path()).expect_err("no GGUF").to_string();
        assert!(error.ends_with("no.gguf as GGUF"), "{error}");
    }
}
