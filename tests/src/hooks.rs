//! Hooks that tests install.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use candle_core::{DType, Result, Tensor};
use residual_hooks::{BatchView, ResidualHook, Row};

/// Adds vectors, then records every real position of every row after every layer.
#[derive(Default)]
pub struct Recorder {
    num_layers: usize,
    add: BTreeMap<usize, Vec<f32>>,
    seen: Mutex<RecordedStates>,
}

/// What a [`Recorder`] has recorded.
#[derive(Clone, Default)]
pub struct RecordedStates {
    /// By request and layer, then by absolute position.
    pub states: HashMap<(usize, usize), BTreeMap<usize, Vec<f32>>>,
    /// The rows of every forward pass, as given at layer 0.
    pub passes: Vec<Vec<Row>>,
}

impl Recorder {
    /// Records all of `num_layers` layers and changes nothing.
    pub fn new(num_layers: usize) -> Arc<Self> {
        Self::adding(num_layers, BTreeMap::new())
    }

    /// Adds these vectors after their layers, at every position, before recording.
    pub fn adding(num_layers: usize, add: BTreeMap<usize, Vec<f32>>) -> Arc<Self> {
        Arc::new(Self {
            num_layers,
            add,
            seen: Mutex::default(),
        })
    }

    /// What was recorded since the last call.
    pub fn take(&self) -> RecordedStates {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

impl RecordedStates {
    /// The latest recorded request.
    ///
    /// An earlier request may be recorded again after its answer, since the engine runs a sequence that ends with its
    /// prompt through another pass.
    pub fn last_request(&self) -> usize {
        self.states
            .keys()
            .map(|(request, _)| *request)
            .max()
            .expect("a request was recorded")
    }

    /// The states of `request` after `layer` at its first `count` positions.
    pub fn first(&self, request: usize, layer: usize, count: usize) -> Vec<Vec<f32>> {
        self.states[&(request, layer)]
            .range(..count)
            .map(|(_, state)| state.clone())
            .collect()
    }

    /// The states of `request` after `layer` from position `start` on.
    pub fn from(&self, request: usize, layer: usize, start: usize) -> Vec<Vec<f32>> {
        self.states[&(request, layer)]
            .range(start..)
            .map(|(_, state)| state.clone())
            .collect()
    }

    /// The rows of `request`, in the order of the passes.
    pub fn rows(&self, request: usize) -> Vec<Row> {
        self.passes
            .iter()
            .flatten()
            .filter(|row| row.request == request)
            .cloned()
            .collect()
    }
}

impl ResidualHook for Recorder {
    fn layers(&self) -> Vec<usize> {
        (0..self.num_layers).collect()
    }

    fn after_block(&self, layer: usize, stream: &Tensor, batch: &BatchView) -> Result<Option<Tensor>> {
        let stream = match self.add.get(&layer) {
            Some(vector) => stream.broadcast_add(&Tensor::new(vector.as_slice(), stream.device())?)?,
            None => stream.clone(),
        };
        let states: Vec<Vec<Vec<f32>>> = stream.to_dtype(DType::F32)?.to_vec3()?;
        let mut seen = self.seen.lock().unwrap();
        if layer == 0 {
            seen.passes.push(batch.rows().to_vec());
        }
        for (row, states) in batch.rows().iter().zip(states) {
            let known = seen.states.entry((row.request, layer)).or_default();
            for (t, state) in states.into_iter().take(row.tokens()).enumerate() {
                // The first value is kept, since a sequence that ends with its prompt runs again from its last token
                // on.
                known.entry(row.start + t).or_insert(state);
            }
        }
        Ok(Some(stream))
    }
}

/// Fails in every forward pass.
pub struct Failing;

impl ResidualHook for Failing {
    fn layers(&self) -> Vec<usize> {
        vec![1]
    }

    fn after_block(&self, _: usize, _: &Tensor, _: &BatchView) -> Result<Option<Tensor>> {
        Err(candle_core::Error::Msg("this hook always fails".to_string()))
    }
}
