//! Sufficient statistics of paired streams.
//!
//! A fit runs a source and a target model over text and pairs positions; each paired position is a row: the source's
//! states at some layers and the target's at some layers. What an affine least-squares fit, its choice of lambda and
//! its quality need of the rows is kept as sums, so memory doesn't grow with the text, and shards can be measured
//! apart and merged.
//!
//! | module | role |
//! | --- | --- |
//! | [`layout`] | which layers and pairs of them |
//! | [`split`] | train, validation or test: by the document's hash |
//! | [`statistics`] | [`Statistics`]: rows in, sums out |
//! | `block` | centring and multiplying a block of rows |
//! | [`moments`] | the sums of one split, and how two of them join |
//! | [`sample`] | a bounded sample of test rows |
//! | [`mod@file`] | a `.stats` file: checked on reading, whole or not there |
//! | [`matrix`], [`error`] | a plain matrix; what can go wrong |

pub mod error;
pub mod file;
pub mod layout;
pub mod matrix;
pub mod moments;
pub mod sample;
pub mod split;
pub mod statistics;

mod block;
#[cfg(test)]
mod tests;

pub use block::norm;
pub use error::{StatsError, StatsFileError};
pub use layout::{Layout, LayoutError, PairSpec};
pub use moments::Moments;
pub use sample::{Sample, SampleRow};
pub use split::Split;
pub use statistics::{Precision, Rows, Statistics};
