//! Turns a GGUF file into a folder in Hugging Face's layout.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Error, Result, bail, ensure};
use half::bf16;
use indicatif::{ProgressBar, ProgressStyle};
use safetensors::tensor::{Dtype, View, serialize_to_file};
use serde::Serialize;

use super::architecture::ArchitectureConfig;
use super::gguf::Gguf;
use super::metadata::GenerationConfig;
use super::plan::TensorPlan;
use super::tokenizer::TokenizerFiles;

/// Version of the output of [`convert`]. Increase it whenever the output for the same GGUF file changes, so that older
/// folders are converted again.
pub const CONVERTER_VERSION: u32 = 1;

/// About how many values are dequantised at once: 16 MiB of f32.
const VALUES_AT_ONCE: usize = 1 << 22;

/// Converts the GGUF file at `gguf` into the existing, empty folder `out`.
pub fn convert(gguf: &Path, out: &Path) -> Result<()> {
    let gguf = Gguf::open(gguf)?;
    let config = ArchitectureConfig::from_gguf(&gguf)?;
    let tokenizer = TokenizerFiles::from_gguf(&gguf, config.context_length())?;
    ensure!(
        tokenizer.vocab_size() <= config.vocab_size(),
        "{} tokens do not fit a vocabulary of {}",
        tokenizer.vocab_size(),
        config.vocab_size()
    );
    let plans = config.tensors();
    check(&gguf, &plans, config.architecture())?;
    write_json(out, "config.json", &config)?;
    write_json(out, "generation_config.json", &GenerationConfig::from_gguf(&gguf)?)?;
    write_json(out, "tokenizer_config.json", &tokenizer.config)?;
    write_json(out, "special_tokens_map.json", &tokenizer.special_tokens)?;
    write(out, "tokenizer.json", &tokenizer.tokenizer_json)?;
    drop(tokenizer);
    write_tensors(gguf, &plans, &out.join("model.safetensors"))
}

/// Returns an error if the file's tensors are not the planned ones.
fn check(gguf: &Gguf, plans: &[TensorPlan], architecture: &str) -> Result<()> {
    // An additional tensor (such as a bias) means that the model is not supported.
    let planned: HashSet<&str> = plans.iter().map(|plan| plan.gguf.as_str()).collect();
    if let Some(name) = gguf.tensor_names().find(|name| !planned.contains(name)) {
        bail!("GGUF tensor {name} is not part of a plain {architecture} model");
    }
    for plan in plans {
        let shape = gguf.shape(&plan.gguf)?;
        ensure!(
            shape == plan.shape,
            "GGUF tensor {} has shape {shape:?}, expected {:?}",
            plan.gguf,
            plan.shape
        );
    }
    Ok(())
}

/// Converts the planned tensors, which are known to be in the file, one by one.
fn write_tensors(gguf: Gguf, plans: &[TensorPlan], to: &Path) -> Result<()> {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} tensors")?;
    let bar = ProgressBar::new(plans.len() as u64).with_style(style);
    bar.set_message("converting");
    let source = RefCell::new(TensorSource { gguf, bar, error: None });
    let views = plans.iter().map(|plan| {
        let source = &source;
        (plan.hf.as_str(), ConvertedWhenWritten { plan, source })
    });
    // transformers requires this metadata.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let written = serialize_to_file(views, Some(metadata), to);
    let TensorSource { bar, error, .. } = source.into_inner();
    bar.finish_and_clear();
    match error {
        Some(error) => Err(error),
        None => written.with_context(|| format!("cannot write {}", to.display())),
    }
}

/// The GGUF file that tensors are read from while they are written.
struct TensorSource {
    gguf: Gguf,
    bar: ProgressBar,
    /// The error if a tensor could not be converted; later tensors are then empty.
    error: Option<Error>,
}

/// A tensor that is read when it is written, so that only one is in memory.
struct ConvertedWhenWritten<'a> {
    plan: &'a TensorPlan,
    source: &'a RefCell<TensorSource>,
}

impl View for ConvertedWhenWritten<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::BF16
    }

    fn shape(&self) -> &[usize] {
        &self.plan.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let source = &mut *self.source.borrow_mut();
        if source.error.is_none() {
            match read_as_bf16(&mut source.gguf, self.plan) {
                Ok(bytes) => {
                    source.bar.inc(1);
                    return Cow::Owned(bytes);
                }
                Err(error) => source.error = Some(error),
            }
        }
        Cow::Borrowed(&[])
    }

    fn data_len(&self) -> usize {
        self.plan.shape.iter().product::<usize>() * size_of::<bf16>()
    }
}

/// Reads one tensor, with Hugging Face's values, as little-endian BF16.
fn read_as_bf16(gguf: &mut Gguf, plan: &TensorPlan) -> Result<Vec<u8>> {
    let (rows, columns) = match plan.shape[..] {
        [columns] => (1, columns),
        [rows, columns] => (rows, columns),
        _ => bail!("GGUF tensor {} is neither a vector nor a matrix", plan.gguf),
    };
    let together = plan.change.rows_together(&plan.shape)?;
    let step = (VALUES_AT_ONCE / (together * columns).max(1)).max(1) * together;
    let mut bytes = Vec::with_capacity(rows * columns * size_of::<bf16>());
    for first in (0..rows).step_by(step) {
        let values = gguf.rows(&plan.gguf, first..rows.min(first + step))?;
        let values = plan.change.to_hf(values, &plan.shape)?;
        bytes.extend(values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()));
    }
    Ok(bytes)
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
    use candle_core::quantized::QTensor;
    use candle_core::quantized::gguf_file::Value;
    use safetensors::SafeTensors;

    use super::super::testing::{bf16_row, converted, counting, json, strings};
    use super::*;

    const HIDDEN: usize = 8;
    const HEADS: usize = 2;
    const INNER: usize = 12;
    const TOKENS: [&str; 5] = ["<eos>", "a", "b", "ab", "Ġ"];

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
        shapes.map(|(name, shape)| counting(name, shape)).into()
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
        assert!(config["bos_token_id"].is_null());
        assert_eq!(config["eos_token_id"], 0);
        assert_eq!(json(folder.path(), "generation_config.json")["eos_token_id"], 0);

        let bytes = fs::read(folder.path().join("model.safetensors")).expect("written");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        assert_eq!(file.len(), 11, "no lm_head, since the embeddings are tied");
        let counted = |row: usize| -> Vec<f32> { (0..HIDDEN).map(|column| (row * HIDDEN + column) as f32).collect() };
        // Values keep their places except for the rows of q and k: each head's rows were 0 2 1 3.
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
        tensors.push(counting("output", &[TOKENS.len(), HIDDEN]));
        let folder = converted(&metadata(), &tensors).expect("converted");
        assert_eq!(json(folder.path(), "config.json")["tie_word_embeddings"], false);
        let bytes = fs::read(folder.path().join("model.safetensors")).expect("written");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        assert_eq!(bf16_row(&file, "lm_head.weight", 0)[..3], [0.0, 1.0, 2.0]);
    }

    #[test]
    fn unsupported_models_are_refused() {
        let refused = |metadata: &[(&str, Value)], tensors: &[(String, QTensor)]| {
            let error = converted(metadata, tensors).expect_err("refused");
            format!("{error:#}")
        };
        let mut other = metadata();
        other[0].1 = Value::String("gpt2".to_owned());
        let error = refused(&other, &tensors());
        assert!(error.contains("architecture \"gpt2\""), "{error}");

        let mut stretched = metadata();
        stretched.push(("llama.rope.scaling.factor", Value::F32(2.0)));
        let error = refused(&stretched, &tensors());
        assert_eq!(error, "GGUF metadata llama.rope.scaling.factor is not supported");

        let mut missing = tensors();
        missing.retain(|(name, _)| name != "blk.0.attn_v.weight");
        let error = refused(&metadata(), &missing);
        assert!(error.contains("GGUF tensor blk.0.attn_v.weight is missing"), "{error}");

        let mut extra = tensors();
        extra.push(("blk.0.attn_q.bias".to_owned(), counting("any", &[HIDDEN]).1));
        let error = refused(&metadata(), &extra);
        assert!(
            error.contains("blk.0.attn_q.bias is not part of a plain llama model"),
            "{error}"
        );

        let mut narrow = metadata();
        narrow[4].1 = Value::U32(11);
        let error = refused(&narrow, &tensors());
        assert!(error.contains("has shape [12, 8], expected [11, 8]"), "{error}");
    }

    #[test]
    fn a_file_that_is_not_gguf_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("no.gguf");
        fs::write(&path, "plain text").expect("writable");
        let error = convert(&path, folder.path()).expect_err("no GGUF").to_string();
        assert!(error.ends_with("no.gguf as GGUF"), "{error}");
    }
}
