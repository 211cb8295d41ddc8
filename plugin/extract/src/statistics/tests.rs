use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::Deserialize;

use super::*;

/// Small data, and what scipy and scikit-learn say of them; made by `fixtures/make_separation.py`.
#[derive(Deserialize)]
struct Reference {
    separation: Vec<Separation>,
    held_out: HeldOut,
    wilson: Vec<Wilson>,
}

#[derive(Deserialize)]
struct Separation {
    name: String,
    positive: Vec<f64>,
    negative: Vec<f64>,
    auroc: f64,
}

#[derive(Deserialize)]
struct HeldOut {
    width: usize,
    positive: Vec<f32>,
    negative: Vec<f32>,
    folds: Vec<usize>,
    auroc: f64,
}

#[derive(Deserialize)]
struct Wilson {
    share: f64,
    count: usize,
    interval: [f64; 2],
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("fixtures/separation.json")).unwrap()
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

fn held_out(positive: &[&[f32]], negative: &[&[f32]], folds: &Folds) -> Option<f64> {
    held_out_auroc(positive, negative, folds, |p, n| Some(mean_difference(p, n)))
}

/// Folds of pairs that share nothing.
fn folds(pairs: usize) -> Folds {
    Folds::new(&(0..pairs).collect::<Vec<_>>()).unwrap()
}

/// States of pairs: normal noise, the positive's shifted by `signal` along the first axis. `[pairs, width]` for each side.
fn noise(pairs: usize, width: usize, signal: f32, seed: u64) -> [Vec<f32>; 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    [signal, 0.0].map(|shift| {
        let values = (0..pairs * width).map(|place| {
            let value: f32 = StandardNormal.sample(&mut rng);
            if place % width == 0 { value + shift } else { value }
        });
        values.collect()
    })
}

/// Mean and standard deviation of a sample.
fn moments(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (values.len() - 1) as f64).sqrt())
}

#[test]
fn areas_are_scikit_learns() {
    let reference = reference();
    for case in reference.separation {
        println!("{}", case.name);
        near(auroc(&case.positive, &case.negative).unwrap(), case.auroc, 1e-14);
    }
    let HeldOut {
        width,
        positive,
        negative,
        folds,
        auroc,
    } = reference.held_out;
    let folds = Folds { of: folds };
    near(
        held_out(&rows(&positive, width), &rows(&negative, width), &folds).unwrap(),
        auroc,
        1e-14,
    );
}

#[test]
fn the_mean_difference_by_hand() {
    let (p, n) = ([[3.0f32, 1.0], [5.0, 1.0]], [[1.0f32, 1.0], [1.0, 3.0]]);
    assert_eq!(mean_difference(&[&p[0], &p[1]], &[&n[0], &n[1]]), [3.0, -1.0]);
}

#[test]
fn auroc_counts_couples_and_half_of_ties() {
    assert_eq!(auroc(&[2.0, 3.0], &[0.0, 1.0]), Some(1.0));
    assert_eq!(auroc(&[0.0, 1.0], &[2.0, 3.0]), Some(0.0));
    assert_eq!(auroc(&[1.0, 1.0], &[1.0, 1.0]), Some(0.5));
    // Couples by hand: 0.8>0.5, 0.8>0.3, 0.8>0.8 half, 0.4<0.5, 0.4>0.3, 0.4<0.8: 3.5 of 6.
    assert!((auroc(&[0.8, 0.4], &[0.5, 0.3, 0.8]).unwrap() - 3.5 / 6.0).abs() < 1e-12);
    assert_eq!(auroc(&[], &[1.0]), None);
}

#[test]
fn held_out_pairs_are_separated_only_by_what_generalises() {
    // A shared shift along the first axis separates; noise of its own in each pair does not.
    let states = |sign: f32, shared: f32| -> Vec<f32> {
        let row = |i: usize| {
            let mut row = [0f32; 12];
            row[0] = sign * shared;
            row[1 + i] = sign;
            row
        };
        (0..10).flat_map(row).collect()
    };
    let value = |shared: f32| {
        let (p, n) = (states(1.0, shared), states(-1.0, shared));
        held_out(&rows(&p, 12), &rows(&n, 12), &folds(10)).unwrap()
    };
    assert_eq!(value(1.0), 1.0);
    assert_eq!(value(0.0), 0.5);
    let (p, n) = (states(1.0, 1.0), states(-1.0, 1.0));
    let (p, n) = (rows(&p, 12), rows(&n, 12));
    assert_eq!(held_out_auroc(&p, &n, &folds(10), |_, _| None), None);
    assert_eq!(held_out(&p, &n[1..], &folds(10)), None);
    assert_eq!(held_out(&p, &n, &folds(11)), None);
    assert_eq!(held_out(&[], &[], &Folds { of: Vec::new() }), None);
}

#[test]
fn folds_leave_out_what_they_score() {
    // Each pair has an axis of its own; the direction is asked which axes it knows. Pairs 2 and 9 are one group.
    let states: Vec<f32> = (0..13 * 13).map(|i| if i % 14 == 0 { 1.0 } else { 0.0 }).collect();
    let zeros = [0f32; 169];
    let folds = Folds::new(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 2, 9, 10, 11]).unwrap();
    let left_out = std::cell::RefCell::new(Vec::<Vec<usize>>::new());
    held_out_auroc(&rows(&states, 13), &rows(&zeros, 13), &folds, |p, n| {
        let direction = mean_difference(p, n);
        left_out
            .borrow_mut()
            .push((0..13).filter(|&i| direction[i] == 0.0).collect());
        Some(direction)
    });
    let left_out = left_out.into_inner();
    for (fold, left_out) in left_out.iter().enumerate() {
        let (inside, outside) = folds.split(fold);
        assert_eq!(*left_out, inside);
        assert_eq!(inside.len() + outside.len(), 13);
        assert_eq!(left_out.contains(&2), left_out.contains(&9));
    }
    // What every machine has to draw: twelve groups, the first two folds with one more.
    assert_eq!(left_out, FOLDS_OF_TWELVE);
    assert_eq!(Folds::new(&[0, 1, 2, 3, 4, 5, 6, 7, 8]), None);
    assert_eq!(Folds::new(&[0; 40]), None);
    assert_eq!(Folds::new(&[]), None);
}

const FOLDS_OF_TWELVE: [&[usize]; 5] = [&[3, 6, 10], &[8, 11, 12], &[0, 5], &[2, 4, 9], &[1, 7]];

#[test]
fn shares_have_scipys_intervals() {
    for Wilson { share, count, interval } in reference().wilson {
        let (low, high) = wilson_interval(share, count as f64);
        println!("{share} of {count}: {low} to {high}");
        assert!((low - interval[0]).abs() < 1e-12 && (high - interval[1]).abs() < 1e-12);
        assert!(low <= share && share <= high);
    }
    assert_eq!(wilson_interval(0.3, 0.0), (0.0, 1.0));
    assert!(wilson_interval(f64::NAN, 5.0).0.is_nan());
}

#[test]
fn noise_is_told_from_a_signal() {
    let area = |pairs: usize, signal: f32, seed: u64| {
        let [p, n] = noise(pairs, 64, signal, seed);
        held_out(&rows(&p, 64), &rows(&n, 64), &folds(pairs)).unwrap()
    };
    // Without a signal 0.5 on average, and in the interval of nearly every draw.
    for pairs in [10, 16, 64] {
        let areas: Vec<f64> = (0..200).map(|seed| area(pairs, 0.0, seed)).collect();
        let covered = areas.iter().filter(|&&area| {
            let (low, high) = auroc_interval(area, pairs);
            low <= 0.5 && 0.5 <= high
        });
        let (mean, deviation) = moments(&areas);
        let covered = covered.count();
        println!("{pairs} pairs: {covered} of 200 hold 0.5; mean {mean:.3}, deviation {deviation:.3}");
        assert!(covered >= 186, "{pairs} pairs: {covered} of 200");
        assert!((mean - 0.5).abs() < 4.0 * deviation / 200f64.sqrt(), "{mean}");
    }
    // With a clear one near 1, and better known from more pairs.
    let mut last = 1.0;
    for pairs in [10, 30, 100, 300] {
        let area = area(pairs, 8.0, 1);
        let (low, high) = auroc_interval(area, pairs);
        println!("{pairs} pairs: {area:.3}, {low:.3} to {high:.3}");
        assert!(area > 0.99 && low <= area && area <= high);
        assert!(high - low < last && low > 0.5);
        last = high - low;
    }
    assert!(last < 0.025, "{last}");
}

#[test]
fn repeated_noise_is_no_signal() {
    // Each of twelve pairs ten times over.
    let [p, n] = noise(12, 64, 0.0, 3);
    let (p, n) = (rows(&p, 64), rows(&n, 64));
    let once = held_out(&p, &n, &folds(12)).unwrap();
    let groups: Vec<usize> = (0..120).map(|pair| pair % 12).collect();
    let p_often: Vec<&[f32]> = groups.iter().map(|&pair| p[pair]).collect();
    let n_often: Vec<&[f32]> = groups.iter().map(|&pair| n[pair]).collect();
    let repeated = held_out(&p_often, &n_often, &Folds::new(&groups).unwrap()).unwrap();
    assert!((once - repeated).abs() < 1e-12, "{once}, {repeated}");
    // With the repeats on either side of the splits it would look like one.
    let apart = held_out(&p_often, &n_often, &folds(120)).unwrap();
    println!("{once}, with repeats {repeated}, torn apart {apart}");
    assert!(apart > 0.9 && repeated < 0.8);
}

#[test]
fn tied_values_share_their_rank() {
    // The two middle values share rank 2.5.
    assert_eq!(mid_ranks(&[7.0, 4.0, 7.0, 9.0]), [2.5, 1.0, 2.5, 4.0]);
    assert_eq!(mid_ranks(&[0.0, -0.0]), [1.5, 1.5]);
}

#[test]
fn a_mean_grows() {
    let mut growing = RunningMean::default();
    assert_eq!(growing.value(), 0.0);
    [1.0, 2.0, 6.0].into_iter().for_each(|value| growing.add(value));
    assert_eq!(growing.value(), 3.0);
}
