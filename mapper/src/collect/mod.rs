//! Runs two models over text, side by side, and collects the statistics of their paired states.
//!
//! | module | role |
//! | --- | --- |
//! | [`header`] | the models, rules and text of statistics; compared before they are merged or continued |
//! | [`texts`] | a corpus, window by window |
//! | [`side`] | the source of one model's states: the model, or activations on disk |
//! | `collected` | the statistics with their header |
//! | `group`, `group_size` | windows that run together, and their rows |
//! | [`plan`] | the cost of a run |
//! | `expected` | the number of rows to come, without running a model |
//! | `described` | the cost of a job, from its models' files |
//! | `resume` | continues the statistics of an earlier run |
//! | [`rows`] | which positions count, and the rows of their states |
//! | this one | reads, runs, sums, and writes checkpoints |

pub mod header;
pub mod plan;
pub mod rows;
pub mod side;
pub mod texts;

mod collected;
mod described;
mod expected;
mod group;
mod group_size;
mod resume;

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use residual_hooks::StreamInfo;
use steermap_fit::RankChoice;
use steermap_fit::stats::file::FORMAT;
use steermap_fit::stats::{Layout, Precision, Statistics};

pub use self::collected::Collected;
use self::group::{GroupLimits, GroupReader, add_group, run_group};
pub use self::group_size::GROUP_TOKENS;
use self::group_size::group_tokens;
use self::header::{CorpusPart, Shard, StatisticsHeader, UNKNOWN_DTYPE};
use self::plan::CostPlan;
use self::rows::{Counts, Rules, WindowRule};
use self::side::{ModelSide, Recorded, Side, SideSource};
use self::texts::{WindowReader, WindowText};
use crate::corpus::{Corpus, TextOptions};
use crate::layer_pairs::PairSelection;
use crate::progress::{Progress, Unit, grouped};
use crate::session::Session;
use crate::windows::MIN_WINDOW_BYTES;

/// Time for running windows to finish after a stop was requested.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// How often the stop flag is checked.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The options of a run that collects statistics.
#[derive(Clone, Debug)]
pub struct CollectJob {
    /// The model whose states are mapped.
    pub source: SideSource,
    /// The model that they are mapped to.
    pub target: SideSource,
    /// Files of text; `-` is standard input. None where both sides are activations.
    pub corpus: Vec<PathBuf>,
    /// How the text is read.
    pub text: TextOptions,
    /// The layer pairs.
    pub pairs: PairSelection,
    /// Which positions count.
    pub rules: Rules,
    /// The arithmetic of the sums.
    pub precision: Precision,
    /// Rows kept of each held-out split; `None` for [`Layout::held_out_rows`].
    pub held_out_rows: Option<usize>,
    /// Maximum number of paired positions; the window that reaches it is the last.
    pub limit: Option<u64>,
    /// Which documents.
    pub shard: Shard,
    /// The file of the checkpoint, from which a stopped run is continued.
    pub checkpoint: PathBuf,
    /// How often.
    pub checkpoint_every: Duration,
    /// Of which rank maps will be fitted from them, if any: for what it will cost, and whether there can be such maps.
    pub fits: Option<RankChoice>,
    /// Whether to show progress.
    pub progress: bool,
}

/// How a run ended.
pub enum CollectOutcome {
    /// All text was read.
    Whole(Box<Collected>),
    /// It was stopped; the checkpoint holds the statistics so far.
    Stopped,
}

impl CollectJob {
    /// Collects the statistics, continuing from a checkpoint if there is one. Once `stop` is set, running texts have
    /// some seconds to finish, a checkpoint is written and the run ends.
    ///
    /// # Errors
    ///
    /// Text that is not text, a model that can't be loaded or hooked, a layer that it doesn't have, a checkpoint of
    /// another job.
    pub async fn run(&self, stop: &AtomicBool) -> Result<CollectOutcome> {
        // Errors in the input are found before models are loaded.
        let job = self.clone();
        let opening = tokio::task::spawn_blocking(move || job.open());
        let (corpus, earlier) = tokio::select! {
            opened = opening => opened.context("reading the corpus")??,
            () = asked_to_stop(stop, Duration::ZERO) => return Ok(CollectOutcome::Stopped),
        };
        let recorded = [self.open_recorded(&self.source)?, self.open_recorded(&self.target)?];
        let source = load(&self.source).await?;
        let target = load(&self.target).await?;
        let [recorded_source, recorded_target] = recorded;
        let sides = [
            ready(source.as_ref(), recorded_source)?,
            ready(target.as_ref(), recorded_target)?,
        ];
        self.start(sides, corpus, earlier, stop).await
    }

    /// As [`run`](Self::run), on models that are already loaded. Earlier hooks of the models are removed.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn run_on(&self, source: &Session, target: &Session, stop: &AtomicBool) -> Result<CollectOutcome> {
        let (corpus, earlier) = self.open()?;
        let sides = [ready(Some(source), None)?, ready(Some(target), None)?];
        self.start(sides, corpus, earlier, stop).await
    }

    /// The text, and the checkpoint of an earlier run.
    fn open(&self) -> Result<(Option<Corpus>, Option<Collected>)> {
        if let Some(ratio) = self.rules.outliers.filter(|ratio| ratio.is_nan() || *ratio <= 0.0) {
            bail!("outliers: found {ratio}, expected a number above 0");
        }
        match self.rules.window {
            WindowRule::Bytes { bytes } if bytes >= MIN_WINDOW_BYTES => {}
            window => bail!("window: found {window}, expected at least {MIN_WINDOW_BYTES} bytes"),
        }
        let runs = [&self.source, &self.target]
            .iter()
            .any(|side| matches!(side, SideSource::Model(_)));
        ensure!(
            !runs || !self.corpus.is_empty(),
            "corpus: found nothing, expected text files, or - for standard input"
        );
        let corpus = if self.corpus.is_empty() {
            None
        } else {
            let corpus = Corpus::open(&self.corpus, &self.text)?;
            if self.progress {
                corpus.describe().iter().for_each(|line| eprintln!("{line}"));
            }
            Some(corpus)
        };
        let earlier = self
            .checkpoint
            .exists()
            .then(|| Collected::load(&self.checkpoint))
            .transpose();
        Ok((corpus, earlier.context("the checkpoint of an earlier run")?))
    }

    fn open_recorded(&self, source: &SideSource) -> Result<Option<Recorded>> {
        let SideSource::Activations(folders) = source else {
            return Ok(None);
        };
        let recorded = Recorded::open(folders)?;
        let window = recorded.folders()[0].index().header.window_bytes;
        if let (Some(found), WindowRule::Bytes { bytes }) = (window, self.rules.window) {
            ensure!(
                found == bytes,
                "{}: window_bytes: found {found}, expected {bytes}: give --window {found}",
                folders[0].display()
            );
        }
        Ok(Some(recorded))
    }

    async fn start(
        &self,
        [mut source, mut target]: [Side<'_>; 2],
        corpus: Option<Corpus>,
        earlier: Option<Collected>,
        stop: &AtomicBool,
    ) -> Result<CollectOutcome> {
        let layout = self.layout(&source.stream()?, &target.stream()?)?;
        source.choose("source", layout.source_layers())?;
        target.choose("target", layout.target_layers())?;
        let tokenize = [&source, &target].map(|side| |windows: &[WindowText]| side.tokens(windows));
        let recorded = [&source, &target].into_iter().find_map(Side::recorded);
        let rows = expected::rows(
            [&tokenize[0], &tokenize[1]],
            corpus.as_ref(),
            recorded,
            &self.rules,
            self.shard,
            self.limit,
        )?;
        if let Some(rank) = self.fits {
            rank.check(&layout)?;
        }
        let plan = self.plan_of(&layout, rows);
        if self.progress {
            eprint!("{plan}");
        }
        // At this point the models are in memory, but the sums of an earlier run are not.
        plan.check(&self.checkpoint)?;
        let fresh = Collected {
            header: self.header(&source, &target, corpus.as_ref())?,
            statistics: Statistics::new(layout.clone(), self.precision)?.with_held_out_rows(self.held_out(&layout)),
        };
        let collected = match earlier {
            Some(earlier) => earlier.resume(fresh).with_context(|| {
                format!(
                    "{} is the checkpoint of another job: delete it, or give another --out",
                    self.checkpoint.display()
                )
            })?,
            None => fresh,
        };
        self.read([source, target], corpus.as_ref(), &layout, collected, stop)
            .await
    }

    /// The layout of the selected pairs of two models with these streams.
    fn layout(&self, source: &StreamInfo, target: &StreamInfo) -> Result<Layout> {
        Ok(Layout {
            source_hidden: source.hidden_size,
            target_hidden: target.hidden_size,
            pairs: self.pairs.resolve(source, target)?,
        })
    }

    /// Rows kept of each held-out split.
    fn held_out(&self, layout: &Layout) -> usize {
        self.held_out_rows.unwrap_or_else(|| layout.held_out_rows())
    }

    /// The cost of statistics of this layout and this number of rows.
    fn plan_of(&self, layout: &Layout, rows: Option<u64>) -> CostPlan {
        CostPlan::new(layout, self.precision, self.held_out(layout), rows, self.fits)
    }

    fn header(&self, source: &Side<'_>, target: &Side<'_>, corpus: Option<&Corpus>) -> Result<StatisticsHeader> {
        let recorded = [source, target].into_iter().find_map(Side::recorded);
        let corpus = match (corpus, recorded) {
            (Some(corpus), _) => corpus.record(),
            (None, Some(recorded)) => recorded.corpus(),
            (None, None) => Vec::new(),
        };
        Ok(StatisticsHeader {
            format: FORMAT.to_string(),
            tool: concat!("mapper ", env!("CARGO_PKG_VERSION")).to_string(),
            source: source.header()?,
            target: target.header()?,
            rules: self.rules.clone(),
            parts: vec![CorpusPart {
                corpus,
                shard: self.shard,
                limit: self.limit,
                windows: 0,
                read: String::new(),
                counts: Counts::default(),
                complete: false,
            }],
        })
    }

    /// The windows, and the unit and total of the progress if there is no limit.
    fn windows<'a>(
        &self,
        [source, target]: [&'a Side<'_>; 2],
        corpus: Option<&'a Corpus>,
    ) -> (Box<dyn Iterator<Item = Result<WindowText>> + 'a>, Unit, u64) {
        let WindowRule::Bytes { bytes } = self.rules.window else {
            unreachable!("checked when the job was opened")
        };
        let shard = self.shard;
        let recorded = [source, target].into_iter().find_map(Side::recorded);
        match (corpus, recorded) {
            (Some(corpus), _) => {
                let windows = WindowReader::new(corpus, shard, bytes);
                (Box::new(windows), Unit::Bytes, corpus.total_bytes())
            }
            (None, Some(recorded)) => {
                let windows = recorded.windows().map(|id| Ok(WindowText::without_text(id)));
                (Box::new(windows), Unit::Of("windows"), recorded.count() as u64)
            }
            (None, None) => (Box::new(std::iter::empty()), Unit::Bytes, 0),
        }
    }

    async fn read(
        &self,
        [source, target]: [Side<'_>; 2],
        corpus: Option<&Corpus>,
        layout: &Layout,
        mut collected: Collected,
        stop: &AtomicBool,
    ) -> Result<CollectOutcome> {
        let (windows, unit, total) = self.windows([&source, &target], corpus);
        let mut reader = GroupReader::new(windows);
        let part = &collected.header.parts[0];
        let mut position = reader.skip(part.windows).with_context(|| self.another_text())?;
        ensure!(
            part.windows == 0 || reader.read() == part.read,
            "{}: found other text than was read before",
            self.another_text()
        );
        let mut paired = part.counts.rows + part.counts.outliers;
        let progress = match self.limit {
            Some(limit) => Progress::new(self.progress, "reading", Unit::Of("pairs"), limit),
            None => Progress::new(self.progress, "reading", unit, total),
        };
        let whole_of = |bytes: u64, paired: u64| if self.limit.is_some() { paired } else { bytes };
        progress.start_at(whole_of(position, paired));
        let tokens = group_tokens(layout);
        // The sums are taken, and checkpoints written, beside the next group's forward passes.
        let mut adding: Option<tokio::task::JoinHandle<Result<Collected>>> = None;
        let mut held = Some(collected);
        let mut saved = Instant::now();
        loop {
            let pairs = self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(paired));
            let group = reader.next(&source, &target, &self.rules, GroupLimits { tokens, pairs })?;
            let whole = group.windows == 0;
            let done = Cell::new(0);
            let told = || {
                let share = done.get() as f64 / (2 * group.texts.len()).max(1) as f64;
                let part = |of: u64| (of as f64 * share) as u64;
                progress.set(whole_of(position + part(group.bytes), paired + part(group.paired)));
            };
            let streams = tokio::select! {
                biased;
                streams = run_group(&source, &target, &group, &done, &told) => Some(streams),
                () = asked_to_stop(stop, GRACE) => None,
            };
            collected = match adding.take() {
                Some(task) => task.await.context("adding up")??,
                None => held.take().context("statistics are held or being added to")?,
            };
            let streams = match streams {
                Some(Ok(streams)) => streams,
                // Keep what was read before. If nothing was read, write no checkpoint, which could block the
                // next run.
                ended => {
                    if collected.header.parts[0].windows > 0 {
                        collected.save(&self.checkpoint)?;
                    }
                    progress.finish();
                    return match ended {
                        Some(Err(error)) => Err(error),
                        _ => Ok(CollectOutcome::Stopped),
                    };
                }
            };
            let part = &mut collected.header.parts[0];
            part.complete = whole;
            part.read = reader.read();
            if whole {
                collected.save(&self.checkpoint)?;
                progress.finish();
                ensure!(
                    collected.header.counts().rows > 0,
                    "corpus: found no paired position to use, expected some: in {} windows, {} pairs were left out as first \
                     positions and {} as outliers; {} and {} tokens have no partner",
                    collected.header.counts().texts,
                    collected.header.counts().first,
                    collected.header.counts().outliers,
                    collected.header.counts().unmatched_source,
                    collected.header.counts().unmatched_target
                );
                return Ok(CollectOutcome::Whole(Box::new(collected)));
            }
            part.windows += group.windows;
            part.counts.documents += group.documents;
            position += group.bytes;
            paired += group.paired;
            let rows = part.counts.rows;
            for (header, side) in [
                (&mut collected.header.source, &source),
                (&mut collected.header.target, &target),
            ] {
                let dtype = side.dtype().unwrap_or_else(|| UNKNOWN_DTYPE.to_string());
                if header.dtype != UNKNOWN_DTYPE && header.dtype != dtype {
                    bail!(
                        "{}: found a stream of {dtype}, expected {} as before",
                        header.model,
                        header.dtype
                    );
                }
                header.dtype = dtype;
            }
            progress.set(whole_of(position, paired));
            progress.step(format!("{} rows", grouped(rows)));
            let stopped = stop.load(Ordering::Relaxed);
            let due = stopped || saved.elapsed() >= self.checkpoint_every;
            if due {
                saved = Instant::now();
            }
            let checkpoint = due.then(|| self.checkpoint.clone());
            let rules = self.rules.clone();
            let task = tokio::task::spawn_blocking(move || {
                let mut collected = add_group(collected, &group, &streams, &rules)?;
                if let Some(checkpoint) = checkpoint {
                    collected.save(&checkpoint)?;
                }
                Ok(collected)
            });
            if stopped {
                task.await.context("adding up")??;
                progress.finish();
                return Ok(CollectOutcome::Stopped);
            }
            adding = Some(task);
        }
    }

    fn another_text(&self) -> String {
        format!(
            "{} is the checkpoint of other text: delete it, or give another --out",
            self.checkpoint.display()
        )
    }
}

/// Waits until a stop is requested, and then for `grace`.
pub(crate) async fn asked_to_stop(stop: &AtomicBool, grace: Duration) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(STOP_CHECK_INTERVAL).await;
    }
    tokio::time::sleep(grace).await;
}

async fn load(source: &SideSource) -> Result<Option<Session>> {
    match source {
        SideSource::Model(model) => Ok(Some(Session::load(model.clone()).await?)),
        SideSource::Activations(_) => Ok(None),
    }
}

fn ready(session: Option<&Session>, recorded: Option<Recorded>) -> Result<Side<'_>> {
    match (session, recorded) {
        (Some(session), _) => Ok(Side::Model(ModelSide::new(session)?)),
        (None, Some(recorded)) => Ok(Side::Recorded(recorded)),
        (None, None) => bail!("found neither a model nor activations"),
    }
}
