//! Which steps act at which position of a forward pass.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use residual_hooks::Row;

use super::sequence::SequenceState;
use crate::compile::Program;

/// A way in which positions are treated: the steps of a program that act there.
#[derive(Clone)]
pub struct Kind {
    /// The program.
    pub program: Arc<Program>,
    /// Bit `i` is set where the program's step `i` acts.
    pub steps: u32,
}

impl Kind {
    /// Equal kinds are of the same compiled program: it's compiled once for all that ask for it.
    fn key(&self) -> (usize, u32) {
        (Arc::as_ptr(&self.program) as usize, self.steps)
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

/// What a forward pass does, the same at all layers.
pub struct Plan {
    kinds: Vec<Kind>,
    /// By row and position of the stream: 0 where nothing is done, else 1 + the index of a kind.
    index: Vec<u32>,
    width: usize,
    /// Whether all positions of each row have one kind: always so in generation.
    by_row: bool,
    /// Whether there is one kind, and all positions are of it.
    same: bool,
    /// `index`, or one number a row where that says it all.
    lookup: Vec<u32>,
    acts: Vec<bool>,
    decides: Vec<bool>,
}

impl Plan {
    /// The plan for these rows of a stream of `width` positions.
    pub fn new(rows: &[Row], width: usize) -> Self {
        let mut plan = Self {
            kinds: Vec::new(),
            index: vec![0; rows.len() * width],
            width,
            by_row: true,
            same: false,
            lookup: Vec::new(),
            acts: Vec::new(),
            decides: Vec::new(),
        };
        // What rows do, by a first numbering of the kinds.
        let mut found: Vec<Kind> = Vec::new();
        for (row, index) in rows.iter().zip(plan.index.chunks_mut(width.max(1))) {
            let Some(state) = SequenceState::of(row) else { continue };
            let program = state.program();
            for condition in &program.conditions {
                if state.waits_at(condition.layer) {
                    mark(&mut plan.decides, condition.layer);
                }
            }
            let mut last: Option<(u32, u32)> = None;
            for (offset, (&token, slot)) in row.ids.iter().zip(index.iter_mut()).enumerate() {
                let steps = acting(state, row, row.start + offset, token);
                *slot = match last {
                    Some((known, number)) if known == steps => number,
                    _ if steps == 0 => 0,
                    _ => {
                        let kind = Kind {
                            program: program.clone(),
                            steps,
                        };
                        let at = found.iter().position(|k| *k == kind).unwrap_or_else(|| {
                            found.push(kind);
                            found.len() - 1
                        });
                        at as u32 + 1
                    }
                };
                last = Some((steps, *slot));
            }
            // Padding means nothing, so it goes along with the rest of its row.
            let tokens = row.tokens().min(width);
            if let Some(&end) = index[..tokens].last() {
                index[tokens..].fill(end);
            }
            plan.by_row &= index.iter().all(|kind| *kind == index[0]);
        }
        // In one order, whatever that of the rows: the tables of a mix are found again.
        let mut order: Vec<usize> = (0..found.len()).collect();
        order.sort_by_key(|&i| found[i].key());
        let mut renumbered = vec![0u32; found.len() + 1];
        for (new, &old) in order.iter().enumerate() {
            renumbered[old + 1] = new as u32 + 1;
        }
        for slot in &mut plan.index {
            *slot = renumbered[*slot as usize];
        }
        plan.kinds = order.iter().map(|&i| found[i].clone()).collect();
        plan.same = plan.kinds.len() == 1 && plan.index.iter().all(|kind| *kind == 1);
        plan.lookup = match plan.by_row {
            true => plan.index.iter().step_by(width.max(1)).copied().collect(),
            false => plan.index.clone(),
        };
        for kind in &plan.kinds {
            for (number, step) in kind.program.steps.iter().enumerate() {
                if kind.steps & (1 << number) != 0 {
                    step.layers.keys().for_each(|&layer| mark(&mut plan.acts, layer));
                }
            }
        }
        plan
    }

    /// The kinds of the pass.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Whether anything may be done after `layer`.
    pub fn acts_at(&self, layer: usize) -> bool {
        self.acts.get(layer).copied().unwrap_or(false)
    }

    /// Whether a condition is to be decided after `layer`.
    pub fn decides_at(&self, layer: usize) -> bool {
        self.decides.get(layer).copied().unwrap_or(false)
    }

    /// By row and position: 0, or 1 + the index of a kind.
    pub fn index(&self) -> &[u32] {
        &self.index
    }
}

fn mark(layers: &mut Vec<bool>, layer: usize) {
    if layers.len() <= layer {
        layers.resize(layer + 1, false);
    }
    layers[layer] = true;
}

/// The steps that act on the token at `position` of the row's sequence.
fn acting(state: &SequenceState, row: &Row, position: usize, token: u32) -> u32 {
    let mut acting = 0;
    for (number, step) in state.program().steps.iter().enumerate() {
        let selector = match position < row.prompt_len {
            true => &step.prompt,
            false => &step.generation,
        };
        if selector.contains(position, row.prompt_len, token) && step.condition.is_none_or(|c| state.holds(c)) {
            acting |= 1 << number;
        }
    }
    acting
}

/// Where the positions of a stream find their kind in a table.
#[derive(Clone)]
pub enum Index {
    /// All are of the only kind.
    Same,
    /// By row, `[rows]`.
    Rows(Tensor),
    /// By row and position, `[rows * width]`.
    Positions(Tensor),
}

/// The index of the last pass on each device: in generation the next pass has the same.
#[derive(Default)]
pub struct IndexTensors {
    known: Vec<(Vec<u32>, usize, Tensor)>,
}

impl IndexTensors {
    /// The index of `plan` on `device`.
    ///
    /// # Errors
    ///
    /// What candle says.
    pub fn get(&mut self, plan: &Plan, device: &Device) -> Result<Index> {
        if plan.same {
            return Ok(Index::Same);
        }
        let wrap = |tensor| match plan.by_row {
            true => Index::Rows(tensor),
            false => Index::Positions(tensor),
        };
        if let Some((.., tensor)) = self.known.iter().find(|(known, width, tensor)| {
            *known == plan.lookup && *width == plan.width && tensor.device().same_device(device)
        }) {
            return Ok(wrap(tensor.clone()));
        }
        let tensor = Tensor::new(plan.lookup.as_slice(), device)?;
        self.known.retain(|(.., tensor)| !tensor.device().same_device(device));
        self.known.push((plan.lookup.clone(), plan.width, tensor.clone()));
        Ok(wrap(tensor))
    }
}
