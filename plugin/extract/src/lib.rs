//! Reads residual streams of models that run in mistral.rs, and finds steering vectors from contrastive pairs, with the
//! same code offline (`mapper vector`) and while a server runs (`POST /v1/steering/vectors`).
//!
//! | module | role |
//! | --- | --- |
//! | `table` | deserialization of tables that refuses lists |
//! | [`text`] | texts, chats, contrastive pairs |
//! | [`model_files`] | a model on disk: sizes, tokenizer and fingerprint |
//! | [`device`] | the device of a model: `auto`, `cpu`, `cuda:0` |
//! | [`layers`] | selections of layers: `all`, `3,5-9` |
//! | [`running`] | one model of a running engine: tokenize, send |
//! | `source` | the model that a session loads, and its settings |
//! | [`session`] | loads a model into a separate engine |
//! | [`capture`] | captures the residual stream of prompts |
//! | [`distinct`] | finds repeated pairs, and pairs that share a text |
//! | [`states`] | reads the states of pairs in the engine |
//! | [`position`] | which state represents a text |
//! | [`method`] | the methods that find a direction from states |
//! | `pca`, `logistic` | the computations of the methods |
//! | [`sign`] | the sign of a principal component |
//! | [`find`](mod@find) | makes a vector file |
//! | [`neutral`] | the component along a vector on neutral text |
//! | [`statistics`] | how well directions separate pairs |
//! | [`words`] | shortens the engine's messages |
//!
//! It knows models, pairs and vector files, but neither HTTP nor maps between models. Without its feature `engine` it
//! lacks [`device`], [`model_files`], [`running`] and [`session`], and does not depend on mistral.rs.

#![warn(missing_docs)]

pub mod capture;
#[cfg(feature = "engine")]
pub mod device;
pub mod distinct;
pub mod error;
pub mod find;
pub mod layers;
mod logistic;
pub mod method;
#[cfg(feature = "engine")]
pub mod model_files;
pub mod neutral;
mod pca;
pub mod position;
#[cfg(feature = "engine")]
pub mod running;
#[cfg(feature = "engine")]
pub mod session;
pub mod sign;
#[cfg(feature = "engine")]
mod source;
pub mod states;
pub mod statistics;
mod table;
pub mod text;
pub mod words;

pub use distinct::DistinctPairs;
pub use error::ExtractError;
pub use find::{Origin, VectorOfPairs, Wanted, find};
pub use layers::LayerSelection;
pub use method::Method;
#[cfg(feature = "engine")]
pub use running::Running;
#[cfg(feature = "engine")]
pub use session::StreamSession;
pub use sign::Sign;
#[cfg(feature = "engine")]
pub use source::ModelSource;
pub use states::{PairStates, ReadProgress, Reader};
pub use text::{Message, Pair, Text};
