//! A hook that keeps states.

use std::collections::HashMap;
use std::sync::Mutex;

use candle_core::{D, DType, Result, Tensor};
use residual_hooks::{BatchView, ResidualHook};

/// Keeps, for every request, the state of its prompt's last token at some layers, and the mean norm of the stream
/// there. It changes nothing.
pub struct LastTokenCapture {
    layers: Vec<usize>,
    captured: Mutex<Captured>,
}

/// What a [`LastTokenCapture`] has seen.
#[derive(Clone, Debug, Default)]
pub struct Captured {
    /// By request, then by position in the list of layers: `[hidden_size]`, in f32.
    pub last: HashMap<usize, Vec<Vec<f32>>>,
    /// By position in the list of layers.
    norms: Vec<Mean>,
    /// The stream's dtype.
    pub dtype: Option<DType>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    sum: f64,
    count: u64,
}

impl Captured {
    /// Mean L2 norm of the stream at the `index`-th layer of the list, over all prompt tokens but each prompt's first
    /// (which carries massive activations in many models); 0 if no prompt had a second token.
    pub fn mean_norm(&self, index: usize) -> f64 {
        self.norms
            .get(index)
            .map_or(0.0, |mean| mean.sum / (mean.count.max(1)) as f64)
    }
}

impl LastTokenCapture {
    /// Captures at these layers.
    pub fn new(layers: Vec<usize>) -> Self {
        let captured = Captured {
            norms: vec![Mean::default(); layers.len()],
            ..Captured::default()
        };
        Self {
            layers,
            captured: Mutex::new(captured),
        }
    }

    /// What was seen since the last call.
    pub fn take(&self) -> Captured {
        let fresh = Captured {
            norms: vec![Mean::default(); self.layers.len()],
            ..Captured::default()
        };
        std::mem::replace(&mut self.captured.lock().unwrap_or_else(|e| e.into_inner()), fresh)
    }
}

impl ResidualHook for LastTokenCapture {
    fn layers(&self) -> Vec<usize> {
        self.layers.clone()
    }

    fn after_block(&self, layer: usize, stream: &Tensor, batch: &BatchView) -> Result<Option<Tensor>> {
        let Some(index) = self.layers.iter().position(|&l| l == layer) else {
            return Ok(None);
        };
        let states = stream.to_dtype(DType::F32)?;
        let norms: Vec<Vec<f32>> = states.sqr()?.sum(D::Minus1)?.sqrt()?.to_vec2()?;
        let mut captured = self.captured.lock().unwrap_or_else(|e| e.into_inner());
        captured.dtype = Some(stream.dtype());
        for (i, row) in batch.rows().iter().enumerate() {
            let per_layer = captured.last.get(&row.request);
            // The engine reads a sequence again from the start when it had to make room for others.
            if per_layer.is_some_and(|per_layer| !per_layer[index].is_empty()) {
                continue;
            }
            for (t, &norm) in norms[i].iter().enumerate().take(row.tokens) {
                let position = row.start + t;
                if position > 0 && position < row.prompt_len {
                    captured.norms[index].sum += f64::from(norm);
                    captured.norms[index].count += 1;
                }
            }
            if let Some(last) = row.last_prompt_token() {
                let state: Vec<f32> = states.get(i)?.get(last)?.to_vec1()?;
                let per_layer = captured
                    .last
                    .entry(row.request)
                    .or_insert_with(|| vec![Vec::new(); self.layers.len()]);
                per_layer[index] = state;
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use candle_core::Device;
    use residual_hooks::{HookSlot, Phase, Row, Support, before_block};

    use super::*;

    #[test]
    fn the_last_real_token_is_kept_and_padding_and_first_tokens_do_not_count() {
        let capture = Arc::new(LastTokenCapture::new(vec![1]));
        let slot = HookSlot::new(Support::EveryBlock, 3, 2);
        slot.install(capture.clone()).unwrap();
        let row = |request, tokens| Row {
            request,
            start: 0,
            tokens,
            prompt_len: tokens,
            phase: Phase::Prompt,
        };
        // Row 7: three tokens; row 8: two tokens and one of padding.
        let stream = Tensor::new(
            &[[[90f32, 0.], [3., 4.], [6., 8.]], [[90., 0.], [0., 5.], [99., 99.]]],
            &Device::Cpu,
        )
        .unwrap();
        // Read twice, as the engine does when it had to make room.
        for _ in 0..2 {
            slot.scope(|| vec![row(7, 3), row(8, 2)], || before_block(stream.clone(), 2))
                .unwrap();
        }
        let captured = capture.take();
        assert_eq!(captured.last[&7], [[6., 8.]]);
        assert_eq!(captured.last[&8], [[0., 5.]]);
        assert!((captured.mean_norm(0) - (5. + 10. + 5.) / 3.).abs() < 1e-6);
        assert_eq!(captured.dtype, Some(DType::F32));
        assert!(capture.take().last.is_empty());
    }

    #[test]
    fn generated_tokens_are_not_captured() {
        let capture = Arc::new(LastTokenCapture::new(vec![0]));
        let slot = HookSlot::new(Support::EveryBlock, 1, 2);
        slot.install(capture.clone()).unwrap();
        let row = Row {
            request: 1,
            start: 5,
            tokens: 1,
            prompt_len: 5,
            phase: Phase::Generation,
        };
        let stream = Tensor::ones((1, 1, 2), DType::F32, &Device::Cpu).unwrap();
        slot.scope(|| vec![row], || residual_hooks::after_last_block(stream))
            .unwrap();
        let captured = capture.take();
        assert!(captured.last.is_empty());
        assert_eq!(captured.mean_norm(0), 0.0);
    }
}
