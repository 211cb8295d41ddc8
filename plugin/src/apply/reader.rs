//! Reads numbers and states of a sequence's stream for its request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use candle_core::{DType, Result, Tensor};
use residual_hooks::Row;

use super::component::{components, norms};
use crate::compile::{CompiledReadout, Readouts};
use crate::lock::lock;
use crate::spec::{ReadPhase, ReadoutMeasure, StatePositions, States};

/// Bytes that all sequences of a request may still use.
pub type Budget = Arc<AtomicUsize>;

/// Bytes per token in addition to its numbers.
const TOKEN_BYTES: usize = 32;

/// Reads the stream of one sequence. The engine's thread adds what it reads; the thread that answers the request takes
/// it.
pub struct SequenceReader {
    readouts: Arc<Readouts>,
    prompt_len: usize,
    budget: Budget,
    /// The positions whose states are read, ascending, if the request lists them.
    listed: Option<Vec<usize>>,
    pending: Mutex<PendingReadout>,
}

/// What was read and not yet taken.
struct PendingReadout {
    /// The position of the first token.
    first: usize,
    ids: Vec<u32>,
    readings: Vec<ReadingValues>,
    states: Vec<PendingStates>,
    /// The first position that exceeded the budget.
    end: Option<usize>,
}

/// The values of one reading.
#[derive(Default)]
struct ReadingValues {
    /// The values from [`PendingReadout::first`] on; NaN where it is not read.
    values: Vec<f32>,
    /// The position up to which values are known.
    known: usize,
}

/// States after one layer.
#[derive(Default)]
struct PendingStates {
    positions: Vec<usize>,
    /// `[positions, hidden]`, row by row.
    values: Vec<f32>,
    known: usize,
}

impl Drop for SequenceReader {
    fn drop(&mut self) {
        self.take_chunk();
    }
}

/// Converts positions of a prompt to positions from its start, ascending.
fn from_start(positions: &[i64], prompt_len: usize) -> Vec<usize> {
    let len = prompt_len as i64;
    let absolute = |position: &i64| usize::try_from(if *position < 0 { position + len } else { *position }).ok();
    let mut absolute: Vec<usize> = positions.iter().filter_map(absolute).collect();
    absolute.sort_unstable();
    absolute
}

/// What was read of consecutive tokens of a sequence.
#[derive(Debug, Default, PartialEq)]
pub struct ReadoutChunk {
    /// The position of the first token.
    pub first: usize,
    /// The tokens.
    pub ids: Vec<u32>,
    /// By readout, a number for each token; NaN where it is not read.
    pub values: Vec<Vec<f32>>,
    /// The states, by layer: their positions, and `[positions, hidden]` row by row.
    pub states: Vec<(Vec<usize>, Vec<f32>)>,
    /// Whether more would have exceeded the budget.
    pub truncated: bool,
}

impl SequenceReader {
    /// A reader of a sequence with a prompt of `prompt_len` tokens.
    pub fn new(readouts: Arc<Readouts>, prompt_len: usize, budget: Budget) -> Self {
        // Tokens of which nothing is read are left out.
        let generation_only = |reading: &CompiledReadout| reading.phase == ReadPhase::Generation;
        let first = if readouts.readings.iter().all(generation_only) {
            prompt_len
        } else {
            0
        };
        let numbers = |_: &CompiledReadout| ReadingValues {
            values: Vec::new(),
            known: first,
        };
        let listed = match readouts.states.as_ref().map(|states| &states.positions) {
            Some(StatePositions::Listed(positions)) => Some(from_start(positions, prompt_len)),
            _ => None,
        };
        let pending = PendingReadout {
            first,
            ids: Vec::new(),
            readings: readouts.readings.iter().map(numbers).collect(),
            states: readouts
                .states
                .iter()
                .flat_map(|states| states.layers.iter().map(|_| PendingStates::default()))
                .collect(),
            end: None,
        };
        Self {
            readouts,
            prompt_len,
            budget,
            listed,
            pending: Mutex::new(pending),
        }
    }

    /// Whether it reads the stream after `layer`.
    pub fn reads_at(&self, layer: usize) -> bool {
        self.readouts.layers.binary_search(&layer).is_ok()
    }

    /// The layers that it reads.
    pub fn layers(&self) -> &[usize] {
        &self.readouts.layers
    }

    /// Reads the row's states after `layer`, `[tokens or more, hidden]`. Skips what was read before.
    ///
    /// # Errors
    ///
    /// Errors of candle.
    pub fn read(&self, layer: usize, row: &Row, states: &Tensor) -> Result<()> {
        let mut pending = lock(&self.pending);
        if !self.readouts.readings.is_empty() {
            self.note_tokens(&mut pending, row);
        }
        let PendingReadout {
            first,
            ids,
            readings,
            states: kept,
            end,
        } = &mut *pending;
        let noted = *first + ids.len();
        let to = noted.min(row.start + row.tokens());
        let all = self.readouts.readings.iter().zip(readings);
        let new = |numbers: &ReadingValues| row.start <= numbers.known && numbers.known < to;
        let mut here: Vec<(&CompiledReadout, &mut ReadingValues)> = all
            .filter(|(reading, numbers)| reading.layer == layer && new(numbers))
            .collect();
        if !here.is_empty() {
            let tokens = states.narrow(0, 0, to - row.start)?;
            let directions: Vec<&[f32]> = here.iter().map(|(reading, _)| reading.direction.values()).collect();
            let values = components(&tokens, &directions)?;
            let lengths = if here.iter().any(|(reading, _)| reading.of == ReadoutMeasure::Cosine) {
                norms(&tokens)?
            } else {
                Vec::new()
            };
            for ((reading, numbers), values) in here.iter_mut().zip(values) {
                for position in numbers.known..to {
                    let mut value = values[position - row.start];
                    if reading.of == ReadoutMeasure::Cosine {
                        value /= lengths[position - row.start];
                    }
                    let wanted = reading.phase.contains(position < self.prompt_len);
                    numbers.values.push(if wanted { value } else { f32::NAN });
                }
                numbers.known = to;
            }
        }
        if let Some(wanted) = &self.readouts.states {
            for (_, kept) in wanted.layers.iter().zip(kept).filter(|(l, _)| **l == layer) {
                let to = row.start + row.tokens();
                let hidden = states.dim(1)?;
                let from = kept.known.max(row.start);
                kept.known = kept.known.max(to);
                for position in from..end.map_or(to, |end| end.min(to)) {
                    if !self.wants_state(wanted, position) {
                        continue;
                    }
                    if !self.take(hidden * size_of::<f32>()) {
                        *end = Some(end.map_or(position, |end| end.min(position)));
                        break;
                    }
                    let state = states.narrow(0, position - row.start, 1)?.to_dtype(DType::F32)?;
                    kept.values.extend(state.flatten_all()?.to_vec1::<f32>()?);
                    kept.positions.push(position);
                }
            }
        }
        Ok(())
    }

    fn wants_state(&self, wanted: &States, position: usize) -> bool {
        match (&wanted.positions, &self.listed) {
            (StatePositions::Phase(phase), _) => phase.contains(position < self.prompt_len),
            (StatePositions::Listed(_), listed) => listed
                .as_ref()
                .is_some_and(|listed| listed.binary_search(&position).is_ok()),
        }
    }

    /// Adds the tokens of a row that are not known yet.
    fn note_tokens(&self, pending: &mut PendingReadout, row: &Row) {
        let known = pending.first + pending.ids.len();
        if row.start > known {
            return;
        }
        let cost = self.token_bytes();
        for (position, id) in (row.start..).zip(&row.ids).skip(known - row.start) {
            if pending.end.is_some_and(|end| position >= end) {
                return;
            }
            if !self.take(cost) {
                pending.end = Some(position);
                return;
            }
            pending.ids.push(*id);
        }
    }

    fn token_bytes(&self) -> usize {
        TOKEN_BYTES + self.readouts.readings.len() * size_of::<f32>()
    }

    fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        self.budget
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .is_ok()
    }

    /// Takes what has become known for all readouts since the last call.
    pub fn take_chunk(&self) -> ReadoutChunk {
        let mut pending = lock(&self.pending);
        let readings = self.readouts.readings.iter().zip(&pending.readings);
        // A pass may have reached some of the layers only.
        let known = readings
            .map(|(_, numbers)| numbers.known)
            .min()
            .unwrap_or(pending.first);
        let count = known.saturating_sub(pending.first).min(pending.ids.len());
        let chunk = ReadoutChunk {
            first: pending.first,
            ids: pending.ids.drain(..count).collect(),
            values: pending
                .readings
                .iter_mut()
                .map(|numbers| numbers.values.drain(..count.min(numbers.values.len())).collect())
                .collect(),
            states: pending
                .states
                .iter_mut()
                .map(|kept| (std::mem::take(&mut kept.positions), std::mem::take(&mut kept.values)))
                .collect(),
            truncated: pending.end.is_some(),
        };
        pending.first += count;
        // What is taken returns to the budget. It stays truncated from `end` on.
        let states: usize = chunk
            .states
            .iter()
            .map(|(_, values)| size_of_val(values.as_slice()))
            .sum();
        self.budget
            .fetch_add(count * self.token_bytes() + states, Ordering::Relaxed);
        chunk
    }

    /// Length of the prompt in tokens.
    pub fn prompt_len(&self) -> usize {
        self.prompt_len
    }

    /// The readouts of the request.
    pub fn readouts(&self) -> &Readouts {
        &self.readouts
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::directions::Direction;
    use crate::spec::StateDtype;

    fn readouts(states: Option<StatePositions>) -> Arc<Readouts> {
        let reading = |layer: usize, of: ReadoutMeasure, phase: ReadPhase| CompiledReadout {
            layer,
            direction: Arc::new(Direction::new(vec![1.0, 0.0])),
            of,
            phase,
        };
        Arc::new(Readouts {
            readings: vec![
                reading(1, ReadoutMeasure::Projection, ReadPhase::Both),
                reading(1, ReadoutMeasure::Cosine, ReadPhase::Both),
                reading(2, ReadoutMeasure::Projection, ReadPhase::Generation),
            ],
            states: states.map(|positions| States {
                layers: vec![2],
                positions,
                dtype: StateDtype::F32,
            }),
            layers: vec![1, 2],
        })
    }

    /// A pass over the tokens from `start` on, whose states are `[3 i, 4 i]` at position `i` and ten times that at
    /// layer 2.
    fn pass(reader: &SequenceReader, start: usize, tokens: usize, prompt_len: usize) {
        let row = Row {
            start,
            prompt_len,
            ..Row::prompt(0, (start..start + tokens).map(|i| 100 + i as u32).collect())
        };
        for layer in [1, 2] {
            let scale = if layer == 1 { 1.0 } else { 10.0 };
            // One of padding behind.
            let values = (start..=start + tokens).flat_map(|i| [3.0 * i as f32 * scale, 4.0 * i as f32 * scale]);
            let states = Tensor::from_iter(values, &Device::Cpu)
                .unwrap()
                .reshape((tokens + 1, 2))
                .unwrap();
            reader.read(layer, &row, &states).unwrap();
        }
    }

    fn budget(bytes: usize) -> Budget {
        Arc::new(AtomicUsize::new(bytes))
    }

    #[test]
    fn what_comes_in_parts_and_again_is_read_once() {
        let listed = StatePositions::Listed(vec![1, -1]);
        let reader = SequenceReader::new(readouts(Some(listed)), 3, budget(10_000));
        pass(&reader, 0, 2, 3);
        // The engine makes room and begins again.
        pass(&reader, 0, 2, 3);
        pass(&reader, 2, 1, 3);
        let prompt = reader.take_chunk();
        assert_eq!((prompt.first, prompt.ids.as_slice()), (0, [100, 101, 102].as_slice()));
        assert_eq!(prompt.values[0], [0.0, 3.0, 6.0]);
        assert!(prompt.values[1][0].is_nan() && (prompt.values[1][2] - 0.6).abs() < 1e-6);
        assert!(prompt.values[2].iter().all(|value| value.is_nan()));
        assert_eq!(prompt.states, [(vec![1, 2], vec![30.0, 40.0, 60.0, 80.0])]);
        pass(&reader, 3, 1, 3);
        pass(&reader, 4, 1, 3);
        let rest = reader.take_chunk();
        assert_eq!((rest.first, rest.ids.as_slice()), (3, [103, 104].as_slice()));
        assert_eq!(
            (&rest.values[0], &rest.values[2]),
            (&vec![9.0, 12.0], &vec![90.0, 120.0])
        );
        assert!(!rest.truncated && reader.take_chunk().ids.is_empty());
    }

    #[test]
    fn a_pass_on_its_way_is_not_told() {
        let reader = SequenceReader::new(readouts(None), 2, budget(10_000));
        let row = Row::prompt(0, vec![1, 2]);
        let states = Tensor::ones((2, 2), DType::F32, &Device::Cpu).unwrap();
        reader.read(1, &row, &states).unwrap();
        assert!(reader.take_chunk().ids.is_empty());
        reader.read(2, &row, &states).unwrap();
        assert_eq!(reader.take_chunk().ids, [1, 2]);
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes() {
        let left = budget(3 * (TOKEN_BYTES + 12) + 20);
        let reader = SequenceReader::new(readouts(Some(StatePositions::Phase(ReadPhase::Both))), 2, left.clone());
        for position in 0..40 {
            pass(&reader, position, 1, 2);
        }
        let chunk = reader.take_chunk();
        assert!(chunk.truncated && chunk.ids.len() < 4, "{chunk:?}");
        let kept = |values: &Vec<f32>| size_of_val(values.as_slice());
        let states: usize = chunk.states.iter().map(|(_, values)| kept(values)).sum();
        assert!(chunk.ids.len() * (TOKEN_BYTES + 12) + states <= 3 * (TOKEN_BYTES + 12) + 20);
        assert_eq!(chunk.ids.len(), chunk.values[0].len());
        // What was taken makes room again.
        assert_eq!(left.load(Ordering::Relaxed), 3 * (TOKEN_BYTES + 12) + 20);
    }

    #[test]
    fn generated_tokens_alone_begin_behind_the_prompt() {
        let mut all = Arc::into_inner(readouts(None)).unwrap();
        all.readings.drain(..2);
        let reader = SequenceReader::new(Arc::new(all), 3, budget(1000));
        // A cache holds the first two.
        pass(&reader, 2, 1, 3);
        assert!(reader.take_chunk().ids.is_empty());
        pass(&reader, 3, 1, 3);
        let chunk = reader.take_chunk();
        assert_eq!((chunk.first, chunk.values[0].as_slice()), (3, [90.0].as_slice()));
    }
}
