//! Llama models: names of their tensors, their config, and llama.cpp's order of the rows of the query and key
//! projections.

use anyhow::{Result, ensure};
use serde::Serialize;

use super::gguf::Gguf;
use super::metadata::{GenerationConfig, refuse};
use super::plan::{TensorPlan, ValueChange};

/// `config.json` of a llama model, as transformers and mistral.rs read it.
///
/// Numbers that GGUF stores as f32 are f32 here, so that they are written as 0.00001 and not with the digits of an f64
/// (0.000009999999747378752).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LlamaConfig {
    architectures: [&'static str; 1],
    model_type: &'static str,
    attention_bias: bool,
    attention_dropout: f32,
    bos_token_id: Option<u32>,
    eos_token_id: u32,
    pad_token_id: Option<u32>,
    hidden_act: &'static str,
    head_dim: usize,
    hidden_size: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    mlp_bias: bool,
    num_attention_heads: usize,
    num_hidden_layers: usize,
    num_key_value_heads: usize,
    rms_norm_eps: f32,
    rope_scaling: Option<()>,
    rope_theta: f32,
    tie_word_embeddings: bool,
    torch_dtype: &'static str,
    use_cache: bool,
    vocab_size: usize,
}

impl LlamaConfig {
    /// Takes the config from a GGUF file's metadata.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        // Models with scaled rotary embeddings would need `rope_scaling`.
        refuse(gguf, &["llama.rope.scaling.type", "llama.rope.scaling.factor"])?;

        let hidden_size = gguf.count("llama.embedding_length")?;
        let heads = gguf.count("llama.attention.head_count")?;
        let key_value_heads = gguf.count_if_any("llama.attention.head_count_kv")?.unwrap_or(heads);
        ensure!(
            heads > 0 && key_value_heads > 0 && hidden_size.is_multiple_of(heads),
            "a hidden size of {hidden_size} with {heads} heads and {key_value_heads} \
             key-value heads is not consistent"
        );
        let head_dim = hidden_size / heads;
        // Rotary pairs that cover only a part of a head would have another order.
        let rotary = gguf.count_if_any("llama.rope.dimension_count")?;
        ensure!(
            rotary.is_none_or(|n| n == head_dim) && head_dim.is_multiple_of(2),
            "heads of {head_dim} of which {rotary:?} are rotary are not supported"
        );
        let vocab_size = match gguf.count_if_any("llama.vocab_size")? {
            Some(size) => size,
            None => gguf.strings("tokenizer.ggml.tokens")?.len(),
        };

        let ids = GenerationConfig::from_gguf(gguf)?;

        Ok(Self {
            architectures: ["LlamaForCausalLM"],
            model_type: "llama",
            attention_bias: false,
            attention_dropout: 0.0,
            bos_token_id: ids.bos_token_id,
            eos_token_id: ids.eos_token_id,
            pad_token_id: ids.pad_token_id,
            hidden_act: "silu",
            head_dim,
            hidden_size,
            intermediate_size: gguf.count("llama.feed_forward_length")?,
            max_position_embeddings: gguf.count("llama.context_length")?,
            mlp_bias: false,
            num_attention_heads: heads,
            num_hidden_layers: gguf.count("llama.block_count")?,
            num_key_value_heads: key_value_heads,
            rms_norm_eps: gguf.float("llama.attention.layer_norm_rms_epsilon")?,
            rope_scaling: None,
            rope_theta: gguf.float("llama.rope.freq_base")?,
            // Without an output matrix, the model multiplies by the embeddings.
            tie_word_embeddings: !gguf.has_tensor("output.weight"),
            torch_dtype: "bfloat16",
            use_cache: true,
            vocab_size,
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
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        let (q, kv) = (heads * self.head_dim, kv_heads * self.head_dim);
        let q_rows = ValueChange::RotaryPairs { heads };
        let k_rows = ValueChange::RotaryPairs { heads: kv_heads };
        let vocabulary = [self.vocab_size, hidden];

        let mut plans = vec![
            TensorPlan::new("token_embd", "model.embed_tokens", &vocabulary, ValueChange::None),
            TensorPlan::new("output_norm", "model.norm", &[hidden], ValueChange::None),
        ];
        if !self.tie_word_embeddings {
            plans.push(TensorPlan::new("output", "lm_head", &vocabulary, ValueChange::None));
        }
        for layer in 0..self.num_hidden_layers {
            let mut add = |gguf: &str, hf: &str, shape: &[usize], change| {
                plans.push(TensorPlan::of_block(layer, gguf, hf, shape, change));
            };
            add("attn_norm", "input_layernorm", &[hidden], ValueChange::None);
            add("attn_q", "self_attn.q_proj", &[q, hidden], q_rows);
            add("attn_k", "self_attn.k_proj", &[kv, hidden], k_rows);
            add("attn_v", "self_attn.v_proj", &[kv, hidden], ValueChange::None);
            add("attn_output", "self_attn.o_proj", &[hidden, q], ValueChange::None);
            add("ffn_norm", "post_attention_layernorm", &[hidden], ValueChange::None);
            add("ffn_gate", "mlp.gate_proj", &[inner, hidden], ValueChange::None);
            add("ffn_up", "mlp.up_proj", &[inner, hidden], ValueChange::None);
            add("ffn_down", "mlp.down_proj", &[hidden, inner], ValueChange::None);
        }
        plans
    }
}
