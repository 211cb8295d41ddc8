//! Settings of a run.

use std::time::Duration;

use crate::traffic::models::ServedModel;
use crate::traffic::served::ServedDtype;

/// Settings of a run.
#[derive(Clone, Debug)]
pub struct ChaosPlan {
    /// The model.
    pub model: &'static ServedModel,
    /// The dtype that it runs in.
    pub dtype: ServedDtype,
    /// Length of the storm.
    pub length: StormLength,
    /// Number of concurrent requests.
    pub at_once: usize,
    /// Number of different ordinary requests, each of which is sent repeatedly.
    pub ordinary: usize,
    /// Number of texts that are continued afterwards.
    pub continuations: usize,
    /// Seed of all random choices.
    pub seed: u64,
}

/// Length of a storm.
#[derive(Clone, Copy, Debug)]
pub enum StormLength {
    /// A duration.
    Time(Duration),
    /// A number of requests.
    Requests(usize),
}
