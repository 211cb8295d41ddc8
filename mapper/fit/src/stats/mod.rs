//! Sufficient statistics of paired streams.
//!
//! A fit runs a source and a target model over text and pairs positions; each paired position is a row: the source's
//! states at some layers and the target's at some layers. Train rows are kept as the sums that an affine least-squares
//! fit needs. Of validation rows, which lambda is chosen on, and of test rows, which quality is measured on, a sample
//! is kept. So memory doesn't grow with the text, and shards can be collected separately and merged.
//!
//! | module | role |
//! | --- | --- |
//! | [`layout`] | which layers and pairs of them |
//! | [`split`] | train, validation or test: by the document's hash |
//! | [`statistics`] | [`Statistics`]: rows in, sums and samples out |
//! | [`held_out`] | the moments of sampled rows, one input and one pair at a time |
//! | `block` | centring and multiplying a block of rows |
//! | [`moments`] | sums, and how two of them join |
//! | [`sample`] | a bounded sample of rows |
//! | [`mod@file`] | a `.stats` file: checked on reading, written atomically |
//! | `shuffled` | the same rows, wrongly paired, as a control |
//! | [`memory`] | the memory of statistics, before any row is added |
//! | [`matrix`], [`error`] | a plain matrix; errors |

pub mod error;
pub mod file;
pub mod held_out;
pub mod layout;
pub mod matrix;
pub mod memory;
pub mod moments;
pub mod sample;
pub mod split;
pub mod statistics;

mod block;
mod shuffled;
#[cfg(test)]
mod tests;

pub use error::{StatsError, StatsFileError};
pub use held_out::HeldOut;
pub use layout::{Layout, LayoutError, PairSpec};
pub use memory::Memory;
pub use moments::Moments;
pub use sample::{Sample, SampleRow};
pub use split::Split;
pub use statistics::{Precision, Rows, Statistics};
