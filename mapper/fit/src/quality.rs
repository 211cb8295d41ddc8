//! The quality of a map, measured on test rows only.
//!
//! From test moments about the test means, a row `a` of `A` and the intercept `p` of dimension `j`:
//!
//! ```text
//! sum (y_j - a x - p)^2 = S_j - 2 a C_j + a G a^T + n (mean_j - a mean_x - p)^2
//! R2_j = 1 - that / S_j
//! ```
//!
//! which is scikit-learn's `r2_score` (`multioutput="raw_values"`); over all dimensions at once numerator and
//! denominator are summed first. The errors by rank of a low-rank fit are explained in `low_rank`.

use crate::error::FitError;
use crate::fitted::RankQuality;
use crate::low_rank::{Components, reported_ranks};
use crate::products::{column_dots, quadratics};
use crate::ridge::{matvec, product};
use crate::solution::Solution;
use crate::stats::Statistics;
use crate::stats::held_out::{InputMoments, PairMoments};

/// R² over all dimensions, and the median R² of single dimensions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct R2 {
    pub all: f64,
    pub median: f64,
}

/// The measures of one map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quality {
    pub map: R2,
    pub mean: R2,
    pub identity: Option<R2>,
    pub constant_dimensions: usize,
    pub cosine: f64,
    pub by_rank: Vec<RankQuality>,
}

/// The test rows of one input.
pub(crate) struct TestSet<'a> {
    input: usize,
    moments: InputMoments<'a>,
}

impl<'a> TestSet<'a> {
    /// Computes the moments of the test rows.
    pub fn of(statistics: &'a Statistics, input: usize) -> Self {
        Self {
            input,
            moments: statistics.test().input(statistics.plan(), input),
        }
    }

    /// Measures the map of a pair with this input; with the components of a low-rank fit also the quality by rank.
    ///
    /// # Errors
    ///
    /// [`FitError::ConstantTarget`]; [`FitError::NotFinite`] if sums overflowed.
    pub fn measure(
        &self,
        statistics: &Statistics,
        pair: usize,
        solution: &Solution,
        components: Option<&Components>,
    ) -> Result<Quality, FitError> {
        let (train, test) = (statistics.train(), self.moments.pair(pair));
        let plan = statistics.plan();
        let target = plan.pairs[pair].target;
        let (squares, mean) = (&test.squares, &test.mean);
        let n = self.moments.count;
        if squares.iter().all(|&squares| squares == 0.0) {
            return Err(FitError::ConstantTarget {
                layer: plan.targets[target],
            });
        }
        let r2 = |errors: &[f64]| r2(errors, squares);
        let (weight, gram) = (solution.weight.as_ref(), self.moments.gram());
        let gram_part = quadratics(gram, weight);
        let cross_part = column_dots(weight, test.cross());
        let predicted_mean = matvec(weight.transpose(), &self.moments.mean);
        let errors: Vec<f64> = (0..squares.len())
            .map(|j| {
                let off = mean[j] - predicted_mean[j] - f64::from(solution.bias[j]);
                squares[j] - 2.0 * cross_part[j] + gram_part[j] + n * off * off
            })
            .collect();
        let mean_errors: Vec<f64> = (0..squares.len())
            .map(|j| {
                let off = mean[j] - train.target_mean[target][j];
                squares[j] + n * off * off
            })
            .collect();
        let comparable =
            plan.inputs[self.input].layers.len() == 1 && plan.layout.source_hidden == plan.layout.target_hidden;
        let identity_errors = comparable.then(|| -> Vec<f64> {
            let cross = test.cross();
            (0..squares.len())
                .map(|j| {
                    let off = mean[j] - self.moments.mean[j];
                    squares[j] - 2.0 * cross[(j, j)] + gram[(j, j)] + n * off * off
                })
                .collect()
        });
        let by_rank = components.map_or_else(Vec::new, |components| {
            let errors = components.errors(statistics, pair, &self.moments, &test);
            let total: f64 = squares.iter().sum();
            let r2 = |rank: usize| 1.0 - errors[rank].max(0.0) / total;
            let ranks = reported_ranks(solution.rank, components.count()).into_iter();
            ranks.map(|rank| RankQuality { rank, r2: r2(rank) }).collect()
        });
        let quality = Quality {
            map: r2(&errors),
            mean: r2(&mean_errors),
            identity: identity_errors.map(|errors| r2(&errors)),
            constant_dimensions: squares.iter().filter(|&&squares| squares == 0.0).count(),
            cosine: self.cosine(&test, solution),
            by_rank,
        };
        let measures = [quality.map.all, quality.map.median, quality.mean.all, quality.cosine];
        let mut measures = measures.into_iter().chain(quality.by_rank.iter().map(|of| of.r2));
        if measures.any(|measure| !measure.is_finite()) {
            return Err(FitError::NotFinite {
                what: "a measure",
                source_layers: plan.inputs[self.input].layers.clone(),
            });
        }
        Ok(quality)
    }

    /// Mean cosine of `A x + p` and `y` over the sample; a state of norm 0 counts as 0, as does an empty sample.
    fn cosine(&self, test: &PairMoments<'_>, solution: &Solution) -> f64 {
        let predicted = product(solution.weight.transpose(), self.moments.states.as_ref(), 1.0);
        let cosines = test
            .states
            .col_iter()
            .zip(predicted.col_iter())
            .map(|(truth, predicted)| {
                let (mut dot, mut ours, mut theirs) = (0.0, 0.0, 0.0);
                for ((predicted, &bias), &truth) in predicted.iter().zip(&solution.bias).zip(truth.iter()) {
                    let predicted = predicted + f64::from(bias);
                    dot += predicted * truth;
                    ours += predicted * predicted;
                    theirs += truth * truth;
                }
                if ours > 0.0 && theirs > 0.0 {
                    dot / (ours.sqrt() * theirs.sqrt())
                } else {
                    0.0
                }
            });
        cosines.sum::<f64>() / test.states.ncols().max(1) as f64
    }
}

/// R² from the sums of squared errors and of squares, per dimension. At least one dimension must not be constant.
fn r2(errors: &[f64], squares: &[f64]) -> R2 {
    // A perfect map's error may round to just below 0.
    let errors = || errors.iter().map(|error| error.max(0.0));
    let own: Vec<f64> = errors()
        .zip(squares)
        .filter(|(_, squares)| **squares > 0.0)
        .map(|(error, squares)| 1.0 - error / squares)
        .collect();
    R2 {
        all: 1.0 - errors().sum::<f64>() / squares.iter().sum::<f64>(),
        median: median(&own),
    }
}

/// The middle value, or the mean of the middle two; NaN of none, and if one is NaN.
pub fn median(values: &[f64]) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_by_hand() {
        assert_eq!(median(&[3.0, -1.0, 2.0]), 2.0);
        assert_eq!(median(&[3.0, -1.0, 2.0, 1.0]), 1.5);
        assert!(median(&[]).is_nan());
        assert!(median(&[1.0, f64::NAN, 2.0]).is_nan());
    }

    #[test]
    fn constant_dimensions_count_in_the_whole_but_not_in_the_median() {
        let measured = r2(&[1.0, 3.0, 4.0, -1e-18], &[2.0, 4.0, 0.0, 2.0]);
        assert_eq!(measured.all, 1.0 - 8.0 / 8.0);
        assert_eq!(measured.median, 0.5);
    }
}
