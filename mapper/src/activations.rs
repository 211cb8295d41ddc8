//! `mapper capture`: a model's states over a corpus, written to a folder of shards.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};
use steermap_maps::FloatDtype;
use steermap_maps::Numerics;
use steermap_maps::activations::{
    Activations, ActivationsHeader, ActivationsWriter, CapturedWindow, INDEX, ShardBuilder,
};

use crate::capture::LayerStates;
use crate::collect::header::{Shard, UNKNOWN_DTYPE};
use crate::collect::side::{ModelSide, Side};
use crate::collect::texts::{WINDOWS_AT_A_TIME, WindowId, WindowReader, WindowText};
use crate::collect::{GRACE, GROUP_TOKENS, asked_to_stop};
use crate::corpus::{Corpus, TextOptions};
use crate::layers::LayerSelection;
use crate::progress::{Progress, Unit, grouped};
use crate::session::{ModelSource, Session};
use crate::windows::MIN_WINDOW_BYTES;

/// Default size of a shard, in bytes of states.
pub const SHARD_BYTES: usize = 256 << 20;
/// Maximum number of tokens of a shard, even for narrow models, which limits what a crash loses.
const SHARD_TOKENS: usize = 1 << 16;

/// The options of `mapper capture`.
#[derive(Clone, Debug)]
pub struct CaptureJob {
    /// The model.
    pub model: ModelSource,
    /// Files of text; `-` is standard input.
    pub corpus: Vec<PathBuf>,
    /// How it is read.
    pub text: TextOptions,
    /// The layers.
    pub layers: LayerSelection,
    /// The folder to write.
    pub out: PathBuf,
    /// The type of the states.
    pub dtype: FloatDtype,
    /// Bytes of a window.
    pub window_bytes: usize,
    /// Which documents.
    pub shard: Shard,
    /// Maximum number of tokens; the window that reaches it is the last.
    pub limit: Option<u64>,
    /// Bytes of states of a shard.
    pub shard_bytes: usize,
    /// The command line, for the index.
    pub command: String,
    /// Whether to show progress.
    pub progress: bool,
}

/// How a capture ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Whether all text was read; if not, the capture was stopped.
    pub complete: bool,
    /// Windows in the folder.
    pub windows: u64,
    /// Tokens in the folder.
    pub tokens: u64,
    /// Bytes of states in the folder.
    pub bytes: u64,
}

impl CaptureJob {
    /// Captures, continuing an earlier run if there is one. Once `stop` is set, running texts have some seconds to
    /// finish, and the states so far are written.
    ///
    /// # Errors
    ///
    /// Text that can't be read, a model that can't be loaded or hooked, a layer that it doesn't have, a folder of
    /// another job, states that are not finite or don't fit the dtype.
    pub async fn run(&self, stop: &AtomicBool) -> Result<Captured> {
        ensure!(
            self.window_bytes >= MIN_WINDOW_BYTES,
            "window: found {}, expected at least {MIN_WINDOW_BYTES} bytes",
            self.window_bytes
        );
        ensure!(self.shard_bytes > 0, "shard-mib: found 0, expected at least 1");
        let corpus = Corpus::open(&self.corpus, &self.text)?;
        if self.progress {
            corpus.describe().iter().for_each(|line| eprintln!("{line}"));
        }
        let session = Session::load(self.model.clone()).await?;
        self.run_on(&session, &corpus, stop).await
    }

    async fn run_on(&self, session: &Session, corpus: &Corpus, stop: &AtomicBool) -> Result<Captured> {
        let stream = session.slot().stream()?;
        let layers = self.layers.resolve(&stream)?;
        let mut side = Side::Model(ModelSide::new(session)?);
        side.choose("model", layers.clone())?;
        let mut header = ActivationsHeader {
            model: session.info()?,
            numerics: Numerics {
                dtype: UNKNOWN_DTYPE.to_string(),
                quantization: session.quantization(),
            },
            layers,
            dtype: self.dtype,
            window_bytes: Some(self.window_bytes),
            part: (self.shard.index, self.shard.count),
            corpus: corpus
                .record()
                .into_iter()
                .map(|file| (file.name, file.sha256))
                .collect(),
            command: Some(self.command.clone()),
        };
        let mut writer = ActivationsWriter::open(&self.out, header.clone())?;
        header.numerics.dtype.clone_from(&writer.index().header.numerics.dtype);
        let mut windows = WindowReader::new(corpus, self.shard, self.window_bytes);
        let mut position = self.skip(&mut windows, &writer)?;
        writer.reopen();
        let mut tokens: u64 = writer.index().shards.iter().map(|shard| shard.tokens).sum();
        let progress = match self.limit {
            Some(limit) => Progress::new(self.progress, "capturing", Unit::Of("tokens"), limit),
            None => Progress::new(self.progress, "capturing", Unit::Bytes, corpus.total_bytes()),
        };
        let whole_of = |bytes: u64, tokens: u64| if self.limit.is_some() { tokens } else { bytes };
        progress.start_at(whole_of(position, tokens));
        let mut shard = ShardBuilder::new(header.clone());
        loop {
            let most = self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(tokens));
            let group = next_group(&mut windows, &side, most)?;
            let complete = group.is_empty();
            if !complete {
                let wanted: Vec<_> = group.iter().map(|(window, tokens)| (window.id, tokens)).collect();
                let told = std::cell::Cell::new(0);
                let mut done = || {
                    told.set(told.get() + 1);
                    let ended = &group[..told.get().min(group.len())];
                    let bytes: u64 = ended.iter().map(|(window, _)| window.bytes).sum();
                    let read: usize = ended.iter().map(|(_, tokens)| tokens.ids.len()).sum();
                    progress.set(whole_of(position + bytes, tokens + read as u64));
                };
                let states = tokio::select! {
                    biased;
                    states = side.states(&wanted, &mut done) => Some(states),
                    () = asked_to_stop(stop, GRACE) => None,
                };
                let states = match states {
                    Some(Ok(states)) => states,
                    // Write what was captured before.
                    ended => {
                        let captured = self.end(writer, shard, false, &progress)?;
                        return ended.map_or(Ok(captured), |states| states.map(|_| captured));
                    }
                };
                let dtype = side.dtype().unwrap_or_else(|| UNKNOWN_DTYPE.to_string());
                if header.numerics.dtype != dtype {
                    writer.set_stream_dtype(&dtype)?;
                    header.numerics.dtype = dtype;
                    shard = ShardBuilder::new(header.clone());
                }
                for ((window, text), states) in group.iter().zip(states) {
                    let states = states.into_iter().map(LayerStates::into_values).collect();
                    let ends = text.ends.iter().map(|end| end.map(|end| window.id.start + end as u64));
                    let pushed = shard.push(&CapturedWindow {
                        document: window.id.document,
                        start: window.id.start,
                        tokens: text.ids.clone(),
                        ends: ends.collect(),
                        special: text.reach.iter().map(Option::is_none).collect(),
                        states,
                    });
                    if let Err(problem) = pushed {
                        // Write what was captured before.
                        self.end(writer, shard, false, &progress)?;
                        bail!(problem);
                    }
                    position += window.bytes;
                    tokens += text.ids.len() as u64;
                }
                progress.set(whole_of(position, tokens));
                progress.step(format!("{} tokens", grouped(tokens)));
            }
            let stopped = stop.load(Ordering::Relaxed);
            if complete || stopped {
                return self.end(writer, shard, complete, &progress);
            }
            if shard.bytes() >= self.shard_bytes || shard.tokens() >= SHARD_TOKENS {
                let full = std::mem::replace(&mut shard, ShardBuilder::new(header.clone()));
                writer.push(full)?;
            }
        }
    }

    /// Writes the last shard and the index.
    fn end(
        &self,
        mut writer: ActivationsWriter,
        shard: ShardBuilder,
        complete: bool,
        progress: &Progress,
    ) -> Result<Captured> {
        if shard.windows() > 0 {
            writer.push(shard)?;
        }
        if complete {
            ensure!(
                writer.windows() > 0,
                "corpus: found no text, expected at least one window of it"
            );
            writer.finish()?;
        }
        progress.finish();
        let index = writer.index();
        let tokens: u64 = index.shards.iter().map(|shard| shard.tokens).sum();
        let header = &index.header;
        let row = header.layers.len() * header.model.hidden_size * header.dtype.bytes();
        Ok(Captured {
            complete,
            windows: writer.windows(),
            tokens,
            bytes: tokens * row as u64,
        })
    }

    /// Skips the windows in existing shards and compares them; returns the bytes of the corpus that they account for.
    fn skip(&self, windows: &mut WindowReader<'_>, writer: &ActivationsWriter) -> Result<u64> {
        let mut bytes = 0;
        if writer.windows() == 0 {
            return Ok(bytes);
        }
        for entry in Activations::open(&self.out)?.windows() {
            let next = windows.next().transpose()?;
            let same = next.filter(|window| window.id == WindowId::from(entry));
            let window = same.with_context(|| {
                format!(
                    "{}: found states of another text, expected those of this corpus: give another --out",
                    self.out.join(INDEX).display()
                )
            })?;
            bytes += window.bytes;
        }
        Ok(bytes)
    }
}

/// The next windows and their tokens, until a limit is reached.
fn next_group(
    windows: &mut WindowReader<'_>,
    side: &Side<'_>,
    most: u64,
) -> Result<Vec<(WindowText, crate::align::TokenizedText)>> {
    let mut group = Vec::new();
    let mut tokens = 0;
    while tokens < GROUP_TOKENS && (tokens as u64) < most {
        let next: Vec<WindowText> = windows.by_ref().take(WINDOWS_AT_A_TIME).collect::<Result<_>>()?;
        if next.is_empty() {
            break;
        }
        let texts = side.tokens(&next)?;
        for (window, text) in next.into_iter().zip(texts) {
            let text = text.context("a window of text has no tokens")?.tokens;
            tokens += text.ids.len();
            group.push((window, text));
        }
    }
    Ok(group)
}
