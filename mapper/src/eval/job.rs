//! An evaluation from its options to its result.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use steermap_maps::digest::{sha256, sha256_file};
use steermap_maps::{MapFile, ModelInfo, OffsetRule};

use super::alphas::Alphas;
use super::journal::Journal;
use super::measure::{Bench, Prepared};
use super::perplexity::Documents;
use super::representation;
use super::result::{Evaluation, MapRun, ModelRun, Run, SideEffect};
use super::task::spaced;
use super::text::NeutralText;
use super::vectors::{self, find_and_save};
use super::verdict;
use crate::behaviour::Choices;
use crate::corpus::TextOptions;
use crate::layers::LayerSelection;
use crate::map::provenance;
use crate::session::{ModelSource, Session};
use crate::steerer::Steerer;
use crate::tasks::{Form, Task, TaskItem, read_folder_as};
use crate::vector::Method;

/// Items of another task that side effects are measured on.
const SIDE_ITEMS: usize = 8;

/// What `mapper eval` is asked to do.
#[derive(Clone, Debug)]
pub struct EvalJob {
    /// The map file.
    pub map: PathBuf,
    /// The model that vectors are found on.
    pub source: ModelSource,
    /// The model that is steered.
    pub target: ModelSource,
    /// The folder of tasks.
    pub tasks: PathBuf,
    /// How published data are asked.
    pub form: Form,
    /// The neutral text; none for the one that is built in.
    pub text: Vec<PathBuf>,
    /// How it is read.
    pub text_options: TextOptions,
    /// The folder to write to.
    pub out: PathBuf,
    /// How strongly is steered.
    pub alphas: Alphas,
    /// The target's layers that may be steered.
    pub layers: LayerSelection,
    /// How vectors go through the map.
    pub offset: OffsetRule,
    /// How vectors are found.
    pub method: Method,
    /// Of random directions, resampling, and the methods that draw.
    pub seed: u64,
    /// Random directions per task, two at least.
    pub random: usize,
    /// How many of the alphas random directions are measured at.
    pub random_alphas: usize,
    /// Resamples of a bootstrap.
    pub resamples: usize,
    /// Most items of each half.
    pub items: Option<usize>,
    /// Paired positions of the representation's measures.
    pub positions: usize,
    /// Predicted tokens of perplexity.
    pub perplexity_tokens: usize,
    /// Most that steering may multiply perplexity by, in proposals.
    pub perplexity_budget: f64,
    /// Most tokens of a generated text.
    pub max_tokens: usize,
    /// Take models other than those that the map was fitted on.
    pub ignore_fingerprints: bool,
    /// The command line, for the record.
    pub command: String,
    /// Whether to show a progress bar.
    pub progress: bool,
}

/// All that is known before a model is loaded.
struct Inputs {
    map: MapFile,
    map_sha256: String,
    tasks: Vec<Task>,
    text: NeutralText,
}

impl EvalJob {
    /// Runs the evaluation, from where an earlier run of the same was stopped. Once `stop` is set, it ends with
    /// [`Stopped`](super::Stopped) after the unit of work that is running.
    ///
    /// # Errors
    ///
    /// Files that are not what they should be, models that don't match the map, a layer that the map doesn't reach, tasks that
    /// can't be measured, or what the engines answer with.
    pub async fn run(&self, stop: Arc<AtomicBool>) -> Result<Evaluation> {
        let started = Instant::now();
        // Everything that can be wrong with the input is found before models are loaded.
        let inputs = self.read()?;
        std::fs::create_dir_all(self.out.join("vectors")).with_context(|| self.out.display().to_string())?;
        let source = Session::load(self.source.clone()).await?;
        let target = Session::load(self.target.clone()).await?;
        let infos = [source.info()?, target.info()?];
        self.check_models(&inputs.map, &infos)?;
        let layers = self.candidate_layers(&inputs.map, &target)?;
        let mut journal = Journal::open(&self.journal_path(), &self.identity(&inputs, &infos)?, stop)?;

        let mut notes = Vec::new();
        let mut halves = Vec::new();
        for task in &inputs.tasks {
            let of = async |items: Vec<TaskItem>, half: &str| -> Result<(Choices, Vec<String>)> {
                let (choices, skipped) = Choices::of(&target, &items).await?;
                let told = skipped.iter().map(|skipped| {
                    let name = &task.name;
                    format!(
                        "{name}: item {} of the {half} half is left out: {}",
                        skipped.item + 1,
                        skipped.reason
                    )
                });
                Ok((choices, told.collect()))
            };
            let both = match of(self.some(&task.finding), "finding").await {
                Ok(finding) => of(self.some(&task.measuring), "measuring")
                    .await
                    .map(|measuring| (finding, measuring)),
                Err(error) => Err(error),
            };
            match both {
                Ok((finding, measuring)) => {
                    notes.extend(task.notes.iter().map(|note| format!("{}: {note}", task.name)));
                    notes.extend(finding.1.into_iter().chain(measuring.1));
                    halves.push((task, finding.0, measuring.0));
                }
                Err(error) => notes.push(format!("{} is left out: {error:#}", task.name)),
            }
        }
        if halves.is_empty() {
            bail!("tasks: found none that can be measured: {}", notes.join("; "));
        }

        let documents = Documents::new(
            &*target.tokenizer()?,
            &inputs.text,
            target.max_sequence(),
            self.perplexity_tokens,
        )?;
        let bar = self.bar(&halves, &layers, documents.len());

        bar.set_message("representation");
        let measured = representation::measure(&source, &target, &inputs.map, &inputs.text, self.positions, &bar);
        let representation = journal.unit("representation", measured).await?;
        notes.extend(verdict::of_pairs(&representation));
        bar.set_message("vectors");
        let mut prepared = Vec::new();
        for (index, (task, finding, measuring)) in halves.into_iter().enumerate() {
            for (session, native) in [(&source, false), (&target, true)] {
                let path = vectors::path(&self.out, &task.name, native);
                let unit = format!("{}/vector/{}", task.name, if native { "native" } else { "source" });
                let layers = match native {
                    true => layers.clone(),
                    false => source_layers(&inputs.map),
                };
                let find = async {
                    let (method, seed) = (self.method, self.seed);
                    find_and_save(session, task, layers, method, seed, &self.command, &path).await?;
                    bar.inc(2 * task.pairs().len() as u64);
                    Ok(sha256_file(&path)?)
                };
                let known: String = journal.unit(&unit, find).await?;
                ensure!(
                    path.exists() && sha256_file(&path)? == known,
                    "{}: found another file than this evaluation wrote; delete {} to begin anew",
                    path.display(),
                    self.journal_path().display()
                );
            }
            let vectors = vectors::load(
                &self.out,
                &task.name,
                &inputs.map,
                self.offset,
                !self.ignore_fingerprints,
            )?;
            prepared.push(Prepared {
                task,
                index,
                finding,
                measuring,
                vectors,
            });
        }
        let models = [
            self.model_run(&source, &infos[0], &prepared[0], false),
            self.model_run(&target, &infos[1], &prepared[0], true),
        ];
        drop(source);

        let steerer = Steerer::new(&target)?;
        bar.set_message("perplexity");
        let unsteered = documents.perplexity(&steerer, None, || bar.inc(1));
        let unsteered_perplexity = journal.unit("perplexity", unsteered).await?;
        let mut bench = Bench {
            steerer: &steerer,
            documents: &documents,
            unsteered_perplexity,
            journal: &mut journal,
            bar: &bar,
        };
        let mut tasks = Vec::new();
        for task in &prepared {
            bar.set_message(task.task.name.clone());
            tasks.push(self.task(&mut bench, task, &layers, &inputs.map).await?);
        }
        bar.set_message("side effects");
        for (task, result) in prepared.iter().zip(&mut tasks) {
            let alpha = self.strong_alpha(&result.perplexity);
            for other in prepared.iter().filter(|other| other.index != task.index) {
                let items = other.measuring.take(SIDE_ITEMS);
                let layer = result.target_layer;
                let [native, mapped] = bench.side_effect(task, other, &items, layer, alpha).await?;
                result.side_effects.push(SideEffect {
                    task: other.task.name.clone(),
                    alpha,
                    native,
                    mapped,
                });
            }
        }
        bar.finish_and_clear();
        let [source_run, target_run] = models;
        let made = provenance(self.command.clone(), String::new(), String::new());
        let evaluation = Evaluation {
            format: Evaluation::FORMAT.to_string(),
            run: Run {
                tool: made.tool,
                date: made.date,
                command: made.command,
                seed: self.seed,
                source: source_run,
                target: target_run,
                map: MapRun {
                    name: file_stem(&self.map),
                    sha256: inputs.map_sha256.clone(),
                    offset: self.offset.as_str().to_string(),
                    corpus: inputs.map.header().provenance.corpus.clone(),
                    rows: inputs.map.pairs().iter().map(|pair| pair.fit.rows).max().unwrap_or(0),
                },
                method: self.method.to_string(),
                alpha_unit: self.alphas.unit().as_str().to_string(),
                alphas: self.alphas.values().to_vec(),
                random_directions: self.random,
                resamples: self.resamples,
                perplexity_budget: self.perplexity_budget,
                device: target.device().to_string(),
                seconds: started.elapsed().as_secs_f64(),
            },
            summary: self.summary(&tasks, &representation),
            representation,
            tasks,
            notes,
        };
        Ok(evaluation)
    }

    /// Where what was measured so far is kept. Delete it when the report is written.
    pub fn journal_path(&self) -> PathBuf {
        self.out.join("eval.journal")
    }

    fn read(&self) -> Result<Inputs> {
        let at_least = |name: &str, found: usize, least: usize| {
            ensure!(found >= least, "{name}: found {found}, expected {least} at least");
            Ok(())
        };
        at_least("random", self.random, 2)?;
        at_least("random-alphas", self.random_alphas, 2)?;
        at_least("resamples", self.resamples, 100)?;
        at_least("items", self.items.unwrap_or(2), 2)?;
        at_least("positions", self.positions, 2)?;
        at_least("perplexity-tokens", self.perplexity_tokens, 1)?;
        at_least("max-tokens", self.max_tokens, 1)?;
        ensure!(
            self.perplexity_budget >= 1.0 && self.perplexity_budget.is_finite(),
            "perplexity-budget: found {}, expected 1 or more",
            self.perplexity_budget
        );
        let map = MapFile::load(&self.map)?;
        Ok(Inputs {
            map_sha256: sha256_file(&self.map)?,
            tasks: read_folder_as(&self.tasks, self.form)?,
            text: NeutralText::read(&self.text, &self.text_options, &map)?,
            map,
        })
    }

    /// The models must be those that the map was fitted on.
    fn check_models(&self, map: &MapFile, infos: &[ModelInfo; 2]) -> Result<()> {
        let header = map.header();
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
                self.map.display()
            );
            ensure!(
                self.ignore_fingerprints || info.fingerprint == fitted.fingerprint,
                "{side}: found {} ({}), expected {} ({}), which {} was fitted on; --ignore-fingerprints takes it all the same",
                info.model,
                info.fingerprint,
                fitted.model,
                fitted.fingerprint,
                self.map.display()
            );
        }
        Ok(())
    }

    /// The target's layers that may be steered, of those that the map reaches.
    fn candidate_layers(&self, map: &MapFile, target: &Session) -> Result<Vec<usize>> {
        let stream = target.slot().stream()?;
        let mut reached: Vec<usize> = map.pairs().iter().map(|pair| pair.target_layer).collect();
        reached.sort_unstable();
        reached.dedup();
        let LayerSelection::List(_) = self.layers else {
            return Ok(reached);
        };
        let layers = self.layers.resolve(&stream)?;
        if let Some(layer) = layers.iter().find(|layer| !reached.contains(layer)) {
            let reached: Vec<String> = reached.iter().map(usize::to_string).collect();
            bail!(
                "layers: found {layer}, expected some of {}, which {} reaches",
                reached.join(", "),
                self.map.display()
            );
        }
        Ok(layers)
    }

    /// A hash over all that decides the results.
    fn identity(&self, inputs: &Inputs, infos: &[ModelInfo; 2]) -> Result<String> {
        let model = |source: &ModelSource, info: &ModelInfo| {
            json!([
                info.fingerprint,
                format!("{:?}", source.dtype),
                source.isq,
                source.gguf,
                source.device.to_string()
            ])
        };
        let tasks: Vec<_> = inputs
            .tasks
            .iter()
            .map(|task| json!([task.name, task.sha256]))
            .collect();
        let all = json!({
            "tool": env!("CARGO_PKG_VERSION"),
            "map": inputs.map_sha256,
            "models": [model(&self.source, &infos[0]), model(&self.target, &infos[1])],
            "tasks": tasks,
            "form": format!("{:?}", self.form),
            "text": [inputs.text.sha256, self.positions.to_string(), self.perplexity_tokens.to_string()],
            "alphas": [self.alphas.unit().as_str(), format!("{:?}", self.alphas.values())],
            "layers": format!("{:?}", self.layers),
            "offset": self.offset.as_str(),
            "method": self.method.to_string(),
            "numbers": [self.seed, self.random as u64, self.random_alphas as u64, self.max_tokens as u64],
            "items": self.items,
            "budget": self.perplexity_budget,
        });
        Ok(sha256(serde_json::to_string(&all)?.as_bytes()))
    }

    /// As many items as are wanted.
    fn some<T: Clone>(&self, items: &[T]) -> Vec<T> {
        items.iter().take(self.items.unwrap_or(items.len())).cloned().collect()
    }

    fn model_run(&self, session: &Session, info: &ModelInfo, task: &Prepared<'_>, native: bool) -> ModelRun {
        let vector = match native {
            true => &task.vectors.native,
            false => &task.vectors.found,
        };
        ModelRun {
            model: info.model.clone(),
            fingerprint: info.fingerprint.clone(),
            hidden_size: info.hidden_size,
            num_layers: info.num_layers,
            dtype: vector.header().numerics.dtype.clone(),
            quantization: session.quantization(),
        }
    }

    /// A bar of all forward passes of prompts, as far as they can be known.
    fn bar(&self, halves: &[(&Task, Choices, Choices)], layers: &[usize], documents: usize) -> ProgressBar {
        if !self.progress {
            return ProgressBar::hidden();
        }
        let steered = self.alphas.values().iter().filter(|alpha| **alpha != 0.0).count();
        let random = spaced(self.alphas.values().len(), self.random_alphas).len() - 1;
        let passes: usize = halves
            .iter()
            .map(|(task, finding, measuring)| {
                let found = 4 * task.pairs().len() + layers.len() * 4 * finding.len();
                let curves = (2 * steered + self.random * random + 1) * measuring.len();
                let others = (halves.len() - 1) * 4 * measuring.len().min(SIDE_ITEMS);
                found + curves + others + 2 * steered * documents
            })
            .sum();
        let style = ProgressStyle::with_template("{msg:16} {wide_bar} {pos}/{len} {eta}").expect("a valid template");
        ProgressBar::new((passes + documents) as u64).with_style(style)
    }
}

/// All of the source's layers that a map reads, ascending.
fn source_layers(map: &MapFile) -> Vec<usize> {
    let mut layers: Vec<usize> = map
        .pairs()
        .iter()
        .flat_map(|pair| pair.source_layers.iter().copied())
        .collect();
    layers.sort_unstable();
    layers.dedup();
    layers
}

pub(super) fn file_stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
