//! How well directions separate pairs; every measure is tested against scipy or scikit-learn.
//!
//! | module | role |
//! | --- | --- |
//! | `folds` | the parts of a cross-validation |
//! | `separation` | mean difference, area under the ROC curve, cross-validation |
//! | `proportion` | Wilson's interval of a share |
//! | `ranks` | ranks, ties sharing their mean |
//! | `growing` | a running mean |

mod folds;
mod growing;
mod proportion;
mod ranks;
mod separation;
#[cfg(test)]
mod tests;

pub use folds::{FOLDS, Folds, LEAST_GROUPS};
pub use growing::RunningMean;
pub use proportion::{Z, wilson_interval};
pub use ranks::mid_ranks;
pub use separation::{auroc, auroc_interval, held_out_auroc, mean_difference};
