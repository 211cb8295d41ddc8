//! `mapper vector`: finds a steering vector from contrastive pairs.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use steermap_maps::{LayerVector, Numerics, TokenPosition, VectorFile, VectorHeader, digest::sha256_file};

use crate::capture::{LayerStates, StreamCapture};
use crate::layers::LayerSelection;
use crate::map::provenance;
use crate::pairs::read_pairs;
use crate::session::{ModelSource, Session};
use crate::statistics::{Mean, held_out_auroc, mean_difference};

/// Prompts whose states are held in memory together.
const PROMPTS_AT_A_TIME: usize = 64;

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
    /// Which states of a text are compared.
    pub position: TokenPosition,
    /// The command line, for the file's provenance.
    pub command: String,
    /// Whether to show a progress bar.
    pub progress: bool,
}

impl VectorJob {
    /// Runs the model over the pairs and computes, for each layer, the mean difference of the states. The model is
    /// dropped at the end.
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

        let capture = Arc::new(StreamCapture::new(layers.clone()));
        let bar = progress_bar(self.progress, prompts.len() as u64);
        // By text, then by layer: what the vector is made of.
        let mut states: Vec<Vec<Vec<f32>>> = vec![Vec::new(); prompts.len()];
        let mut norms = vec![Mean::default(); layers.len()];
        for part in prompts.chunks(PROMPTS_AT_A_TIME) {
            let tokens: Vec<&[u32]> = part.iter().map(|(_, tokens)| tokens.as_slice()).collect();
            let streams = session.streams(&capture, &tokens, || bar.inc(1)).await?;
            for ((index, _), layers) in part.iter().zip(streams) {
                for (norm, stream) in norms.iter_mut().zip(&layers) {
                    // The first position carries massive activations in many models.
                    (1..stream.len()).for_each(|position| norm.add(stream.norm(position)));
                }
                states[*index] = layers.iter().map(|stream| read(stream, self.position)).collect();
            }
        }
        bar.finish_and_clear();

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
                    mean_norm: norms[i].value(),
                    auroc: held_out_auroc(&positive, &negative),
                }
            })
            .collect();
        let header = VectorHeader {
            concept: self.concept.clone(),
            method: "mean-difference".to_string(),
            token_position: self.position,
            pairs: u32::try_from(pairs.len()).context("too many pairs")?,
            model: session.info()?,
            numerics: Numerics {
                dtype: capture.dtype().map_or("unknown", |dtype| dtype.as_str()).to_string(),
                quantization: session.quantization(),
            },
            provenance: provenance(
                self.command.clone(),
                self.pairs
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                sha256_file(&self.pairs)?,
            ),
        };
        VectorFile::new(header, vectors).context("no vector could be made from these pairs")
    }
}

/// What a text's states at one layer come to: the last token's, or the mean of all but the first token's (of all, where
/// there is but one).
fn read(stream: &LayerStates, position: TokenPosition) -> Vec<f32> {
    let last = stream.len() - 1;
    match position {
        TokenPosition::Mean => {
            let positions = 1.min(last)..=last;
            let mut sums = vec![0f64; stream.at(last).len()];
            let count = positions.clone().count() as f64;
            for position in positions {
                for (sum, &x) in sums.iter_mut().zip(stream.at(position)) {
                    *sum += f64::from(x);
                }
            }
            sums.iter().map(|sum| (sum / count) as f32).collect()
        }
        _ => stream.at(last).to_vec(),
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
