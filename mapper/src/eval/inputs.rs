//! The files of an evaluation, read and checked before a model is loaded.

use anyhow::{Result, bail, ensure};
use residual_hooks::StreamInfo;
use serde_json::json;
use steermap_maps::digest::{sha256, sha256_file};
use steermap_maps::{MapFile, ModelInfo};

use super::options::EvalJob;
use super::text::NeutralText;
use crate::session::ModelSource;
use crate::tasks::{Task, read_folder_as};

/// Maximum number of tokens of a generated text, since the logits of all of its positions are in memory at once.
const MOST_TOKENS: usize = 1024;

/// Everything that is read before a model is loaded.
pub(super) struct Inputs {
    pub map: MapFile,
    pub map_sha256: String,
    /// The map that was fitted on shuffled pairings, with its hash.
    pub shuffled_map: Option<(MapFile, String)>,
    pub tasks: Vec<Task>,
    pub text: NeutralText,
}

impl Inputs {
    /// Reads and checks everything that needs no model.
    ///
    /// # Errors
    ///
    /// Options out of range, invalid files.
    pub fn read(job: &EvalJob) -> Result<Self> {
        let at_least = |name: &str, found: usize, least: usize| {
            ensure!(found >= least, "{name}: found {found}, expected at least {least}");
            Ok(())
        };
        at_least("random", job.random, 2)?;
        at_least("random-alphas", job.random_alphas, 2)?;
        at_least("resamples", job.resamples, 100)?;
        at_least("items", job.items.unwrap_or(2), 2)?;
        at_least("control-items", job.draws.items, 2)?;
        at_least("control-draws", job.draws.control.unwrap_or(1), 1)?;
        at_least("positions", job.positions, 4)?;
        at_least("perplexity-tokens", job.perplexity_tokens, 1)?;
        at_least("max-tokens", job.texts.max_tokens, 2)?;
        ensure!(
            job.texts.max_tokens <= MOST_TOKENS,
            "max-tokens: found {}, expected at most {MOST_TOKENS}",
            job.texts.max_tokens
        );
        ensure!(
            job.perplexity_budget >= 1.0 && job.perplexity_budget.is_finite(),
            "perplexity-budget: found {}, expected 1 or more",
            job.perplexity_budget
        );
        let map = MapFile::load(&job.map)?;
        let shuffled_map = match &job.shuffled_map {
            None => None,
            Some(path) => {
                let shuffled = MapFile::load(path)?;
                let (found, expected) = (shuffled.header(), map.header());
                ensure!(
                    (&found.source.fingerprint, &found.target.fingerprint)
                        == (&expected.source.fingerprint, &expected.target.fingerprint),
                    "shuffled-map: {}: found a map of {} to {}, expected one of the same models as {}",
                    path.display(),
                    found.source.model,
                    found.target.model,
                    job.map.display()
                );
                Some((shuffled, sha256_file(path)?))
            }
        };
        Ok(Self {
            map_sha256: sha256_file(&job.map)?,
            tasks: read_folder_as(&job.tasks, job.form)?,
            text: NeutralText::read(&job.text, &job.text_options, &map, job.unseen_text)?,
            shuffled_map,
            map,
        })
    }

    /// Checks that the models are those that the map was fitted on.
    ///
    /// # Errors
    ///
    /// Names the model that isn't.
    pub fn check_models(&self, job: &EvalJob, infos: &[ModelInfo; 2]) -> Result<()> {
        let header = self.map.header();
        for ((side, info), fitted) in ["source", "target"]
            .iter()
            .zip(infos)
            .zip([&header.source, &header.target])
        {
            let sizes = |info: &ModelInfo| format!("{} layers of {}", info.num_layers, info.hidden_size);
            ensure!(
                (info.num_layers, info.hidden_size) == (fitted.num_layers, fitted.hidden_size),
                "{side}: found {} with {}, expected {} with {}, as in {}",
                info.model,
                sizes(info),
                fitted.model,
                sizes(fitted),
                job.map.display()
            );
            ensure!(
                job.ignore_fingerprints || info.fingerprint == fitted.fingerprint,
                "{side}: found {} ({}), expected {} ({}), which {} was fitted on; --ignore-fingerprints accepts other models",
                info.model,
                info.fingerprint,
                fitted.model,
                fitted.fingerprint,
                job.map.display()
            );
        }
        Ok(())
    }

    /// Checks that the shuffled map reaches the layer at which controls are measured.
    ///
    /// # Errors
    ///
    /// It does not.
    pub fn check_shuffled(&self, layer: usize, stream: &StreamInfo) -> Result<()> {
        let Some((shuffled, _)) = &self.shuffled_map else {
            return Ok(());
        };
        let reaches = shuffled.pairs().iter().any(|pair| pair.target_layer == layer);
        if !reaches {
            bail!(
                "shuffled-map: found a map that does not reach layer {layer} (of {}), expected one that does: controls are \
                 measured there",
                stream.num_layers
            );
        }
        Ok(())
    }

    /// A hash over everything that decides the results.
    ///
    /// # Errors
    ///
    /// Only those of the JSON serializer.
    pub fn identity(&self, job: &EvalJob, infos: &[ModelInfo; 2]) -> Result<String> {
        let model = |source: &ModelSource, info: &ModelInfo| {
            json!([
                info.fingerprint,
                format!("{:?}", source.dtype),
                source.isq,
                source.gguf,
                source.device.to_string()
            ])
        };
        let tasks: Vec<_> = self.tasks.iter().map(|task| json!([task.name, task.sha256])).collect();
        let all = json!({
            "tool": env!("CARGO_PKG_VERSION"),
            "map": self.map_sha256,
            "shuffled_map": self.shuffled_map.as_ref().map(|(_, sha256)| sha256),
            "models": [model(&job.source, &infos[0]), model(&job.target, &infos[1])],
            "tasks": tasks,
            "form": format!("{:?}", job.form),
            "text_options": format!("{:?}", job.text_options),
            "text": [self.text.sha256, job.unseen_text.to_string(), job.positions.to_string(), job.perplexity_tokens.to_string()],
            "alphas": [job.alphas.unit().as_str(), format!("{:?}", job.alphas.values())],
            "layers": job.layers.to_string(),
            "draws": format!("{:?}", job.draws),
            "offset": job.offset.as_str(),
            "method": job.method.to_string(),
            "numbers": [job.seed, job.random as u64, job.random_alphas as u64],
            "texts": format!("{:?}", job.texts),
            "items": job.items,
            "budget": job.perplexity_budget,
        });
        Ok(sha256(serde_json::to_string(&all)?.as_bytes()))
    }
}
