//! The offline half of steermap: runs models in mistral.rs, looks into their residual streams, and writes what it finds
//! to files.
//!
//! | module | role |
//! | --- | --- |
//! | [`session`] | a model loaded in the engine: tokenize, run, read logits |
//! | [`capture`] | a hook that keeps states |
//! | [`pairs`] | contrastive pairs, read from JSON lines |
//! | [`layers`] | which layers: `all`, `3,5-9` |
//! | [`statistics`] | mean difference, area under the ROC curve, cross-validation |
//! | [`vector`] | `mapper vector` |

#![warn(missing_docs)]

pub mod capture;
pub mod layers;
pub mod pairs;
pub mod session;
pub mod statistics;
pub mod vector;
