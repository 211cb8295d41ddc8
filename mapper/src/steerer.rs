//! Steers single requests to a loaded model, with the plugin's own code.

use anyhow::{Result, ensure};
use residual_hooks::StreamInfo;
use steermap_plugin::{Library, Program, SteeredRequest, Steering};

use crate::session::Session;

/// An offset that is added to the stream after one layer: `[hidden_size]`.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerOffset {
    /// The layer, 0-based.
    pub layer: usize,
    /// The offset.
    pub values: Vec<f32>,
}

impl LayerOffset {
    /// `alpha * direction`
    pub fn new(layer: usize, direction: &[f32], alpha: f64) -> Self {
        Self {
            layer,
            values: direction.iter().map(|&x| (f64::from(x) * alpha) as f32).collect(),
        }
    }
}

/// Installs the plugin in a session's model until it is dropped. An earlier hook of the model is removed.
pub struct Steerer<'a> {
    session: &'a Session,
    steering: Steering,
    stream: StreamInfo,
}

impl<'a> Steerer<'a> {
    /// Installs the plugin in the model.
    ///
    /// # Errors
    ///
    /// A model that can't be steered.
    pub fn new(session: &'a Session) -> Result<Self> {
        let stream = session.slot().stream()?;
        let steering = Steering::new(session.model().inner(), Library::default())?;
        Ok(Self {
            session,
            steering,
            stream,
        })
    }

    /// The model.
    pub fn session(&self) -> &'a Session {
        self.session
    }

    /// The layer after the last block; `None` for a model that can't be steered there.
    pub fn last_layer(&self) -> Option<usize> {
        self.stream.last_block.then(|| self.stream.num_layers - 1)
    }

    /// A request that is steered by an offset at every position.
    ///
    /// # Errors
    ///
    /// A layer that can't be steered, an offset of another size than the stream's.
    pub fn adding(&self, offset: LayerOffset) -> Result<SteeredRequest> {
        let StreamInfo {
            num_layers,
            hidden_size,
            last_block,
        } = self.stream;
        let steered = num_layers - usize::from(!last_block);
        ensure!(
            offset.layer < steered,
            "layer: found {}, expected a layer below {steered}, those of this model that can be steered",
            offset.layer
        );
        ensure!(
            offset.values.len() == hidden_size,
            "found an offset of {} values, expected {hidden_size}, the stream's width",
            offset.values.len()
        );
        let program = Program::adding([(offset.layer, offset.values)].into());
        Ok(self.steering.run(None, program)?)
    }
}

impl Drop for Steerer<'_> {
    fn drop(&mut self) {
        self.session.slot().remove();
    }
}
