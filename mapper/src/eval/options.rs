//! The options of an evaluation.

use std::path::PathBuf;

use steermap_maps::OffsetRule;

use super::alphas::Alphas;
use super::judge::Judge;
use super::protocol::{Draws, SteeredLayers};
use super::texts::TextDraws;
use crate::corpus::TextOptions;
use crate::session::ModelSource;
use crate::tasks::PromptForm;
use crate::vector::Method;

/// The options of `mapper eval`.
pub struct EvalJob {
    /// The map file.
    pub map: PathBuf,
    /// A map that was fitted on shuffled pairings, as a control.
    pub shuffled_map: Option<PathBuf>,
    /// The model that vectors are found on.
    pub source: ModelSource,
    /// The model that is steered.
    pub target: ModelSource,
    /// The folder of tasks.
    pub tasks: PathBuf,
    /// The form in which published data sets are asked.
    pub form: PromptForm,
    /// The neutral text; none for the one that is built in.
    pub text: Vec<PathBuf>,
    /// How it is read.
    pub text_options: TextOptions,
    /// Whether the map was fitted on none of it, so that all of it may be used.
    pub unseen_text: bool,
    /// The folder to write to.
    pub out: PathBuf,
    /// The strengths to steer at.
    pub alphas: Alphas,
    /// The target's layers to steer.
    pub layers: SteeredLayers,
    /// Numbers of draws of the controls.
    pub draws: Draws,
    /// How the map carries vectors.
    pub offset: OffsetRule,
    /// How vectors are found.
    pub method: Method,
    /// Seed of random directions, of resampling, and of methods that draw.
    pub seed: u64,
    /// Isotropic random directions per task, two at least.
    pub random: usize,
    /// How many of the alphas isotropic random directions are measured at.
    pub random_alphas: usize,
    /// Resamples of a bootstrap.
    pub resamples: usize,
    /// Maximum number of items in each half.
    pub items: Option<usize>,
    /// Number of paired positions that the representation is measured on.
    pub positions: usize,
    /// Number of predicted tokens that perplexity is measured on.
    pub perplexity_tokens: usize,
    /// The factor by which a proposed spec may raise perplexity at most.
    pub perplexity_budget: f64,
    /// The generated texts.
    pub texts: TextDraws,
    /// A model that scores the texts too.
    pub judge: Option<Judge>,
    /// Whether models other than those that the map was fitted on are accepted.
    pub ignore_fingerprints: bool,
    /// The command line, for the record.
    pub command: String,
    /// Whether to show progress.
    pub progress: bool,
}
