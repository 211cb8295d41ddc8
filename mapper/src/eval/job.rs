//! An evaluation from its options to its result.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use steermap_maps::digest::sha256_file;
use steermap_maps::{MapFile, ModelInfo};
use steermap_report::result::{Evaluation, FailedTask, MapRun, ModelRun, Protocol, Run};

use super::Stopped;
use super::halves::{DrawnVectors, SHUFFLED};
use super::inputs::Inputs;
use super::journal::Journal;
use super::judge::Judge;
use super::measure::{Bench, PreparedTask};
use super::options::EvalJob;
use super::perplexity::PerplexityText;
use super::protocol::protocol;
use super::summary::summary;
use super::texts::{self, LEAST_PROMPTS};
use super::vectors::{self, FindOptions, find_and_save};
use super::{conclusion, representation, verdict};
use crate::behaviour::Choices;
use crate::map::provenance;
use crate::progress::{Progress, Unit};
use crate::session::Session;
use crate::steerer::Steerer;
use crate::tasks::{Task, TaskItem};

/// A task as the target's tokens.
struct TokenizedTask<'a> {
    task: &'a Task,
    finding: Choices,
    measuring: Choices,
    notes: Vec<String>,
}

/// Values of the tasks that succeeded, and the tasks that failed.
struct TaskOutcomes<T> {
    good: Vec<T>,
    failed: Vec<FailedTask>,
}

impl<T> TaskOutcomes<T> {
    fn new() -> Self {
        Self {
            good: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Adds a task's value or its failure.
    ///
    /// # Errors
    ///
    /// [`Stopped`], which is not a failure of the task.
    fn add(&mut self, name: &str, result: Result<T>) -> Result<()> {
        match result {
            Ok(good) => self.good.push(good),
            Err(error) if error.is::<Stopped>() => return Err(error),
            Err(error) => self.failed.push(FailedTask {
                name: name.to_string(),
                reason: format!("{error:#}"),
            }),
        }
        Ok(())
    }

    /// An error if no task succeeded.
    fn require_any(self) -> Result<Self> {
        if self.good.is_empty() {
            let reasons = self
                .failed
                .iter()
                .map(|failed| format!("{}: {}", failed.name, failed.reason));
            bail!(
                "tasks: found none that can be measured: {}",
                reasons.collect::<Vec<_>>().join("; ")
            );
        }
        Ok(self)
    }
}

impl EvalJob {
    /// Runs the evaluation, from where an earlier run of the same was stopped. Once `stop` is set, it ends with
    /// [`Stopped`] after the unit of work that is running. Tasks that fail are listed in the result.
    ///
    /// # Errors
    ///
    /// Files that are not what they should be, models that don't match the map, a layer that the map doesn't reach,
    /// tasks none of which can be measured.
    pub async fn run(&self, stop: Arc<AtomicBool>) -> Result<Evaluation> {
        let started = Instant::now();
        // Everything that can be wrong with the input is found before models are loaded.
        let inputs = Inputs::read(self)?;
        std::fs::create_dir_all(self.out.join("vectors")).with_context(|| self.out.display().to_string())?;
        let source = Session::load(self.source.clone()).await?;
        let target = Session::load(self.target.clone()).await?;
        let infos = [source.info()?, target.info()?];
        inputs.check_models(self, &infos)?;
        let stream = target.slot().stream()?;
        let protocol = protocol(&self.layers, &inputs.map, &stream, inputs.tasks.len(), self.draws)?;
        inputs.check_shuffled(protocol.layer, &stream)?;
        let mut journal = Journal::open(&self.journal_path(), &inputs.identity(self, &infos)?, stop)?;

        let mut tokens = TaskOutcomes::new();
        for task in &inputs.tasks {
            tokens.add(&task.name, self.tokens(&target, task).await)?;
        }
        let TaskOutcomes {
            good: tokens,
            mut failed,
        } = tokens.require_any()?;
        let mut notes: Vec<String> = tokens.iter().flat_map(|task| task.notes.clone()).collect();
        let text = &inputs.text;
        let tokenizer = target.tokenizer()?;
        let documents = PerplexityText::new(&tokenizer, text, target.max_sequence(), self.perplexity_tokens)?;
        let passes = self.passes(&tokens, &protocol, documents.len());
        let progress = Progress::new(self.progress, "evaluating", Unit::Of("passes"), passes);
        if self.progress {
            eprintln!("{}", protocol_line(&protocol, tokens.len()));
        }

        progress.step("representation");
        let measured = representation::measure(&source, &target, &inputs.map, text, self.positions, &progress);
        let representation = journal.unit("representation", measured).await?;
        notes.extend(verdict::of_pairs(&representation));
        progress.step("vectors");
        let mut prepared = TaskOutcomes::new();
        for task in tokens {
            let name = task.task.name.clone();
            let found = self.prepare(
                [&source, &target],
                &inputs.map,
                &protocol,
                task,
                &mut journal,
                &progress,
            );
            prepared.add(&name, found.await)?;
        }
        let prepared = prepared.require_any()?;
        failed.extend(prepared.failed);
        let prepared = prepared.good;
        let models = [
            model_run(
                &source,
                &infos[0],
                prepared[0].vectors.found.header().numerics.dtype.clone(),
            ),
            model_run(
                &target,
                &infos[1],
                prepared[0].vectors.native.header().numerics.dtype.clone(),
            ),
        ];
        drop(source);

        let steerer = Steerer::new(&target)?;
        let unsteered = documents.perplexity(&steerer, None, || progress.add(1));
        let unsteered_perplexity = journal.unit("perplexity", unsteered).await?;
        let mut bench = Bench {
            steerer: &steerer,
            documents: &documents,
            unsteered_perplexity,
            alphas: &self.alphas,
            journal: &mut journal,
            progress: &progress,
            notes: Vec::new(),
        };
        let shuffled_map = inputs.shuffled_map.as_ref().map(|(map, _)| map);
        let mut measured = TaskOutcomes::new();
        for task in &prepared {
            let result = self.task(&mut bench, task, &protocol, shuffled_map).await;
            measured.add(&task.task.name, result.map(|result| (task, result)))?;
        }
        let measured = measured.require_any()?;
        failed.extend(measured.failed);
        let (prepared, mut tasks): (Vec<_>, Vec<_>) = measured.good.into_iter().unzip();
        let effects = bench.effects(&prepared, &protocol).await?;
        notes.append(&mut bench.notes);
        if let Some(judge) = &self.judge {
            for task in &mut tasks {
                progress.step(format!("{}/judge", task.name));
                texts::judge(&mut journal, task, judge, (self.resamples, self.seed)).await?;
            }
        }
        progress.finish();
        conclusion::conclude(&mut tasks, &effects, &protocol, self.resamples, self.seed);
        notes.extend(conclusion::notes(&tasks));
        notes.extend(self.judge.as_ref().and_then(|_| conclusion::unjudged(&tasks)));

        let [source_run, target_run] = models;
        let made = provenance(self.command.clone(), String::new(), String::new());
        Ok(Evaluation {
            format: Evaluation::FORMAT.to_string(),
            summary: summary(&tasks, &representation, &protocol, self.resamples, self.seed),
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
                protocol,
                resamples: self.resamples,
                perplexity_budget: self.perplexity_budget,
                judge: self.judge.as_ref().map(Judge::run),
                device: target.device().to_string(),
                seconds: started.elapsed().as_secs_f64(),
            },
            representation,
            tasks,
            failed,
            notes,
        })
    }

    /// The journal with the measurements so far. Delete it when the report is written.
    pub fn journal_path(&self) -> PathBuf {
        self.out.join("eval.journal")
    }

    /// A task's halves as the target's tokens.
    async fn tokens<'a>(&self, target: &Session, task: &'a Task) -> Result<TokenizedTask<'a>> {
        let some = |items: &[TaskItem]| -> Vec<TaskItem> {
            items.iter().take(self.items.unwrap_or(items.len())).cloned().collect()
        };
        let mut notes: Vec<String> = task.notes.iter().map(|note| format!("{}: {note}", task.name)).collect();
        if let Some(few) = task
            .generation
            .as_ref()
            .filter(|texts| texts.prompts.len() < LEAST_PROMPTS)
        {
            notes.push(format!(
                "{}: no texts are generated: found {} prompt, expected at least {LEAST_PROMPTS}, to choose and to measure",
                task.name,
                few.prompts.len()
            ));
        }
        let mut halves = Vec::new();
        for (items, half) in [(&task.finding, "finding"), (&task.measuring, "measuring")] {
            let (choices, skipped) = Choices::of(target, &some(items)).await?;
            notes.extend(skipped.iter().map(|skipped| {
                let (name, item, reason) = (&task.name, skipped.item + 1, &skipped.reason);
                format!("{name}: item {item} of the {half} half is left out: {reason}")
            }));
            halves.push(choices);
        }
        let measuring = halves.pop().context("no measuring half")?;
        let finding = halves.pop().context("no finding half")?;
        Ok(TokenizedTask {
            task,
            finding,
            measuring,
            notes,
        })
    }

    /// Finds a task's vectors on both models, or reads those of an earlier run.
    #[allow(clippy::too_many_arguments)]
    async fn prepare<'a>(
        &self,
        [source, target]: [&Session; 2],
        map: &'a MapFile,
        protocol: &Protocol,
        tokens: TokenizedTask<'a>,
        journal: &mut Journal,
        progress: &Progress,
    ) -> Result<PreparedTask<'a>> {
        let task = tokens.task;
        let leading = leading_layers(map, protocol.layer)?;
        let mut drawn = Vec::new();
        for (session, native) in [(source, false), (target, true)] {
            let path = vectors::path(&self.out, &task.name, native);
            let unit = format!("{}/vector/{}", task.name, if native { "native" } else { "source" });
            let finding = FindOptions {
                layers: if native {
                    protocol.band.clone()
                } else {
                    source_layers(map)
                },
                drawn_layers: if native {
                    std::slice::from_ref(&protocol.layer)
                } else {
                    &leading
                },
                method: self.method,
                halves: protocol.half_samples,
                seed: self.seed,
                command: &self.command,
            };
            let draws = DrawnVectors::path(&path);
            let find = async {
                find_and_save(session, task, &finding, &path).await?;
                progress.add(2 * task.pairs().len() as u64);
                Ok([sha256_file(&path)?, sha256_file(&draws)?])
            };
            let known: [String; 2] = journal.unit(&unit, find).await?;
            for (path, known) in [&path, &draws].into_iter().zip(known) {
                ensure!(
                    path.exists() && sha256_file(path)? == known,
                    "{}: found a file that this evaluation did not write; delete {} to start again",
                    path.display(),
                    self.journal_path().display()
                );
            }
            drawn.push(DrawnVectors::load(&draws)?);
        }
        let native_drawn = drawn.pop().context("no draws of the target")?;
        Ok(PreparedTask {
            clusters: conclusion::clusters(task.kind, &tokens.measuring),
            finding_clusters: conclusion::clusters(task.kind, &tokens.finding),
            finding: tokens.finding,
            measuring: tokens.measuring,
            vectors: vectors::load(&self.out, &task.name, map, self.offset, !self.ignore_fingerprints)?,
            drawn: drawn.pop().context("no draws of the source")?,
            native_drawn,
            map,
            offset: self.offset,
            task,
        })
    }

    /// All forward passes of prompts, as far as they can be known.
    fn passes(&self, tasks: &[TokenizedTask<'_>], protocol: &Protocol, documents: usize) -> u64 {
        let steered = self.alphas.values().iter().filter(|alpha| **alpha != 0.0).count();
        let random = self.random_alphas.min(self.alphas.values().len()) - 1;
        let layers = protocol.band.len();
        let upwards = self.alphas.values().iter().filter(|alpha| **alpha > 0.0).count();
        let passes = tasks.iter().map(|tokens| {
            let (finding, measuring) = (tokens.finding.len(), tokens.measuring.len());
            let items = measuring.min(protocol.control_items);
            let found = 4 * tokens.task.pairs().len() + 4 * layers * finding;
            let steers = 2 * self.random * finding;
            let curves = (2 * steered + self.random * random + 1 + 6 * layers) * measuring;
            let halves = 4 * protocol.half_samples * measuring;
            let controls = 2 * (protocol.control_draws + SHUFFLED) * items;
            let effects = tasks.len() * 4 * items;
            let texts = self.texts.passes(tokens.task, upwards, measuring);
            texts + found + steers + curves + halves + controls + effects + 2 * steered * documents
        });
        (passes.sum::<usize>() + documents) as u64
    }
}

/// A line about the protocol.
fn protocol_line(protocol: &Protocol, tasks: usize) -> String {
    let band: Vec<String> = protocol.band.iter().map(usize::to_string).collect();
    format!(
        "{tasks} tasks; layers {} ({}), controls at layer {}: {} draws of mapped random directions",
        band.join(", "),
        protocol.band_is,
        protocol.layer,
        protocol.control_draws
    )
}

fn model_run(session: &Session, info: &ModelInfo, dtype: String) -> ModelRun {
    ModelRun {
        model: info.model.clone(),
        fingerprint: info.fingerprint.clone(),
        hidden_size: info.hidden_size,
        num_layers: info.num_layers,
        dtype,
        quantization: session.quantization(),
    }
}

/// All of the source's layers that a map reads, ascending.
fn source_layers(map: &MapFile) -> Vec<usize> {
    let pairs = map.pairs().iter();
    let mut layers: Vec<usize> = pairs.flat_map(|pair| pair.source_layers.iter().copied()).collect();
    layers.sort_unstable();
    layers.dedup();
    layers
}

/// The source layers of the best pair for a target layer, the pair that vectors go through.
fn leading_layers(map: &MapFile, layer: usize) -> Result<Vec<usize>> {
    let pairs = map.pairs().iter().filter(|pair| pair.target_layer == layer);
    // The first of equal ones, as in `MapFile::apply`.
    let best = pairs.reduce(|best, pair| if pair.fit.r2 > best.fit.r2 { pair } else { best });
    Ok(best
        .with_context(|| format!("layer {layer}: the map does not reach it"))?
        .source_layers
        .clone())
}

pub(super) fn file_stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
