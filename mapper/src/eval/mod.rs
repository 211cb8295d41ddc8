//! `mapper eval`: measures how well steering transfers through a map. The protocol of arXiv 2506.00653 with controls,
//! through the real engine and the plugin's own code.
//!
//! | module | role |
//! | --- | --- |
//! | [`options`], [`job`] | the options; loads the models and runs everything |
//! | `inputs` | the files, read and checked before a model is loaded |
//! | [`protocol`] | what is fixed before anything is measured |
//! | [`alphas`] | the strengths to steer at |
//! | [`text`] | the neutral text |
//! | [`representation`] | how well the map predicts states |
//! | [`vectors`], [`halves`] | each task's vectors on both models, and vectors from halves of its pairs |
//! | [`measure`] | propensities and perplexity of one task |
//! | [`texts`], [`scores`] | generated texts; their scores, and the strength that they choose |
//! | [`baseline`], [`judge`] | the prompting baseline; a model that scores texts |
//! | [`layers`], [`controls`] | slopes by layer; control directions |
//! | `task` | the result of one task |
//! | [`conclusion`], [`summary`] | results that need all tasks; means over tasks |
//! | [`perplexity`] | perplexity of the neutral text |
//! | [`search`], [`config`] | the spec to serve, from the finding half; as a file |
//! | [`analysis`] | curves, slopes, retention and intervals, from numbers only |
//! | [`verdict`] | verdicts in words |
//! | [`journal`] | the measurements so far |
//!
//! The result types are in the crate steermap-report, which also writes the report.

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
pub mod options;
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
pub use journal::Stopped;
pub use judge::Judge;
pub use options::EvalJob;
pub use protocol::{Draws, SteeredLayers};
pub use texts::TextDraws;
