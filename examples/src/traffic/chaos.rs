//! Hostile requests beside ordinary ones. Every ordinary answer must equal the one that its request gets alone.
//! Afterwards, texts that were requested continue as on a server that never saw them. The server must never panic, and
//! its memory must not keep growing.

mod plan;
mod report;
mod run;

pub use plan::{ChaosPlan, StormLength};
pub use report::{ChaosReport, HostileTally};
pub use run::run;
