//! What is particular to llama models: the names of their tensors, their config, and the order
//! that llama.cpp gives the rows of the query and key projections.

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::gguf::Gguf;

/// `config.json` of a llama model, as transformers and mistral.rs read it.
///
/// The numbers that GGUF stores as f32 stay f32 here, so that they are written as they
/// were meant (0.00001) and not with all the digits of an f64 (0.000009999999747378752).
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

/// One tensor of the model: what it is called on both sides, and what to do with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorPlan {
    /// Its name in the GGUF file.
    pub gguf: String,
    /// Its name in a Hugging Face folder.
    pub hf: String,
    /// The shape it must have (the same on both sides).
    pub shape: Vec<usize>,
    /// How its rows are to be reordered.
    pub rows: Rows,
}

/// The order of a tensor's rows in a GGUF file, compared with Hugging Face's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// The same.
    Same,
    /// llama.cpp's order for rotary embeddings, in each of this many heads.
    RotaryPairs { heads: usize },
}

impl LlamaConfig {
    /// Takes the config from a GGUF file's metadata.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let architecture = gguf.string("general.architecture")?;
        ensure!(
            architecture == "llama",
            "the GGUF file holds a model of architecture {architecture:?}; \
             only \"llama\" can be converted"
        );
        // Models with stretched rotary embeddings would need `rope_scaling`.
        for key in ["llama.rope.scaling.type", "llama.rope.scaling.factor"] {
            ensure!(!gguf.has(key), "GGUF metadata {key} is not supported");
        }

        let hidden_size = gguf.count("llama.embedding_length")?;
        let heads = gguf.count("llama.attention.head_count")?;
        let key_value_heads = gguf.count_if_any("llama.attention.head_count_kv")?.unwrap_or(heads);
        ensure!(
            heads > 0 && key_value_heads > 0 && hidden_size.is_multiple_of(heads),
            "a hidden size of {hidden_size} with {heads} heads and {key_value_heads} \
             key-value heads makes no sense"
        );
        let head_dim = hidden_size / heads;
        // Rotary pairs that cover a part of a head only would be ordered in another way.
        let rotary = gguf.count_if_any("llama.rope.dimension_count")?;
        ensure!(
            rotary.is_none_or(|n| n == head_dim) && head_dim.is_multiple_of(2),
            "heads of {head_dim} of which {rotary:?} are rotary are not supported"
        );
        let vocab_size = match gguf.count_if_any("llama.vocab_size")? {
            Some(size) => size,
            None => gguf.strings("tokenizer.ggml.tokens")?.len(),
        };

        Ok(Self {
            architectures: ["LlamaForCausalLM"],
            model_type: "llama",
            attention_bias: false,
            attention_dropout: 0.0,
            bos_token_id: gguf.id_if_any("tokenizer.ggml.bos_token_id")?,
            eos_token_id: gguf.id("tokenizer.ggml.eos_token_id")?,
            pad_token_id: gguf.id_if_any("tokenizer.ggml.padding_token_id")?,
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
            // A llama without an output matrix of its own multiplies by the embeddings.
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

    /// `generation_config.json`: the ids that generation needs. It names no sampling settings,
    /// so who loads the folder decides about them.
    pub fn generation_config(&self) -> GenerationConfig {
        GenerationConfig {
            bos_token_id: self.bos_token_id,
            eos_token_id: self.eos_token_id,
            pad_token_id: self.pad_token_id,
        }
    }

    /// Every tensor that the model consists of.
    pub fn tensors(&self) -> Vec<TensorPlan> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        let (q, kv) = (heads * self.head_dim, kv_heads * self.head_dim);
        let q_rows = Rows::RotaryPairs { heads };
        let k_rows = Rows::RotaryPairs { heads: kv_heads };

        let mut plans = vec![
            plan(
                "token_embd",
                "model.embed_tokens",
                &[self.vocab_size, hidden],
                Rows::Same,
            ),
            plan("output_norm", "model.norm", &[hidden], Rows::Same),
        ];
        if !self.tie_word_embeddings {
            plans.push(plan("output", "lm_head", &[self.vocab_size, hidden], Rows::Same));
        }
        for layer in 0..self.num_hidden_layers {
            let mut add = |gguf: &str, hf: &str, shape: &[usize], rows| {
                let (gguf, hf) = (format!("blk.{layer}.{gguf}"), format!("model.layers.{layer}.{hf}"));
                plans.push(plan(&gguf, &hf, shape, rows));
            };
            add("attn_norm", "input_layernorm", &[hidden], Rows::Same);
            add("attn_q", "self_attn.q_proj", &[q, hidden], q_rows);
            add("attn_k", "self_attn.k_proj", &[kv, hidden], k_rows);
            add("attn_v", "self_attn.v_proj", &[kv, hidden], Rows::Same);
            add("attn_output", "self_attn.o_proj", &[hidden, q], Rows::Same);
            add("ffn_norm", "post_attention_layernorm", &[hidden], Rows::Same);
            add("ffn_gate", "mlp.gate_proj", &[inner, hidden], Rows::Same);
            add("ffn_up", "mlp.up_proj", &[inner, hidden], Rows::Same);
            add("ffn_down", "mlp.down_proj", &[hidden, inner], Rows::Same);
        }
        plans
    }
}

/// `generation_config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GenerationConfig {
    bos_token_id: Option<u32>,
    eos_token_id: u32,
    pad_token_id: Option<u32>,
}

fn plan(gguf: &str, hf: &str, shape: &[usize], rows: Rows) -> TensorPlan {
    TensorPlan {
        gguf: format!("{gguf}.weight"),
        hf: format!("{hf}.weight"),
        shape: shape.to_vec(),
        rows,
    }
}

impl Rows {
    /// Puts the rows of a matrix into Hugging Face's order.
    ///
    /// Rotary embeddings turn a head's dimensions in pairs. Hugging Face pairs dimension `i` with
    /// `i + half`, llama.cpp `2 i` with `2 i + 1`; so llama.cpp stores the rows of each head as
    /// 0, half, 1, half + 1, ... This takes them back to 0, 1, 2, ...
    pub fn to_hf(self, values: Vec<f32>, shape: &[usize]) -> Result<Vec<f32>> {
        let Self::RotaryPairs { heads } = self else {
            return Ok(values);
        };
        let &[rows, columns] = shape else {
            bail!("a tensor of shape {shape:?} has no rows to reorder");
        };
        let in_heads = heads > 0 && rows.is_multiple_of(2 * heads) && columns > 0;
        ensure!(
            in_heads && values.len() == rows * columns,
            "a tensor of shape {shape:?} cannot be split into {heads} heads"
        );
        let half = rows / heads / 2;
        let mut ordered = Vec::with_capacity(values.len());
        for head in values.chunks_exact(2 * half * columns) {
            for second in [false, true] {
                for i in 0..half {
                    let from = (2 * i + usize::from(second)) * columns;
                    let row = head.get(from..from + columns).context("row outside its head")?;
                    ordered.extend_from_slice(row);
                }
            }
        }
        Ok(ordered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What llama.cpp does when it makes a GGUF file: Hugging Face's row `p * half + i` of a head
    /// becomes row `2 i + p`.
    fn llama_cpp_row(row: usize, head_dim: usize) -> usize {
        let (head, within) = (row / head_dim, row % head_dim);
        let half = head_dim / 2;
        head * head_dim + 2 * (within % half) + within / half
    }

    #[test]
    fn rows_in_pairs_go_back_to_halves() {
        // One column; a row's value is its number in Hugging Face's order. Two heads of six.
        let stored = [0., 3., 1., 4., 2., 5., 6., 9., 7., 10., 8., 11.];
        let rows = Rows::RotaryPairs { heads: 2 };
        let ordered = rows.to_hf(stored.to_vec(), &[12, 1]).expect("it fits");
        let expected: Vec<f32> = (0..12u8).map(f32::from).collect();
        assert_eq!(ordered, expected);
    }

    #[test]
    fn reordering_undoes_llama_cpp_for_whole_rows() {
        let (heads, head_dim, columns) = (3, 8, 5);
        let rows = heads * head_dim;
        let value = |row: usize, column: usize| (row * columns + column) as f32;
        let mut stored = vec![f32::NAN; rows * columns];
        for row in 0..rows {
            for column in 0..columns {
                stored[llama_cpp_row(row, head_dim) * columns + column] = value(row, column);
            }
        }
        let ordered = Rows::RotaryPairs { heads }
            .to_hf(stored, &[rows, columns])
            .expect("it fits");
        let expected: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        assert_eq!(ordered, expected);
    }

    #[test]
    fn shapes_that_are_not_whole_heads_are_refused() {
        let rows = Rows::RotaryPairs { heads: 2 };
        assert!(rows.to_hf(vec![0.0; 6], &[6, 1]).is_err(), "heads of three");
        assert!(rows.to_hf(vec![0.0; 8], &[8]).is_err(), "no matrix");
        assert!(rows.to_hf(vec![0.0; 7], &[8, 1]).is_err(), "a value short");
    }
}
