//! What a hook is.

use std::any::Any;
use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::BatchView;

/// What a hook keeps of a request or of one of its sequences; the engine carries it and looks at nothing of it.
pub type RequestState = Arc<dyn Any + Send + Sync>;

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

    /// Asked once when the engine takes up the request `request` (the caller's id): what holds for it from now on,
    /// whatever happens to the hook meanwhile. It is handed to [`admit`](Self::admit).
    ///
    /// # Errors
    ///
    /// The request is answered with the reason, and not run.
    fn claim(&self, request: usize) -> std::result::Result<Option<RequestState>, String> {
        let _ = request;
        Ok(None)
    }

    /// Asked for each of the request's sequences (several where it asks for several answers), with what
    /// [`claim`](Self::claim) returned and the prompt's tokens.
    ///
    /// # Errors
    ///
    /// The request is answered with the reason, and not run.
    fn admit(&self, claimed: Option<&RequestState>, prompt: &[u32]) -> std::result::Result<Admission, String> {
        let _ = (claimed, prompt);
        Ok(Admission::default())
    }
}

/// How a sequence runs and what of its cached states others may use. The default is right for a hook that only looks.
#[derive(Clone, Debug)]
pub struct Admission {
    /// What the cached states from [`salt_from`](Self::salt_from) on depend on beside the tokens: they are shared only
    /// between sequences of equal salt. 0 is the salt of a model without a hook.
    pub salt: u64,
    /// The first position whose state the hook changes: those before it are what they are without a hook, so they are
    /// shared under the salt 0.
    pub salt_from: usize,
    /// Whether the states of generated tokens are what they would be had the tokens stood in a prompt of this salt;
    /// if not, only the prompt's are shared.
    pub share_generated: bool,
    /// Whether the sequence may start from cached states. Not if the hook must see every token of the prompt.
    pub read_cache: bool,
    /// Comes back in every [`Row`](crate::Row) of the sequence.
    pub state: Option<RequestState>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            salt: 0,
            salt_from: 0,
            share_generated: true,
            read_cache: true,
            state: None,
        }
    }
}

impl Admission {
    /// Number of leading tokens whose states others may use, of a sequence of `tokens` tokens with a prompt of
    /// `prompt_len`. The last token is not counted once it was generated: no forward pass has read it yet.
    pub fn shared(&self, prompt_len: usize, tokens: usize) -> usize {
        if self.share_generated {
            tokens.saturating_sub(1).max(prompt_len.min(tokens))
        } else {
            prompt_len.min(tokens)
        }
    }

    /// Number of leading tokens whose states a sequence admitted so may take from one that was admitted as `other`, if the
    /// tokens are equal.
    pub fn compatible(&self, other: &Self) -> usize {
        let changed_from = |admission: &Self| {
            if admission.salt == 0 {
                usize::MAX
            } else {
                admission.salt_from
            }
        };
        if self.salt == other.salt {
            usize::MAX
        } else {
            changed_from(self).min(changed_from(other))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_states_that_exist_and_mean_the_same_are_shared() {
        let all = Admission::default();
        assert_eq!(all.shared(5, 9), 8);
        assert_eq!(all.shared(5, 6), 5);
        assert_eq!(all.shared(5, 5), 5);
        let prompt = Admission {
            share_generated: false,
            ..Admission::default()
        };
        assert_eq!(prompt.shared(5, 9), 5);
        assert_eq!(prompt.shared(5, 3), 3);
    }

    #[test]
    fn states_before_the_first_change_are_anybodys() {
        let salted = |salt, salt_from| Admission {
            salt,
            salt_from,
            ..Admission::default()
        };
        let plain = Admission::default();
        assert_eq!(plain.compatible(&plain), usize::MAX);
        assert_eq!(salted(7, 3).compatible(&salted(7, 3)), usize::MAX);
        assert_eq!(salted(7, 3).compatible(&plain), 3);
        assert_eq!(plain.compatible(&salted(7, 3)), 3);
        assert_eq!(salted(7, 3).compatible(&salted(8, 2)), 2);
        assert_eq!(salted(7, 0).compatible(&plain), 0);
    }
}
