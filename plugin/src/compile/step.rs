//! What one vector of a spec does.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::condition::Formula;
use super::schedule::CompiledSchedule;
use crate::directions::Direction;
use crate::select::Selector;
use crate::spec::{Op, VectorUse};

/// What one vector does.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The operation.
    pub op: Op,
    /// For [`Op::Clamp`], the bounds of the component; infinite where there is none.
    pub bounds: [f32; 2],
    /// By layer, the direction and scale.
    pub layers: BTreeMap<usize, StepLayer>,
    /// The prompt tokens that it acts on.
    pub prompt: Selector,
    /// The generated tokens that it acts on.
    pub generation: Selector,
    /// The condition on which it acts, if there is one.
    pub when: Option<Formula>,
    /// Its strength over the course of the generation; `None`: constant.
    pub schedule: Option<CompiledSchedule>,
}

/// The direction and scale of a step at one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct StepLayer {
    /// `[hidden_size]`, finite: the unit direction, which programs share; of any length in a program from
    /// [`Program::adding`](super::Program::adding).
    pub direction: Arc<Direction>,
    /// For [`Op::Add`] the factor of the direction, for [`Op::Ablate`] the share of the component that is removed, for
    /// [`Op::Set`] the new component, for [`Op::Clamp`] the larger of its finite bounds by absolute value. Finite.
    pub scale: f32,
}

/// The stream's mean norm after each layer, if known; above 0.
pub(super) type MeanNorms = BTreeMap<usize, f64>;

/// Bounds that allow every number.
pub(super) const OPEN: [f32; 2] = [f32::NEG_INFINITY, f32::INFINITY];

/// The bounds that `used` keeps a component between.
pub(super) fn bounds(used: &VectorUse) -> [f32; 2] {
    match used.op {
        Op::Clamp => [
            used.min.map_or(OPEN[0], |min| min as f32),
            used.max.map_or(OPEN[1], |max| max as f32),
        ],
        Op::Add | Op::Ablate | Op::Set => OPEN,
    }
}

/// The largest absolute value of the finite bounds; 0 if none is finite.
pub(super) fn largest(bounds: [f32; 2]) -> f64 {
    let finite = bounds.into_iter().filter(|bound| bound.is_finite());
    f64::from(finite.map(f32::abs).fold(0.0, f32::max))
}
