//! The offline half of steermap: runs models in mistral.rs, looks into their residual streams, and writes what it finds
//! to files.
//!
//! | module | role |
//! | --- | --- |
//! | [`session`] | a model loaded in the engine: tokenize, run, read logits |
//! | [`steerer`] | steers single requests, with the plugin |
//! | [`layer_pairs`] | which pairs of layers: `relative-depth`, `14:11` |
//! | [`records`], [`pairs`], [`corpus`] | files of JSON records; contrastive pairs; the documents of a corpus |
//! | [`tasks`] | behaviour tasks: ours, and data sets as they are published |
//! | [`windows`] | cuts documents into windows, by the text alone |
//! | [`align`] | pairs positions of two models by the text that they end |
//! | [`collect`] | runs two models over a corpus and takes the statistics of their paired states |
//! | [`machine`] | what memory and disk there is |
//! | [`progress`] | how far long work is |
//! | [`activations`] | `mapper capture`: a model's states over a corpus, to disk |
//! | [`by_rank`] | quality by rank, as text |
//! | [`map`] | `mapper fit`: from a corpus or from statistics to a map file |
//! | [`statistics`] | of values and states: correlation, bootstrap, area under the ROC curve, CKA |
//! | [`vector`] | `mapper vector`, `mapper combine`: how vectors are found and put together |
//! | [`behaviour`] | propensities of two-choice items under many offsets at once |
//! | [`eval`] | `mapper eval`: does steering go through a map? |
//!
//! How streams are read and vectors are found is in steermap-extract, which the server has too.

#![warn(missing_docs)]

pub mod activations;
pub mod align;
pub mod behaviour;
pub mod by_rank;
pub mod collect;
pub mod corpus;
pub mod eval;
pub mod layer_pairs;
pub mod machine;
pub mod map;
pub mod pairs;
pub mod progress;
pub mod records;
pub mod session;
pub mod statistics;
pub mod steerer;
pub mod tasks;
pub mod vector;
pub mod windows;

pub use steermap_extract::{capture, device, layers};
