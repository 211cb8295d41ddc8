//! The fingerprint of a program.
//!
//! The hash covers, layer by layer, what is done there in which order. So the spelling of a spec makes no difference:
//! the order of keys and layers, defaults written out, a vector named once with two layers or twice with one each, a
//! scale of 2 or a vector twice as long that is not normalised.

use steermap_maps::digest::sha256;

use super::condition::Condition;
use super::step::Step;
use crate::select::Selector;
use crate::spec::{Conflict, NormRule, Op};

/// The version of the hash: fingerprints of different versions are never equal.
const VERSION: &str = "steermap-steering/2\n";

/// The fingerprint of `steps`, and by step a hash over everything that it does to a prompt token that it acts on.
pub(super) fn identify(
    steps: &[Step],
    conditions: &[Condition],
    conflict: Conflict,
    norm: NormRule,
) -> (String, Vec<String>) {
    let hashed: Vec<StepHashes<'_>> = steps.iter().map(|step| StepHashes::new(step, conditions)).collect();
    let in_prompt = hashed.iter().map(StepHashes::in_prompt).collect();
    (hash(&hashed, conflict, norm), in_prompt)
}

/// Returns the selector of one phase of a step.
type PhaseSelector = fn(&Step) -> &Selector;

const PHASES: [PhaseSelector; 2] = [|step| &step.prompt, |step| &step.generation];

/// A step, with hashes of the parts that are used more than once.
struct StepHashes<'a> {
    step: &'a Step,
    /// By layer, in the order of the step's layers.
    layers: Vec<String>,
    condition: Vec<u8>,
}

impl<'a> StepHashes<'a> {
    fn new(step: &'a Step, conditions: &[Condition]) -> Self {
        let layers = step.layers.values().map(|layer| {
            let op = match step.op {
                Op::Add => 0,
                Op::Ablate => 1,
                Op::Set => 2,
                Op::Clamp => 3,
            };
            let mut bytes = vec![op];
            match step.op {
                Op::Clamp => bytes.extend(step.bounds.into_iter().flat_map(canonical)),
                Op::Add | Op::Ablate | Op::Set => bytes.extend(canonical(layer.scale)),
            }
            bytes.extend(layer.direction.digest().bytes());
            sha256(&bytes)
        });
        Self {
            step,
            layers: layers.collect(),
            condition: step
                .when
                .as_ref()
                .map(|when| when.canonical(conditions))
                .unwrap_or_default(),
        }
    }

    /// The hash of what the step does to a prompt token.
    fn in_prompt(&self) -> String {
        let mut bytes = (self.condition.len() as u64).to_le_bytes().to_vec();
        bytes.extend(&self.condition);
        for (layer, what) in self.step.layers.keys().zip(&self.layers) {
            bytes.extend(format!("{layer} {what}\n").bytes());
        }
        // All prompt tokens have the same factor of the schedule.
        let schedule = self.step.schedule.as_ref();
        bytes.extend(canonical(schedule.map_or(1.0, |schedule| schedule.at_rest())));
        sha256(&bytes)
    }
}

/// The hash of what `steps` do at each layer.
fn hash(steps: &[StepHashes<'_>], conflict: Conflict, norm: NormRule) -> String {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for step in steps {
        let selectors = || PHASES.iter().map(|phase| phase(step.step));
        if selectors().all(Selector::is_none) {
            continue;
        }
        let mut place = selectors().flat_map(Selector::canonical).collect::<Vec<_>>();
        place.extend((step.condition.len() as u64).to_le_bytes());
        place.extend(&step.condition);
        if let Some(schedule) = &step.step.schedule {
            place.extend(schedule.canonical());
        }
        let place = sha256(&place);
        for (layer, what) in step.step.layers.keys().zip(&step.layers) {
            lines.push((*layer, format!("{layer} {what} {place}\n")));
        }
    }
    // The sort is stable, so the steps of one layer stay in their order.
    lines.sort_by_key(|(layer, _)| *layer);
    let mut text = VERSION.to_string();
    text.extend(lines.iter().map(|(_, line)| line.as_str()));
    // With `error` no two steps meet, so it acts as `sequential`; so does `first` if no two steps can meet.
    if conflict == Conflict::First && may_meet(steps) {
        text.push_str("first\n");
    }
    if norm == NormRule::Preserve && !lines.is_empty() {
        text.push_str("preserve\n");
    }
    sha256(text.as_bytes())
}

fn may_meet(steps: &[StepHashes<'_>]) -> bool {
    let meet = |a: &Step, b: &Step| {
        a.layers.keys().any(|layer| b.layers.contains_key(layer))
            && PHASES.iter().any(|phase| phase(a).may_overlap(phase(b)))
    };
    let mut pairs = (0..steps.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
    pairs.any(|(i, j)| meet(steps[i].step, steps[j].step))
}

/// The bytes of a number; those of 0 for -0.
fn canonical(number: f32) -> [u8; 4] {
    (number + 0.0).to_le_bytes()
}
