//! The number of rows to come, without running a model.

use anyhow::Result;

use super::header::Shard;
use super::rows::{Rules, WindowRule};
use super::side::{Recorded, WindowTokens};
use super::texts::{WindowReader, WindowText};
use crate::align::pair_positions;
use crate::corpus::Corpus;

/// Number of windows that the number of rows is estimated from.
const SAMPLED_WINDOWS: usize = 64;

/// Tokens of windows, by side.
pub(super) type Tokenize<'a> = dyn Fn(&[WindowText]) -> Result<Vec<Option<WindowTokens>>> + 'a;

/// The number of paired positions that a run will find, estimated from the first windows of the corpus or of the
/// activations.
///
/// # Errors
///
/// An error of a tokenizer.
pub(super) fn rows(
    tokenize: [&Tokenize<'_>; 2],
    corpus: Option<&Corpus>,
    recorded: Option<&Recorded>,
    rules: &Rules,
    shard: Shard,
    limit: Option<u64>,
) -> Result<Option<u64>> {
    let WindowRule::Bytes { bytes } = rules.window else {
        return Ok(None);
    };
    let (windows, total) = match (corpus, recorded) {
        (Some(corpus), _) => {
            let windows = WindowReader::new(corpus, shard, bytes).take(SAMPLED_WINDOWS);
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
        .map(|pairing| rules.admitted(&pairing))
        .sum();
    let all = (pairs as f64 * total as f64 / read.max(1) as f64) as u64;
    Ok(Some(limit.map_or(all, |limit| limit.min(all))))
}
