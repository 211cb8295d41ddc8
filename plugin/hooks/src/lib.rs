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
mod seam;
mod slot;

pub use batch::{BatchView, Phase, Row};
pub use hook::ResidualHook;
pub use seam::{after_last_block, before_block};
pub use slot::{HookSlot, InstallError, StreamInfo, Support};
