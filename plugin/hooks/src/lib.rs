//! A seam between the blocks of a transformer: a [`ResidualHook`] sees, and may replace, the residual stream of one
//! loaded model.
//!
//! Three parts work together here and are otherwise independent:
//!
//! * the **engine** gives every loaded model a [`HookSlot`], states the rows of each forward pass
//!   ([`HookSlot::scope`]), and calls [`before_block`] and [`after_last_block`] with the stream;
//! * a **hook** is installed in a slot ([`HookSlot::install`]) and is called after each of its layers;
//! * the **scope** connects the two during one forward pass, on the thread that runs it.
//!
//! A hook that treats requests differently identifies them in three steps: the sender of a request marks it
//! ([`marked`]), the engine claims it ([`HookSlot::claim`]) and admits its sequences ([`Claim::admit`]), and every row
//! of a forward pass carries the state that the hook returned ([`Row::state`]).
//!
//! The scope is not a field of the model for this reason: every model already passes its stream to one function at the
//! top of each block, but that function knows neither the model nor the requests of the batch. The thread does, since a
//! forward pass is synchronous. So models need no changes, two models in one process can't see each other's hooks, and
//! a forward pass outside any scope (a calibration run, a probe) is never changed.
//!
//! Cost: without a hook, each block reads one unset thread-local; at a layer that the hook does not want, there is one
//! more branch.
//!
//! This crate depends only on candle-core and does not know steering.

mod batch;
mod hook;
mod request;
mod seam;
mod slot;

pub use batch::{BatchView, Phase, RequestState, Row};
pub use hook::{Admission, Prompt, ResidualHook, Turn};
pub use request::{MARKED, Marked, RequestMark, current_mark, marked};
pub use seam::{StreamInfo, after_last_block, before_block};
pub use slot::{Claim, HookSlot, InstallError, Support};
