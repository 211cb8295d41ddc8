//! The number of rows to come and their cost, without running a model.

use anyhow::{Context, Result};
use residual_hooks::StreamInfo;
use tokenizers::Tokenizer;

use super::CollectJob;
use super::plan::Plan;
use super::rows::WindowRule;
use super::side::{Recorded, SideSource, WindowTokens};
use super::texts::{WindowReader, WindowText};
use crate::align::{TokenizedText, pair_positions};
use crate::corpus::Corpus;

/// One side as described by its files.
struct SideDescription {
    stream: StreamInfo,
    tokens: TokenSource,
}

/// The source of a side's tokens.
enum TokenSource {
    Tokenizer(Box<Tokenizer>),
    Recorded(Recorded),
    /// Its files have no tokenizer.
    Unknown,
}

impl SideDescription {
    fn of(source: &SideSource, job: &CollectJob) -> Result<Self> {
        Ok(match source {
            SideSource::Model(model) => {
                let (sizes, tokenizer) = model.described()?;
                Self {
                    stream: StreamInfo {
                        num_layers: sizes.num_layers,
                        hidden_size: sizes.hidden_size,
                        last_block: true,
                    },
                    tokens: tokenizer.map_or(TokenSource::Unknown, |tokenizer| {
                        TokenSource::Tokenizer(tokenizer.into())
                    }),
                }
            }
            SideSource::Activations(_) => {
                let recorded = job.open_recorded(source)?.context("activations are gone")?;
                Self {
                    stream: recorded.stream(),
                    tokens: TokenSource::Recorded(recorded),
                }
            }
        })
    }

    fn recorded(&self) -> Option<&Recorded> {
        match &self.tokens {
            TokenSource::Recorded(recorded) => Some(recorded),
            _ => None,
        }
    }

    fn is_known(&self) -> bool {
        !matches!(self.tokens, TokenSource::Unknown)
    }

    fn tokens(&self, windows: &[WindowText]) -> Result<Vec<Option<WindowTokens>>> {
        let one = |window: &WindowText| match &self.tokens {
            TokenSource::Tokenizer(tokenizer) => {
                let tokens = TokenizedText::new(tokenizer, &window.text)?;
                Ok(Some(WindowTokens { tokens, cut: false }))
            }
            TokenSource::Recorded(recorded) => recorded.tokens(&window.id),
            TokenSource::Unknown => Ok(None),
        };
        windows.iter().map(one).collect()
    }
}

impl CollectJob {
    /// The cost of the job, from the sizes in the models' files, without loading a model.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run), or a model whose files don't state its sizes or aren't on this machine.
    pub fn plan(&self) -> Result<Plan> {
        let (corpus, _) = self.open()?;
        let sides = [
            SideDescription::of(&self.source, self)?,
            SideDescription::of(&self.target, self)?,
        ];
        let layout = self.layout(&sides[0].stream, &sides[1].stream)?;
        let rows = if sides.iter().all(SideDescription::is_known) {
            let tokenize = sides
                .each_ref()
                .map(|side| move |windows: &[WindowText]| side.tokens(windows));
            let recorded = sides.iter().find_map(SideDescription::recorded);
            rows([&tokenize[0], &tokenize[1]], corpus.as_ref(), recorded, self)?
        } else {
            self.limit
        };
        Ok(self.plan_of(&layout, rows))
    }
}

/// Number of windows that the number of rows is estimated from.
const SAMPLED_WINDOWS: usize = 64;

/// Tokens of windows, by side.
pub(super) type Tokenize<'a> = dyn Fn(&[WindowText]) -> Result<Vec<Option<WindowTokens>>> + 'a;

/// The number of paired positions that a job will find, estimated from the first windows of the corpus or of the
/// activations.
///
/// # Errors
///
/// An error of a tokenizer.
pub(super) fn rows(
    tokenize: [&Tokenize<'_>; 2],
    corpus: Option<&Corpus>,
    recorded: Option<&Recorded>,
    job: &CollectJob,
) -> Result<Option<u64>> {
    let WindowRule::Bytes { bytes } = job.rules.window else {
        return Ok(None);
    };
    let (windows, total) = match (corpus, recorded) {
        (Some(corpus), _) => {
            let windows = WindowReader::new(corpus, job.shard, bytes).take(SAMPLED_WINDOWS);
            (windows.collect::<Result<Vec<_>>>()?, corpus.total_bytes())
        }
        (None, Some(recorded)) => {
            let windows = recorded.windows().take(SAMPLED_WINDOWS).map(WindowText::without_text);
            (windows.collect(), recorded.count() as u64)
        }
        (None, None) => return Ok(None),
    };
    // A window of a shard accounts for the bytes of the other shards too.
    let read: u64 = windows.iter().map(|window| window.bytes).sum();
    let [source, target] = tokenize;
    let texts = source(&windows)?.into_iter().zip(target(&windows)?);
    let pairs: u64 = texts
        .filter_map(|(source, target)| Some(pair_positions(&source?.tokens, &target?.tokens)))
        .map(|pairing| job.rules.admitted(&pairing))
        .sum();
    let all = (pairs as f64 * total as f64 / read.max(1) as f64) as u64;
    Ok(Some(job.limit.map_or(all, |limit| limit.min(all))))
}
