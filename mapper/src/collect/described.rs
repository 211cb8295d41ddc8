//! The cost of a job, from its models' files.

use anyhow::{Context, Result};
use residual_hooks::StreamInfo;
use tokenizers::Tokenizer;

use super::CollectJob;
use super::expected::rows;
use super::plan::CostPlan;
use super::side::{Recorded, SideSource, WindowTokens};
use super::texts::WindowText;
use crate::align::TokenizedText;

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
    pub fn plan(&self) -> Result<CostPlan> {
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
            rows(
                [&tokenize[0], &tokenize[1]],
                corpus.as_ref(),
                recorded,
                &self.rules,
                self.shard,
                self.limit,
            )?
        } else {
            self.limit
        };
        Ok(self.plan_of(&layout, rows))
    }
}
