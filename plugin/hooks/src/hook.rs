//! The hook's trait.

use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Result, Tensor};

use crate::{BatchView, RequestState};

/// Sees, and may replace, the residual stream of the model it is installed in.
///
/// A hook is called on the engine's thread, between two blocks of a forward pass. Its time delays every request, and it
/// must not wait for anything that needs the engine.
pub trait ResidualHook: Send + Sync {
    /// The layers after which this hook is called, 0-based, in any order. Read once, when the hook is installed.
    fn layers(&self) -> Vec<usize>;

    /// Called after block `layer` with the stream that block `layer + 1` (or the final norm) would read.
    ///
    /// `stream` has shape `[rows, tokens, hidden]`, in the model's activation dtype, on the layer's device. `rows` is
    /// the batch's, checked against `batch`; `tokens` is at least [`BatchView::longest`].
    ///
    /// Returns the stream to continue with, of the same shape, dtype and device (checked), or `None` to keep the stream
    /// unchanged.
    ///
    /// # Errors
    ///
    /// An error ends this forward pass: every request of the batch is answered with it, and the engine keeps running.
    fn after_block(&self, layer: usize, stream: &Tensor, batch: &BatchView) -> Result<Option<Tensor>>;

    /// Called once, when the engine receives the request `request` (the caller's id). Returns the state that is valid
    /// for it from now on, whatever happens to the hook later, and that is passed to [`admit`](Self::admit).
    ///
    /// # Errors
    ///
    /// The request is answered with the reason, and not run.
    fn claim(&self, request: usize) -> std::result::Result<Option<RequestState>, String> {
        let _ = request;
        Ok(None)
    }

    /// Whether [`admit`](Self::admit) needs the positions of a chat's messages, which costs a second tokenisation and
    /// up to three renderings of the chat. Called once per request, with the state that [`claim`](Self::claim)
    /// returned.
    fn wants_turns(&self, claimed: Option<&RequestState>) -> bool {
        let _ = claimed;
        false
    }

    /// Called for each of the request's sequences (several if it asks for several answers), with the state that
    /// [`claim`](Self::claim) returned and the prompt.
    ///
    /// # Errors
    ///
    /// The request is answered with the reason, and not run.
    fn admit(&self, claimed: Option<&RequestState>, prompt: &Prompt<'_>) -> std::result::Result<Admission, String> {
        let _ = (claimed, prompt);
        Ok(Admission::default())
    }
}

/// The prompt of a sequence.
#[derive(Clone, Copy, Debug)]
pub struct Prompt<'a> {
    /// Its tokens, as they will run.
    pub tokens: &'a [u32],
    /// The positions of a chat's messages among them, in ascending order; empty for a prompt that isn't a chat, or if
    /// the hook doesn't [want them](ResidualHook::wants_turns). An error says why they are not known.
    pub turns: std::result::Result<&'a [Turn], &'a str>,
}

impl<'a> Prompt<'a> {
    /// A prompt that is not a chat.
    pub fn text(tokens: &'a [u32]) -> Self {
        Self { tokens, turns: Ok(&[]) }
    }
}

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The role: `user`, `assistant` and so on.
    pub role: String,
    /// The tokens of its text, without those that the chat template adds.
    pub tokens: Range<usize>,
}

/// How a sequence runs, and which of its cached states others may use. The default is right for a hook that only reads.
#[derive(Clone, Debug)]
pub struct Admission {
    /// What cached states depend on besides the tokens: pairs of a position and the salt from there on. Positions
    /// ascend; before the first, and without any, the salt is 0, as for a model without a hook. As far as the hook is
    /// concerned, the states of two sequences are equal up to the first position at which their tokens or salts differ,
    /// or from which one of them is not [shared](Self::own_from).
    pub salts: Arc<[(usize, u64)]>,
    /// The first position from which no other sequence may use the states; `None`: sharing is limited only by the
    /// salts.
    pub own_from: Option<usize>,
    /// Whether the sequence may start from cached states. Not if the hook must see every token of the prompt.
    pub read_cache: bool,
    /// State that every [`Row`](crate::Row) of the sequence carries.
    pub state: Option<RequestState>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            salts: Arc::default(),
            own_from: None,
            read_cache: true,
            state: None,
        }
    }
}

impl Admission {
    /// Number of leading tokens whose states others may use, of a sequence of `tokens` tokens with a prompt of
    /// `prompt_len`. The last token does not count if it was generated, since no forward pass has read it yet.
    pub fn shared(&self, prompt_len: usize, tokens: usize) -> usize {
        let computed = tokens.saturating_sub(1).max(prompt_len.min(tokens));
        computed.min(self.own_from.unwrap_or(usize::MAX))
    }

    /// Number of leading tokens whose states a sequence with this admission may take from one admitted as `other`, if
    /// the tokens are equal.
    pub fn compatible(&self, other: &Self) -> usize {
        let own = |admission: &Self| admission.own_from.unwrap_or(usize::MAX);
        self.same_salts(other).min(own(self)).min(own(other))
    }

    /// Number of leading positions at which both have the same salts.
    fn same_salts(&self, other: &Self) -> usize {
        let (mut ours, mut theirs) = (self.salts.iter().peekable(), other.salts.iter().peekable());
        // The salts of both at the current position; they are equal before it.
        let mut salts = (0, 0);
        loop {
            let next = [&mut ours, &mut theirs].map(|list| list.peek().map(|(from, _)| *from));
            let Some(position) = next.into_iter().flatten().min() else {
                return usize::MAX;
            };
            let go_on = |list: &mut Peekable<std::slice::Iter<'_, (usize, u64)>>, salt: &mut u64| {
                while let Some((_, next)) = list.next_if(|(from, _)| *from == position) {
                    *salt = *next;
                }
            };
            go_on(&mut ours, &mut salts.0);
            go_on(&mut theirs, &mut salts.1);
            if salts.0 != salts.1 {
                return position;
            }
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
            own_from: Some(5),
            ..Admission::default()
        };
        assert_eq!(prompt.shared(5, 9), 5);
        assert_eq!(prompt.shared(5, 3), 3);
    }

    #[test]
    fn states_are_shared_up_to_the_first_salt_that_differs() {
        let salted = |salts: &[(usize, u64)]| Admission {
            salts: salts.into(),
            ..Admission::default()
        };
        let compatible = |a: &[(usize, u64)], b: &[(usize, u64)]| {
            let (a, b) = (salted(a), salted(b));
            assert_eq!(a.compatible(&b), b.compatible(&a));
            a.compatible(&b)
        };
        assert_eq!(compatible(&[], &[]), usize::MAX);
        assert_eq!(compatible(&[(3, 7)], &[(3, 7)]), usize::MAX);
        assert_eq!(compatible(&[(3, 7)], &[]), 3);
        assert_eq!(compatible(&[(3, 7)], &[(2, 8)]), 2);
        assert_eq!(compatible(&[(0, 7)], &[]), 0);
        // A conversation that goes on: what was changed before is changed again, and something more.
        assert_eq!(compatible(&[(3, 7), (6, 0)], &[(3, 7), (6, 0), (9, 7)]), 9);
        assert_eq!(compatible(&[(3, 7), (6, 0)], &[(3, 7)]), 6);
        // Said in more words than needed.
        assert_eq!(compatible(&[(3, 0), (5, 7), (6, 7)], &[(5, 7)]), usize::MAX);
        // What a sequence has for itself it neither gives nor takes.
        let own = Admission {
            own_from: Some(4),
            ..salted(&[(3, 7)])
        };
        assert_eq!(own.compatible(&salted(&[(3, 7)])), 4);
        assert_eq!(salted(&[(3, 7)]).compatible(&own), 4);
    }
}
