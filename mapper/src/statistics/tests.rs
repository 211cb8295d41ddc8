use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::Deserialize;

use super::*;

mod interval;
mod p_value;
mod similarity;

/// Small data, and what scipy, numpy and scikit-learn say of them; made by `fixtures/make_statistics.py`.
#[derive(Deserialize)]
struct Reference {
    paired: Vec<Paired>,
    values: Vec<Values>,
    cka: Vec<Cka>,
    prediction: Prediction,
    bootstrap: Bootstrap,
    harmonic: Vec<Harmonic>,
    rank: Vec<Rank>,
    holm: Vec<Holm>,
    few_clusters: Vec<(f64, f64)>,
    clustered: Clustered,
}

#[derive(Deserialize)]
struct Paired {
    name: String,
    x: Vec<f64>,
    y: Vec<f64>,
    pearson: f64,
    spearman: f64,
    slope: f64,
    mse: f64,
}

#[derive(Deserialize)]
struct Values {
    name: String,
    values: Vec<f64>,
    mean: f64,
    standard_deviation: f64,
    at: [f64; 9],
    quantiles: [f64; 9],
}

#[derive(Deserialize)]
struct Cka {
    name: String,
    dx: usize,
    dy: usize,
    x: Vec<f32>,
    y: Vec<f32>,
    cka: f64,
    biased: f64,
}

#[derive(Deserialize)]
struct Prediction {
    width: usize,
    constant: usize,
    predicted: Vec<f32>,
    target: Vec<f32>,
    r2: Vec<f64>,
    all: f64,
    at: [f64; 9],
    quantiles: [f64; 9],
    cosine: f64,
}

#[derive(Deserialize)]
struct Bootstrap {
    values: Vec<f64>,
    indices: Vec<Vec<usize>>,
    interval: [f64; 2],
    scipy: [f64; 2],
}

#[derive(Deserialize)]
struct Harmonic {
    scores: Vec<f64>,
    mean: f64,
}

#[derive(Deserialize)]
struct Rank {
    observed: f64,
    controls: Vec<f64>,
    p: f64,
}

#[derive(Deserialize)]
struct Holm {
    p: Vec<f64>,
    adjusted: Vec<f64>,
}

#[derive(Deserialize)]
struct Clustered {
    clusters: Vec<usize>,
    numerators: Vec<f64>,
    denominators: Vec<f64>,
    mean: [f64; 2],
    ratio: [f64; 2],
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("fixtures/statistics.json")).unwrap()
}

/// Within `tolerance` of the reference, as a part of it.
#[track_caller]
fn near(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance * expected.abs(),
        "found {found}, expected {expected}"
    );
}

fn rows(values: &[f32], width: usize) -> Vec<&[f32]> {
    values.chunks_exact(width).collect()
}

/// Normal noise: `[rows, width]`.
fn noise(rows: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..rows * width).map(|_| StandardNormal.sample(&mut rng)).collect()
}

#[test]
fn correlations_slope_and_error_are_scipys() {
    for case in reference().paired {
        println!("{}", case.name);
        // The means of "a million times the spread" leave ten digits.
        let tolerance = if case.name.contains("million") { 1e-9 } else { 1e-12 };
        near(pearson(&case.x, &case.y).unwrap(), case.pearson, tolerance);
        near(spearman(&case.x, &case.y).unwrap(), case.spearman, 1e-12);
        near(slope(&case.x, &case.y).unwrap(), case.slope, tolerance);
        near(mse(&case.x, &case.y).unwrap(), case.mse, 1e-12);
    }
}

#[test]
fn what_has_no_spread_has_no_correlation_and_no_slope() {
    // Their mean is rounded, so that their distances from it aren't 0.
    let constant = [0.1, 0.1, 0.1];
    assert_ne!(mean(&constant), 0.1);
    let moving = [1.0, 2.0, 4.0];
    for correlation in [pearson, spearman] {
        assert_eq!(correlation(&constant, &moving), None);
        assert_eq!(correlation(&moving, &constant), None);
        assert_eq!(correlation(&moving, &[f64::NAN, 1.0, 2.0]), None);
    }
    assert_eq!(slope(&constant, &moving), None);
    assert_eq!(slope(&moving, &[5.0; 3]), Some(0.0));
    for (x, y) in [(&moving[..1], &moving[..1]), (&moving[..], &moving[..2]), (&[], &[])] {
        assert_eq!((pearson(x, y), spearman(x, y), slope(x, y)), (None, None, None));
    }
    assert_eq!(mse(&moving, &moving[1..]), None);
    assert_eq!(mse(&[], &[]), None);
}

#[test]
fn ranks_see_the_order_alone() {
    let x = [0.3, -2.0, 5.0, 1.0];
    let cubes = x.map(|x: f64| x.powi(3));
    near(spearman(&x, &cubes).unwrap(), 1.0, 1e-15);
    near(spearman(&x, &cubes.map(|cube| -cube)).unwrap(), -1.0, 1e-15);
    near(
        spearman(&x, &[0.3, f64::NEG_INFINITY, f64::INFINITY, 1.0]).unwrap(),
        1.0,
        1e-15,
    );
}

#[test]
fn harmonic_means_are_scipys() {
    for Harmonic { scores, mean } in reference().harmonic {
        near(harmonic_mean(&scores).unwrap(), mean, 1e-14);
    }
    assert_eq!(harmonic_mean(&[1.0, 4.0, 4.0]), Some(2.0));
    assert_eq!(harmonic_mean(&[3.0, 0.0, f64::INFINITY]), Some(0.0));
    assert_eq!(harmonic_mean(&[]), None);
    assert_eq!(harmonic_mean(&[1.0, -1.0]), None);
    assert_eq!(harmonic_mean(&[1.0, f64::NAN]), None);
}

#[test]
fn slopes_by_hand() {
    assert_eq!(slope(&[-1.0, 0.0, 1.0], &[1.0, 3.0, 5.0]), Some(2.0));
    // Off the line by 1 down, 2 up, 1 down: no slope.
    assert_eq!(slope(&[1.0, 2.0, 3.0], &[4.0, 7.0, 4.0]), Some(0.0));
}

#[test]
fn means_deviations_and_quantiles_are_numpys() {
    for case in reference().values {
        println!("{}", case.name);
        near(mean(&case.values), case.mean, 1e-13);
        near(
            standard_deviation(&case.values).unwrap(),
            case.standard_deviation,
            1e-13,
        );
        let found = quantiles(&case.values, case.at).unwrap();
        for ((found, expected), at) in found.into_iter().zip(case.quantiles).zip(case.at) {
            near(found, expected, 1e-15);
            assert_eq!(quantile(&case.values, at), Some(found));
        }
    }
    assert_eq!(standard_deviation(&[1.0]), None);
    assert_eq!(quantile(&[], 0.5), None);
    assert_eq!(quantile(&[7.0], 0.3), Some(7.0));
    assert_eq!(quantile(&[1.0, f64::INFINITY, f64::INFINITY], 0.9), Some(f64::INFINITY));
    assert!(quantile(&[1.0, f64::NAN], 0.0).unwrap().is_nan());
}

#[test]
fn predictions_are_judged_as_scikit_learn_does() {
    let case = reference().prediction;
    let found = r_squared(&case.predicted, &case.target, case.width).unwrap();
    near(found.all, case.all, 1e-12);
    assert_eq!(found.dimensions.len(), case.width);
    assert_eq!(found.dimensions[case.constant], None);
    let known: Vec<f64> = found.dimensions.iter().flatten().copied().collect();
    assert_eq!(known.len(), case.r2.len());
    let quantiles = found.quantiles(case.at);
    for (found, expected) in known
        .iter()
        .chain(&quantiles)
        .zip(case.r2.iter().chain(&case.quantiles))
    {
        near(*found, *expected, 1e-10);
    }
    let cosine = mean_cosine(&case.predicted, &case.target, case.width).unwrap();
    near(cosine, case.cosine, 1e-12);
}

#[test]
fn predictions_that_can_not_be_judged() {
    let target = [0.1, 2.0, 0.1, 4.0, 0.1, 9.0];
    let perfect = r_squared(&target, &target, 2).unwrap();
    assert_eq!((perfect.all, perfect.dimensions), (1.0, vec![None, Some(1.0)]));
    assert_eq!(r_squared(&[0.1; 3], &[0.1; 3], 1), None);
    assert_eq!(r_squared(&target[..2], &target[..2], 2), None);
    assert_eq!(r_squared(&target, &target[..4], 2), None);
    assert_eq!(r_squared(&target, &target, 4), None);
    assert_eq!(r_squared(&target, &target, 0), None);
    assert_eq!(r_squared(&[f32::INFINITY; 6], &target, 2), None);
    // A row of zeros counts as 0, the other as 1.
    assert_eq!(mean_cosine(&[0.0, 0.0, 3.0, 4.0], &[1.0, 0.0, 6.0, 8.0], 2), Some(0.5));
    assert_eq!(mean_cosine(&[], &[], 2), None);
    assert_eq!(mean_cosine(&[f32::NAN; 2], &[1.0; 2], 2), None);
}
