//! `mapper eval`: does steering go through a map? The protocol of arXiv 2506.00653 with controls, through the real engine
//! and the plugin's own ops.
//!
//! | module | role |
//! | --- | --- |
//! | [`job`] | what is asked for; loads, and runs it all |
//! | `inputs` | what is read and checked before a model is loaded |
//! | [`protocol`] | what is fixed before anything is measured |
//! | [`alphas`] | how strongly is steered |
//! | [`text`] | the neutral text |
//! | [`representation`] | how well the map predicts states |
//! | [`vectors`], [`halves`] | each task's vectors on both models, and those of halves of its pairs |
//! | [`measure`] | propensities and perplexity of one task |
//! | [`texts`], [`scores`] | its generated texts; how they score, and the strength that they choose |
//! | [`baseline`], [`judge`] | asking in the prompt instead of steering; a model that scores texts |
//! | [`layers`], [`controls`] | its layers; what other directions do |
//! | `task` | one task from its measurements to its result |
//! | [`conclusion`], [`summary`] | what needs all tasks; all of them together |
//! | [`perplexity`] | of the neutral text |
//! | [`search`], [`config`] | the spec to serve, from the finding half; as a file |
//! | [`analysis`] | curves, slopes, retention, intervals: of numbers alone |
//! | [`verdict`] | what the figures say |
//! | [`journal`] | what was measured so far |
//!
//! What comes out is of the crate steermap-report, which shows it.

pub mod alphas;
pub mod analysis;
pub mod baseline;
pub mod conclusion;
pub mod config;
pub mod controls;
pub mod halves;
pub mod job;
pub mod journal;
pub mod judge;
pub mod layers;
pub mod measure;
pub mod perplexity;
pub mod protocol;
pub mod representation;
pub mod scores;
pub mod search;
pub mod summary;
pub mod text;
pub mod texts;
pub mod vectors;
pub mod verdict;

mod inputs;
#[cfg(test)]
mod simulation;
mod task;

pub use alphas::Alphas;
pub use job::EvalJob;
pub use journal::Stopped;
pub use judge::Judge;
pub use protocol::{Draws, SteeredLayers};
pub use texts::TextDraws;
