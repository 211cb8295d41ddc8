//! Small statistics over values and states; every one is tested against scipy, numpy or scikit-learn.
//!
//! | module | role |
//! | --- | --- |
//! | `summary` | mean, harmonic mean, standard deviation, quantiles |
//! | `paired` | Pearson correlation, mean squared error, least-squares slope |
//! | `bootstrap` | resamples of items and of clusters |
//! | `interval` | intervals from resamples, for few clusters, and with a further error |
//! | `half_samples` | standard errors from random halves |
//! | `p_value` | ranks among controls, Holm's correction |
//! | `rank` | Spearman correlation |
//! | `student` | quantiles of Student's distribution |
//! | `similarity` | debiased linear CKA of two models' states |
//! | `prediction` | R² by dimension and cosine of predicted states |
//!
//! How well directions separate pairs is in [`steermap_extract::statistics`].

mod bootstrap;
mod half_samples;
mod interval;
mod p_value;
mod paired;
mod prediction;
mod rank;
mod similarity;
mod student;
mod summary;
#[cfg(test)]
mod tests;

pub use bootstrap::Resamples;
pub use half_samples::half_sample_error;
pub use interval::{for_few_clusters, interval, mean_interval, ratio_interval, statistic_interval, widened};
pub use p_value::{holm, least_draws, rank_p_value};
pub use paired::{mse, pearson, slope};
pub use prediction::{RSquared, mean_cosine, r_squared};
pub use rank::spearman;
pub use similarity::Gram;
pub use steermap_extract::statistics::{Folds, Z, mid_ranks, wilson_interval};
pub use steermap_fit::median;
pub use student::student;
pub use summary::{harmonic_mean, mean, quantile, quantiles, standard_deviation};
