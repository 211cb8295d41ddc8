//! Curves, slopes, retention, correlations and errors from propensities, with their intervals. No model runs here.

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use steermap_report::result::{Curve, Estimate, RandomCurves, SteeringKind, ValueSpread};

use crate::statistics::{
    Resamples, Z, for_few_clusters, interval, mean, mean_interval, mse, pearson, quantiles, slope, standard_deviation,
    statistic_interval, widened,
};

/// Fewer tasks than this are not resampled: two don't show how tasks differ.
const LEAST_TASKS: usize = 3;

/// Propensities `[alpha][item]`.
pub type Propensities = Vec<Vec<f64>>;

/// The mean of `values` (one per item of `resamples`), with its interval.
pub fn estimate(values: &[f64], resamples: &Resamples) -> Estimate {
    let (low, high) = mean_interval(values, resamples);
    Estimate {
        value: mean(values),
        low,
        high,
    }
}

/// Mean, deviation and range of `values`, with the interval of their mean over resamples of as many values. `None`
/// without values.
pub fn spread(values: &[f64], resamples: usize, seed: u64) -> Option<ValueSpread> {
    let range = quantiles(values, [0.025, 0.975])?;
    let (low, high) = mean_interval(values, &Resamples::new(resamples, values.len(), seed));
    Some(ValueSpread {
        count: values.len(),
        mean: mean(values),
        deviation: standard_deviation(values).unwrap_or(0.0),
        interval: [low, high],
        range,
    })
}

/// By item: the slope of its propensity against alpha. The slope of the mean is the mean of these.
///
/// # Errors
///
/// Alphas that are all the same.
pub fn item_slopes(alphas: &[f64], propensities: &Propensities) -> Result<Vec<f64>> {
    by_item(propensities)
        .map(|item| slope(alphas, &item).context("alphas: found one, expected several"))
        .collect()
}

/// The slope of the mean propensity over items against alpha.
///
/// # Errors
///
/// Alphas that are all the same.
pub fn mean_slope(alphas: &[f64], propensities: &Propensities) -> Result<f64> {
    slope(alphas, &means(propensities)).context("alphas: found one, expected several")
}

/// By alpha: the mean over items.
fn means(propensities: &Propensities) -> Vec<f64> {
    propensities.iter().map(|items| mean(items)).collect()
}

/// The curve of mean propensity against alpha, with its intervals.
///
/// # Errors
///
/// Alphas that are all the same.
pub fn curve(kind: SteeringKind, alphas: &[f64], propensities: Propensities, resamples: &Resamples) -> Result<Curve> {
    let slope = estimate(&item_slopes(alphas, &propensities)?, resamples);
    let points: Vec<Estimate> = propensities.iter().map(|items| estimate(items, resamples)).collect();
    Ok(Curve {
        kind,
        slope,
        mean: points.iter().map(|point| point.value).collect(),
        low: points.iter().map(|point| point.low).collect(),
        high: points.iter().map(|point| point.high).collect(),
        items: propensities,
    })
}

/// Slope of the mean propensity with the mapped vector over that with the native one, from the items' slopes. The
/// interval is of the ratio over the same resampled items, wider by `standard_error` of the vectors themselves.
pub fn retention(native_slopes: &[f64], mapped_slopes: &[f64], resamples: &Resamples, standard_error: f64) -> Estimate {
    mean_retention(&[(native_slopes, mapped_slopes)], resamples, standard_error)
}

/// The mean of several layers' [`retention`]s, each from its native and its mapped slopes of the same items.
pub fn mean_retention(layers: &[(&[f64], &[f64])], resamples: &Resamples, standard_error: f64) -> Estimate {
    let total = |slopes: &[f64], items: &[usize]| items.iter().map(|&item| slopes[item]).sum::<f64>();
    let over = |items: &[usize]| {
        let ratios = layers
            .iter()
            .map(|(native, mapped)| total(mapped, items) / total(native, items));
        ratios.sum::<f64>() / layers.len() as f64
    };
    let all: Vec<usize> = (0..resamples.items()).collect();
    let value = over(&all);
    let (low, high) = widened(value, statistic_interval(resamples, over), standard_error);
    Estimate { value, low, high }
}

/// The mean of estimates on several tasks. The interval resamples tasks and draws each one's value from the normal
/// distribution that its own interval states; with one or two tasks it only does the latter. `None` without estimates.
pub fn mean_of(estimates: &[Estimate], resamples: usize, seed: u64) -> Option<Estimate> {
    if estimates.is_empty() {
        return None;
    }
    let count = estimates.len();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let means: Vec<f64> = (0..resamples)
        .map(|_| {
            let drawn = (0..count).map(|place| {
                let task = if count < LEAST_TASKS {
                    place
                } else {
                    rng.random_range(0..count)
                };
                let Estimate { value, low, high } = estimates[task];
                let normal: f64 = StandardNormal.sample(&mut rng);
                let width = if normal < 0.0 { value - low } else { high - value };
                value + normal * width / Z
            });
            drawn.sum::<f64>() / count as f64
        })
        .collect();
    let value = mean(&estimates.iter().map(|estimate| estimate.value).collect::<Vec<_>>());
    let (low, high) = if count < LEAST_TASKS {
        interval(&means)
    } else {
        for_few_clusters(value, interval(&means), count as f64)
    };
    Some(Estimate { value, low, high })
}

/// The mean of estimates between 0 and 1 on several tasks, whose intervals may be skewed. The interval resamples tasks,
/// whose values include their own uncertainty; with one or two tasks it is the mean of their intervals, which is wider
/// than that of independent estimates. `None` without estimates.
pub fn mean_of_bounded(estimates: &[Estimate], resamples: usize, seed: u64) -> Option<Estimate> {
    let all = |of: fn(&Estimate) -> f64| estimates.iter().map(of).collect::<Vec<f64>>();
    let values = all(|estimate| estimate.value);
    if estimates.len() >= LEAST_TASKS {
        return Some(bounded(estimate_of(&spread(&values, resamples, seed)?)));
    }
    (!estimates.is_empty()).then(|| Estimate {
        value: mean(&values),
        low: mean(&all(|estimate| estimate.low)),
        high: mean(&all(|estimate| estimate.high)),
    })
}

/// An estimate with its interval clamped to 0 to 1.
pub fn bounded(estimate: Estimate) -> Estimate {
    Estimate {
        low: estimate.low.clamp(0.0, 1.0),
        high: estimate.high.clamp(0.0, 1.0),
        ..estimate
    }
}

/// The mean of a spread, with its interval.
pub fn estimate_of(spread: &ValueSpread) -> Estimate {
    Estimate {
        value: spread.mean,
        low: spread.interval[0],
        high: spread.interval[1],
    }
}

/// The means over items of random directions, by alpha, and their slopes. `by_direction`: `[direction][alpha][item]`.
///
/// # Errors
///
/// No direction, or alphas that are all the same.
pub fn random_curves(alphas: &[f64], by_direction: &[Propensities]) -> Result<RandomCurves> {
    let means: Vec<Vec<f64>> = by_direction.iter().map(means).collect();
    let at = |alpha: usize| -> Vec<f64> { means.iter().map(|direction| direction[alpha]).collect() };
    let ranges: Option<Vec<[f64; 2]>> = (0..alphas.len()).map(|i| quantiles(&at(i), [0.025, 0.975])).collect();
    let ranges = ranges.context("found no random direction")?;
    let slopes = by_direction.iter().map(|direction| mean_slope(alphas, direction));
    Ok(RandomCurves {
        alphas: alphas.to_vec(),
        mean: (0..alphas.len()).map(|i| mean(&at(i))).collect(),
        low: ranges.iter().map(|range| range[0]).collect(),
        high: ranges.iter().map(|range| range[1]).collect(),
        slopes: slopes.collect::<Result<_>>()?,
    })
}

/// By alpha other than 0: Pearson correlation over items of two vectors' propensities, as in arXiv 2506.00653, 3.4.
/// Alphas at which either is the same for all items are left out.
pub fn alpha_pearsons(alphas: &[f64], a: &Propensities, b: &Propensities) -> Vec<f64> {
    let both = alphas.iter().zip(a.iter().zip(b));
    let steered = both.filter(|(alpha, _)| **alpha != 0.0);
    steered.filter_map(|(_, (a, b))| pearson(a, b)).collect()
}

/// [`alpha_pearsons`], with the interval of their mean over resamples of the items. `None` where there is none.
pub fn alpha_pearson(alphas: &[f64], a: &Propensities, b: &Propensities, resamples: &Resamples) -> Option<ValueSpread> {
    let found = alpha_pearsons(alphas, a, b);
    let range = quantiles(&found, [0.025, 0.975])?;
    let value = mean(&found);
    let over = |items: &[usize]| {
        let of = |all: &Propensities| -> Propensities {
            all.iter()
                .map(|row| items.iter().map(|&item| row[item]).collect())
                .collect()
        };
        let found = alpha_pearsons(alphas, &of(a), &of(b));
        // A resample that repeats one item has no correlation.
        if found.is_empty() { value } else { mean(&found) }
    };
    let (low, high) = statistic_interval(resamples, over);
    Some(ValueSpread {
        count: found.len(),
        mean: value,
        deviation: standard_deviation(&found).unwrap_or(0.0),
        interval: [low.max(-1.0), high.min(1.0)],
        range,
    })
}

/// By item: Pearson correlation over alphas of two vectors' propensities; items where either is constant are left out.
pub fn item_pearsons(a: &Propensities, b: &Propensities) -> Vec<f64> {
    by_item(a)
        .zip(by_item(b))
        .filter_map(|(a, b)| pearson(&a, &b))
        .collect()
}

/// By item: mean over alphas of the squared difference of two vectors' propensities.
pub fn item_errors(a: &Propensities, b: &Propensities) -> Vec<f64> {
    by_item(a).zip(by_item(b)).filter_map(|(a, b)| mse(&a, &b)).collect()
}

/// The probability of the positive answer among the two: the logistic function of each propensity.
pub fn probabilities(propensities: &Propensities) -> Propensities {
    let probability = |propensity: &f64| 1.0 / (1.0 + (-propensity).exp());
    propensities
        .iter()
        .map(|items| items.iter().map(probability).collect())
        .collect()
}

/// Each item's values over alphas.
fn by_item(propensities: &Propensities) -> impl Iterator<Item = Vec<f64>> + '_ {
    let items = propensities.first().map_or(0, Vec::len);
    (0..items).map(move |item| propensities.iter().map(|at| at[item]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two items: 1 + 2 alpha, and -1 + 4 alpha.
    fn lines(factor: f64) -> Propensities {
        [-1.0, 0.0, 1.0]
            .map(|alpha| vec![1.0 + 2.0 * factor * alpha, -1.0 + 4.0 * factor * alpha])
            .to_vec()
    }

    const ALPHAS: [f64; 3] = [-1.0, 0.0, 1.0];

    #[test]
    fn a_curve_by_hand() {
        let resamples = Resamples::new(500, 2, 1);
        let curve = curve(SteeringKind::Native, &ALPHAS, lines(1.0), &resamples).unwrap();
        assert_eq!(curve.mean, [-3.0, 0.0, 3.0]);
        assert_eq!(curve.slope.value, 3.0);
        // A resample is one item twice, or both; of two items little is known.
        let of_two = |value, low, high| for_few_clusters(value, (low, high), 2.0);
        assert_eq!((curve.slope.low, curve.slope.high), of_two(3.0, 2.0, 4.0));
        assert_eq!((curve.low[1], curve.high[1]), of_two(0.0, -1.0, 1.0));
        assert!(super::curve(SteeringKind::Native, &[1.0, 1.0, 1.0], lines(1.0), &resamples).is_err());
    }

    #[test]
    fn retention_is_a_ratio_of_the_same_items() {
        let resamples = Resamples::new(500, 2, 1);
        let slopes = |factor| item_slopes(&ALPHAS, &lines(factor)).unwrap();
        let half = retention(&slopes(1.0), &slopes(0.5), &resamples, 0.0);
        assert_eq!((half.value, half.low, half.high), (0.5, 0.5, 0.5));
        // 1 of 2 on the first item, 0 of 4 on the second.
        let uneven = retention(&[2.0, 4.0], &[1.0, 0.0], &resamples, 0.0);
        assert_eq!(uneven.value, 1.0 / 6.0);
        assert_eq!((uneven.low, uneven.high), for_few_clusters(1.0 / 6.0, (0.0, 0.5), 2.0));
    }

    #[test]
    fn the_vectors_own_uncertainty_widens_retention() {
        let resamples = Resamples::new(500, 2, 1);
        let wide = retention(&[2.0, 4.0], &[1.0, 2.0], &resamples, 0.1);
        assert_eq!(wide.value, 0.5);
        assert!(
            (wide.low - 0.304).abs() < 1e-3 && (wide.high - 0.696).abs() < 1e-3,
            "{wide:?}"
        );
        // Of two layers, 0.5 and 0.25.
        let both: [(&[f64], &[f64]); 2] = [(&[2.0, 4.0], &[1.0, 2.0]), (&[8.0, 8.0], &[2.0, 2.0])];
        let mean = mean_retention(&both, &resamples, 0.0);
        assert_eq!((mean.value, mean.low, mean.high), (0.375, 0.375, 0.375));
    }

    #[test]
    fn few_tasks_have_their_own_intervals() {
        let of = |value: f64, half: f64| Estimate {
            value,
            low: value - half,
            high: value + half,
        };
        let one = mean_of(&[of(0.88, 0.2)], 4000, 1).unwrap();
        assert!(
            (one.low - 0.68).abs() < 0.02 && (one.high - 1.08).abs() < 0.02,
            "{one:?}"
        );
        // The error of a mean of two is smaller by the root of 2.
        let two = mean_of(&[of(0.5, 0.2), of(1.5, 0.2)], 4000, 1).unwrap();
        assert!(
            (two.value - 1.0).abs() < 1e-12 && (two.low - 0.859).abs() < 0.02,
            "{two:?}"
        );
        // More of them differ from each other.
        let many: Vec<Estimate> = (0..20).map(|i| of(f64::from(i) / 10.0, 0.0)).collect();
        let many = mean_of(&many, 4000, 1).unwrap();
        // The standard deviation of 0 to 1.9 is 0.577, of a mean of 20 0.129.
        assert!(
            (many.value - 0.95).abs() < 1e-12 && (many.high - many.value - 0.253).abs() < 0.03,
            "{many:?}"
        );
        assert_eq!(mean_of(&[], 10, 1), None);
    }

    #[test]
    fn items_are_compared_one_by_one() {
        let (a, mut b) = (lines(1.0), lines(1.0));
        assert!(item_pearsons(&a, &b).iter().all(|r| (r - 1.0).abs() < 1e-12));
        assert_eq!(item_errors(&a, &b), [0.0, 0.0]);
        // The first item turned around, the second held still.
        b.reverse();
        b.iter_mut().for_each(|items| items[1] = 7.0);
        let pearsons = item_pearsons(&a, &b);
        assert_eq!(pearsons.len(), 1);
        assert!((pearsons[0] + 1.0).abs() < 1e-12);
        // (4^2 + 0 + 4^2) / 3
        assert!((item_errors(&a, &b)[0] - 32.0 / 3.0).abs() < 1e-12);
        let certain = probabilities(&vec![vec![0.0, 1e9, -1e9]]);
        assert_eq!(certain[0], [0.5, 1.0, 0.0]);
    }

    #[test]
    fn random_directions_have_a_band_and_slopes() {
        let curves = random_curves(&ALPHAS, &[lines(1.0), lines(-1.0), lines(0.0)]).unwrap();
        assert_eq!(curves.slopes, [3.0, -3.0, 0.0]);
        assert_eq!(curves.mean, [0.0, 0.0, 0.0]);
        // Quantiles between -3, 0 and 3.
        assert!((curves.high[2] - 2.85).abs() < 1e-12 && (curves.low[2] + 2.85).abs() < 1e-12);
        assert!(random_curves(&ALPHAS, &[]).is_err());
    }

    #[test]
    fn a_spread_by_hand() {
        let spread = spread(&[1.0, 2.0, 3.0], 2000, 3).unwrap();
        assert_eq!((spread.count, spread.mean, spread.deviation), (3, 2.0, 1.0));
        assert!(spread.interval[0] < 1.0 && spread.interval[1] > 3.0, "{spread:?}");
        assert!(super::spread(&[], 10, 0).is_none());
    }
}
