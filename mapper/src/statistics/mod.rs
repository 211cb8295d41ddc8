//! Small statistics over values and states; every one is tested against scipy, numpy or scikit-learn.
//!
//! | module | role |
//! | --- | --- |
//! | `summary` | mean, harmonic mean, standard deviation, quantiles |
//! | `paired` | Pearson correlation, mean squared error, least-squares slope |
//! | `separation` | mean difference, area under the ROC curve, cross-validation |
//! | `folds` | which pairs are held out together |
//! | `proportion` | Wilson's interval of a share |
//! | `bootstrap` | resamples of items and of clusters |
//! | `interval` | intervals from resamples, for few clusters, and with a further error |
//! | `half_samples` | standard errors from random halves |
//! | `p_value` | ranks among controls, Holm's correction |
//! | `rank` | Spearman correlation |
//! | `student` | quantiles of Student's distribution |
//! | `similarity` | debiased linear CKA of two models' states |
//! | `prediction` | R² by dimension and cosine of predicted states |

mod bootstrap;
mod folds;
mod half_samples;
mod interval;
mod p_value;
mod paired;
mod prediction;
mod proportion;
mod rank;
mod separation;
mod similarity;
mod student;
mod summary;
#[cfg(test)]
mod tests;

pub use bootstrap::Resamples;
pub use folds::{Folds, LEAST_GROUPS};
pub use half_samples::half_sample_error;
pub use interval::{for_few_clusters, interval, mean_interval, ratio_interval, statistic_interval, widened};
pub use p_value::{holm, least_draws, rank_p_value};
pub use paired::{mse, pearson, slope};
pub use prediction::{RSquared, mean_cosine, r_squared};
pub use proportion::{Z, wilson_interval};
pub use rank::spearman;
pub use separation::{auroc, auroc_interval, held_out_auroc, mean_difference};
pub use similarity::Gram;
pub use student::student;
pub use summary::{Mean, harmonic_mean, mean, median, quantile, quantiles, standard_deviation};
