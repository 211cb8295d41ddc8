//! Arguments that choose models and how they run.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use mistralrs_core::ModelDType;
use steermap_mapper::collect::side::SideSource;
use steermap_mapper::device::DeviceChoice;
use steermap_mapper::session::ModelSource;

/// One model.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// The model: a folder, or an id on the model hub
    #[arg(long)]
    model: String,
    /// GGUF file(s) in the model, separated by semicolons
    #[arg(long)]
    gguf: Option<String>,
    /// With --gguf: folder or id of the model whose tokenizer to use
    #[arg(long, requires = "gguf")]
    tok_model_id: Option<String>,
    /// Device to run on: auto, cpu, cuda:0, ..
    #[arg(long, default_value_t = DeviceChoice::Auto, conflicts_with = "cpu")]
    device: DeviceChoice,
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
    /// Run on the CPU even if there is a GPU (sets every device option to cpu)
    #[arg(long)]
    cpu: bool,
    /// Maximum number of texts that run at a time
    #[arg(long, default_value_t = 16)]
    batch: usize,
}

/// Two models.
#[derive(clap::Args)]
pub struct ModelPairArgs {
    /// The model whose states are mapped (the small one): a folder, or an id on the model hub
    #[arg(long)]
    source: Option<String>,
    /// The model that states are mapped to (the large one)
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
    /// Dtype of the source, if it differs from --dtype
    #[arg(long)]
    source_dtype: Option<ModelDType>,
    /// Dtype of the target, if it differs from --dtype
    #[arg(long)]
    target_dtype: Option<ModelDType>,
    /// Device of the source: auto, cpu, cuda:0, ..
    #[arg(long, default_value_t = DeviceChoice::Auto, conflicts_with = "cpu")]
    source_device: DeviceChoice,
    /// Device of the target
    #[arg(long, default_value_t = DeviceChoice::Auto, conflicts_with = "cpu")]
    target_device: DeviceChoice,
    /// Quantisation of the source, if it differs from --isq
    #[arg(long)]
    source_isq: Option<String>,
    /// Quantisation of the target, if it differs from --isq
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
            device: device_choice(cpu, args.device),
            batch,
        }
    }
}

fn device_choice(cpu: bool, device: DeviceChoice) -> DeviceChoice {
    if cpu { DeviceChoice::Cpu } else { device }
}

impl ModelPairArgs {
    /// Where the states of both sides come from.
    ///
    /// # Errors
    ///
    /// A side has neither a model nor activations.
    pub fn sides(self, activations: [Vec<PathBuf>; 2]) -> Result<[SideSource; 2]> {
        let named = [self.source.is_some(), self.target.is_some()];
        for ((name, named), folders) in ["source", "target"].into_iter().zip(named).zip(&activations) {
            ensure!(
                named || !folders.is_empty(),
                "{name}: found nothing, expected a folder or an id with --{name}, or folders of activations with \
                 --{name}-activations"
            );
        }
        // The empty name is never used: a side without a model has activations.
        let with_names = Self {
            source: self.source.or_else(|| Some(String::new())),
            target: self.target.or_else(|| Some(String::new())),
            ..self
        };
        let Some((source, target)) = with_names.sources() else {
            bail!("source or target: found nothing, expected both");
        };
        let [a, b] = activations;
        let side = |model, folders: Vec<PathBuf>| {
            if folders.is_empty() {
                SideSource::Model(model)
            } else {
                SideSource::Activations(folders)
            }
        };
        Ok([side(source, a), side(target, b)])
    }

    /// Source and target; `None` if either is not named.
    pub fn sources(self) -> Option<(ModelSource, ModelSource)> {
        let RunArgs { dtype, isq, cpu, batch } = self.run;
        let model =
            |model, gguf, tok_model_id, own_dtype: Option<ModelDType>, own_isq: Option<String>, device| ModelSource {
                model,
                gguf,
                tok_model_id,
                dtype: own_dtype.unwrap_or(dtype),
                isq: own_isq.or_else(|| isq.clone()),
                device: device_choice(cpu, device),
                batch,
            };
        Some((
            model(
                self.source?,
                self.source_gguf,
                self.source_tok_model_id,
                self.source_dtype,
                self.source_isq,
                self.source_device,
            ),
            model(
                self.target?,
                self.target_gguf,
                self.target_tok_model_id,
                self.target_dtype,
                self.target_isq,
                self.target_device,
            ),
        ))
    }
}
