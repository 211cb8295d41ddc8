//! A seam between the blocks of a transformer: a [`ResidualHook`] sees, and may replace, the residual stream of one
//! loaded model.
//!
//! Three parts meet here and know nothing else of each other:
//!
//! * the **engine** gives every loaded model a [`HookSlot`], says which rows a forward pass computes
//!   ([`HookSlot::scope`]), and calls [`before_block`] and [`after_last_block`] where the stream passes by;
//! * a **hook** is installed in a slot ([`HookSlot::install`]) and is called after every block it asked for;
//! * the **scope** ties the two together for the length of one forward pass, on the thread that runs it.
//!
//! A hook that treats requests differently learns which is which in three steps: whoever sends a request marks it
//! ([`marked`]), the engine claims it ([`HookSlot::claim`]) and admits its sequences ([`Claim::admit`]), and every row
//! of a forward pass carries what the hook answered ([`Row::state`]).
//!
//! Why a scope and not a field of the model: every model already hands its stream to one function at the top of each
//! block, but that function knows neither the model nor the requests in the batch. The thread does, because a forward
//! pass is synchronous. So models stay as they are, two models in one process can't see each other's hooks, and a
//! forward pass outside any scope (a calibration run, a probe) is never touched.
//!
//! Cost: a model without a hook pays one read of an unset thread-local per block; a layer that the hook did not ask
//! for pays that and one branch.
//!
//! This crate depends on candle-core alone and knows nothing of steering.

mod batch;
mod hook;
mod request;
mod seam;
mod slot;

pub use batch::{BatchView, Phase, Row};
pub use hook::{Admission, Prompt, RequestState, ResidualHook, Turn};
pub use request::{MARKED, Marked, RequestMark, current_mark, marked};
pub use seam::{after_last_block, before_block};
pub use slot::{Claim, HookSlot, InstallError, StreamInfo, Support};
