//! Runs two models over text, side by side, and takes the statistics of their paired states.
//!
//! | module | role |
//! | --- | --- |
//! | [`header`] | what statistics were taken of; compared before they are added up or gone on with |
//! | [`rows`] | which positions count, and their states put together |
//! | this one | reads, runs, adds, and keeps a checkpoint |

pub mod header;
pub mod rows;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use steermap_maps::Numerics;
use tokenizers::Tokenizer;

use self::header::{FORMAT, Header, Part, Shard, Side, UNKNOWN_DTYPE};
use self::rows::{Counts, Rules, TextRows, text_rows};
use crate::align::{Pairing, TokenizedText, pair_positions, windows};
use crate::capture::{LayerStates, StreamCapture};
use crate::corpus::{Corpus, Document};
use crate::layer_pairs::PairSelection;
use crate::session::{ModelSource, Session};
use crate::stats::{Layout, Precision, Rows, Split, Statistics};

/// Bytes of captured states of one group of texts, as far as single texts allow; two groups are held at a time.
const GROUP_BYTES: usize = 1 << 30;
/// Most source tokens of a group, however narrow the models: the sums of one group are taken while the next one runs, and an
/// end that was asked for waits for both.
pub const GROUP_TOKENS: usize = 1 << 12;

/// What to take statistics of.
#[derive(Clone, Debug)]
pub struct CollectJob {
    /// The model whose states are mapped.
    pub source: ModelSource,
    /// The model that they are mapped to.
    pub target: ModelSource,
    /// Files of text; `-` is standard input.
    pub corpus: Vec<PathBuf>,
    /// The layer pairs.
    pub pairs: PairSelection,
    /// Which positions count.
    pub rules: Rules,
    /// The arithmetic of the sums.
    pub precision: Precision,
    /// Most pairs of positions; the document that reaches it is the last.
    pub limit: Option<u64>,
    /// Which documents.
    pub shard: Shard,
    /// Where the state of the work is kept, so that it can be gone on with.
    pub checkpoint: PathBuf,
    /// How often.
    pub checkpoint_every: Duration,
    /// Whether to show a progress bar.
    pub progress: bool,
}

/// Statistics, and what they were taken of.
pub struct Collected {
    /// The statistics.
    pub statistics: Statistics,
    /// What they were taken of.
    pub header: Header,
}

/// How a run ended.
pub enum Outcome {
    /// All text was read.
    Whole(Box<Collected>),
    /// It was asked to stop; the checkpoint holds what was done.
    Stopped,
}

impl Collected {
    /// Reads a file of statistics.
    ///
    /// # Errors
    ///
    /// A file that can't be read or is not what it should be.
    pub fn load(path: &std::path::Path) -> Result<Self> {
        let (statistics, header) = Statistics::load(path)?;
        let header = Header::from_json(header).with_context(|| path.display().to_string())?;
        Ok(Self { statistics, header })
    }

    /// Writes a file of statistics, whole or not at all.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn save(&mut self, path: &std::path::Path) -> Result<()> {
        self.statistics.flush();
        Ok(self.statistics.save(path, &self.header)?)
    }

    /// What is in it, as text for people.
    pub fn describe(&self) -> String {
        let Header {
            source,
            target,
            rules,
            parts,
            ..
        } = &self.header;
        let counts = self.header.counts();
        let mut text = format!("statistics of {} and {}\n", source.model, target.model);
        for part in parts {
            let files: Vec<&str> = part.corpus.iter().map(|file| file.name.as_str()).collect();
            let Shard { index, count } = part.shard;
            let whole = if part.complete { "" } else { ", not to the end yet" };
            text += &format!(
                "part: {}, shard {index}/{count}: {} documents, {} rows{whole}\n",
                files.join(" + "),
                part.counts.documents,
                part.counts.rows
            );
        }
        let [train, validation, test] = Split::ALL.map(|split| self.statistics.rows(split));
        text += &format!(
            "rows: {} ({train} train, {validation} validation, {test} test)\n\
             left out: {} first, {} outliers, {} special, {} and {} without a partner in source and target\n\
             rules: {}\nlayer pairs: {}\n",
            counts.rows,
            counts.first,
            counts.outliers,
            counts.special,
            counts.unmatched_source,
            counts.unmatched_target,
            rules.describe(),
            self.statistics.layout().pairs.len()
        );
        text
    }

    /// Adds `other`.
    ///
    /// # Errors
    ///
    /// Other models, layers or rules, or documents that are there already.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        self.header.merge(other.header)?;
        Ok(self.statistics.merge(other.statistics)?)
    }
}

/// The two loaded models.
struct Models<'a> {
    source: &'a Session,
    target: &'a Session,
    tokenizers: [Arc<Tokenizer>; 2],
}

impl<'a> Models<'a> {
    fn new(source: &'a Session, target: &'a Session) -> Result<Self> {
        Ok(Self {
            source,
            target,
            tokenizers: [source.tokenizer()?, target.tokenizer()?],
        })
    }
}

/// One text and its tokens in both models.
struct Text {
    key: u64,
    split: Split,
    source: TokenizedText,
    target: TokenizedText,
    pairing: Pairing,
}

impl CollectJob {
    /// Takes the statistics, from where a checkpoint left off if there is one. `stop` is looked at between groups of
    /// texts: once it is set, a checkpoint is written and the run ends.
    ///
    /// # Errors
    ///
    /// Text that is no text, a model that can't be loaded or hooked, a layer that it doesn't have, a checkpoint of
    /// another job.
    pub async fn run(&self, stop: &AtomicBool) -> Result<Outcome> {
        // Everything that can be wrong with the input is found before models are loaded.
        let (corpus, earlier) = self.open()?;
        let source = Session::load(self.source.clone()).await?;
        let target = Session::load(self.target.clone()).await?;
        self.start(&Models::new(&source, &target)?, corpus, earlier, stop).await
    }

    /// As [`run`](Self::run), on models that are loaded already. What hooks they had are gone afterwards.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    pub async fn run_on(&self, source: &Session, target: &Session, stop: &AtomicBool) -> Result<Outcome> {
        let (corpus, earlier) = self.open()?;
        self.start(&Models::new(source, target)?, corpus, earlier, stop).await
    }

    /// The text, and what an earlier run left.
    fn open(&self) -> Result<(Corpus, Option<Collected>)> {
        let corpus = Corpus::open(&self.corpus)?;
        if let Some(ratio) = self.rules.outliers.filter(|ratio| ratio.is_nan() || *ratio <= 0.0) {
            bail!("outliers: found {ratio}, expected a number above 0");
        }
        let earlier = self
            .checkpoint
            .exists()
            .then(|| Collected::load(&self.checkpoint))
            .transpose();
        Ok((corpus, earlier.context("the checkpoint of an earlier run")?))
    }

    async fn start(
        &self,
        models: &Models<'_>,
        corpus: Corpus,
        earlier: Option<Collected>,
        stop: &AtomicBool,
    ) -> Result<Outcome> {
        let (source, target) = (models.source.slot().stream()?, models.target.slot().stream()?);
        let layout = Layout {
            source_hidden: source.hidden_size,
            target_hidden: target.hidden_size,
            pairs: self.pairs.resolve(&source, &target)?,
        };
        let fresh = Collected {
            statistics: Statistics::new(layout.clone(), self.precision)?,
            header: self.header(models, &corpus)?,
        };
        let collected = match earlier {
            Some(earlier) => {
                let fits = earlier.header.resumes(&fresh.header).and_then(|()| {
                    ensure!(
                        *earlier.statistics.layout() == layout && earlier.statistics.precision() == self.precision,
                        "pairs or precision: found others"
                    );
                    Ok(())
                });
                fits.with_context(|| {
                    format!(
                        "{} is the checkpoint of another job: delete it, or give this one another --out",
                        self.checkpoint.display()
                    )
                })?;
                earlier
            }
            None => fresh,
        };
        self.read(models, &corpus, &layout, collected, stop).await
    }

    fn header(&self, models: &Models<'_>, corpus: &Corpus) -> Result<Header> {
        let side = |session: &Session| -> Result<Side> {
            let numerics = Numerics {
                dtype: UNKNOWN_DTYPE.to_string(),
                quantization: session.quantization(),
            };
            Ok(Side::new(session.info()?, numerics))
        };
        Ok(Header {
            format: FORMAT.to_string(),
            tool: concat!("mapper ", env!("CARGO_PKG_VERSION")).to_string(),
            source: side(models.source)?,
            target: side(models.target)?,
            rules: self.rules.clone(),
            parts: vec![Part {
                corpus: corpus.record(),
                shard: self.shard,
                limit: self.limit,
                counts: Counts::default(),
                complete: false,
            }],
        })
    }

    async fn read(
        &self,
        models: &Models<'_>,
        corpus: &Corpus,
        layout: &Layout,
        mut collected: Collected,
        stop: &AtomicBool,
    ) -> Result<Outcome> {
        let captures = [
            Arc::new(StreamCapture::new(layout.source_layers())),
            Arc::new(StreamCapture::new(layout.target_layers())),
        ];
        let bar = progress_bar(self.progress, corpus.total_bytes());
        let tokens_at_a_time = group_tokens(layout);
        let shard = self.shard;
        let done = collected.header.parts[0].counts.documents;
        let mut documents = corpus
            .documents()
            .enumerate()
            .filter(|(index, _)| index % shard.count == shard.index)
            .map(|(_, document)| document);
        for document in documents.by_ref().take(usize::try_from(done)?) {
            bar.inc(document?.bytes * shard.count as u64);
        }
        let mut paired: u64 = {
            let counts = &collected.header.parts[0].counts;
            counts.rows + counts.outliers
        };
        // The sums are taken, and checkpoints written, beside the next group's forward passes.
        let mut adding: Option<tokio::task::JoinHandle<Result<Collected>>> = None;
        let mut held = Some(collected);
        let mut saved = Instant::now();
        loop {
            let mut group = Vec::new();
            let (mut tokens, mut read, mut bytes) = (0, 0, 0);
            while tokens < tokens_at_a_time && self.limit.is_none_or(|limit| paired < limit) {
                let Some(document) = documents.next().transpose()? else {
                    break;
                };
                read += 1;
                bytes += document.bytes;
                for text in self.texts(models, &document)? {
                    tokens += text.source.ids.len();
                    paired += text.pairing.pairs.iter().filter(|pair| self.rules.admits(pair)).count() as u64;
                    group.push(text);
                }
            }
            let whole = read == 0;
            let streams = if whole {
                Ok(Vec::new())
            } else {
                run_group(models, &captures, &group).await
            };
            collected = match adding.take() {
                Some(task) => task.await.context("adding up")??,
                None => held.take().context("statistics are held or being added to")?,
            };
            let streams = match streams {
                Ok(streams) => streams,
                Err(error) => {
                    // What was read before is not lost; where nothing was, nothing is in the way of the next try.
                    if collected.header.counts().documents > 0 {
                        collected.save(&self.checkpoint)?;
                    }
                    return Err(error);
                }
            };
            collected.header.parts[0].complete = whole;
            if whole {
                collected.save(&self.checkpoint)?;
                bar.finish_and_clear();
                ensure!(
                    collected.header.counts().rows > 0,
                    "corpus: found no pair of positions that counts, expected some: {:?}",
                    collected.header.counts()
                );
                return Ok(Outcome::Whole(Box::new(collected)));
            }
            let [source, target] = &captures;
            for (side, capture) in [
                (&mut collected.header.source, source),
                (&mut collected.header.target, target),
            ] {
                let dtype = capture.dtype().map_or(UNKNOWN_DTYPE, |dtype| dtype.as_str());
                if side.dtype != UNKNOWN_DTYPE && side.dtype != dtype {
                    bail!(
                        "{}: found a stream of {dtype}, expected {} as before",
                        side.model,
                        side.dtype
                    );
                }
                side.dtype = dtype.to_string();
            }
            collected.header.parts[0].counts.documents += read;
            bar.inc(bytes * shard.count as u64);
            let rows = collected.header.parts[0].counts.rows;
            bar.set_message(format!("{rows} rows"));
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
                bar.abandon();
                return Ok(Outcome::Stopped);
            }
            adding = Some(task);
        }
    }

    /// The texts of a document: all of it, or pieces of a window each.
    fn texts(&self, models: &Models<'_>, document: &Document) -> Result<Vec<Text>> {
        let [a, b] = &models.tokenizers;
        let longest = self.rules.window.min(models.source.max_sequence());
        let key = u64::from_le_bytes(document.hash[..8].try_into().expect("eight bytes"));
        let pieces = windows(a, &document.text, longest)?;
        let text = |(index, piece): (usize, &str)| -> Result<Text> {
            let source = TokenizedText::new(a, piece)?;
            let mut target = TokenizedText::new(b, piece)?;
            target.truncate(models.target.max_sequence());
            Ok(Text {
                // Mixed, since the same bytes of the hash say the split.
                key: mix(key.wrapping_add((index as u64) << 32)),
                split: Split::of(&document.hash),
                pairing: pair_positions(&source, &target),
                source,
                target,
            })
        };
        pieces.into_iter().enumerate().map(text).collect()
    }
}

/// The states of each text in both models.
type Streams = Vec<[Vec<LayerStates>; 2]>;

/// Runs a group of texts through both models.
async fn run_group(models: &Models<'_>, captures: &[Arc<StreamCapture>; 2], group: &[Text]) -> Result<Streams> {
    let source = run_model(models.source, &captures[0], group, |text| &text.source);
    let target = run_model(models.target, &captures[1], group, |text| &text.target);
    // Two engines on one CPU would only take it from each other.
    let (source, target) = match models.source.on_cpu() || models.target.on_cpu() {
        true => (source.await?, target.await?),
        false => tokio::try_join!(source, target)?,
    };
    Ok(source.into_iter().zip(target).map(|(s, t)| [s, t]).collect())
}

async fn run_model(
    session: &Session,
    capture: &Arc<StreamCapture>,
    group: &[Text],
    tokens: impl Fn(&Text) -> &TokenizedText,
) -> Result<Vec<Vec<LayerStates>>> {
    // By length: the engine runs prompts of about one length together.
    let mut order: Vec<usize> = (0..group.len())
        .filter(|&i| !tokens(&group[i]).ids.is_empty())
        .collect();
    order.sort_by_key(|&i| (tokens(&group[i]).ids.len(), i));
    let prompts: Vec<&[u32]> = order.iter().map(|&i| tokens(&group[i]).ids.as_slice()).collect();
    let mut streams = vec![Vec::new(); group.len()];
    for (i, stream) in order.iter().zip(session.streams(capture, &prompts, || ()).await?) {
        streams[*i] = stream;
    }
    Ok(streams)
}

/// Adds a group's rows.
fn add_group(mut collected: Collected, group: &[Text], streams: &Streams, rules: &Rules) -> Result<Collected> {
    let part = &mut collected.header.parts[0];
    for (text, [source, target]) in group.iter().zip(streams) {
        let counts = &mut part.counts;
        counts.texts += 1;
        counts.source_tokens += text.source.ids.len() as u64;
        counts.target_tokens += text.target.ids.len() as u64;
        let TextRows { ends, source, target } = text_rows(&text.pairing, source, target, rules, counts);
        if ends.is_empty() {
            continue;
        }
        let keys: Vec<u64> = ends.iter().map(|&end| mix(text.key ^ end as u64)).collect();
        let rows = Rows {
            keys: &keys,
            source: source.iter().map(Vec::as_slice).collect(),
            target: target.iter().map(Vec::as_slice).collect(),
        };
        collected.statistics.add(text.split, &rows)?;
    }
    Ok(collected)
}

/// Source tokens whose states in both models fit into [`GROUP_BYTES`].
fn group_tokens(layout: &Layout) -> usize {
    let width =
        layout.source_layers().len() * layout.source_hidden + layout.target_layers().len() * layout.target_hidden;
    (GROUP_BYTES / (4 * width)).clamp(1, GROUP_TOKENS)
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014): near inputs, far outputs.
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn progress_bar(visible: bool, bytes: u64) -> ProgressBar {
    if !visible {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("reading {wide_bar} {bytes}/{total_bytes} {msg} {eta}").expect("a valid template");
    ProgressBar::new(bytes).with_style(style)
}
