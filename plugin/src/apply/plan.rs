//! Which steps act at which position of a forward pass.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use residual_hooks::Row;
use steermap_extract::capture::StreamCapture;

use super::sequence::SequenceState;
use crate::compile::{Program, Step, StepLayer};
use crate::directions::Direction;
use crate::lock::lock;
use crate::spec::{Conflict, NormRule, Op};

/// The set of steps that act at a position. Positions with equal sets share one entry.
#[derive(Clone)]
pub struct StepSet {
    /// The program.
    pub program: Arc<Program>,
    /// Bit `i` is set where the program's step `i` acts.
    pub steps: u32,
}

/// Which steps act at which position of a forward pass.
pub struct PassPlan {
    sets: Vec<StepSet>,
    /// By row and position of the stream: 0 if no step acts, else 1 + the index of a set.
    index: Arc<[u32]>,
    width: usize,
    /// The steps of the pass: each step of each program once.
    steps: Vec<(Arc<Program>, usize)>,
    /// By set, its steps as indices into `steps`, in the order in which they act.
    of_set: Vec<Vec<usize>>,
    /// By layer, the plan for it; `None` if no step acts there. Built when the pass first reaches the layer.
    layers: Vec<Option<OnceLock<LayerPlan>>>,
    /// The layouts of the layers so far. Most layers share one.
    layouts: Mutex<Vec<Arc<StepLayout>>>,
}

impl PassPlan {
    /// The plan for these rows of a stream of `width` positions, when their states after the layers up to `seen` have
    /// been observed (`None`: none have).
    pub fn new(rows: &[Row], width: usize, seen: Option<usize>) -> Self {
        let mut plan = Self {
            sets: Vec::new(),
            index: Arc::default(),
            width,
            steps: Vec::new(),
            of_set: Vec::new(),
            layers: Vec::new(),
            layouts: Mutex::default(),
        };
        let mut all = vec![0; rows.len() * width];
        let mut found: HashMap<(usize, u32), u32> = HashMap::new();
        for (row, index) in rows.iter().zip(all.chunks_mut(width.max(1))) {
            let Some(state) = SequenceState::of(row) else { continue };
            let program = state.program();
            for (offset, (&token, slot)) in row.ids.iter().zip(index.iter_mut()).enumerate() {
                let steps = acting(state, row, row.start + offset, token, seen);
                if steps == 0 {
                    continue;
                }
                // Equal programs are shared, so addresses identify them.
                let key = (Arc::as_ptr(program) as usize, steps);
                *slot = *found.entry(key).or_insert_with(|| {
                    plan.sets.push(StepSet {
                        program: program.clone(),
                        steps,
                    });
                    plan.sets.len() as u32
                });
            }
            // Padding is ignored, so it may have the set of its row's last token.
            let tokens = row.tokens().min(width);
            if let Some(&end) = index[..tokens].last() {
                index[tokens..].fill(end);
            }
        }
        plan.index = all.into();
        let mut numbers: HashMap<(usize, usize), usize> = HashMap::new();
        for set in &plan.sets {
            let acting = (0..set.program.steps.len()).filter(|step| set.steps & (1 << step) != 0);
            let acting = acting.map(|step| {
                *numbers
                    .entry((Arc::as_ptr(&set.program) as usize, step))
                    .or_insert_with(|| {
                        plan.steps.push((set.program.clone(), step));
                        plan.steps.len() - 1
                    })
            });
            plan.of_set.push(acting.collect());
        }
        for (program, step) in &plan.steps {
            let layers = program.steps[*step].layers.keys();
            layers.for_each(|&layer| *at(&mut plan.layers, layer) = Some(OnceLock::new()));
        }
        plan
    }

    /// Whether a later pass may need the same plan: every sequence has one token.
    pub fn may_recur(&self) -> bool {
        self.width == 1
    }

    /// Bytes of the programs of the pass, each counted once.
    pub fn program_bytes(&self) -> usize {
        let mut programs: Vec<&Arc<Program>> = self.sets.iter().map(|set| &set.program).collect();
        programs.sort_by_key(|program| Arc::as_ptr(program));
        programs.dedup_by(|a, b| Arc::ptr_eq(a, b));
        programs.iter().map(|program| program.bytes()).sum()
    }

    /// Whether a plan for these rows would equal this one. Allocates nothing.
    pub fn fits(&self, rows: &[Row], width: usize, seen: Option<usize>) -> bool {
        let same_at = |row: &Row, index: &[u32]| {
            let Some(state) = SequenceState::of(row) else {
                return index.iter().all(|&set| set == 0);
            };
            let mut tokens = row.ids.iter().zip(index).enumerate();
            tokens.all(|(offset, (&token, &set))| {
                let steps = acting(state, row, row.start + offset, token, seen);
                match self.set(set) {
                    None => steps == 0,
                    Some(set) => set.steps == steps && Arc::ptr_eq(&set.program, state.program()),
                }
            })
        };
        self.width == width
            && self.index.len() == rows.len() * width
            && rows
                .iter()
                .zip(self.index.chunks(width.max(1)))
                .all(|(row, index)| same_at(row, index))
    }

    /// The sets of steps of the pass.
    pub fn sets(&self) -> &[StepSet] {
        &self.sets
    }

    /// The set with an index of [`index`](Self::index); `None` for 0.
    pub fn set(&self, index: u32) -> Option<&StepSet> {
        self.sets.get(index.checked_sub(1)? as usize)
    }

    /// By row and position: 0, or 1 + the index of a set.
    pub fn index(&self) -> &[u32] {
        &self.index
    }

    /// The plan for `layer`; `None` if no step acts there.
    pub fn layer(&self, layer: usize) -> Option<&LayerPlan> {
        let plan = self.layers.get(layer)?.as_ref()?;
        Some(plan.get_or_init(|| self.make_layer(layer)))
    }

    fn make_layer(&self, layer: usize) -> LayerPlan {
        let here: Vec<Option<(&Program, &Step, &StepLayer)>> = self
            .steps
            .iter()
            .map(|(program, step)| {
                let step = &program.steps[*step];
                Some((program.as_ref(), step, step.layers.get(&layer)?))
            })
            .collect();
        // The order doesn't depend on that of the rows, so a batch with the same mix of programs finds its tables
        // again.
        let mut directions: Vec<Arc<Direction>> =
            here.iter().flatten().map(|(.., with)| with.direction.clone()).collect();
        directions.sort_by_key(Arc::as_ptr);
        directions.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let table_row = |with: &StepLayer| {
            let of = Arc::as_ptr(&with.direction);
            directions.partition_point(|direction| Arc::as_ptr(direction) < of) as u32 + 1
        };
        let factors = here.iter().map(|step| match step {
            None => StepFactors::default(),
            Some((program, step, with)) => {
                let (set, take) = match step.op {
                    Op::Add => (with.scale, 0.0),
                    Op::Ablate => (0.0, with.scale),
                    Op::Set => (with.scale, 1.0),
                    Op::Clamp => (0.0, 1.0),
                };
                StepFactors {
                    set,
                    take,
                    clamp: (step.op == Op::Clamp).then_some(step.bounds),
                    preserve: f32::from(program.norm == NormRule::Preserve),
                }
            }
        });
        let factors = std::iter::once(StepFactors::default()).chain(factors).collect();
        let slots = self.of_set.iter().zip(&self.sets).map(|(steps, set)| {
            let acting = steps.iter().filter_map(|&number| {
                let (_, step, with) = here[number]?;
                Some(StepSlot {
                    table_row: table_row(with),
                    step: number as u32 + 1,
                    of_program: self.steps[number].1 as u32,
                    projects: step.op != Op::Add,
                    clamps: step.op == Op::Clamp,
                })
            });
            match set.program.conflict {
                Conflict::First => acting.take(1).collect(),
                Conflict::Sequential | Conflict::Error => acting.collect(),
            }
        });
        LayerPlan {
            layout: self.layout(slots.collect()),
            directions,
            factors,
        }
    }

    fn layout(&self, slots: Vec<Vec<StepSlot>>) -> Arc<StepLayout> {
        let mut layouts = lock(&self.layouts);
        if let Some(known) = layouts.iter().find(|layout| layout.slots == slots) {
            return known.clone();
        }
        let layout = Arc::new(StepLayout {
            slots,
            index: self.index.clone(),
            width: self.width,
            rounds: OnceLock::new(),
        });
        layouts.push(layout.clone());
        layout
    }
}

/// The part of a plan for one layer.
pub struct LayerPlan {
    /// Which step of which direction each set uses.
    pub layout: Arc<StepLayout>,
    /// The directions that are used; a slot's `table_row` is `1 + i` for the direction `i`.
    pub directions: Vec<Arc<Direction>>,
    /// By a slot's `step`; the first does nothing.
    pub factors: Vec<StepFactors>,
}

impl LayerPlan {
    /// The steps at positions where [`PassPlan::index`] is `set`, in order: direction, factors, and the number of the
    /// step in its program.
    pub fn steps(&self, set: u32) -> impl Iterator<Item = (&[f32], StepFactors, u32)> {
        let slots = set.checked_sub(1).map(|set| &self.layout.slots[set as usize]);
        slots.into_iter().flatten().map(|slot| {
            let direction = &self.directions[slot.table_row as usize - 1];
            (direction.values(), self.factors[slot.step as usize], slot.of_program)
        })
    }
}

/// The factors of a step: `h += (set - take (h . d)) d`. With bounds `clamp`, `set` is `h . d` limited to them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepFactors {
    /// `set` of the formula.
    pub set: f32,
    /// `take` of the formula.
    pub take: f32,
    /// The bounds of a clamp.
    pub clamp: Option<[f32; 2]>,
    /// 1 if the norm is preserved, else 0.
    pub preserve: f32,
}

/// Where a step that acts at a layer has its direction and its factors.
#[derive(Clone, Copy, PartialEq)]
struct StepSlot {
    table_row: u32,
    step: u32,
    /// The number of the step in its program.
    of_program: u32,
    /// Whether it needs the component along its direction.
    projects: bool,
    /// Whether it keeps the component between bounds.
    clamps: bool,
}

/// Which direction and which factors each set uses, in which order. Layers with equal layouts share one.
pub struct StepLayout {
    /// By set, its steps in order.
    slots: Vec<Vec<StepSlot>>,
    index: Arc<[u32]>,
    width: usize,
    rounds: OnceLock<Vec<StepRound>>,
}

/// One step at every position.
pub struct StepRound {
    /// The rows of the directions in the table; 0 for none.
    pub table_rows: Lookup,
    /// The indices of the factors; 0 for none.
    pub steps: Lookup,
    /// Whether any of the steps needs a component.
    pub projects: bool,
    /// Whether any of the steps keeps it between bounds.
    pub clamps: bool,
}

/// One number per position, in the shortest of three forms.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// The same for all.
    Same(u32),
    /// By row.
    Rows(Vec<u32>),
    /// By row and position.
    Positions(Vec<u32>),
}

impl StepLayout {
    /// Whether any step acts.
    pub fn acts(&self) -> bool {
        self.slots.iter().any(|set| !set.is_empty())
    }

    /// The number, in its program, of the step that acts at a position of the stream in a round.
    pub fn step_of(&self, position: usize, round: usize) -> Option<u32> {
        let set = self.index.get(position)?.checked_sub(1)?;
        Some(self.slots.get(set as usize)?.get(round)?.of_program)
    }

    /// The rounds: in each, every position does at most one step.
    pub fn rounds(&self) -> &[StepRound] {
        self.rounds.get_or_init(|| {
            let count = self.slots.iter().map(Vec::len).max().unwrap_or(0);
            (0..count).map(|round| self.round(round)).collect()
        })
    }

    fn round(&self, round: usize) -> StepRound {
        let at = |set: u32| self.slots[set.checked_sub(1)? as usize].get(round);
        let lookup = |of: fn(&StepSlot) -> u32| {
            let all: Vec<u32> = self.index.iter().map(|&set| at(set).map_or(0, of)).collect();
            Lookup::new(all, self.width)
        };
        let here = || self.slots.iter().filter_map(|set| set.get(round));
        StepRound {
            table_rows: lookup(|slot| slot.table_row),
            steps: lookup(|slot| slot.step),
            projects: here().any(|slot| slot.projects),
            clamps: here().any(|slot| slot.clamps),
        }
    }
}

impl Lookup {
    fn new(all: Vec<u32>, width: usize) -> Self {
        let rows = || all.chunks(width.max(1));
        if all.iter().all(|number| *number == all[0]) {
            Self::Same(all.first().copied().unwrap_or(0))
        } else if rows().all(|row| row.iter().all(|number| *number == row[0])) {
            Self::Rows(rows().map(|row| row[0]).collect())
        } else {
            Self::Positions(all)
        }
    }
}

/// The entry of `layer`; extends the list if it is shorter.
fn at<T: Default>(layers: &mut Vec<T>, layer: usize) -> &mut T {
    if layers.len() <= layer {
        layers.resize_with(layer + 1, T::default);
    }
    &mut layers[layer]
}

/// The capture of the row's prompt, if there is one and this pass reads part of the prompt.
pub fn captured(row: &Row) -> Option<&StreamCapture> {
    let capture = row.state.as_ref()?.downcast_ref()?;
    (row.start < row.prompt_len).then_some(capture)
}

/// The steps that act on the token at `position` of the row's sequence, as far as it is known after its states up to
/// the layer `seen` have been observed.
fn acting(state: &SequenceState, row: &Row, position: usize, token: u32, seen: Option<usize>) -> u32 {
    let mut acting = 0;
    for (number, step) in state.program().steps.iter().enumerate() {
        let selector = if position < row.prompt_len {
            &step.prompt
        } else {
            &step.generation
        };
        if selector.contains(position, row.prompt_len, token)
            && state.holds(step, position, row.prompt_len, seen)
            && !state.rests(number, position, row.prompt_len)
        {
            acting |= 1 << number;
        }
    }
    acting
}
