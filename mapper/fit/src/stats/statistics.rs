//! Statistics: sums and samples of rows, with everything that a fit needs.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::block::{Buffers, Stage, absorb};
use super::error::StatsError;
use super::held_out::HeldOut;
use super::layout::{Layout, LayoutError, LayoutPlan, PairSpec};
use super::moments::{Moments, Places};
use super::sample::SampleRow;
use super::split::Split;

/// Maximum number of rows of a block; larger products are no faster.
const MAX_BLOCK: usize = 2048;
/// Minimum number of rows of a block, even with many layers; with fewer, products are limited by memory bandwidth.
const MIN_BLOCK: usize = 256;
/// Bytes of one split's staged rows that the block's size aims at.
const STAGE_BYTES: usize = 256 << 20;

/// The numbers that products of a block are computed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Products of the f32 states in f64: any order, batch size and shard split gives the same to about 1e-13 of each
    /// entry's scale (the product of the two dimensions' spreads).
    #[default]
    F64,
    /// Products within a block in f32, blocks summed in f64: twice as fast, and right to about 1e-6 of each entry's
    /// scale. For very wide streams; not for an unpenalised fit of an ill-conditioned input.
    F32,
}

impl Precision {
    /// `f64` or `f32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
        }
    }

    /// The gap between 1 and the next number of the products' type.
    pub fn epsilon(self) -> f64 {
        match self {
            Self::F64 => f64::EPSILON,
            Self::F32 => f64::from(f32::EPSILON),
        }
    }
}

/// Paired rows: states of the source and of the target at the same places of a text.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    /// One hash per row that is independent of the states, such as one of document and position. The rows with the
    /// smallest hashes form the sample.
    pub keys: &'a [u64],
    /// Per unique source layer, ascending: `[rows, source_hidden]`, row by row.
    pub source: Vec<&'a [f32]>,
    /// Per unique target layer, ascending: `[rows, target_hidden]`, row by row.
    pub target: Vec<&'a [f32]>,
}

/// Sums of the train rows and samples of the held-out ones, in memory that doesn't grow with their number.
#[derive(Clone, Debug)]
pub struct Statistics {
    pub(super) plan: LayoutPlan,
    pub(super) precision: Precision,
    pub(super) train: Moments,
    /// Of validation and of test rows.
    pub(super) held_out: [HeldOut; 2],
    stage: Stage,
    block_rows: usize,
    scratch: PrecisionBuffers,
}

/// Buffers of the precision's type.
#[derive(Clone, Debug)]
enum PrecisionBuffers {
    F64(Buffers<f64>),
    F32(Buffers<f32>),
}

impl PrecisionBuffers {
    fn new(precision: Precision) -> Self {
        match precision {
            Precision::F64 => Self::F64(Buffers::default()),
            Precision::F32 => Self::F32(Buffers::default()),
        }
    }
}

impl Statistics {
    /// Statistics of no rows, with samples of at most [`Layout::held_out_rows`].
    ///
    /// # Errors
    ///
    /// [`StatsError::Layout`]; [`StatsError::Memory`] if the sums don't fit.
    pub fn new(layout: Layout, precision: Precision) -> Result<Self, StatsError> {
        let plan = LayoutPlan::new(layout)?;
        let bytes = plan.layout.sums_bytes();
        let train = Moments::new(&plan).ok_or(StatsError::Memory { bytes })?;
        let rows = plan.layout.held_out_rows();
        Ok(Self::from_parts(
            plan,
            precision,
            train,
            [HeldOut::new(rows), HeldOut::new(rows)],
        ))
    }

    /// Statistics with these sums and samples, whose shapes are the plan's.
    pub(super) fn from_parts(plan: LayoutPlan, precision: Precision, train: Moments, held_out: [HeldOut; 2]) -> Self {
        Self {
            stage: Stage::new(&plan),
            block_rows: block_rows(&plan.layout),
            scratch: PrecisionBuffers::new(precision),
            plan,
            precision,
            train,
            held_out,
        }
    }

    /// Sets the size of each of the two samples, at most `MAX_SAMPLE_ROWS` (65,536). Call it before rows are added.
    #[must_use]
    pub fn with_held_out_rows(mut self, rows: usize) -> Self {
        self.held_out = [HeldOut::new(rows), HeldOut::new(rows)];
        self
    }

    /// Sets the number of rows per block, 1 to 65536, instead of the one chosen from the layout. It changes results
    /// only by rounding.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn with_block_rows(mut self, rows: usize) -> Self {
        self.block_rows = rows.clamp(1, 1 << 16);
        self
    }

    /// Rows of a block: the number of train rows that are staged before they are multiplied.
    pub fn block_rows(&self) -> usize {
        self.block_rows
    }

    /// Adds any number of rows to a split. Train rows are staged until a block is full.
    ///
    /// # Errors
    ///
    /// Lists of wrong lengths, states that aren't finite; held-out rows for statistics that were read from a file of
    /// version 1. Then nothing was added.
    pub fn add(&mut self, split: Split, rows: &Rows<'_>) -> Result<(), StatsError> {
        self.check(rows)?;
        match split {
            Split::Train => self.stage_rows(rows),
            Split::Validation | Split::Test => return self.sample_rows(split, rows),
        }
        Ok(())
    }

    fn stage_rows(&mut self, rows: &Rows<'_>) {
        let layout = &self.plan.layout;
        let (source_hidden, target_hidden) = (layout.source_hidden, layout.target_hidden);
        let mut start = 0;
        while start < rows.keys.len() {
            let stage = &mut self.stage;
            let end = rows.keys.len().min(start + self.block_rows.saturating_sub(stage.rows));
            let copy = |to: &mut Vec<Vec<f32>>, from: &[&[f32]], width: usize| {
                to.par_iter_mut().zip(from).for_each(|(to, from)| {
                    if to.is_empty() {
                        to.reserve_exact(self.block_rows * width);
                    }
                    to.extend_from_slice(&from[start * width..end * width]);
                });
            };
            copy(&mut stage.source, &rows.source, source_hidden);
            copy(&mut stage.target, &rows.target, target_hidden);
            stage.rows += end - start;
            if stage.rows >= self.block_rows {
                self.absorb();
            }
            start = end;
        }
    }

    /// Sums all staged rows and frees the staging memory. Call it before fitting, saving or reading
    /// [`train`](Self::train); more rows may follow.
    pub fn flush(&mut self) {
        self.absorb();
        self.stage = Stage::new(&self.plan);
        self.scratch = PrecisionBuffers::new(self.precision);
    }

    /// Adds all rows of other statistics to these. How rows were distributed changes the result only by rounding.
    ///
    /// # Errors
    ///
    /// [`StatsError::Differs`] names the field, if layouts, precisions, the samples' sizes or the versions of the files
    /// that they were read from differ. Then nothing was changed.
    pub fn merge(&mut self, mut other: Self) -> Result<(), StatsError> {
        let same = |field, found: String, expected: String| {
            if found == expected {
                return Ok(());
            }
            Err(StatsError::Differs { field, found, expected })
        };
        let (ours, theirs) = (&self.plan.layout, &other.plan.layout);
        let text = |number: usize| number.to_string();
        same("source_hidden", text(theirs.source_hidden), text(ours.source_hidden))?;
        same("target_hidden", text(theirs.target_hidden), text(ours.target_hidden))?;
        if theirs.pairs != ours.pairs {
            same("pairs", pairs_text(theirs), pairs_text(ours))?;
            same("number of pairs", text(theirs.pairs.len()), text(ours.pairs.len()))?;
            same(
                "pairs after the first",
                "other pairs".to_string(),
                "the same".to_string(),
            )?;
        }
        same(
            "precision",
            other.precision.name().to_string(),
            self.precision.name().to_string(),
        )?;
        let capacity = |statistics: &Self| text(statistics.held_out[0].sample.capacity());
        same("held-out rows kept", capacity(&other), capacity(self))?;
        let version = |statistics: &Self| text(if statistics.held_out[0].sums.is_some() { 1 } else { 2 });
        same("version", version(&other), version(self))?;
        self.flush();
        other.flush();
        self.train.merge(other.train, &self.plan);
        for (to, from) in self.held_out.iter_mut().zip(other.held_out) {
            to.count += from.count;
            to.sample.merge(from.sample);
            if let (Some(to), Some(from)) = (&mut to.sums, from.sums) {
                to.merge(from, &self.plan);
            }
        }
        Ok(())
    }

    /// The statistics of some of the pairs, as if only these had been collected. Staged rows are summed first.
    ///
    /// # Errors
    ///
    /// [`StatsError::Layout`] for a pair that isn't among these, or one that is listed twice.
    pub fn restrict(mut self, pairs: &[PairSpec]) -> Result<Self, StatsError> {
        self.flush();
        let place = |pair: &PairSpec| self.plan.layout.pairs.iter().position(|other| other == pair);
        let missing = pairs.iter().enumerate().find(|(_, pair)| place(pair).is_none());
        if let Some((index, pair)) = missing {
            return Err(StatsError::Layout(LayoutError {
                field: format!("pairs[{index}]"),
                found: pair_text(pair),
                expected: format!("one of the pairs in the statistics: {}", pairs_text(&self.plan.layout)),
            }));
        }
        let plan = LayoutPlan::new(Layout {
            pairs: pairs.to_vec(),
            ..self.plan.layout.clone()
        })?;
        let places = Places {
            sources: places(&plan.sources, &self.plan.sources),
            targets: places(&plan.targets, &self.plan.targets),
            inputs: plan
                .inputs
                .iter()
                .filter_map(|input| self.plan.inputs.iter().position(|other| other.layers == input.layers))
                .collect(),
            pairs: pairs.iter().filter_map(place).collect(),
        };
        let layout = &self.plan.layout;
        let held_out = self.held_out.map(|held_out| HeldOut {
            count: held_out.count,
            sums: held_out.sums.map(|sums| sums.restrict(&places)),
            sample: held_out.sample.restrict(
                (&places.sources, layout.source_hidden),
                (&places.targets, layout.target_hidden),
            ),
        });
        Ok(Self::from_parts(
            plan,
            self.precision,
            self.train.restrict(&places),
            held_out,
        ))
    }

    /// The layers and pairs.
    pub fn layout(&self) -> &Layout {
        &self.plan.layout
    }

    /// The numbers that products are computed in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Rows added to a split, including staged ones.
    pub fn rows(&self, split: Split) -> u64 {
        match split {
            Split::Train => self.train.count + self.stage.rows as u64,
            Split::Validation => self.validation().count,
            Split::Test => self.test().count,
        }
    }

    /// The sums of the train rows, without staged ones.
    pub fn train(&self) -> &Moments {
        &self.train
    }

    /// The held-out validation rows.
    pub fn validation(&self) -> &HeldOut {
        &self.held_out[0]
    }

    /// The held-out test rows.
    pub fn test(&self) -> &HeldOut {
        &self.held_out[1]
    }

    /// Checks that no rows are staged.
    ///
    /// # Errors
    ///
    /// [`StatsError::Unflushed`].
    pub fn check_flushed(&self) -> Result<(), StatsError> {
        match self.stage.rows {
            0 => Ok(()),
            rows => Err(StatsError::Unflushed { rows }),
        }
    }

    pub(crate) fn plan(&self) -> &LayoutPlan {
        &self.plan
    }

    fn absorb(&mut self) {
        let (stage, moments) = (&mut self.stage, &mut self.train);
        match &mut self.scratch {
            PrecisionBuffers::F64(buffers) => absorb(&self.plan, stage, moments, buffers),
            PrecisionBuffers::F32(buffers) => absorb(&self.plan, stage, moments, buffers),
        }
    }

    fn check(&self, rows: &Rows<'_>) -> Result<(), StatsError> {
        let (layout, count) = (&self.plan.layout, rows.keys.len());
        check_states("source", &rows.source, &self.plan.sources, count, layout.source_hidden)?;
        check_states("target", &rows.target, &self.plan.targets, count, layout.target_hidden)
    }

    fn sample_rows(&mut self, split: Split, rows: &Rows<'_>) -> Result<(), StatsError> {
        let layout = &self.plan.layout;
        let held_out = &mut self.held_out[usize::from(split == Split::Test)];
        if held_out.sums.is_some() {
            return Err(StatsError::Version1);
        }
        let row = |states: &[&[f32]], index: usize, width: usize| -> Box<[f32]> {
            let layers = states
                .iter()
                .flat_map(|layer| &layer[index * width..(index + 1) * width]);
            layers.copied().collect()
        };
        held_out.count += rows.keys.len() as u64;
        for (index, &key) in rows.keys.iter().enumerate() {
            if held_out.sample.wants(key) {
                held_out.sample.add(SampleRow {
                    key,
                    source: row(&rows.source, index, layout.source_hidden),
                    target: row(&rows.target, index, layout.target_hidden),
                });
            }
        }
        Ok(())
    }
}

/// The default number of rows of a block.
pub(super) fn block_rows(layout: &Layout) -> usize {
    let fitting = STAGE_BYTES / usize::try_from(layout.row_bytes()).unwrap_or(usize::MAX).max(1);
    fitting.clamp(MIN_BLOCK, MAX_BLOCK)
}

/// Checks one model's lists of states: their lengths, and that all are finite.
fn check_states(
    model: &'static str,
    states: &[&[f32]],
    layers: &[usize],
    rows: usize,
    width: usize,
) -> Result<(), StatsError> {
    let length = |field: String, found: usize, expected: usize| {
        if found == expected {
            return Ok(());
        }
        Err(StatsError::Length { field, found, expected })
    };
    length(model.to_owned(), states.len(), layers.len())?;
    for (index, (states, &layer)) in states.iter().zip(layers).enumerate() {
        length(
            format!("{model}[{index}] (layer {layer})"),
            states.len(),
            rows.saturating_mul(width),
        )?;
    }
    let odd = states.par_iter().zip(layers).find_map_first(|(states, &layer)| {
        let place = first_not_finite(states)?;
        Some(StatsError::NotFinite {
            model,
            layer,
            row: place / width,
            dimension: place % width,
            found: states[place],
        })
    });
    odd.map_or(Ok(()), Err)
}

fn first_not_finite(states: &[f32]) -> Option<usize> {
    // Without an early exit inside a piece the loop becomes vector instructions.
    const PIECE: usize = 1024;
    let bad = |piece: &[f32]| piece.iter().fold(false, |bad, value| bad | !value.is_finite());
    let piece = states.chunks(PIECE).position(bad)?;
    let start = piece * PIECE;
    let within = states[start..].iter().position(|value| !value.is_finite())?;
    Some(start + within)
}

fn pair_text(pair: &PairSpec) -> String {
    let sources: Vec<String> = pair.source_layers.iter().map(ToString::to_string).collect();
    format!("{}:{}", sources.join("+"), pair.target_layer)
}

/// The first pairs of a layout, in the form of the command line.
fn pairs_text(layout: &Layout) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<String> = layout.pairs.iter().take(SHOWN).map(pair_text).collect();
    let more = if layout.pairs.len() > SHOWN { ", .." } else { "" };
    format!("{}{more}", shown.join(","))
}

/// Where each of `some` is in `all`, both ascending.
fn places(some: &[usize], all: &[usize]) -> Vec<usize> {
    some.iter().filter_map(|layer| all.binary_search(layer).ok()).collect()
}
