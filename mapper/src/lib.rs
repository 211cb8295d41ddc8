//! The offline half of steermap: runs models in mistral.rs, reads their residual streams, and writes vectors, maps and
//! evaluations to files.
//!
//! | module | role |
//! | --- | --- |
//! | [`session`] | a model loaded in the engine: tokenize, run, read the logits |
//! | [`steerer`] | steers single requests through the plugin |
//! | [`layer_pairs`] | which pairs of layers: `relative-depth`, `14:11` |
//! | [`records`], [`pairs`], [`corpus`] | files of JSON records; contrastive pairs; the documents of a corpus |
//! | [`tasks`] | behaviour tasks: ours, and data sets as they are published |
//! | [`windows`] | cuts documents into windows, by the text alone |
//! | [`align`] | pairs the positions at which two models have read the same text |
//! | [`collect`] | runs two models over a corpus and takes the statistics of their paired states |
//! | [`machine`] | free memory and disk space |
//! | [`progress`] | progress of long work |
//! | [`activations`] | `mapper capture`: a model's states over a corpus, to disk |
//! | [`by_rank`] | a map's quality by rank, as a table |
//! | [`map`] | `mapper fit`: from a corpus or from statistics to a map file |
//! | [`statistics`] | correlation, bootstrap, area under the ROC curve, CKA |
//! | [`vector`] | `mapper vector`, `mapper combine`: finds vectors and combines them |
//! | [`behaviour`] | propensities of two-choice items under many offsets at once |
//! | [`eval`] | `mapper eval`: measures how well steering transfers through a map |
//!
//! The methods that read streams and find vectors are in steermap-extract, which the server uses too.

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
