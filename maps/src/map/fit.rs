//! How one pair's map was fitted and how good it is: the table `[pair.fit]`.

use serde::{Deserialize, Serialize};

use crate::error::Problem;

/// How far above their largest value R² and cosine may be, for what rounding adds when a fit is exact.
const ROUNDING: f64 = 1e-6;

/// How a pair's map was fitted, and how good it is on text that it was not fitted on.
///
/// R² is `1 - sum (h_T - prediction)^2 / sum (h_T - mean of the held-out h_T)^2`, at most 1 and negative for worse than
/// that mean. Without a suffix the sums go over all dimensions together, so that those with the largest variance
/// count most; `_median` is the median over the target's dimensions of their own R².
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitReport {
    /// How it was fitted, such as `"ridge"`.
    pub method: String,
    /// The weight of the penalty in what was minimised: mean squared error per row `+ lambda * ||A||_F^2`.
    /// Finite, 0 or more.
    pub lambda: f64,
    /// Rows (pairs of positions) that it was fitted on, one at least.
    pub rows: u64,
    /// Rows that `lambda` was chosen on, 0 if it was given.
    pub validation_rows: u64,
    /// Held-out rows that the numbers below come from, one at least.
    pub test_rows: u64,
    /// R² of the map.
    pub r2: f64,
    /// Its median over the dimensions.
    pub r2_median: f64,
    /// R² of predicting the mean of the rows fitted on.
    pub r2_mean_baseline: f64,
    /// Its median over the dimensions.
    pub r2_mean_baseline_median: f64,
    /// R² of predicting the source's own state. `None` if the models' sizes differ or there are several source layers.
    pub r2_identity_baseline: Option<f64>,
    /// Its median over the dimensions, there if `r2_identity_baseline` is.
    pub r2_identity_baseline_median: Option<f64>,
    /// Mean cosine of reconstructed and true states, over a sample of the held-out rows: -1 to 1.
    pub cosine: f64,
    /// Mean L2 norm of the stream at each source layer, in the order of `source_layers`. Finite, 0 or more.
    pub source_mean_norms: Vec<f64>,
    /// Mean L2 norm of the stream at the target layer. Finite, 0 or more.
    pub target_mean_norm: f64,
    /// How good the best map of each of some ranks would be, ascending; empty if that isn't known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub r2_by_rank: Vec<RankR2>,
}

/// How good the best map of a rank would be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankR2 {
    /// The rank, one at least.
    pub rank: u64,
    /// R² of the best map of that rank on the held-out rows.
    pub r2: f64,
}

impl FitReport {
    /// Checks all values. `table` is the table's name in messages, `source_layers` how many there are; `comparable`
    /// says whether the source's own state could be a prediction: one source layer, of the target's size.
    pub(super) fn check(&self, table: &str, source_layers: usize, comparable: bool) -> Result<(), Problem> {
        let field = |key: &str| format!("{table}.{key}");
        Problem::unless_said(&field("method"), &self.method)?;
        if !self.lambda.is_finite() || self.lambda < 0.0 {
            return Err(Problem::value(
                field("lambda"),
                self.lambda,
                "a finite number, 0 or more",
            ));
        }
        for (key, rows, least) in [
            ("rows", self.rows, 1),
            ("validation_rows", self.validation_rows, 0),
            ("test_rows", self.test_rows, 1),
        ] {
            Problem::unless_counted(&field(key), rows)?;
            if rows < least {
                return Err(Problem::value(field(key), rows, "at least 1"));
            }
        }
        self.check_identity(field, comparable)?;
        for (key, r2) in self.scores() {
            check_r2(&field(key), r2)?;
        }
        if self.cosine.is_nan() || self.cosine.abs() > 1.0 + ROUNDING {
            return Err(Problem::value(field("cosine"), self.cosine, "-1 to 1"));
        }
        if self.source_mean_norms.len() != source_layers {
            return Err(Problem::Count {
                field: field("source_mean_norms"),
                found: self.source_mean_norms.len(),
                expected: source_layers,
            });
        }
        for norm in &self.source_mean_norms {
            Problem::unless_norm(field("source_mean_norms"), *norm)?;
        }
        Problem::unless_norm(field("target_mean_norm"), self.target_mean_norm)?;
        self.check_ranks(&field("r2_by_rank"))
    }

    fn check_ranks(&self, field: &str) -> Result<(), Problem> {
        let mut last = 0;
        for RankR2 { rank, r2 } in &self.r2_by_rank {
            Problem::unless_counted(field, *rank)?;
            if *rank <= last {
                return Err(Problem::value(
                    field,
                    format!("rank {rank}"),
                    "ranks from 1 on, ascending",
                ));
            }
            check_r2(field, *r2)?;
            last = *rank;
        }
        Ok(())
    }

    fn check_identity(&self, field: impl Fn(&str) -> String, comparable: bool) -> Result<(), Problem> {
        let (all, median) = (self.r2_identity_baseline, self.r2_identity_baseline_median);
        if let Some(found) = all.or(median)
            && !comparable
        {
            let expected = "none, as sizes differ or there are several source layers";
            return Err(Problem::value(field("r2_identity_baseline"), found, expected));
        }
        if all.is_some() != median.is_some() {
            let expected = "r2_identity_baseline and r2_identity_baseline_median, or neither";
            return Err(Problem::value(field("r2_identity_baseline"), "one of two", expected));
        }
        Ok(())
    }

    /// All R² there are, with their keys.
    fn scores(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let scores = [
            ("r2", Some(self.r2)),
            ("r2_median", Some(self.r2_median)),
            ("r2_mean_baseline", Some(self.r2_mean_baseline)),
            ("r2_mean_baseline_median", Some(self.r2_mean_baseline_median)),
            ("r2_identity_baseline", self.r2_identity_baseline),
            ("r2_identity_baseline_median", self.r2_identity_baseline_median),
        ];
        scores.into_iter().filter_map(|(key, score)| Some((key, score?)))
    }
}

fn check_r2(field: &str, r2: f64) -> Result<(), Problem> {
    if r2.is_finite() && r2 <= 1.0 + ROUNDING {
        return Ok(());
    }
    Err(Problem::value(field, r2, "a finite number, at most 1"))
}
