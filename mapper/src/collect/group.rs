//! Windows that run together, and their rows.

use anyhow::{Context, Result, anyhow};
use sha2::{Digest, Sha256};
use steermap_fit::stats::{Rows, Split, StatsError};

use super::collected::Collected;
use super::rows::{Rules, TextRows, text_rows};
use super::side::{Side, WindowTokens};
use super::texts::{WINDOWS_AT_A_TIME, WindowId, WindowText};
use crate::align::{Pairing, TokenizedText, pair_positions};
use crate::capture::LayerStates;

/// One window and its tokens in both models.
pub(super) struct WindowPair {
    pub id: WindowId,
    key: u64,
    split: Split,
    pub source: TokenizedText,
    pub target: TokenizedText,
    pairing: Pairing,
    /// Whether the window was cut at a model's context.
    cut: bool,
}

/// Windows that run together.
#[derive(Default)]
pub(super) struct WindowGroup {
    pub texts: Vec<WindowPair>,
    /// Windows that were read, including those that a side doesn't have.
    pub windows: u64,
    /// Windows that a side doesn't have.
    pub missing: u64,
    /// Documents that begin in it.
    pub documents: u64,
    /// Bytes of the corpus that its windows account for.
    pub bytes: u64,
    /// Paired positions that count, unless they are outliers.
    pub paired: u64,
}

/// Reads groups from a stream of windows.
pub(super) struct GroupReader<'a> {
    windows: Box<dyn Iterator<Item = Result<WindowText>> + 'a>,
    /// Windows that are tokenized but not in a group yet.
    waiting: std::collections::VecDeque<(WindowText, Option<WindowPair>)>,
    last: Option<WindowId>,
    /// Hash over the windows in groups so far.
    read: Sha256,
}

impl<'a> GroupReader<'a> {
    pub fn new(windows: Box<dyn Iterator<Item = Result<WindowText>> + 'a>) -> Self {
        Self {
            windows,
            waiting: std::collections::VecDeque::new(),
            last: None,
            read: Sha256::new(),
        }
    }

    /// The hash over all windows so far.
    pub fn read(&self) -> String {
        steermap_maps::digest::hex(&self.read.clone().finalize())
    }

    /// Skips `count` windows; returns the bytes of the corpus that they account for.
    pub fn skip(&mut self, count: u64) -> Result<u64> {
        let mut bytes = 0;
        for _ in 0..count {
            let window = self.windows.next().transpose()?;
            let window = window.context("found less text than the checkpoint has read, expected the same text")?;
            bytes += window.bytes;
            self.count(&window.id);
        }
        Ok(bytes)
    }

    /// Counts a window; returns whether it begins a document.
    fn count(&mut self, id: &WindowId) -> bool {
        self.read.update(id.document);
        self.read.update(id.start.to_le_bytes());
        let last = self.last.replace(*id);
        // If a copy of a document follows it, the copy's first window begins before the last window.
        last.is_none_or(|last| last.document != id.document || last.start >= id.start)
    }

    /// The next group: windows until a limit is reached.
    pub fn next(
        &mut self,
        source: &Side<'_>,
        target: &Side<'_>,
        rules: &Rules,
        limits: GroupLimits,
    ) -> Result<WindowGroup> {
        let mut group = WindowGroup::default();
        let mut tokens = 0;
        while tokens < limits.tokens && group.paired < limits.pairs {
            if self.waiting.is_empty() {
                self.look_ahead(source, target)?;
            }
            let Some((window, text)) = self.waiting.pop_front() else {
                break;
            };
            group.windows += 1;
            group.bytes += window.bytes;
            group.documents += u64::from(self.count(&window.id));
            match text {
                Some(text) => {
                    tokens += text.source.ids.len().max(text.target.ids.len());
                    group.paired += rules.admitted(&text.pairing);
                    group.texts.push(text);
                }
                None => group.missing += 1,
            }
        }
        Ok(group)
    }

    /// Tokenizes the next windows.
    fn look_ahead(&mut self, source: &Side<'_>, target: &Side<'_>) -> Result<()> {
        let windows: Vec<WindowText> = self.windows.by_ref().take(WINDOWS_AT_A_TIME).collect::<Result<_>>()?;
        let (sources, targets) = (source.tokens(&windows)?, target.tokens(&windows)?);
        let tokens = sources.into_iter().zip(targets);
        self.waiting
            .extend(windows.into_iter().zip(tokens).map(|(window, (source, target))| {
                let text = source
                    .zip(target)
                    .map(|(source, target)| WindowPair::new(window.id, source, target));
                (window, text)
            }));
        Ok(())
    }
}

/// The limits at which a group ends.
#[derive(Clone, Copy)]
pub(super) struct GroupLimits {
    /// Tokens of the model that has more of them.
    pub tokens: usize,
    /// Paired positions that count.
    pub pairs: u64,
}

impl WindowPair {
    fn new(id: WindowId, source: WindowTokens, target: WindowTokens) -> Self {
        let cut = source.cut || target.cut;
        let (source, target) = (source.tokens, target.tokens);
        let [a, b, c, d, e, f, g, h, ..] = id.document;
        let key = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Self {
            // Mixed, since the same bytes of the hash decide the split.
            key: mix(key ^ mix(id.start)),
            split: Split::of(&id.document),
            pairing: pair_positions(&source, &target),
            id,
            source,
            target,
            cut,
        }
    }
}

/// The states of each text in both models.
pub(super) type GroupStreams = Vec<[Vec<LayerStates>; 2]>;

/// Runs a group through both models, or reads its states. `done` counts windows that have run, once for each model, and
/// `report` is called after each.
pub(super) async fn run_group(
    source: &Side<'_>,
    target: &Side<'_>,
    group: &WindowGroup,
    done: &std::cell::Cell<u64>,
    report: &dyn Fn(),
) -> Result<GroupStreams> {
    let of = |of: fn(&WindowPair) -> &TokenizedText| -> Vec<(WindowId, &TokenizedText)> {
        group.texts.iter().map(|text| (text.id, of(text))).collect()
    };
    let (sources, targets) = (of(|text| &text.source), of(|text| &text.target));
    let one = || {
        done.set(done.get() + 1);
        report();
    };
    let (mut first, mut second) = (one, one);
    // Two engines on one CPU would only compete for it.
    let (source, target) = if source.runs_on_cpu() || target.runs_on_cpu() {
        (
            source.states(&sources, &mut first).await?,
            target.states(&targets, &mut second).await?,
        )
    } else {
        tokio::try_join!(
            source.states(&sources, &mut first),
            target.states(&targets, &mut second)
        )?
    };
    Ok(source.into_iter().zip(target).map(|(s, t)| [s, t]).collect())
}

/// Adds a group's rows.
pub(super) fn add_group(
    mut collected: Collected,
    group: &WindowGroup,
    streams: &GroupStreams,
    rules: &Rules,
) -> Result<Collected> {
    let header = &mut collected.header;
    let part = &mut header.parts[0];
    part.counts.missing_windows += group.missing;
    for (text, [source, target]) in group.texts.iter().zip(streams) {
        let counts = &mut part.counts;
        counts.texts += 1;
        counts.cut_windows += u64::from(text.cut);
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
        let added = collected.statistics.add(text.split, &rows);
        added.map_err(|error| match error {
            StatsError::NotFinite {
                model,
                layer,
                row,
                dimension,
                found,
            } => {
                let side = if model == "source" { &header.source } else { &header.target };
                anyhow!(
                    "{} (the {model}), layer {layer}, document {}…, byte {}, dimension {dimension}: found {found} in a stream \
                     of {}, expected finite states: run this model in another dtype (--{model}-dtype)",
                    side.model,
                    steermap_maps::digest::hex(&text.id.document[..4]),
                    text.id.start + ends[row] as u64,
                    side.dtype
                )
            }
            error => error.into(),
        })?;
    }
    Ok(collected)
}

/// The finaliser of SplitMix64 (Steele, Lea & Flood 2014), which maps similar inputs to unrelated outputs.
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
