//! Hostile requests beside ordinary ones. Every ordinary answer must be the one that its request gets alone; afterwards
//! texts that were asked for go on as on a server that never met them; the server never panics and holds no more and more
//! memory.

mod report;
mod run;

use std::time::Duration;

pub use report::{HostileTally, Report};
pub use run::run;

use super::models::ServedModel;
use super::served::Dtype;

/// How much, and of which model.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The model.
    pub model: &'static ServedModel,
    /// What it runs in.
    pub dtype: Dtype,
    /// How long the storm is.
    pub length: StormLength,
    /// Number of requests under way at once.
    pub at_once: usize,
    /// Number of different ordinary requests, each of which is asked again and again.
    pub ordinary: usize,
    /// Number of texts that go on afterwards.
    pub continuations: usize,
    /// Seed of all that is random.
    pub seed: u64,
}

/// How long a storm is.
#[derive(Clone, Copy, Debug)]
pub enum StormLength {
    /// So long.
    Time(Duration),
    /// So many requests.
    Requests(usize),
}
