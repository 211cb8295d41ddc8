//! What a hook is.

use candle_core::{Result, Tensor};

use crate::BatchView;

/// Sees, and may replace, the residual stream of the model it is installed in.
///
/// A hook is called on the engine's thread, between two blocks of a forward pass: what it costs, every request pays,
/// and it must not wait for anything that needs the engine.
pub trait ResidualHook: Send + Sync {
    /// The layers after whose block this hook is called, 0-based, in any order. Read once, when it is installed.
    fn layers(&self) -> Vec<usize>;

    /// Called after block `layer` with the stream that block `layer + 1` (or the final norm) would read.
    ///
    /// `stream` has shape `[rows, tokens, hidden]`, in the model's activation dtype, on the layer's device. `rows` is
    /// the batch's, checked against `batch`; `tokens` is at least [`BatchView::longest`].
    ///
    /// Returns the stream to go on with, of the same shape, dtype and device (checked), or `None` to leave it alone.
    ///
    /// # Errors
    ///
    /// An error ends this forward pass: every request in the batch is answered with it, and the engine lives on.
    fn after_block(&self, layer: usize, stream: &Tensor, batch: &BatchView) -> Result<Option<Tensor>>;

    /// What the cached states of `request` depend on beside its tokens: prefixes are shared only between requests of
    /// equal salt. 0, the default, is the salt of a model without a hook: right for a hook that only looks.
    ///
    /// Asked when the request is admitted.
    fn cache_salt(&self, request: usize) -> u64 {
        let _ = request;
        0
    }
}
