//! Captures the residual stream of prompts: of all requests when used as a hook, or of single rows for another hook.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use candle_core::{DType, Result, Tensor};
use residual_hooks::{BatchView, ResidualHook, Row};

/// Captures, for every request, the states of its prompt at some layers. As a hook it changes nothing.
pub struct StreamCapture {
    layers: Vec<usize>,
    seen: Mutex<CapturedStates>,
}

#[derive(Default)]
struct CapturedStates {
    requests: HashMap<usize, Vec<LayerStates>>,
    dtype: Option<DType>,
}

/// The states of one prompt after one layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerStates {
    hidden_size: usize,
    /// `[positions, hidden_size]`, row by row, in f32.
    values: Vec<f32>,
}

impl LayerStates {
    /// From known states: `[positions, hidden_size]`, row by row.
    pub fn from_rows(hidden_size: usize, values: Vec<f32>) -> Self {
        Self { hidden_size, values }
    }

    /// The states of all positions: `[positions, hidden_size]`, row by row.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// Number of positions.
    pub fn len(&self) -> usize {
        self.values.len().checked_div(self.hidden_size).unwrap_or(0)
    }

    /// Whether there is no position.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The state at a position, `[hidden_size]`.
    pub fn at(&self, position: usize) -> &[f32] {
        &self.values[position * self.hidden_size..(position + 1) * self.hidden_size]
    }

    /// Width of the stream.
    pub fn hidden_size(&self) -> usize {
        self.hidden_size
    }

    /// L2 norm of the state at a position, summed in f64.
    pub fn norm(&self, position: usize) -> f64 {
        let squares = self.at(position).iter().map(|&x| f64::from(x).powi(2));
        squares.sum::<f64>().sqrt()
    }
}

impl StreamCapture {
    /// A capture at these layers.
    pub fn new(layers: Vec<usize>) -> Self {
        Self {
            layers,
            seen: Mutex::default(),
        }
    }

    /// Keeps the prompt's states of `row`, whose states after `layer` are `[tokens or more, hidden_size]`. Ignores
    /// layers that are not captured.
    ///
    /// # Errors
    ///
    /// Errors of candle.
    pub fn keep(&self, layer: usize, row: &Row, states: &Tensor) -> Result<()> {
        let Some(index) = self.layers.iter().position(|&l| l == layer) else {
            return Ok(());
        };
        let mut seen = self.lock();
        seen.dtype = Some(states.dtype());
        let known = seen.requests.get(&row.request).map_or(0, |layers| layers[index].len());
        // Known states are not read again: the engine reads a sequence from its start after it has evicted it.
        let end = (row.start + row.tokens()).min(row.prompt_len);
        if row.start > known || end <= known {
            return Ok(());
        }
        let part = states.narrow(0, known - row.start, end - known)?;
        let values: Vec<f32> = part.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        let layers = seen
            .requests
            .entry(row.request)
            .or_insert_with(|| vec![LayerStates::default(); self.layers.len()]);
        let captured = &mut layers[index];
        captured.hidden_size = states.dim(1)?;
        if captured.values.is_empty() {
            captured.values = values;
        } else {
            captured.values.extend(values);
        }
        Ok(())
    }

    /// Takes the states of all requests since the last call: by request, then by index in the list of layers.
    pub fn take(&self) -> HashMap<usize, Vec<LayerStates>> {
        std::mem::take(&mut self.lock().requests)
    }

    /// The stream's dtype, once a prompt has been captured.
    pub fn dtype(&self) -> Option<DType> {
        self.lock().dtype
    }

    fn lock(&self) -> MutexGuard<'_, CapturedStates> {
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl ResidualHook for StreamCapture {
    fn layers(&self) -> Vec<usize> {
        self.layers.clone()
    }

    fn after_block(&self, layer: usize, stream: &Tensor, batch: &BatchView) -> Result<Option<Tensor>> {
        if self.layers.contains(&layer) {
            for (i, row) in batch.rows().iter().enumerate() {
                self.keep(layer, row, &stream.get(i)?)?;
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candle_core::Device;
    use residual_hooks::{HookSlot, Row, Support, after_last_block, before_block};

    use super::*;

    fn row(request: usize, start: usize, tokens: usize, prompt_len: usize) -> Row {
        Row {
            start,
            prompt_len,
            ..Row::prompt(request, vec![0; tokens])
        }
    }

    fn stream(values: &[[[f32; 2]; 3]]) -> Tensor {
        let flat: Vec<f32> = values.iter().flatten().flatten().copied().collect();
        Tensor::from_vec(flat, (values.len(), 3, 2), &Device::Cpu).unwrap()
    }

    #[test]
    fn real_tokens_are_kept_once_and_padding_is_not() {
        let capture = Arc::new(StreamCapture::new(vec![1]));
        let slot = HookSlot::new(Support::EveryBlock, 3, 2);
        slot.install(capture.clone()).unwrap();
        // Row 7: three tokens; row 8: two tokens and one of padding.
        let seen = stream(&[[[90., 0.], [3., 4.], [6., 8.]], [[90., 0.], [0., 5.], [99., 99.]]]);
        // Read twice, as the engine does when it had to make room.
        for _ in 0..2 {
            slot.scope(
                || vec![row(7, 0, 3, 3), row(8, 0, 2, 2)],
                || before_block(seen.clone(), 2),
            )
            .unwrap();
        }
        let states = capture.take();
        assert_eq!(states[&7][0].len(), 3);
        assert_eq!(states[&7][0].at(2), [6., 8.]);
        assert_eq!(states[&7][0].norm(1), 5.0);
        assert_eq!(states[&8][0].len(), 2);
        assert_eq!(states[&8][0].at(1), [0., 5.]);
        assert_eq!(capture.dtype(), Some(DType::F32));
        assert!(capture.take().is_empty());
    }

    #[test]
    fn a_prompt_in_parts_is_put_together() {
        let capture = Arc::new(StreamCapture::new(vec![0]));
        let slot = HookSlot::new(Support::EveryBlock, 1, 2);
        slot.install(capture.clone()).unwrap();
        let pass = |row: Row, values: [[f32; 2]; 3]| {
            slot.scope(|| vec![row], || after_last_block(stream(&[values])))
                .unwrap();
        };
        pass(row(1, 0, 3, 5), [[1., 0.], [2., 0.], [3., 0.]]);
        // The last token behind the prompt was generated; the first was seen before.
        pass(row(1, 2, 3, 4), [[3., 0.], [4., 0.], [9., 9.]]);
        let states = capture.take();
        assert_eq!(states[&1][0].len(), 4);
        assert_eq!(states[&1][0].at(3), [4., 0.]);
    }

    #[test]
    fn generated_tokens_are_not_captured() {
        let capture = Arc::new(StreamCapture::new(vec![0]));
        let slot = HookSlot::new(Support::EveryBlock, 1, 2);
        slot.install(capture.clone()).unwrap();
        let one = Tensor::ones((1, 1, 2), DType::F32, &Device::Cpu).unwrap();
        slot.scope(|| vec![row(1, 5, 1, 5)], || after_last_block(one)).unwrap();
        assert!(capture.take().is_empty());
    }
}
