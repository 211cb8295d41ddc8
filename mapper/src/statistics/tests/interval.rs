//! Resamples, intervals and standard errors.

use rand::Rng;
use rand_distr::Gamma;

use super::*;

#[test]
fn intervals_of_stored_resamples_are_numpys() {
    let Bootstrap {
        values,
        indices,
        interval: expected,
        ..
    } = reference().bootstrap;
    let means: Vec<f64> = indices
        .iter()
        .map(|indices| mean(&indices.iter().map(|&i| values[i]).collect::<Vec<_>>()))
        .collect();
    let (low, high) = interval(&means);
    near(low, expected[0], 1e-14);
    near(high, expected[1], 1e-14);
}

#[test]
fn our_own_resamples_agree_with_scipys() {
    let Bootstrap { values, scipy, .. } = reference().bootstrap;
    let resamples = Resamples::new(20_000, values.len(), 3);
    let (low, high) = mean_interval(&values, &resamples);
    let scipy = for_few_clusters(mean(&values), scipy.into(), values.len() as f64);
    // The standard error of either percentile of 20,000 normal means is 0.5% of the width, so that of their difference
    // is 0.7%.
    let tolerance = 0.03 * (scipy.1 - scipy.0);
    println!("{low} {high}, scipy {scipy:?}, tolerance {tolerance}");
    assert!((low - scipy.0).abs() < tolerance && (high - scipy.1).abs() < tolerance);
}

#[test]
fn resamples_are_seeded_and_drawn_from_all_items() {
    let resamples = Resamples::new(500, 7, 1);
    assert_eq!(resamples, Resamples::new(500, 7, 1));
    assert_ne!(resamples, Resamples::new(500, 7, 2));
    assert_eq!((resamples.iter().len(), resamples.items()), (500, 7));
    // What every machine has to draw.
    assert_eq!(resamples.iter().next().unwrap(), FIRST);
    let mut drawn = [0; 7];
    resamples.iter().flatten().for_each(|&item| drawn[item] += 1);
    // 500 each, with a standard deviation of 20.7.
    assert!(drawn.iter().all(|&times| (400..600).contains(&times)), "{drawn:?}");
}

/// `Resamples::new(500, 7, 1)`'s first.
const FIRST: [usize; 7] = [3, 2, 6, 0, 1, 4, 2];

#[test]
fn intervals_of_nothing_are_not_numbers() {
    let (low, high) = interval(&[]);
    assert!(low.is_nan() && high.is_nan());
    for (values, items) in [(&[][..], 0), (&[1.0][..], 2)] {
        let (low, high) = mean_interval(values, &Resamples::new(20, items, 1));
        assert!(low.is_nan() && high.is_nan());
    }
    assert_eq!(mean_interval(&[4.0], &Resamples::new(20, 1, 1)), (4.0, 4.0));
}

#[test]
fn clusters_of_one_are_items() {
    let labels = [4, 9, 0, 1, 7];
    assert_eq!(Resamples::clustered(300, &labels, 8), Resamples::new(300, 5, 8));
}

#[test]
fn clusters_are_drawn_whole() {
    // Three clusters, their items not side by side, of one, two and four items.
    let clusters = [5, 2, 5, 8, 5, 2, 5];
    let resamples = Resamples::clustered(500, &clusters, 1);
    assert_eq!(
        (resamples.iter().len(), resamples.items(), resamples.clusters()),
        (500, 7, 3)
    );
    // What every machine has to draw.
    assert_eq!(resamples.iter().next().unwrap(), FIRST_CLUSTERED);
    let mut times_drawn = [0; 3];
    for items in resamples.iter() {
        let times = |item: usize| items.iter().filter(|&&drawn| drawn == item).count();
        let counts: [usize; 7] = std::array::from_fn(times);
        assert_eq!(counts, [0, 1, 0, 3, 0, 1, 0].map(|item| counts[item]));
        assert_eq!(counts[0] + counts[1] + counts[3], 3);
        [0, 1, 3]
            .iter()
            .zip(&mut times_drawn)
            .for_each(|(&item, drawn)| *drawn += counts[item]);
    }
    // 500 each, with a standard deviation of 18.
    assert!(
        times_drawn.iter().all(|times| (420..580).contains(times)),
        "{times_drawn:?}"
    );
    let empty = Resamples::clustered(3, &[], 1);
    assert_eq!(
        (empty.iter().len(), empty.items(), empty.effective_clusters()),
        (3, 0, 0.0)
    );
}

/// The first of `Resamples::clustered(500, &[5, 2, 5, 8, 5, 2, 5], 1)`.
const FIRST_CLUSTERED: [usize; 5] = [1, 5, 1, 5, 3];

#[test]
fn clustered_intervals_agree_with_numpys() {
    let case = reference().clustered;
    let resamples = Resamples::clustered(20_000, &case.clusters, 5);
    let clusters = resamples.effective_clusters();
    assert!(resamples.clusters() == 15 && (10.0..15.0).contains(&clusters));
    let ratio = mean(&case.numerators) / mean(&case.denominators);
    let expected = [
        (
            mean(&case.numerators),
            case.mean,
            mean_interval(&case.numerators, &resamples),
        ),
        (
            ratio,
            case.ratio,
            ratio_interval(&case.numerators, &case.denominators, &resamples),
        ),
    ];
    for (value, percentiles, (low, high)) in expected {
        // As in `our_own_resamples_agree_with_scipys`.
        let tolerance = 0.03 * (percentiles[1] - percentiles[0]);
        let (numpys_low, numpys_high) = for_few_clusters(value, percentiles.into(), clusters);
        println!("{low} {high}, numpy {numpys_low} {numpys_high}, tolerance {tolerance}");
        assert!((low - numpys_low).abs() < tolerance && (high - numpys_high).abs() < tolerance);
    }
    // Taking the items as independent makes the mean look better known than it is.
    let (low, high) = mean_interval(&case.numerators, &Resamples::new(20_000, case.clusters.len(), 5));
    assert!(high - low < 0.8 * (case.mean[1] - case.mean[0]));
}

#[test]
fn few_clusters_have_scipys_factors() {
    for (clusters, factor) in reference().few_clusters {
        let (low, high) = for_few_clusters(3.0, (2.0, 5.0), clusters);
        near(3.0 - low, factor, 1e-4);
        near((high - 3.0) / 2.0, factor, 1e-4);
    }
    // Two clusters, one of which has nearly all items.
    assert_eq!(
        for_few_clusters(0.0, (-1.0, 1.0), 1.2),
        for_few_clusters(0.0, (-1.0, 1.0), 2.0)
    );
    for clusters in [0.0, 1.0] {
        assert_eq!(for_few_clusters(3.0, (2.0, 5.0), clusters), (2.0, 5.0));
    }
    assert_eq!(for_few_clusters(3.0, (4.0, f64::INFINITY), 9.0), (3.0, f64::INFINITY));
    assert!(for_few_clusters(3.0, (f64::NAN, 4.0), 9.0).0.is_nan());
}

/// Per cent of 300 samples whose interval holds the true value, of percentiles and of the widened interval: the mean of
/// skewed items, or the ratio 0.8 of normal ones. Clusters have 1 to 4 items, which share half of their variance.
fn coverage(clusters: usize, ratio: bool) -> [f64; 2] {
    const SAMPLES: u64 = 300;
    let skewed = Gamma::new(2.0, 0.5f64.sqrt()).unwrap();
    let mut hits = [0; 2];
    for sample in 0..SAMPLES {
        let mut rng = ChaCha8Rng::seed_from_u64(1000 * clusters as u64 + sample);
        let of: Vec<usize> = (0..clusters)
            .flat_map(|cluster| vec![cluster; rng.random_range(1..=4)])
            .collect();
        // Of mean 0 and variance 1.
        let mut values = || -> Vec<f64> {
            let mut part = || {
                if ratio {
                    StandardNormal.sample(&mut rng)
                } else {
                    skewed.sample(&mut rng) - 2f64.sqrt()
                }
            };
            let shared: Vec<f64> = (0..clusters).map(|_| part()).collect();
            of.iter()
                .map(|&cluster| (shared[cluster] + part()) / 2f64.sqrt())
                .collect()
        };
        let above = values();
        let below = if ratio { values() } else { vec![0.0; of.len()] };
        let below: Vec<f64> = below.iter().map(|value| 1.0 + 0.4 * value).collect();
        let truth = 0.8;
        let above: Vec<f64> = above
            .iter()
            .zip(&below)
            .map(|(noise, below)| truth * below + 0.3 * noise)
            .collect();
        let resamples = Resamples::clustered(300, &of, sample);
        let sum = |values: &[f64], items: &[usize]| items.iter().map(|&item| values[item]).sum::<f64>();
        let drawn: Vec<f64> = resamples
            .iter()
            .map(|items| sum(&above, items) / sum(&below, items))
            .collect();
        let percentiles = interval(&drawn);
        let value = mean(&above) / mean(&below);
        let widened = for_few_clusters(value, percentiles, resamples.effective_clusters());
        for (hits, (low, high)) in hits.iter_mut().zip([percentiles, widened]) {
            *hits += u64::from(low <= truth && truth <= high);
        }
    }
    hits.map(|hits| 100.0 * hits as f64 / SAMPLES as f64)
}

/// A small version of `fixtures/simulate_clusters.py`.
#[test]
fn intervals_hold_the_truth_as_often_as_said() {
    let mut all = Vec::new();
    for clusters in [5, 10, 20] {
        let found = [false, true].map(|ratio| coverage(clusters, ratio));
        println!("{clusters} clusters, [percentiles, widened]: mean and ratio {found:?}");
        // One standard deviation is 1.3.
        for [percentiles, widened] in found {
            assert!((91.0..98.5).contains(&widened) && percentiles < widened);
            assert!(clusters > 10 || percentiles < 92.0);
            all.push(widened);
        }
    }
    // One standard deviation is 0.5.
    assert!((93.0..97.0).contains(&mean(&all)), "{all:?}");
}

#[test]
fn independent_errors_add_in_quadrature() {
    // 3 and 4 make 5, 12 and 4 nearly 12.65.
    let error = 4.0 / 1.959_963_984_540_054;
    let (low, high) = widened(10.0, (7.0, 22.0), error);
    near(low, 5.0, 1e-15);
    near(high, 10.0 + 160f64.sqrt(), 1e-15);
    assert_eq!(widened(10.0, (7.0, 22.0), 0.0), (7.0, 22.0));
    assert_eq!(widened(10.0, (11.0, 12.0), 0.0), (10.0, 12.0));
    assert_eq!(widened(10.0, (7.0, f64::INFINITY), 1.0).1, f64::INFINITY);
    assert!(widened(10.0, (f64::NAN, 12.0), 1.0).0.is_nan());
    assert!(widened(10.0, (7.0, 12.0), f64::NAN).0.is_nan());
}

#[test]
fn halves_of_a_sample_tell_its_error() {
    // Of a mean, all halves tell its standard error exactly.
    let sample = [0.3, -1.0, 2.5, 7.0, 0.0, 4.0, 4.5, -3.0];
    let halves: Vec<f64> = (0u32..256)
        .filter(|set| set.count_ones() == 4)
        .map(|set| {
            (0..8)
                .filter(|item| set >> item & 1 == 1)
                .map(|item| sample[item])
                .sum::<f64>()
                / 4.0
        })
        .collect();
    assert_eq!(halves.len(), 70);
    let error = standard_deviation(&sample).unwrap() / 8f64.sqrt();
    near(half_sample_error(mean(&sample), &halves).unwrap(), error, 1e-14);
    assert_eq!(half_sample_error(1.0, &[4.0, 5.0]), Some(12.5f64.sqrt()));
    assert_eq!(half_sample_error(1.0, &[]), None);
    assert_eq!(half_sample_error(1.0, &[f64::NAN]), None);
    assert_eq!(half_sample_error(f64::INFINITY, &[1.0]), None);
}
