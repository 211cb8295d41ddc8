//! The steering spec: one schema for the configuration file (TOML) and requests (JSON).
//!
//! ```toml
//! conflict = "sequential"             # or "first", "error"
//! norm = "free"                       # or "preserve"
//!
//! [[vectors]]
//! vector = "happy"
//! map = "small-to-large"              # absent: the vector is native to the served model
//! op = "add"                          # or "ablate", "set", "clamp" (between min and max)
//! scale = 4.0                         # or relative_scale, in units of the stream's mean norm, or std_scale
//! layers = [11]
//! apply = { prompt = { positions = [-1] }, generation = "all" }
//!
//! [[vectors]]
//! vector = "polite"
//! relative_scale = 0.1
//! when = { vector = "rude", layer = 9, above = 2.5 }     # or { all = [..] }, { any = [..] }
//! schedule = { from = 1.0, to = 0.0, tokens = 40 }        # fades out
//! ```
//!
//! | module | role |
//! | --- | --- |
//! | `steering_spec`, `vector_use` | a whole spec: [`SteeringSpec`]; one vector and how it is used: [`VectorUse`] |
//! | `limits` | how large the parts of a spec may be |
//! | [`apply`] | which tokens a vector acts on: [`Apply`], [`Where`] |
//! | [`layers`] | which layers it acts at: [`Layers`] |
//! | [`vector_ref`] | which vector is used: [`VectorRef`] |
//! | [`pairs_vector`] | a vector that is found from pairs: [`PairsVector`] |
//! | [`when`] | the condition on which it acts: [`When`] |
//! | [`schedule`] | its strength over the course of a generation: [`Schedule`] |
//! | [`readout`] | what a request reads from the stream: [`Readout`], [`States`] |
//! | [`request`] | the `steering` field of a request, and how it combines with the default: [`RequestSteering`] |
//! | [`schema()`](mod@schema) | the JSON Schema of all of it |
//! | `json` | reads JSON, with messages that name the field |

mod absent;
pub mod apply;
mod first_key;
mod foreign_schemas;
pub(crate) mod json;
pub mod layers;
mod limits;
mod number;
pub mod pairs_vector;
pub mod readout;
pub mod request;
pub mod schedule;
pub mod schema;
mod steering_spec;
mod validate;
pub mod vector_ref;
mod vector_use;
pub mod when;

pub use apply::{Apply, Role, Selection, TokenRef, Where, Window};
pub use layers::Layers;
pub use limits::{MAX_ENTRIES, MAX_LAYERS, MAX_POSITION, MAX_TOKEN_TEXT, MAX_VECTORS};
pub use pairs_vector::{FoundVector, PairsVector};
pub use readout::{ReadPhase, Readout, ReadoutMeasure, StateDtype, StatePositions, States};
pub use request::{Change, Mode, RequestSteering};
pub use schedule::{Schedule, Shape};
pub use schema::schema;
pub use steering_spec::{Conflict, NormRule, SteeringSpec};
pub use vector_ref::{InlineVector, VectorRef};
pub use vector_use::{Op, VectorUse};
pub use when::{DecisionFrequency, Test, TokenState, When};

#[cfg(test)]
mod tests;
