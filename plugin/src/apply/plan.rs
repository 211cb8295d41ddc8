//! Which steps act at which position of a forward pass.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use residual_hooks::Row;

use super::sequence::SequenceState;
use crate::compile::{Program, StepLayer};
use crate::directions::Direction;
use crate::spec::{Conflict, NormRule, Op};

/// The set of steps that act at a position; positions with equal sets are looked at once.
#[derive(Clone)]
pub struct StepSet {
    /// The program.
    pub program: Arc<Program>,
    /// Bit `i` is set where the program's step `i` acts.
    pub steps: u32,
}

/// What a forward pass does.
pub struct Plan {
    sets: Vec<StepSet>,
    /// By row and position of the stream: 0 where nothing is done, else 1 + the index of a set.
    index: Vec<u32>,
    width: usize,
    /// The steps of the pass: each step of each program once.
    steps: Vec<(Arc<Program>, usize)>,
    /// By set, its steps as indices into `steps`, in the order in which they act.
    of_set: Vec<Vec<usize>>,
    acts: Vec<bool>,
    decides: Vec<bool>,
    /// What was laid out for the layers so far; most layers have the same.
    layouts: RefCell<Vec<Rc<Layout>>>,
}

impl Plan {
    /// The plan for these rows of a stream of `width` positions.
    pub fn new(rows: &[Row], width: usize) -> Self {
        let mut plan = Self {
            sets: Vec::new(),
            index: vec![0; rows.len() * width],
            width,
            steps: Vec::new(),
            of_set: Vec::new(),
            acts: Vec::new(),
            decides: Vec::new(),
            layouts: RefCell::default(),
        };
        let mut found: HashMap<(usize, u32), u32> = HashMap::new();
        for (row, index) in rows.iter().zip(plan.index.chunks_mut(width.max(1))) {
            let Some(state) = SequenceState::of(row) else { continue };
            let program = state.program();
            for condition in &program.conditions {
                if state.waits_at(condition.layer) {
                    mark(&mut plan.decides, condition.layer);
                }
            }
            for (offset, (&token, slot)) in row.ids.iter().zip(index.iter_mut()).enumerate() {
                let steps = acting(state, row, row.start + offset, token);
                if steps == 0 {
                    continue;
                }
                // Equal programs are one: they are compiled once for all that ask for them.
                let key = (Arc::as_ptr(program) as usize, steps);
                *slot = *found.entry(key).or_insert_with(|| {
                    plan.sets.push(StepSet {
                        program: program.clone(),
                        steps,
                    });
                    plan.sets.len() as u32
                });
            }
            // Padding means nothing, so it goes along with the rest of its row.
            let tokens = row.tokens().min(width);
            if let Some(&end) = index[..tokens].last() {
                index[tokens..].fill(end);
            }
        }
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
            layers.for_each(|&layer| mark(&mut plan.acts, layer));
        }
        plan
    }

    /// The sets of steps of the pass.
    pub fn sets(&self) -> &[StepSet] {
        &self.sets
    }

    /// Whether anything may be done after `layer`.
    pub fn acts_at(&self, layer: usize) -> bool {
        self.acts.get(layer).copied().unwrap_or(false)
    }

    /// Whether a condition is to be decided after `layer`.
    pub fn decides_at(&self, layer: usize) -> bool {
        self.decides.get(layer).copied().unwrap_or(false)
    }

    /// By row and position: 0, or 1 + the index of a set.
    pub fn index(&self) -> &[u32] {
        &self.index
    }

    /// What is done after `layer`.
    pub fn layer(&self, layer: usize) -> LayerPlan {
        let here: Vec<Option<(&Program, Op, &StepLayer)>> = self
            .steps
            .iter()
            .map(|(program, step)| {
                let step = &program.steps[*step];
                Some((program.as_ref(), step.op, step.layers.get(&layer)?))
            })
            .collect();
        // In one order, whatever that of the rows: the tables of a mix are found again.
        let mut directions: Vec<Arc<Direction>> =
            here.iter().flatten().map(|(.., with)| with.direction.clone()).collect();
        directions.sort_by_key(Arc::as_ptr);
        directions.dedup_by(|a, b| Arc::ptr_eq(a, b));
        let line = |with: &StepLayer| {
            let of = Arc::as_ptr(&with.direction);
            directions.partition_point(|direction| Arc::as_ptr(direction) < of) as u32 + 1
        };
        let factors = here.iter().map(|step| match step {
            None => Factors::default(),
            Some((program, op, with)) => {
                let (set, take) = match op {
                    Op::Add => (with.scale, 0.0),
                    Op::Ablate => (0.0, with.scale),
                    Op::Set => (with.scale, 1.0),
                };
                let preserve = f32::from(program.norm == NormRule::Preserve);
                Factors { set, take, preserve }
            }
        });
        let factors = std::iter::once(Factors::default()).chain(factors).collect();
        let places = self.of_set.iter().zip(&self.sets).map(|(steps, set)| {
            let acting = steps.iter().filter_map(|&number| {
                let (_, op, with) = here[number]?;
                Some(Place {
                    line: line(with),
                    step: number as u32 + 1,
                    projects: op != Op::Add,
                })
            });
            match set.program.conflict {
                Conflict::First => acting.take(1).collect(),
                Conflict::Sequential | Conflict::Error => acting.collect(),
            }
        });
        LayerPlan {
            layout: self.layout(places.collect()),
            directions,
            factors,
        }
    }

    fn layout(&self, places: Vec<Vec<Place>>) -> Rc<Layout> {
        let mut layouts = self.layouts.borrow_mut();
        if let Some(known) = layouts.iter().find(|layout| layout.places == places) {
            return known.clone();
        }
        let layout = Rc::new(Layout::new(places, &self.index, self.width));
        layouts.push(layout.clone());
        layout
    }
}

/// What a forward pass does after one layer.
pub struct LayerPlan {
    /// Who finds what where.
    pub layout: Rc<Layout>,
    /// The directions that are used; a `Place`'s line `1 + i` is the direction `i`.
    pub directions: Vec<Arc<Direction>>,
    /// By a `Place`'s step; the first does nothing.
    pub factors: Vec<Factors>,
}

/// What a step does: `h += (set - take (h . d)) d`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Factors {
    /// See above.
    pub set: f32,
    /// See above.
    pub take: f32,
    /// 1 where the norm is preserved.
    pub preserve: f32,
}

/// Where a step that acts at a layer finds its direction and its factors.
#[derive(Clone, Copy, PartialEq)]
struct Place {
    line: u32,
    step: u32,
    /// Whether it wants to know the component along its direction.
    projects: bool,
}

/// Who finds what where, round by round: each position does one step a round.
pub struct Layout {
    /// By set, what it does in order.
    places: Vec<Vec<Place>>,
    /// As many as the longest of `places`.
    pub rounds: Vec<Round>,
}

/// One step of every position.
pub struct Round {
    /// The lines of the directions; 0 for none.
    pub lines: Lookup,
    /// The numbers of the factors; 0 for none.
    pub steps: Lookup,
    /// Whether any of them wants to know a component.
    pub projects: bool,
}

/// One number a position, said as shortly as it can be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// The same for all.
    Same(u32),
    /// By row.
    Rows(Vec<u32>),
    /// By row and position.
    Positions(Vec<u32>),
}

impl Layout {
    fn new(places: Vec<Vec<Place>>, index: &[u32], width: usize) -> Self {
        let count = places.iter().map(Vec::len).max().unwrap_or(0);
        let rounds = (0..count).map(|round| {
            let at = |set: u32| places[set.checked_sub(1)? as usize].get(round);
            let lookup = |of: fn(&Place) -> u32| {
                let all: Vec<u32> = index.iter().map(|&set| at(set).map_or(0, of)).collect();
                Lookup::new(all, width)
            };
            Round {
                lines: lookup(|place| place.line),
                steps: lookup(|place| place.step),
                projects: places
                    .iter()
                    .any(|set| set.get(round).is_some_and(|place| place.projects)),
            }
        });
        Self {
            rounds: rounds.collect(),
            places,
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
        let selector = if position < row.prompt_len {
            &step.prompt
        } else {
            &step.generation
        };
        if selector.contains(position, row.prompt_len, token) && step.condition.is_none_or(|c| state.holds(c)) {
            acting |= 1 << number;
        }
    }
    acting
}
