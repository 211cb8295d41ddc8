//! Small statistics over values and states; every one is tested against scipy, numpy or scikit-learn.
//!
//! | module | role |
//! | --- | --- |
//! | `summary` | mean, standard deviation, quantiles |
//! | `paired` | Pearson correlation, mean squared error, least-squares slope |
//! | `separation` | mean difference, area under the ROC curve, cross-validation |
//! | `folds` | which pairs are held out together |
//! | `proportion` | Wilson's interval of a share |
//! | `bootstrap` | percentile intervals |
//! | `similarity` | linear CKA of two models' states |
//! | `prediction` | R² by dimension and cosine of predicted states |

mod bootstrap;
mod folds;
mod paired;
mod prediction;
mod proportion;
mod separation;
mod similarity;
mod summary;
#[cfg(test)]
mod tests;

pub use bootstrap::{Resamples, interval, mean_interval};
pub use folds::{Folds, LEAST_GROUPS};
pub use paired::{mse, pearson, slope};
pub use prediction::{RSquared, mean_cosine, r_squared};
pub use proportion::wilson_interval;
pub use separation::{auroc, auroc_interval, held_out_auroc, mean_difference};
pub use similarity::{Centred, linear_cka};
pub use summary::{Mean, mean, quantile, quantiles, standard_deviation};
