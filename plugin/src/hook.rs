//! Adds offsets in the forward pass.

use std::sync::OnceLock;

use candle_core::{Result, Tensor};
use residual_hooks::{BatchView, ResidualHook};

use crate::compile::Offsets;

/// Adds one offset per layer to every position of every row.
pub struct SteeringHook {
    /// By layer; `None` where nothing is added.
    layers: Vec<Option<LayerOffset>>,
    salt: u64,
}

struct LayerOffset {
    values: Vec<f32>,
    /// `values` in the stream's dtype, on the layer's device: both are the same in every pass.
    tensor: OnceLock<Tensor>,
}

impl SteeringHook {
    /// The hook that adds `offsets`.
    pub fn new(offsets: Offsets) -> Self {
        // Equal offsets make equal states, so their hash is what cached states depend on. Never 0, the salt of an
        // unsteered model.
        let salt = u64::from_str_radix(&offsets.fingerprint[..16], 16).unwrap_or(1).max(1);
        let count = offsets.layers.keys().max().map_or(0, |last| last + 1);
        let mut layers: Vec<Option<LayerOffset>> = (0..count).map(|_| None).collect();
        for (layer, values) in offsets.layers {
            layers[layer] = Some(LayerOffset {
                values,
                tensor: OnceLock::new(),
            });
        }
        Self { layers, salt }
    }
}

impl LayerOffset {
    /// The offset as `stream` needs it.
    fn like(&self, stream: &Tensor) -> Result<Tensor> {
        let fits = |t: &&Tensor| t.dtype() == stream.dtype() && t.device().same_device(stream.device());
        if let Some(tensor) = self.tensor.get().filter(fits) {
            return Ok(tensor.clone());
        }
        let tensor = Tensor::new(self.values.as_slice(), stream.device())?.to_dtype(stream.dtype())?;
        // Lost only if another thread was first, or if a layer's stream changed its dtype; then this one is made anew.
        let _ = self.tensor.set(tensor.clone());
        Ok(tensor)
    }
}

impl ResidualHook for SteeringHook {
    fn layers(&self) -> Vec<usize> {
        (0..self.layers.len())
            .filter(|&layer| self.layers[layer].is_some())
            .collect()
    }

    fn after_block(&self, layer: usize, stream: &Tensor, _: &BatchView) -> Result<Option<Tensor>> {
        match self.layers.get(layer) {
            Some(Some(offset)) => stream.broadcast_add(&offset.like(stream)?).map(Some),
            _ => Ok(None),
        }
    }

    fn cache_salt(&self, _: usize) -> u64 {
        self.salt
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::{DType, Device};
    use residual_hooks::{HookSlot, Phase, Row, Support, before_block};

    use super::*;

    fn hook(fingerprint: &str) -> SteeringHook {
        let layers = BTreeMap::from([(1, vec![0.5, -2.0])]);
        SteeringHook::new(Offsets {
            layers,
            fingerprint: fingerprint.into(),
        })
    }

    #[test]
    fn the_offset_is_added_everywhere_in_the_streams_dtype() {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let slot = HookSlot::new(Support::EveryBlock, 3, 2);
            slot.install(std::sync::Arc::new(hook(&"a".repeat(64)))).unwrap();
            let stream = Tensor::ones((2, 3, 2), dtype, &Device::Cpu).unwrap();
            let rows = || {
                (0..2)
                    .map(|_| Row {
                        request: 0,
                        start: 0,
                        tokens: 3,
                        prompt_len: 3,
                        phase: Phase::Prompt,
                    })
                    .collect()
            };
            let out = slot.scope(rows, || before_block(stream, 2)).unwrap();
            assert_eq!(out.dtype(), dtype);
            let out: Vec<f32> = out
                .to_dtype(DType::F32)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap();
            assert_eq!(out, [1.5, -1.0].repeat(6));
        }
    }

    #[test]
    fn it_asks_for_its_layers_and_salts_by_its_offsets() {
        let (a, b) = (hook(&"a".repeat(64)), hook(&"b".repeat(64)));
        assert_eq!(a.layers(), [1]);
        assert_ne!(a.cache_salt(0), b.cache_salt(0));
        assert_eq!(a.cache_salt(0), a.cache_salt(7));
        assert_ne!(hook(&"0".repeat(64)).cache_salt(0), 0);
    }
}
