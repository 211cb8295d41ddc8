//! `mapper vector`: finds a steering vector from contrastive pairs.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use steermap_maps::{LayerVector, Numerics, Provenance, TokenPosition, VectorFile, VectorHeader, digest::sha256_file};

use crate::capture::LastTokenCapture;
use crate::layers::LayerSelection;
use crate::pairs::read_pairs;
use crate::session::{ModelSource, Session};
use crate::statistics::{held_out_auroc, mean_difference};

/// What `mapper vector` is asked to do.
#[derive(Clone, Debug)]
pub struct VectorJob {
    /// The model to find the vector on.
    pub source: ModelSource,
    /// Contrastive pairs, JSON lines.
    pub pairs: PathBuf,
    /// What the vector stands for.
    pub concept: String,
    /// The layers to find it at.
    pub layers: LayerSelection,
    /// The command line, for the file's provenance.
    pub command: String,
    /// Whether to show a progress bar.
    pub progress: bool,
}

impl VectorJob {
    /// Runs the model over the pairs and computes, for each layer, the mean difference of the states of the last
    /// tokens. The model is dropped at the end.
    ///
    /// # Errors
    ///
    /// Pairs that are no pairs, a model that can't be loaded or hooked, a layer that it does not have, texts that it
    /// does not tell apart.
    pub async fn run(&self) -> Result<VectorFile> {
        // Everything that can be wrong with the input is found before the model is loaded.
        read_pairs(&self.pairs)?;
        ensure!(
            !self.concept.trim().is_empty(),
            "concept: found nothing, expected a name"
        );
        let session = Session::load(self.source.clone()).await?;
        self.run_on(&session).await
    }

    /// As [`run`](Self::run), on a model that is loaded already. What hook the model had is gone afterwards.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn run_on(&self, session: &Session) -> Result<VectorFile> {
        let pairs = read_pairs(&self.pairs)?;
        let stream = session.slot().stream()?;
        let layers = self.layers.resolve(&stream)?;
        let texts = pairs.iter().flat_map(|pair| [&pair.positive, &pair.negative]);
        let mut prompts = Vec::new();
        for (index, text) in texts.enumerate() {
            let tokens = session
                .tokenize(text)
                .await
                .with_context(|| format!("pair {}", index / 2 + 1))?;
            prompts.push((index, tokens));
        }
        // By length: the engine runs prompts of one length together.
        prompts.sort_by_key(|(index, tokens)| (tokens.len(), *index));

        let capture = Arc::new(LastTokenCapture::new(layers.clone()));
        session.slot().install(capture.clone())?;
        let bar = progress_bar(self.progress, prompts.len() as u64);
        let tokens: Vec<&[u32]> = prompts.iter().map(|(_, tokens)| tokens.as_slice()).collect();
        let ids = session.prefill(&tokens, || bar.inc(1)).await;
        session.slot().remove();
        let ids = ids?;
        bar.finish_and_clear();

        let captured = capture.take();
        let mut states: Vec<&[Vec<f32>]> = vec![&[]; prompts.len()];
        for ((index, _), id) in prompts.iter().zip(ids) {
            let state = captured
                .last
                .get(&id)
                .with_context(|| format!("text {index} was not captured"))?;
            states[*index] = state;
        }
        let side = |side: usize, layer: usize| -> Vec<&[f32]> {
            states
                .iter()
                .skip(side)
                .step_by(2)
                .map(|state| state[layer].as_slice())
                .collect()
        };
        let vectors = layers
            .iter()
            .enumerate()
            .map(|(i, &layer)| {
                let (positive, negative) = (side(0, i), side(1, i));
                LayerVector {
                    layer,
                    direction: mean_difference(&positive, &negative),
                    mean_norm: captured.mean_norm(i),
                    auroc: held_out_auroc(&positive, &negative),
                }
            })
            .collect();
        let header = VectorHeader {
            concept: self.concept.clone(),
            method: "mean-difference".to_string(),
            token_position: TokenPosition::Last,
            pairs: u32::try_from(pairs.len()).context("too many pairs")?,
            model: session.info()?,
            numerics: Numerics {
                dtype: captured.dtype.map_or("unknown", |dtype| dtype.as_str()).to_string(),
                quantization: session.quantization(),
            },
            provenance: Provenance {
                tool: concat!("mapper ", env!("CARGO_PKG_VERSION")).to_string(),
                date: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
                command: self.command.clone(),
                seed: None,
                corpus: self
                    .pairs
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                corpus_sha256: sha256_file(&self.pairs)?,
            },
        };
        VectorFile::new(header, vectors).context("no vector could be made from these pairs")
    }
}

/// A vector's layers as a table for people.
pub fn table(vector: &VectorFile) -> String {
    let mut text = String::from("layer   |vector|   mean |stream|   ratio   held-out AUROC\n");
    for layer in vector.layers() {
        let (norm, mean) = (layer.norm(), layer.mean_norm);
        let ratio = if mean > 0.0 {
            format!("{:.3}", norm / mean)
        } else {
            "-".to_string()
        };
        let auroc = layer.auroc.map_or("-".to_string(), |auroc| format!("{auroc:.3}"));
        text += &format!("{:>5} {norm:>10.3} {mean:>15.3} {ratio:>7} {auroc:>16}\n", layer.layer);
    }
    text
}

fn progress_bar(visible: bool, length: u64) -> ProgressBar {
    if !visible {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}").expect("a valid template");
    ProgressBar::new(length).with_style(style).with_message("reading pairs")
}
