//! Figures of benchmarks and long runs: quartiles, and files of JSON.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use steermap_mapper::statistics::quantiles;

/// First quartile, median and third quartile; NaN of nothing.
pub fn quartiles(values: &[f64]) -> [f64; 3] {
    quantiles(values, [0.25, 0.5, 0.75]).unwrap_or([f64::NAN; 3])
}

/// A 95% confidence interval of the median that assumes nothing about the distribution: the values of the ranks `k` and `n + 1 - k`, where
/// `k` is the largest for which at most 2.5% of the draws of a binomial distribution with `n` trials of one half are below `k` (the sign
/// test's interval; Conover, Practical Nonparametric Statistics, 3rd edition, section 3.2). NaN of fewer than six values.
pub fn median_interval(values: &[f64]) -> [f64; 2] {
    let n = values.len();
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    // The probability of exactly `k` of `n`, and of fewer.
    let mut exactly = 0.5_f64.powi(n as i32);
    let (mut below, mut rank) = (0.0, 0);
    while rank < n && below + exactly <= 0.025 {
        below += exactly;
        exactly *= (n - rank) as f64 / (rank + 1) as f64;
        rank += 1;
    }
    match rank {
        0 => [f64::NAN; 2],
        rank => [sorted[rank - 1], sorted[n - rank]],
    }
}

/// Writes figures as JSON to `path`, if there is one.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_json(path: Option<&Path>, figures: &impl Serialize) -> Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    std::fs::write(path, serde_json::to_string_pretty(figures)? + "\n").with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_the_median_has_the_ranks_of_the_tables() {
        // Ranks of 95% intervals in the published tables of the sign test.
        for (n, rank) in [(6, 1), (8, 1), (9, 2), (12, 3), (20, 6), (25, 8), (30, 10), (50, 18)] {
            let values: Vec<f64> = (1..=n).rev().map(f64::from).collect();
            assert_eq!(
                median_interval(&values),
                [f64::from(rank), f64::from(n + 1 - rank)],
                "{n}"
            );
        }
        assert!(median_interval(&[1.0; 5])[0].is_nan());
    }
}
