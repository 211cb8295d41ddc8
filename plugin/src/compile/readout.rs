//! What a request wants to see of the stream, made ready.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Target;
use super::directions::looked_along;
use crate::directions::Direction;
use crate::spec::{Of, ReadPhase, RequestSteering, StatePositions, States};
use crate::{Library, SteeringError};

/// The readouts and states that a request asks for.
#[derive(Debug)]
pub struct Readouts {
    /// In the request's order.
    pub readings: Vec<Reading>,
    /// The states.
    pub states: Option<States>,
    /// The layers that are looked at, ascending.
    pub layers: Vec<usize>,
}

/// One number a token.
#[derive(Debug)]
pub struct Reading {
    /// After which layer.
    pub layer: usize,
    /// The unit direction: `[hidden_size]`, finite.
    pub direction: Arc<Direction>,
    /// Which number.
    pub of: Of,
    /// Of which tokens.
    pub phase: ReadPhase,
}

impl Readouts {
    /// Whether tokens of the prompt are looked at: then all of it must be computed, none taken from a cache.
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

    /// Numbers and states that are looked at for each token of a prompt.
    pub fn work(&self) -> usize {
        let states = self.states.as_ref().map_or(0, |states| states.layers.len());
        let of_prompt = |reading: &&Reading| reading.phase.contains(true);
        states + self.readings.iter().filter(of_prompt).count()
    }
}

impl StatePositions {
    /// Whether these are all tokens of a phase.
    pub fn is(&self, phase: ReadPhase) -> bool {
        *self == Self::Phase(phase)
    }

    /// Checks that each listed position is one of a prompt of `prompt_len` tokens.
    ///
    /// # Errors
    ///
    /// The first that isn't, as in `positions[1]: found 40, expected one of the prompt's 12 positions`.
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
    /// Whether a token of the prompt, or a generated one, is looked at.
    pub fn contains(self, in_prompt: bool) -> bool {
        match self {
            Self::Both => true,
            Self::Prompt => in_prompt,
            Self::Generation => !in_prompt,
        }
    }
}

/// Makes ready what `asked` wants to see of `target`, whose stream can be seen after `layers`; `None` if that is nothing. `at` is
/// the path of `asked`, ending with a dot, for messages.
///
/// # Errors
///
/// An unknown vector or map, one that doesn't fit the target, or a layer without a direction or that can't be seen.
pub fn compile_readouts(
    asked: &RequestSteering,
    library: &Library,
    target: &Target,
    layers: &[usize],
    at: &str,
) -> Result<Option<Readouts>, SteeringError> {
    let seen = |layer: usize, field: &str| match layers.contains(&layer) {
        true => Ok(()),
        false => Err(SteeringError::value(
            field,
            layer.to_string(),
            format!("a layer whose stream can be seen: {}", super::ranges(layers)),
        )),
    };
    let mut readings = Vec::new();
    for (index, readout) in asked.readout.iter().flatten().enumerate() {
        let at = format!("{at}readout[{index}]");
        let direction = looked_along(
            &readout.vector,
            readout.map.as_deref(),
            readout.layer,
            library,
            target,
            &at,
        )?;
        seen(readout.layer, &format!("{at}.layer"))?;
        readings.push(Reading {
            layer: readout.layer,
            direction,
            of: readout.of,
            phase: readout.phase,
        });
    }
    let states = asked.states.clone();
    for (index, layer) in states.iter().flat_map(|states| &states.layers).enumerate() {
        seen(*layer, &format!("{at}states.layers[{index}]"))?;
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
