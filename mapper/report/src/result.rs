//! The result of an evaluation: everything that the report shows, in the form of `report.json`.
//!
//! Alphas are in units of the target stream's mean norm at the steered layer, unless a field says otherwise;
//! propensities are differences of logits. Intervals are 95%: percentile bootstraps over clusters of items, seeded;
//! those of retention also include the uncertainty of the vectors ([`HalfSamples`]).

use serde::{Deserialize, Serialize};

/// The result of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// [`Evaluation::FORMAT`]
    pub format: String,
    /// What was run, and with what.
    pub run: Run,
    /// How well the map predicts the target's states.
    pub representation: Representation,
    /// How well steering goes through the map, task by task.
    pub tasks: Vec<TaskResult>,
    /// Tasks that could not be measured, and why.
    pub failed: Vec<FailedTask>,
    /// All tasks together.
    pub summary: Summary,
    /// What was left out, and why: tasks and items that could not be measured.
    pub notes: Vec<String>,
}

impl Evaluation {
    /// The value of `format`.
    pub const FORMAT: &'static str = "steermap-eval/2";
}

/// A task that could not be measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedTask {
    /// Its name.
    pub name: String,
    /// Why, in a sentence.
    pub reason: String,
}

/// What was run, and with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Program and version.
    pub tool: String,
    /// When it ended, RFC 3339.
    pub date: String,
    /// The command line.
    pub command: String,
    /// Of random directions and resampling.
    pub seed: u64,
    /// The model that vectors are found on.
    pub source: ModelRun,
    /// The model that is steered.
    pub target: ModelRun,
    /// The map.
    pub map: MapRun,
    /// How vectors are found: `mean-difference`, ...
    pub method: String,
    /// `relative` (alphas were given in units of the mean norm) or `absolute` (as lengths of the offset, as the paper
    /// has them).
    pub alpha_unit: String,
    /// The alphas as they were given.
    pub alphas: Vec<f64>,
    /// What is fixed before anything is measured.
    pub protocol: Protocol,
    /// Resamples of each bootstrap.
    pub resamples: usize,
    /// The factor by which a proposed spec may raise perplexity at most.
    pub perplexity_budget: f64,
    /// The model that judged the texts, if there was one.
    pub judge: Option<JudgeRun>,
    /// Where it ran: `cpu`, `cuda`, `metal`.
    pub device: String,
    /// Time that this run took, without earlier runs that it continued, in seconds.
    pub seconds: f64,
}

/// A model that judged the texts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeRun {
    /// Where it is served, without a password.
    pub url: String,
    /// Its name there.
    pub model: String,
    /// Its instructions.
    pub rubric: String,
}

/// What is fixed before anything is measured, so that no figure is the best of many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// The target's layers that the headlines are means over, ascending.
    pub band: Vec<usize>,
    /// Where `band` comes from: `middle half` of the target's depth, or `given` by the user.
    pub band_is: String,
    /// The layer of the band at which the curves, the decisive control and the texts are measured.
    pub layer: usize,
    /// Layers with a direct share above this are left out of the headlines (see [`LayerResult::direct_share`]); `None`:
    /// all are taken.
    pub most_direct: Option<f64>,
    /// Draws of the decisive control per task.
    pub control_draws: usize,
    /// Maximum number of items that a control is measured on.
    pub control_items: usize,
    /// A task is carried only if all of its retention's interval lies between these.
    pub retention_bounds: [f64; 2],
    /// A task is carried only if its adjusted p-value is at most this.
    pub level: f64,
    /// Tasks that were asked for.
    pub tasks: usize,
    /// Vectors from half samples of the finding pairs, per task.
    pub half_samples: usize,
}

/// A model, and the numerics that it ran at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRun {
    /// Id or folder name.
    pub model: String,
    /// Fingerprint of weights and tokenizer.
    pub fingerprint: String,
    /// Width of the stream.
    pub hidden_size: usize,
    /// Decoder blocks.
    pub num_layers: usize,
    /// The stream's dtype.
    pub dtype: String,
    /// The weights' quantisation.
    pub quantization: Option<String>,
}

/// The map that is evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapRun {
    /// File name without its extension.
    pub name: String,
    /// Of the TOML file.
    pub sha256: String,
    /// `linear` (`A v`) or, as in the paper, `affine` (`A v + p`).
    pub offset: String,
    /// What it was fitted on.
    pub corpus: String,
    /// Rows that it was fitted on.
    pub rows: u64,
}

/// How well the map predicts the target's states, on a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Representation {
    /// Name of the text.
    pub text: String,
    /// Its hash.
    pub text_sha256: String,
    /// Whether only documents were taken that the map's own rule holds out (`true`), or all (`false`: the text isn't
    /// the one that the map was fitted on).
    pub held_out: bool,
    /// Documents.
    pub documents: usize,
    /// Paired positions that the numbers below are of.
    pub positions: usize,
    /// By fitted pair.
    pub pairs: Vec<PairResult>,
    /// Debiased linear CKA of every source layer with every target layer, `[source layer][target layer]`; slightly
    /// below 0 where layers share nothing.
    pub cka: Vec<Vec<f64>>,
}

/// One fitted layer pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairResult {
    /// The source's layers.
    pub source_layers: Vec<usize>,
    /// The target's layer.
    pub target_layer: usize,
    /// R² as the map file states it, on its own held-out text.
    pub stated_r2: f64,
    /// R² over all dimensions at once, on this text.
    pub r2: f64,
    /// 5, 25, 50, 75 and 95% quantiles of the dimensions' own R².
    pub r2_quantiles: [f64; 5],
    /// Mean cosine of mapped and true states.
    pub cosine: f64,
    /// Debiased linear CKA of the source's states (concatenated, if there are several layers) with the target's.
    pub cka: f64,
}

/// A value and its 95% interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// 2.5%
    pub low: f64,
    /// 97.5%
    pub high: f64,
}

/// Values of one kind, such as one per item or one per random direction.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueSpread {
    /// How many.
    pub count: usize,
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation.
    pub deviation: f64,
    /// 95% interval of the mean (bootstrap).
    pub interval: [f64; 2],
    /// 2.5 and 97.5% quantiles of the values themselves.
    pub range: [f64; 2],
}

/// What steers: one of the vectors, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SteeringKind {
    /// Nothing.
    Unsteered,
    /// The vector found on the target itself.
    Native,
    /// The vector found on the source and carried through the map.
    Mapped,
    /// The vector found on the source, without the map, where sizes agree.
    Unmapped,
    /// A random direction.
    Random,
    /// A random direction of the source, carried through the map.
    MappedRandom,
    /// Nothing; the prompt asks for the concept instead.
    Prompted,
}

/// One task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskResult {
    /// Its name.
    pub name: String,
    /// The behaviour, in a sentence.
    pub description: String,
    /// What a positive propensity stands for.
    pub positive: String,
    /// What a negative one stands for.
    pub negative: String,
    /// `completion`, `letters`, `yes-no`.
    pub kind: String,
    /// Over the task's files.
    pub sha256: String,
    /// Contrastive pairs that the vectors are found from.
    pub pairs: usize,
    /// The states that they are found on: `last`, `mean`, `answer`.
    pub position: String,
    /// Items that layers and the proposed spec are chosen on.
    pub finding: usize,
    /// Items that everything else is measured on.
    pub measuring: usize,
    /// Clusters of the measuring items: items that share a deciding word are in one.
    pub clusters: usize,
    /// The layers that could be steered, with slopes on the finding half.
    pub candidates: Vec<Candidate>,
    /// Every measured layer, on the measuring half: those of the band, and others that were asked for.
    pub layers: Vec<LayerResult>,
    /// Mean retention over the layers of the band that count ([`LayerResult::counts`]). `None` if none counts.
    pub band_retention: Option<Estimate>,
    /// The layer where the native vector steers most on the finding half. Shown beside the headlines, never in them.
    pub best_layer: usize,
    /// Source layers of the pair at [`Protocol::layer`].
    pub source_layers: Vec<usize>,
    /// [`Protocol::layer`], which all that follows is measured at.
    pub target_layer: usize,
    /// Mean norm of the target's stream there: alpha 1.
    pub mean_norm: f64,
    /// Cosine of mapped and native vector.
    pub cosine: f64,
    /// Cosines of mapped random directions and the native vector.
    pub random_cosines: ValueSpread,
    /// How well the source's vector separates pairs that it was not made from (area under the ROC curve,
    /// cross-validated; the last of the source's layers).
    pub source_auroc: Option<f64>,
    /// The same of the native vector.
    pub native_auroc: Option<f64>,
    /// Alphas of the curves.
    pub alphas: Vec<f64>,
    /// Mean propensity without steering.
    pub unsteered: Estimate,
    /// Native, mapped, and unmapped where there is one.
    pub curves: Vec<Curve>,
    /// Isotropic random directions.
    pub random: RandomCurves,
    /// Whether the target's own vector steers, decided on the finding half. Where it does not, retention says nothing.
    pub native_steers: NativeSteers,
    /// Slope with the mapped vector over that with the native one, on the measuring half.
    pub retention: Estimate,
    /// The uncertainty of the vectors, which the interval of retention includes. `None` for fewer than four pairs.
    pub half_samples: Option<HalfSamples>,
    /// The controls, the decisive one first.
    pub controls: Vec<Control>,
    /// Whether the mapped vector moves its own task more than it moves the others. `None` of a single task.
    pub specificity: Option<Specificity>,
    /// By item: Pearson correlation over alphas of the propensities with the native and with the mapped vector. Items
    /// where either does not move are left out (see `count`).
    pub pearson: ValueSpread,
    /// By alpha other than 0: Pearson correlation over items of the propensities with the native and with the mapped
    /// vector, as in the paper. The interval is of their mean, over clusters of items. What items differ by without
    /// steering counts, so random directions come out high too.
    pub item_pearson: ValueSpread,
    /// By item: mean over alphas of the squared difference of those propensities.
    pub mse: ValueSpread,
    /// The same of the probability of the positive answer among the two, `1 / (1 + exp(-propensity))`.
    pub mse_probability: ValueSpread,
    /// Perplexity of the neutral text.
    pub perplexity: Perplexity,
    /// What steering for this task does to the others, each on the first [`Protocol::control_items`] of its measuring
    /// half: at half of the largest alpha to either side.
    pub side_effects: Vec<SideEffect>,
    /// Generated texts and their scores.
    pub generation: Option<Generation>,
    /// The spec to serve: of a task with texts, if at the decisive layer an alpha scores better than no steering with
    /// perplexity within the budget; of another, if any alpha keeps it there.
    pub proposal: Option<Proposal>,
    /// The verdict on the task.
    pub verdict: Verdict,
}

impl TaskResult {
    /// The control that decides the verdict; `None` without draws.
    pub fn decisive(&self) -> Option<&Control> {
        let mut controls = self.controls.iter();
        controls.find(|control| control.kind == ControlKind::MappedRandom && control.spread.count > 0)
    }
}

/// Steering at one layer, on the measuring half. Slopes are between two alphas: half of the largest, to either side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerResult {
    /// The source's layers.
    pub source_layers: Vec<usize>,
    /// The target's layer.
    pub target_layer: usize,
    /// Whether it is of [`Protocol::band`].
    pub in_band: bool,
    /// Whether it is in the headlines: of the band, and not above [`Protocol::most_direct`].
    pub counts: bool,
    /// Slope with the native vector.
    pub native: Estimate,
    /// Slope with the mapped vector.
    pub mapped: Estimate,
    /// Their ratio, over the same resampled items.
    pub retention: Estimate,
    /// The share of the native vector's effect that goes straight to the logits: the slope when the same offset is
    /// added after the last block, so that only the final norm and the unembedding see it, over the slope when it is
    /// added here. Below 0 where the blocks turn the direct effect around; `None` for a model that can't be steered
    /// after its last block.
    pub direct_share: Option<f64>,
    /// Cosine of mapped and native vector.
    pub cosine: f64,
}

/// Whether the target's own vector steers, on the finding half.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NativeSteers {
    /// Whether it does: all of the interval is above 0, and the slope is above [`NativeSteers::least`].
    pub steers: bool,
    /// What random directions hardly reach: the root mean square of their slopes times the quantile of Student's
    /// distribution, with as many degrees of freedom as directions, that leaves [`Protocol::level`] over the number of
    /// tasks to both sides.
    pub least: f64,
    /// Slope with the native vector on the finding half.
    pub slope: Estimate,
    /// Slopes of the isotropic random directions there.
    pub random: ValueSpread,
}

/// Vectors found again from random halves of the pairs, on both models from the same halves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HalfSamples {
    /// Retention of each, at two alphas.
    pub retention: Vec<f64>,
    /// The standard error that they add to retention.
    pub standard_error: f64,
}

/// Where a control's directions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlKind {
    /// Random directions of the source, carried over by the map: the decisive one.
    MappedRandom,
    /// Random directions of the target.
    Isotropic,
    /// The other tasks' vectors, carried over by the map.
    OtherTasks,
    /// Vectors from the task's own pairs, with which is the positive drawn anew, carried over by the map; as long as
    /// they come out beside the task's own, since at its length any of them is the contrast again, one way or the
    /// other.
    ShuffledLabels,
    /// The task's own vector, carried over by a map that was fitted on shuffled pairings.
    ShuffledMap,
}

/// A control: the retention of directions other than the task's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Where they come from.
    pub kind: ControlKind,
    /// Alphas that they are measured at.
    pub alphas: Vec<f64>,
    /// Items that they are measured on: the first of the measuring half.
    pub items: usize,
    /// Slope of each over that of the native vector at the same alphas and items.
    pub retention: Vec<f64>,
    /// Their mean, deviation and range.
    pub spread: ValueSpread,
    /// Retention of the mapped vector at the same alphas and items.
    pub mapped: f64,
    /// The rank of the mapped vector among them: `(1 + #{|control| >= mapped}) / (1 + draws)`.
    pub p_value: f64,
    /// The same after Holm's correction over all tasks; of the decisive control alone.
    pub p_adjusted: Option<f64>,
    /// Mean over items of the absolute Pearson correlation over alphas with the native vector's propensities, by
    /// direction. `None` at two alphas, where every correlation is 1 or -1.
    pub pearson: Option<ValueSpread>,
    /// Mean over alphas of the Pearson correlation over items with the native vector's propensities, by direction.
    /// `None` where `pearson` is.
    pub item_pearson: Option<ValueSpread>,
}

/// How much a vector moves its own task, and how much it moves the others: those whose native vector steers on both
/// halves. Effects on a task are in units of what that task's own native vector does to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Specificity {
    /// Of the mapped vector: effect on its own task.
    pub own: f64,
    /// Of the mapped vector: mean absolute effect on the other tasks.
    pub others: f64,
    /// Of the native vector: mean absolute effect on the same other tasks (on its own it is 1).
    pub native_others: f64,
    /// Cosine of the mapped vector's effects on all of these tasks with those of its own task's native vector.
    pub own_profile: f64,
    /// The same with those of another task's native vector, the nearest one's.
    pub other_profile: f64,
    /// The task of that one.
    pub nearest_other: String,
    /// Whether its own task's share in all effects of the mapped vector is at least 0.9 of the native one's,
    /// `own / (own + others) >= 0.9 / (1 + native_others)`, and its effects are nearer to those of its own native vector
    /// than to those of any other.
    pub specific: bool,
}

/// A layer that could be steered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Candidate {
    /// The source's layers.
    pub source_layers: Vec<usize>,
    /// The target's layer.
    pub target_layer: usize,
    /// Slope with the native vector on the finding half.
    pub native_slope: f64,
    /// Slope with the mapped vector.
    pub mapped_slope: f64,
}

/// Mean propensity against alpha.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// Of which vector.
    pub kind: SteeringKind,
    /// Slope of the least-squares line through the means, over all alphas.
    pub slope: Estimate,
    /// By alpha: mean over items.
    pub mean: Vec<f64>,
    /// 2.5% of the mean.
    pub low: Vec<f64>,
    /// 97.5% of the mean.
    pub high: Vec<f64>,
    /// `[alpha][item]`
    pub items: Vec<Vec<f64>>,
}

/// Mean propensity against alpha, of many random directions of norm alpha.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomCurves {
    /// Alphas: all of the task's, or some of them.
    pub alphas: Vec<f64>,
    /// By alpha: mean over directions.
    pub mean: Vec<f64>,
    /// By alpha: 2.5% of the directions are below.
    pub low: Vec<f64>,
    /// By alpha: 97.5% of the directions are below.
    pub high: Vec<f64>,
    /// By direction: slope over these alphas.
    pub slopes: Vec<f64>,
}

/// Perplexity of the neutral text against alpha.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Perplexity {
    /// Predicted tokens.
    pub tokens: usize,
    /// Without steering.
    pub unsteered: f64,
    /// Alphas: all of the task's, or some of them.
    pub alphas: Vec<f64>,
    /// By alpha, with the native vector.
    pub native: Vec<f64>,
    /// By alpha, with the mapped vector.
    pub mapped: Vec<f64>,
}

/// The effect of steering for one task on another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SideEffect {
    /// The other task.
    pub task: String,
    /// Alpha, upwards; the same downwards.
    pub alpha: f64,
    /// Change of the other task's mean propensity from `-alpha` to `alpha`, with the native vector.
    pub native: f64,
    /// The same with the mapped vector.
    pub mapped: f64,
}

/// Texts that the target continued at several strengths, and how they score. Half of the prompts choose the strength,
/// the other half measures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// The rule that tells whether a text shows the concept, in a sentence.
    pub rule: String,
    /// Most tokens of a text.
    pub max_tokens: usize,
    /// Texts of each prompt: the first is greedy, the others are sampled at temperature 1.
    pub texts_per_prompt: usize,
    /// The text that the prompting baseline puts in front of a prompt; `None` if there was no room for it.
    pub baseline: Option<String>,
    /// The prompts.
    pub prompts: Vec<TextPrompt>,
    /// By vector and alpha.
    pub settings: Vec<TextSetting>,
    /// By kind: the strength with the best score on the finding prompts (of what has no strength, the only one).
    pub chosen: Vec<ChosenStrength>,
    /// Whether propensity ranks the settings as the texts do.
    pub agreement: Agreement,
    /// All texts.
    pub texts: Vec<GeneratedText>,
}

/// A prompt that was continued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextPrompt {
    /// The prompt; a chat as `role: text` lines.
    pub text: String,
    /// Whether its texts choose the strength; those of the others measure.
    pub finding: bool,
}

/// Means over texts, each from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextScores {
    /// How many texts.
    pub texts: usize,
    /// Share that show the concept.
    pub concept: f64,
    /// Mean of [`GeneratedText::fluency`].
    pub fluency: f64,
    /// Mean of [`GeneratedText::answers`].
    pub answers: f64,
    /// Mean of [`GeneratedText::score`].
    pub score: f64,
    /// Mean of [`JudgedText::score`] over those that were judged.
    pub judged: Option<f64>,
    /// How many were.
    pub judged_texts: usize,
}

/// All texts of one vector at one alpha.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSetting {
    /// Which vector.
    pub kind: SteeringKind,
    /// Alpha; 0 without steering.
    pub alpha: f64,
    /// Mean propensity of the measuring items there; `None` of the prompting baseline.
    pub propensity: Option<f64>,
    /// Of the finding prompts.
    pub finding: TextScores,
    /// Of the measuring prompts.
    pub measuring: TextScores,
}

/// The strength that the finding prompts choose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChosenStrength {
    /// Of which vector.
    pub kind: SteeringKind,
    /// Alpha; 0 without steering.
    pub alpha: f64,
    /// Mean score of the measuring prompts' texts there. The interval is over prompts, within 0 to 1; where all are
    /// alike, Wilson's.
    pub score: Estimate,
    /// Mean of the judge's scores, of the texts that were judged.
    pub judged: Option<Estimate>,
}

/// Spearman correlations over the settings between the mean propensity and what the texts score. `None` where one of
/// them is the same everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// Settings that they are over.
    pub settings: usize,
    /// With the share of texts that show the concept.
    pub concept: Option<f64>,
    /// With the score.
    pub score: Option<f64>,
    /// With the judge's score.
    pub judged: Option<f64>,
}

/// A text written by the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratedText {
    /// Number of the prompt, from 0.
    pub prompt: usize,
    /// Number of the text among those of its prompt and setting: 0 is greedy.
    pub number: usize,
    /// Which vector.
    pub kind: SteeringKind,
    /// Alpha; 0 without steering.
    pub alpha: f64,
    /// The text after the prompt.
    pub text: String,
    /// Whether it shows the concept, by the rule.
    pub concept: bool,
    /// Its perplexity behind the bare prompt, by the target without steering; `None` of a text without tokens.
    pub perplexity: Option<f64>,
    /// The share of its runs of three tokens that occur earlier in it.
    pub repetition: f64,
    /// `min(1, perplexity of the unsteered texts / perplexity) * (1 - repetition)`; of a text without tokens 0. The
    /// unsteered texts are those of the same task, of all of its prompts, greedy or sampled as this one is: the
    /// exponential of their mean negative log likelihood.
    pub fluency: f64,
    /// Does it answer its prompt? The probability that it follows this prompt and not one of two others of the task, by
    /// the target without steering, if each is as likely beforehand.
    pub answers: f64,
    /// Harmonic mean of the three.
    pub score: f64,
    /// The judge's scores, if there is a judge.
    pub judged: Option<JudgedText>,
}

/// A judge's scores of a text, each 0, 1 or 2.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgedText {
    /// Does it show the concept?
    pub concept: u8,
    /// Is it fluent?
    pub fluency: u8,
    /// Does it answer the prompt?
    pub answers: u8,
    /// Harmonic mean of the three, over 2: from 0 to 1.
    pub score: f64,
}

/// A spec to serve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// The layer that is steered.
    pub target_layer: usize,
    /// Alpha in units of the mean norm: `relative_scale`.
    pub alpha: f64,
    /// Change of the mean propensity on the finding half.
    pub gain: f64,
    /// Perplexity over that without steering.
    pub perplexity_ratio: f64,
    /// Score of the finding prompts' texts there, by which the alpha was chosen; `None` of a task without texts, where
    /// the gain chose layer and alpha.
    pub score: Option<f64>,
    /// To paste into a request, or below `[[steering.defaults]]`: names are those of `steering.toml` beside the report.
    pub toml: String,
}

/// A verdict on a task or on the map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The outcome.
    pub outcome: Outcome,
    /// The verdict in a sentence.
    pub sentence: String,
}

/// The outcome of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The map carries it.
    Carried,
    /// It does not.
    NotCarried,
    /// Nothing can be said: neither a success nor a failure.
    SaysNothing,
}

/// All tasks together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Tasks that were measured.
    pub measured: usize,
    /// Of these, tasks whose native vector steers.
    pub steered: usize,
    /// Tasks whose verdict says something: carried or not.
    pub judged: usize,
    /// Of these, tasks that the map carries.
    pub carried: usize,
    /// Means over all measured tasks.
    pub all: Means,
    /// Means over those whose native vector steers.
    pub steering: Means,
    /// By layer of the band: mean retention over the tasks whose native vector steers and where the layer counts.
    pub layers: Vec<LayerMean>,
    /// The verdict on the map.
    pub verdict: Verdict,
}

/// Means over tasks. The interval resamples tasks, and each task's own value within its interval; with one or two
/// tasks, the latter alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Means {
    /// How many tasks.
    pub tasks: usize,
    /// How many of them have a layer that counts, which `retention` is a mean over.
    pub counting: usize,
    /// Of [`TaskResult::band_retention`]; `None` without tasks that have one.
    pub retention: Option<Estimate>,
    /// Of the tasks' mean Pearson correlations.
    pub pearson: Option<Estimate>,
    /// Of the tasks' mean Pearson correlations over items.
    pub item_pearson: Option<Estimate>,
    /// Of the tasks' mean squared errors.
    pub mse: Option<Estimate>,
    /// The same of probabilities.
    pub mse_probability: Option<Estimate>,
    /// Of the generated texts; `None` without tasks that have some.
    pub texts: Option<TextMeans>,
}

/// Means over the tasks that have texts, at each task's chosen strengths, on the measuring prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextMeans {
    /// How many tasks.
    pub tasks: usize,
    /// By kind.
    pub kinds: Vec<KindScore>,
    /// Of [`Agreement::concept`], over the tasks that have one.
    pub agreement_concept: Option<Estimate>,
    /// Of [`Agreement::score`].
    pub agreement_score: Option<Estimate>,
    /// Of [`Agreement::judged`].
    pub agreement_judged: Option<Estimate>,
}

/// Mean score of one kind over tasks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindScore {
    /// Which vector.
    pub kind: SteeringKind,
    /// How many tasks: the baseline may be missing in some.
    pub tasks: usize,
    /// Of [`ChosenStrength::score`]. The interval resamples tasks; with one or two, it is the mean of theirs.
    pub score: Estimate,
    /// How many tasks have texts that were judged.
    pub judged_tasks: usize,
    /// Of [`ChosenStrength::judged`].
    pub judged: Option<Estimate>,
}

/// Mean retention at one layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerMean {
    /// The target's layer.
    pub target_layer: usize,
    /// How many tasks it is of.
    pub tasks: usize,
    /// Mean retention; `None` without tasks.
    pub retention: Option<Estimate>,
    /// Mean direct share over these tasks.
    pub direct_share: Option<f64>,
}
