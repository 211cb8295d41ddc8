//! Compiled readouts: what a request reads from the stream.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::directions::unit_direction;
use crate::directions::Direction;
use crate::spec::{ReadPhase, ReadoutMeasure, RequestSteering, StatePositions, States};
use crate::{Library, SteeringError, Target};

/// The readouts and states of a request.
#[derive(Debug)]
pub struct Readouts {
    /// In the request's order.
    pub readings: Vec<CompiledReadout>,
    /// The states.
    pub states: Option<States>,
    /// The layers that are read, ascending.
    pub layers: Vec<usize>,
}

/// One number per token.
#[derive(Debug)]
pub struct CompiledReadout {
    /// The layer after which it is read.
    pub layer: usize,
    /// The unit direction: `[hidden_size]`, finite.
    pub direction: Arc<Direction>,
    /// Which number.
    pub of: ReadoutMeasure,
    /// Of which tokens.
    pub phase: ReadPhase,
}

impl Readouts {
    /// Whether prompt tokens are read. The whole prompt must then be computed, and nothing taken from a cache.
    pub fn reads_prompt(&self) -> bool {
        let states = self
            .states
            .as_ref()
            .is_some_and(|states| !states.positions.is(ReadPhase::Generation));
        states
            || self
                .readings
                .iter()
                .any(|reading| reading.phase != ReadPhase::Generation)
    }

    /// How many numbers and states are read for each token of a prompt.
    pub fn work(&self) -> usize {
        let states = self.states.as_ref().map_or(0, |states| states.layers.len());
        let of_prompt = |reading: &&CompiledReadout| reading.phase.contains(true);
        states + self.readings.iter().filter(of_prompt).count()
    }
}

impl StatePositions {
    /// Whether these are all tokens of the phase.
    pub fn is(&self, phase: ReadPhase) -> bool {
        *self == Self::Phase(phase)
    }

    /// Checks that each listed position lies in a prompt of `prompt_len` tokens.
    ///
    /// # Errors
    ///
    /// The first position that doesn't, as in `positions[1]: found 40, expected one of the prompt's 12 positions`.
    pub fn are_of(&self, prompt_len: usize) -> Result<(), String> {
        let Self::Listed(positions) = self else { return Ok(()) };
        let len = prompt_len as i64;
        match positions.iter().position(|position| !(-len..len).contains(position)) {
            None => Ok(()),
            Some(index) => Err(format!(
                "positions[{index}]: found {}, expected one of the prompt's {len} positions",
                positions[index]
            )),
        }
    }
}

impl ReadPhase {
    /// Whether a prompt token, or else a generated token, is read.
    pub fn contains(self, in_prompt: bool) -> bool {
        match self {
            Self::Both => true,
            Self::Prompt => in_prompt,
            Self::Generation => !in_prompt,
        }
    }
}

/// Compiles the readouts and states of `request` for `target`, whose stream can be read after `layers`; `None` if there
/// are none. `at` is the path of `request`, ending with a dot, for messages.
///
/// # Errors
///
/// An unknown vector or map, one that doesn't fit the target, or a layer that has no direction or can't be read.
pub fn compile_readouts(
    request: &RequestSteering,
    library: &Library,
    target: &Target,
    layers: &[usize],
    at: &str,
) -> Result<Option<Readouts>, SteeringError> {
    let check_readable = |layer: usize, field: &str| {
        if layers.contains(&layer) {
            return Ok(());
        }
        let expected = format!("a layer whose stream can be read: {}", super::ranges(layers));
        Err(SteeringError::value(field, layer.to_string(), expected))
    };
    let mut readings = Vec::new();
    for (index, readout) in request.readout.iter().flatten().enumerate() {
        let at = format!("{at}readout[{index}]");
        let direction = unit_direction(
            &readout.vector,
            readout.map.as_deref(),
            readout.layer,
            library,
            target,
            &at,
        )?;
        check_readable(readout.layer, &format!("{at}.layer"))?;
        readings.push(CompiledReadout {
            layer: readout.layer,
            direction,
            of: readout.of,
            phase: readout.phase,
        });
    }
    let states = request.states.clone();
    for (index, layer) in states.iter().flat_map(|states| &states.layers).enumerate() {
        check_readable(*layer, &format!("{at}states.layers[{index}]"))?;
    }
    if readings.is_empty() && states.is_none() {
        return Ok(None);
    }
    let all: BTreeSet<usize> = readings
        .iter()
        .map(|reading| reading.layer)
        .chain(states.iter().flat_map(|states| states.layers.iter().copied()))
        .collect();
    Ok(Some(Readouts {
        readings,
        states,
        layers: all.into_iter().collect(),
    }))
}
