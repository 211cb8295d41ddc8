//! Arguments that say which models run, and how.

use mistralrs_core::ModelDType;
use steermap_mapper::session::ModelSource;

/// One model.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// The model: a folder, or an id on the model hub
    #[arg(long)]
    model: String,
    /// GGUF file(s) in it, separated by semicolons
    #[arg(long)]
    gguf: Option<String>,
    /// With --gguf: folder or id of the model whose tokenizer to use
    #[arg(long, requires = "gguf")]
    tok_model_id: Option<String>,
    #[command(flatten)]
    run: RunArgs,
}

/// How models run.
#[derive(clap::Args)]
pub struct RunArgs {
    /// Dtype to run in: auto, f32, bf16 or f16
    #[arg(long, default_value = "auto")]
    dtype: ModelDType,
    /// Quantise while loading, as mistral.rs does: q8_0, q4k, 4, ...
    #[arg(long)]
    isq: Option<String>,
    /// Run on the CPU even where there is a GPU
    #[arg(long)]
    cpu: bool,
    /// Most texts that run at a time
    #[arg(long, default_value_t = 16)]
    batch: usize,
}

/// Two models.
#[derive(clap::Args)]
pub struct ModelPairArgs {
    /// The model whose states are mapped (the small one): a folder, or an id on the model hub
    #[arg(long)]
    source: Option<String>,
    /// The model that they are mapped to (the large one)
    #[arg(long)]
    target: Option<String>,
    /// GGUF file(s) in the source, separated by semicolons
    #[arg(long, requires = "source")]
    source_gguf: Option<String>,
    /// GGUF file(s) in the target
    #[arg(long, requires = "target")]
    target_gguf: Option<String>,
    /// With --source-gguf: folder or id of the model whose tokenizer to use
    #[arg(long, requires = "source_gguf")]
    source_tok_model_id: Option<String>,
    /// With --target-gguf: folder or id of the model whose tokenizer to use
    #[arg(long, requires = "target_gguf")]
    target_tok_model_id: Option<String>,
    /// Dtype of the source, where it differs from --dtype
    #[arg(long)]
    source_dtype: Option<ModelDType>,
    /// Dtype of the target, where it differs from --dtype
    #[arg(long)]
    target_dtype: Option<ModelDType>,
    /// Quantisation of the source, where it differs from --isq
    #[arg(long)]
    source_isq: Option<String>,
    /// Quantisation of the target, where it differs from --isq
    #[arg(long)]
    target_isq: Option<String>,
    #[command(flatten)]
    run: RunArgs,
}

impl From<ModelArgs> for ModelSource {
    fn from(args: ModelArgs) -> Self {
        let RunArgs { dtype, isq, cpu, batch } = args.run;
        Self {
            model: args.model,
            gguf: args.gguf,
            tok_model_id: args.tok_model_id,
            dtype,
            isq,
            cpu,
            batch,
        }
    }
}

impl ModelPairArgs {
    /// Source and target; `None` if either is not named.
    pub fn sources(self) -> Option<(ModelSource, ModelSource)> {
        let RunArgs { dtype, isq, cpu, batch } = self.run;
        let model = |model, gguf, tok_model_id, own_dtype: Option<ModelDType>, own_isq: Option<String>| ModelSource {
            model,
            gguf,
            tok_model_id,
            dtype: own_dtype.unwrap_or(dtype),
            isq: own_isq.or_else(|| isq.clone()),
            cpu,
            batch,
        };
        Some((
            model(
                self.source?,
                self.source_gguf,
                self.source_tok_model_id,
                self.source_dtype,
                self.source_isq,
            ),
            model(
                self.target?,
                self.target_gguf,
                self.target_tok_model_id,
                self.target_dtype,
                self.target_isq,
            ),
        ))
    }
}
