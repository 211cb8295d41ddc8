//! Reads residual streams of models that run in mistral.rs, and finds steering vectors in them from contrastive pairs:
//! offline (`mapper vector`) and while a server runs (`POST /v1/steering/vectors`) by the same code.
//!
//! | module | role |
//! | --- | --- |
//! | `table` | tables that are read from tables alone |
//! | [`text`] | texts, chats, contrastive pairs |
//! | [`model_files`] | what a model on disk is: sizes, tokenizer and fingerprint |
//! | [`device`] | where a model runs: `auto`, `cpu`, `cuda:0` |
//! | [`layers`] | which layers: `all`, `3,5-9` |
//! | [`running`] | one model of a running engine: tokenize, send |
//! | [`session`] | a model that is loaded to be looked into |
//! | [`capture`] | keeps the residual stream of prompts |
//! | [`distinct`] | pairs that are there twice, or share a text |
//! | [`states`] | the states of pairs, read in the engine |
//! | [`position`] | which state stands for a text |
//! | [`method`] | how a direction is found from states |
//! | `pca`, `logistic` | what it is found with |
//! | [`sign`] | which way along a principal component is positive |
//! | [`find`](mod@find) | a vector file of all that |
//! | [`neutral`] | where the stream lies along a vector on neutral text |
//! | [`statistics`] | how well directions separate pairs |
//! | [`words`] | the engine's messages, for people |
//!
//! It knows models, pairs and vector files; nothing of HTTP, and nothing of maps between models. Without its feature `engine` it has
//! no models, [`device`], [`model_files`], [`running`] and [`session`], and nothing of mistral.rs.

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
pub mod states;
pub mod statistics;
mod table;
pub mod text;
pub mod words;

pub use distinct::DistinctPairs;
pub use error::ExtractError;
pub use find::{Found, Origin, Wanted, find};
pub use layers::LayerSelection;
pub use method::Method;
#[cfg(feature = "engine")]
pub use running::Running;
#[cfg(feature = "engine")]
pub use session::{ModelSource, Session};
pub use sign::Sign;
pub use states::{PairStates, ReadProgress, Reader};
pub use text::{Message, Pair, Text};
