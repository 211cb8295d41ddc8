//! The text-only models of Gemma 3: names of their tensors, their config, and their norms, which llama.cpp stores with
//! one added.

use anyhow::{Result, ensure};
use serde::Serialize;

use super::gguf::Gguf;
use super::metadata::{GenerationConfig, refuse};
use super::plan::{TensorPlan, ValueChange};

/// One in this many blocks attends to the whole text, the others to a window. The number is in llama.cpp's code; most
/// GGUF files do not state it.
const SLIDING_WINDOW_PATTERN: usize = 6;

/// The base of the rotary embeddings in the blocks that attend to a window. Also from llama.cpp's code.
const LOCAL_ROPE_BASE: f32 = 10_000.0;

/// `config.json` of a Gemma 3 model, as transformers and mistral.rs read it.
///
/// Gemma's files state in three ways where the window is used. Two of them are in use and are written here:
/// transformers reads the list, mistral.rs the number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gemma3Config {
    architectures: [&'static str; 1],
    model_type: &'static str,
    attention_bias: bool,
    attention_dropout: f32,
    attn_logit_softcapping: Option<()>,
    bos_token_id: Option<u32>,
    eos_token_id: u32,
    pad_token_id: Option<u32>,
    final_logit_softcapping: Option<()>,
    head_dim: usize,
    hidden_activation: &'static str,
    hidden_size: usize,
    intermediate_size: usize,
    layer_types: Vec<&'static str>,
    max_position_embeddings: usize,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    num_key_value_heads: usize,
    query_pre_attn_scalar: usize,
    rms_norm_eps: f32,
    rope_local_base_freq: f32,
    rope_scaling: Option<()>,
    rope_theta: f32,
    sliding_window: usize,
    sliding_window_pattern: usize,
    tie_word_embeddings: bool,
    torch_dtype: &'static str,
    use_cache: bool,
    vocab_size: usize,
}

impl Gemma3Config {
    /// Takes the config from a GGUF file's metadata.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        // The larger models, which read images, scale their rotary embeddings. This also excludes the one (27B) whose
        // attention is not scaled by the head size.
        refuse(
            gguf,
            &[
                "gemma3.rope.scaling.type",
                "gemma3.rope.scaling.factor",
                "gemma3.attn_logit_softcapping",
                "gemma3.final_logit_softcapping",
            ],
        )?;
        let heads = gguf.count("gemma3.attention.head_count")?;
        let key_value_heads = gguf.count_if_any("gemma3.attention.head_count_kv")?.unwrap_or(heads);
        ensure!(
            key_value_heads > 0 && heads > 0 && heads.is_multiple_of(key_value_heads),
            "{heads} heads cannot share {key_value_heads} key-value heads"
        );
        let head_dim = gguf.count("gemma3.attention.key_length")?;
        let value_dim = gguf.count("gemma3.attention.value_length")?;
        ensure!(
            head_dim == value_dim,
            "heads with keys of {head_dim} and values of {value_dim} are not supported"
        );
        let pattern = gguf
            .count_if_any("gemma3.attention.sliding_window_pattern")?
            .unwrap_or(SLIDING_WINDOW_PATTERN);
        ensure!(
            pattern > 0,
            "GGUF metadata gemma3.attention.sliding_window_pattern is 0"
        );
        let layers = gguf.count("gemma3.block_count")?;
        let layer_type = |layer: usize| {
            if (layer + 1).is_multiple_of(pattern) {
                "full_attention"
            } else {
                "sliding_attention"
            }
        };
        let ids = GenerationConfig::from_gguf(gguf)?;

        Ok(Self {
            architectures: ["Gemma3ForCausalLM"],
            model_type: "gemma3_text",
            attention_bias: false,
            attention_dropout: 0.0,
            attn_logit_softcapping: None,
            bos_token_id: ids.bos_token_id,
            eos_token_id: ids.eos_token_id,
            pad_token_id: ids.pad_token_id,
            final_logit_softcapping: None,
            head_dim,
            hidden_activation: "gelu_pytorch_tanh",
            hidden_size: gguf.count("gemma3.embedding_length")?,
            intermediate_size: gguf.count("gemma3.feed_forward_length")?,
            layer_types: (0..layers).map(layer_type).collect(),
            max_position_embeddings: gguf.count("gemma3.context_length")?,
            num_attention_heads: heads,
            num_hidden_layers: layers,
            num_key_value_heads: key_value_heads,
            query_pre_attn_scalar: head_dim,
            rms_norm_eps: gguf.float("gemma3.attention.layer_norm_rms_epsilon")?,
            rope_local_base_freq: gguf
                .float_if_any("gemma3.rope.freq_base_swa")?
                .unwrap_or(LOCAL_ROPE_BASE),
            rope_scaling: None,
            rope_theta: gguf.float("gemma3.rope.freq_base")?,
            sliding_window: gguf.count("gemma3.attention.sliding_window")?,
            sliding_window_pattern: pattern,
            tie_word_embeddings: true,
            torch_dtype: "bfloat16",
            use_cache: true,
            vocab_size: gguf.strings("tokenizer.ggml.tokens")?.len(),
        })
    }

    /// The longest sequence the model was made for.
    pub fn context_length(&self) -> usize {
        self.max_position_embeddings
    }

    /// The number of rows of the embedding matrix.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// All tensors of the model.
    pub fn tensors(&self) -> Vec<TensorPlan> {
        use ValueChange::{None, OnePlus};
        let (hidden, inner, head) = (self.hidden_size, self.intermediate_size, self.head_dim);
        let (q, kv) = (self.num_attention_heads * head, self.num_key_value_heads * head);

        let mut plans = vec![
            TensorPlan::new("token_embd", "model.embed_tokens", &[self.vocab_size, hidden], None),
            TensorPlan::new("output_norm", "model.norm", &[hidden], OnePlus),
        ];
        for layer in 0..self.num_hidden_layers {
            let mut add = |gguf: &str, hf: &str, shape: &[usize], change| {
                plans.push(TensorPlan::of_block(layer, gguf, hf, shape, change));
            };
            add("attn_norm", "input_layernorm", &[hidden], OnePlus);
            add("attn_q", "self_attn.q_proj", &[q, hidden], None);
            add("attn_k", "self_attn.k_proj", &[kv, hidden], None);
            add("attn_v", "self_attn.v_proj", &[kv, hidden], None);
            add("attn_output", "self_attn.o_proj", &[hidden, q], None);
            add("attn_q_norm", "self_attn.q_norm", &[head], OnePlus);
            add("attn_k_norm", "self_attn.k_norm", &[head], OnePlus);
            add("post_attention_norm", "post_attention_layernorm", &[hidden], OnePlus);
            add("ffn_norm", "pre_feedforward_layernorm", &[hidden], OnePlus);
            add("ffn_gate", "mlp.gate_proj", &[inner, hidden], None);
            add("ffn_up", "mlp.up_proj", &[inner, hidden], None);
            add("ffn_down", "mlp.down_proj", &[hidden, inner], None);
            add("post_ffw_norm", "post_feedforward_layernorm", &[hidden], OnePlus);
        }
        plans
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use candle_core::quantized::QTensor;
    use candle_core::quantized::gguf_file::Value;
    use safetensors::SafeTensors;
    use serde_json::json;

    use super::super::testing::{bf16_row, converted, counting, json as read_json, strings};

    const HIDDEN: usize = 6;
    const HEAD: usize = 4;
    const INNER: usize = 10;
    const LAYERS: usize = 7;
    const TOKENS: usize = 3 + 256 + 2;

    fn metadata() -> Vec<(&'static str, Value)> {
        let bytes: Vec<String> = (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>")).collect();
        let mut tokens = vec!["<eos>", "<bos>", "<unk>"];
        tokens.extend(bytes.iter().map(String::as_str));
        tokens.extend(["a", "▁"]);
        let kinds = (0..TOKENS).map(|id| Value::I32([3, 6, 1][usize::from(id > 2) + usize::from(id > 258)]));
        let scores = (0..TOKENS).map(|id| Value::F32(-(id as f32)));
        vec![
            ("general.architecture", Value::String("gemma3".to_owned())),
            ("gemma3.embedding_length", Value::U32(HIDDEN as u32)),
            ("gemma3.block_count", Value::U32(LAYERS as u32)),
            ("gemma3.context_length", Value::U32(64)),
            ("gemma3.feed_forward_length", Value::U32(INNER as u32)),
            ("gemma3.attention.head_count", Value::U32(2)),
            ("gemma3.attention.head_count_kv", Value::U32(1)),
            ("gemma3.attention.key_length", Value::U32(HEAD as u32)),
            ("gemma3.attention.value_length", Value::U32(HEAD as u32)),
            ("gemma3.attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
            ("gemma3.attention.sliding_window", Value::U32(16)),
            ("gemma3.rope.freq_base", Value::F32(1e6)),
            ("tokenizer.ggml.model", Value::String("llama".to_owned())),
            ("tokenizer.ggml.pre", Value::String("default".to_owned())),
            ("tokenizer.ggml.tokens", strings(&tokens)),
            ("tokenizer.ggml.token_type", Value::Array(kinds.collect())),
            ("tokenizer.ggml.scores", Value::Array(scores.collect())),
            ("tokenizer.ggml.eos_token_id", Value::U32(0)),
            ("tokenizer.ggml.bos_token_id", Value::U32(1)),
            ("tokenizer.ggml.unknown_token_id", Value::U32(2)),
            ("tokenizer.ggml.add_bos_token", Value::Bool(true)),
            ("tokenizer.ggml.add_space_prefix", Value::Bool(false)),
        ]
    }

    fn tensors() -> Vec<(String, QTensor)> {
        let mut all = vec![
            counting("token_embd", &[TOKENS, HIDDEN]),
            counting("output_norm", &[HIDDEN]),
        ];
        let (q, kv) = (2 * HEAD, HEAD);
        for layer in 0..LAYERS {
            let mut add = |name: &str, shape: &[usize]| all.push(counting(&format!("blk.{layer}.{name}"), shape));
            add("attn_q", &[q, HIDDEN]);
            add("attn_k", &[kv, HIDDEN]);
            add("attn_v", &[kv, HIDDEN]);
            add("attn_output", &[HIDDEN, q]);
            add("ffn_gate", &[INNER, HIDDEN]);
            add("ffn_up", &[INNER, HIDDEN]);
            add("ffn_down", &[HIDDEN, INNER]);
            for norm in ["attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"] {
                add(norm, &[HIDDEN]);
            }
            for norm in ["attn_q_norm", "attn_k_norm"] {
                add(norm, &[HEAD]);
            }
        }
        all
    }

    #[test]
    fn a_small_gemma_is_converted() {
        let folder = converted(&metadata(), &tensors()).expect("converted");

        let config = read_json(folder.path(), "config.json");
        let (full, windowed) = ("full_attention", "sliding_attention");
        for (key, expected) in [
            ("architectures", json!(["Gemma3ForCausalLM"])),
            ("model_type", json!("gemma3_text")),
            ("head_dim", json!(HEAD)),
            ("query_pre_attn_scalar", json!(HEAD)),
            ("num_attention_heads", json!(2)),
            ("num_key_value_heads", json!(1)),
            ("sliding_window", json!(16)),
            ("sliding_window_pattern", json!(6)),
            (
                "layer_types",
                json!([windowed, windowed, windowed, windowed, windowed, full, windowed]),
            ),
            ("rope_theta", json!(1e6)),
            ("rope_local_base_freq", json!(1e4)),
            ("rms_norm_eps", json!(1e-6)),
            ("vocab_size", json!(TOKENS)),
            ("tie_word_embeddings", json!(true)),
        ] {
            assert_eq!(config[key], expected, "{key}");
        }
        let ids = json!({"bos_token_id": 1, "eos_token_id": 0, "pad_token_id": null});
        assert_eq!(read_json(folder.path(), "generation_config.json"), ids);
        let tokenizer = read_json(folder.path(), "tokenizer_config.json");
        assert_eq!(tokenizer["add_bos_token"], true);
        assert_eq!(tokenizer["bos_token"], "<bos>");
        assert!(tokenizer.get("chat_template").is_none(), "there is none in the GGUF");

        let bytes = fs::read(folder.path().join("model.safetensors")).expect("written");
        let file = SafeTensors::deserialize(&bytes).expect("safetensors");
        assert_eq!(file.len(), 2 + 13 * LAYERS);
        // Norms lose the one that llama.cpp adds; everything else is unchanged, including q and k.
        for norm in [
            "norm",
            "layers.6.pre_feedforward_layernorm",
            "layers.0.post_feedforward_layernorm",
        ] {
            let row = bf16_row(&file, &format!("model.{norm}.weight"), 0);
            assert_eq!(row, [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0], "{norm}");
        }
        let row = bf16_row(&file, "model.layers.0.self_attn.k_norm.weight", 0);
        assert_eq!(row, [-1.0, 0.0, 1.0, 2.0]);
        let row = bf16_row(&file, "model.layers.0.self_attn.q_proj.weight", 1);
        assert_eq!(row, [6.0, 7.0, 8.0, 9.0, 10.0, 11.0]);
    }

    #[test]
    fn unsupported_models_are_refused() {
        let refused = |key: &'static str, value: Value| {
            let mut metadata = metadata();
            metadata.retain(|(name, _)| *name != key);
            metadata.push((key, value));
            let error = converted(&metadata, &tensors()).expect_err("refused");
            format!("{error:#}")
        };
        let error = refused("gemma3.rope.scaling.factor", Value::F32(8.0));
        assert_eq!(error, "GGUF metadata gemma3.rope.scaling.factor is not supported");
        let error = refused("gemma3.attention.value_length", Value::U32(2));
        assert_eq!(error, "heads with keys of 4 and values of 2 are not supported");
        let error = refused("gemma3.attention.head_count_kv", Value::U32(0));
        assert_eq!(error, "2 heads cannot share 0 key-value heads");
        let error = refused("gemma3.attention.sliding_window_pattern", Value::U32(0));
        assert_eq!(error, "GGUF metadata gemma3.attention.sliding_window_pattern is 0");
        let error = refused("tokenizer.ggml.add_space_prefix", Value::Bool(true));
        assert!(error.ends_with("tokenizer.ggml.add_space_prefix is false"), "{error}");
        let error = refused("tokenizer.ggml.pre", Value::String("other".to_owned()));
        assert!(error.contains("kind \"llama\" with pre-tokenizer \"other\""), "{error}");
        let error = refused("gemma3.attention.sliding_window", Value::F32(1.0));
        assert!(
            error.starts_with("GGUF metadata gemma3.attention.sliding_window has the wrong type"),
            "{error}"
        );
    }
}
