//! Everything that a fit needs to know of the rows.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::block::{Buffers, Stage, absorb};
use super::error::StatsError;
use super::layout::{Layout, Plan};
use super::moments::Moments;
use super::sample::{MAX_SAMPLE_ROWS, SAMPLE_ROWS, Sample, SampleRow};
use super::split::Split;

/// Most rows of a block: from here on larger products are no faster.
const MAX_BLOCK: usize = 2048;
/// Fewest rows of a block, however many layers are staged: with fewer, products are bound by memory.
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
    /// One hash per row that says nothing of its content's meaning, for instance of document and position: the rows with
    /// the smallest make the sample.
    pub keys: &'a [u64],
    /// Per unique source layer, ascending: `[rows, source_hidden]`, row by row.
    pub source: Vec<&'a [f32]>,
    /// Per unique target layer, ascending: `[rows, target_hidden]`, row by row.
    pub target: Vec<&'a [f32]>,
}

/// Sufficient statistics of paired rows, in memory that doesn't grow with their number.
#[derive(Clone, Debug)]
pub struct Statistics {
    pub(super) plan: Plan,
    pub(super) precision: Precision,
    pub(super) moments: [Moments; 3],
    pub(super) sample: Sample,
    stages: [Stage; 3],
    block_rows: usize,
    scratch: Scratch,
}

/// Buffers of the precision's type.
#[derive(Clone, Debug)]
enum Scratch {
    F64(Buffers<f64>),
    F32(Buffers<f32>),
}

impl Scratch {
    fn new(precision: Precision) -> Self {
        match precision {
            Precision::F64 => Self::F64(Buffers::default()),
            Precision::F32 => Self::F32(Buffers::default()),
        }
    }
}

impl Statistics {
    /// Statistics of no rows, with a sample of at most [`SAMPLE_ROWS`].
    ///
    /// # Errors
    ///
    /// [`StatsError::Layout`]; [`StatsError::Memory`] if the sums don't fit.
    pub fn new(layout: Layout, precision: Precision) -> Result<Self, StatsError> {
        let plan = Plan::new(layout)?;
        let memory = || StatsError::Memory {
            bytes: plan.layout.bytes(),
        };
        let empty = || Moments::new(&plan).ok_or_else(memory);
        let moments = [empty()?, empty()?, empty()?];
        Ok(Self::from_parts(plan, precision, moments, Sample::new(SAMPLE_ROWS)))
    }

    /// Statistics with these sums, whose shapes are the plan's.
    pub(super) fn from_parts(plan: Plan, precision: Precision, moments: [Moments; 3], sample: Sample) -> Self {
        let fitting = STAGE_BYTES / (plan.row_width() * size_of::<f32>());
        Self {
            stages: std::array::from_fn(|_| Stage::new(&plan)),
            block_rows: fitting.clamp(MIN_BLOCK, MAX_BLOCK),
            scratch: Scratch::new(precision),
            plan,
            precision,
            moments,
            sample,
        }
    }

    /// Another size of the sample, [`MAX_SAMPLE_ROWS`] at most. Before rows are added.
    #[must_use]
    pub fn with_sample_rows(mut self, rows: usize) -> Self {
        let mut sample = Sample::new(rows.min(MAX_SAMPLE_ROWS));
        sample.merge(self.sample);
        self.sample = sample;
        self
    }

    /// Another number of rows per block than the one chosen from the layout; 1 to 65536. Results don't depend on it but
    /// for rounding.
    #[must_use]
    pub fn with_block_rows(mut self, rows: usize) -> Self {
        self.block_rows = rows.clamp(1, 1 << 16);
        self
    }

    /// Rows of a block: what is staged of each split before it is multiplied.
    pub fn block_rows(&self) -> usize {
        self.block_rows
    }

    /// Adds rows to a split. Any number; they are staged until a block is full.
    ///
    /// # Errors
    ///
    /// Lists whose lengths don't fit, states that aren't finite. Then nothing was added.
    pub fn add(&mut self, split: Split, rows: &Rows<'_>) -> Result<(), StatsError> {
        self.check(rows)?;
        if split == Split::Test {
            self.sample_rows(rows);
        }
        let layout = &self.plan.layout;
        let (source_hidden, target_hidden) = (layout.source_hidden, layout.target_hidden);
        let mut start = 0;
        while start < rows.keys.len() {
            let stage = &mut self.stages[split.index()];
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
                self.absorb(split);
            }
            start = end;
        }
        Ok(())
    }

    /// Sums all staged rows and frees the memory that they were staged and multiplied in. Before fitting, saving or
    /// reading [`moments`](Self::moments); more rows may follow.
    pub fn flush(&mut self) {
        Split::ALL.into_iter().for_each(|split| self.absorb(split));
        self.stages = std::array::from_fn(|_| Stage::new(&self.plan));
        self.scratch = Scratch::new(self.precision);
    }

    /// Adds all rows of other statistics to these. The result doesn't depend on how rows were shared out but for
    /// rounding.
    ///
    /// # Errors
    ///
    /// [`StatsError::Differs`] names the field, if layouts, precisions or the samples' sizes differ. Then nothing was
    /// changed.
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
        same("pairs", pairs(theirs), pairs(ours))?;
        same(
            "precision",
            format!("{:?}", other.precision),
            format!("{:?}", self.precision),
        )?;
        let (found, expected) = (other.sample.capacity(), self.sample.capacity());
        same("sample size", text(found), text(expected))?;
        self.flush();
        other.flush();
        for (to, from) in self.moments.iter_mut().zip(other.moments) {
            to.merge(from, &self.plan);
        }
        self.sample.merge(other.sample);
        Ok(())
    }

    /// What is measured.
    pub fn layout(&self) -> &Layout {
        &self.plan.layout
    }

    /// The numbers that products are computed in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Rows added to a split, the staged ones included.
    pub fn rows(&self, split: Split) -> u64 {
        self.moments[split.index()].count + self.stages[split.index()].rows as u64
    }

    /// The sums of a split, without staged rows.
    pub fn moments(&self, split: Split) -> &Moments {
        &self.moments[split.index()]
    }

    /// The sampled test rows.
    pub fn sample(&self) -> &Sample {
        &self.sample
    }

    /// Checks that no rows are staged.
    ///
    /// # Errors
    ///
    /// [`StatsError::Unflushed`].
    pub fn check_flushed(&self) -> Result<(), StatsError> {
        for split in Split::ALL {
            match self.stages[split.index()].rows {
                0 => {}
                rows => return Err(StatsError::Unflushed { split, rows }),
            }
        }
        Ok(())
    }

    /// Mean L2 norm of the train rows' states at a source layer, without staged rows. `None` for a layer that isn't
    /// captured, or without rows.
    pub fn mean_norm_source(&self, layer: usize) -> Option<f64> {
        let place = self.plan.sources.binary_search(&layer).ok()?;
        let train = self.moments(Split::Train);
        (train.count > 0).then(|| train.source_norms[place] / train.count as f64)
    }

    /// As [`mean_norm_source`](Self::mean_norm_source), of the target.
    pub fn mean_norm_target(&self, layer: usize) -> Option<f64> {
        let place = self.plan.targets.binary_search(&layer).ok()?;
        let train = self.moments(Split::Train);
        (train.count > 0).then(|| train.target_norms[place] / train.count as f64)
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    fn absorb(&mut self, split: Split) {
        let (stage, moments) = (&mut self.stages[split.index()], &mut self.moments[split.index()]);
        match &mut self.scratch {
            Scratch::F64(buffers) => absorb(&self.plan, stage, moments, buffers),
            Scratch::F32(buffers) => absorb(&self.plan, stage, moments, buffers),
        }
    }

    fn check(&self, rows: &Rows<'_>) -> Result<(), StatsError> {
        let (layout, count) = (&self.plan.layout, rows.keys.len());
        check_states("source", &rows.source, &self.plan.sources, count, layout.source_hidden)?;
        check_states("target", &rows.target, &self.plan.targets, count, layout.target_hidden)
    }

    fn sample_rows(&mut self, rows: &Rows<'_>) {
        let layout = &self.plan.layout;
        let row = |states: &[&[f32]], index: usize, width: usize| -> Box<[f32]> {
            let layers = states
                .iter()
                .flat_map(|layer| &layer[index * width..(index + 1) * width]);
            layers.copied().collect()
        };
        for (index, &key) in rows.keys.iter().enumerate() {
            if self.sample.wants(key) {
                self.sample.add(SampleRow {
                    key,
                    source: row(&rows.source, index, layout.source_hidden),
                    target: row(&rows.target, index, layout.target_hidden),
                });
            }
        }
    }
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

fn pairs(layout: &Layout) -> String {
    let pair = |pair: &super::layout::PairSpec| format!("{:?} -> {}", pair.source_layers, pair.target_layer);
    layout.pairs.iter().map(pair).collect::<Vec<_>>().join(", ")
}
