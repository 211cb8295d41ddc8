use nalgebra::{DMatrix, DVector};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::Deserialize;
use steermap_maps::FloatDtype;

use super::*;
use crate::stats::{PairSpec, Precision, Rows, Split};
use crate::tests::{LINE, Problem, fit, fit_rank, off, tiny};
use crate::{FittedPair, FittedWeight, RidgeChoice, fit_each, fit_pairs};

/// A problem and what numpy says of its maps of low rank; made by `fixtures/make_low_rank.py`.
#[derive(Deserialize)]
struct Case {
    #[serde(flatten)]
    problem: Problem,
    fits: Vec<Fit>,
}

#[derive(Deserialize)]
struct Fit {
    lambda: f64,
    maps: Vec<Map>,
    /// Of rank 1, 2, ...
    r2: Vec<f64>,
    /// Of the mean, of rank 1, 2, ...
    errors: Vec<f64>,
    auto: usize,
}

#[derive(Deserialize)]
struct Map {
    rank: usize,
    weight: Vec<f64>,
    bias: Vec<f64>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../fixtures/low_rank.json")).unwrap()
}

/// `A`, and the rank that it is kept in.
fn product_of(pair: &FittedPair) -> (DMatrix<f64>, Option<usize>) {
    match &pair.weight {
        FittedWeight::Full(weight) => (weight.clone().cast(), None),
        FittedWeight::LowRank { left, right } => {
            assert_eq!(left.ncols(), right.nrows());
            (
                left.clone().cast::<f64>() * right.clone().cast::<f64>(),
                Some(left.ncols()),
            )
        }
    }
}

#[test]
fn maps_of_every_rank_are_numpy_s() {
    for Case { problem, fits } in cases() {
        let statistics = problem.statistics();
        let mean = statistics.train().input_mean(&statistics.plan().inputs[0].sources);
        for expected in fits {
            for map in expected.maps {
                let at = format!("{}, lambda {}, rank {}", problem.name, expected.lambda, map.rank);
                let ridge = RidgeChoice::Fixed(expected.lambda);
                let found = fit_rank(&statistics, ridge, RankChoice::Fixed(map.rank));
                let (weight, rank) = product_of(&found);
                let d = problem.source_layers * problem.source_hidden;
                assert_eq!(
                    (weight.shape(), rank),
                    ((problem.target_hidden, d), Some(map.rank)),
                    "{at}"
                );
                assert_eq!(found.map_rank, map.rank);
                let weight = off(weight.transpose().iter().map(|&value| value as f32), &map.weight);
                // The intercept carries the weights' rounding times the mean.
                let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
                let carried = norm(&map.weight) * norm(&mean);
                let bias = off(found.bias.iter().copied(), &map.bias) * norm(&map.bias) / (norm(&map.bias) + carried);
                println!("{at}: weight {weight:.1e} bias {bias:.1e}");
                // As of whole maps: what a covariance in f64 can tell at that condition.
                let tolerance = if problem.name.contains("1e10") { 1e-5 } else { 1e-6 };
                assert!(
                    weight < tolerance && bias < tolerance,
                    "{at}: weight off by {weight:e}, bias by {bias:e}"
                );
                let ranks: Vec<usize> = found.by_rank.iter().map(|of| of.rank).collect();
                assert_eq!(ranks, reported_ranks(map.rank, expected.r2.len()));
                let near = |found: f64, expected: f64| {
                    assert!(
                        (found - expected).abs() < 2e-6 * (1.0 + expected.abs()),
                        "{at}: {found}, {expected}"
                    );
                };
                near(found.r2, expected.r2[map.rank - 1]);
                for of in &found.by_rank {
                    near(of.r2, expected.r2[of.rank - 1]);
                }
            }
        }
    }
}

#[test]
fn measures_are_of_the_factors_as_they_are_written() {
    for Case { problem, .. } in cases() {
        let statistics = problem.statistics();
        let solver = Solver::of(&statistics, 0, RidgeChoice::Fixed(0.0)).unwrap();
        let components = Components::of(&solver, solver.whiten(&statistics, 0), &[]).unwrap();
        let solution = components.truncate(&statistics, 0, 2, FloatDtype::F32).unwrap();
        let measured = solution.weight.clone();
        let (FittedWeight::LowRank { left, right }, _) = solution.into_parts() else {
            panic!("kept whole");
        };
        let written = left.cast::<f64>() * right.cast::<f64>();
        let off = |i: usize, j: usize| (measured[(j, i)] - written[(i, j)]).abs() / written.amax();
        let largest = (0..written.nrows()).flat_map(|i| (0..written.ncols()).map(move |j| (i, j)));
        let largest = largest.map(|(i, j)| off(i, j)).fold(0.0, f64::max);
        assert!(largest < 1e-14, "{}: {largest:e}", problem.name);
    }
}

#[test]
fn left_factors_are_orthonormal() {
    for Case { problem, fits } in cases() {
        for lambda in fits.into_iter().map(|fit| fit.lambda) {
            let found = fit_rank(&problem.statistics(), RidgeChoice::Fixed(lambda), RankChoice::Fixed(3));
            let FittedWeight::LowRank { left, .. } = found.weight else {
                panic!("kept whole");
            };
            let off = (left.transpose() * &left - DMatrix::identity(3, 3)).norm();
            assert!(off < 1e-6, "{}, lambda {lambda}: {off:e}", problem.name);
            // Signs don't depend on the machine.
            assert!(left.column_iter().all(|column| column[column.iamax()] > 0.0));
        }
    }
}

#[test]
fn the_rank_is_the_smallest_that_suffices_on_validation_rows() {
    for Case { problem, fits } in cases() {
        let statistics = problem.statistics();
        for expected in fits {
            let found = fit_rank(&statistics, RidgeChoice::Fixed(expected.lambda), RankChoice::Auto);
            let at = format!("{}, lambda {}", problem.name, expected.lambda);
            println!("{at}: rank {} of {}", found.map_rank, expected.r2.len());
            assert_eq!(found.map_rank, expected.auto, "{at}");
            assert!(found.by_rank.iter().any(|of| of.rank == found.map_rank));
            let (d, targets) = (problem.source_layers * problem.source_hidden, problem.target_hidden);
            let smaller = found.map_rank * (d + targets) < d * targets;
            assert_eq!(product_of(&found).1.is_some(), smaller, "{at}");
            let near = expected.r2[found.map_rank - 1];
            assert!(
                (found.r2 - near).abs() < 2e-6 * (1.0 + near.abs()),
                "{at}: {}, {near}",
                found.r2
            );
        }
    }
}

#[test]
fn validation_errors_are_those_of_numpy_s_residuals() {
    for Case { problem, fits } in cases() {
        let statistics = problem.statistics();
        for expected in fits {
            let solver = Solver::of(&statistics, 0, RidgeChoice::Fixed(expected.lambda)).unwrap();
            let components = Components::of(&solver, solver.whiten(&statistics, 0), &[]).unwrap();
            let validation = statistics.validation().input(statistics.plan(), 0);
            let found = components.errors(&statistics, 0, &validation, &validation.pair(0));
            assert_eq!(found.len(), expected.errors.len());
            for (found, error) in found.iter().zip(&expected.errors) {
                let at = format!("{}, lambda {}: {found}, {error}", problem.name, expected.lambda);
                assert!((found - error).abs() < 1e-6 * error + 1e-9 * expected.errors[0], "{at}");
            }
        }
    }
}

/// Rows of random streams in which the last pair's target depends on few directions of the source. Test rows have other
/// means than train rows.
struct Streams {
    x: [Vec<f32>; 3],
    y: [Vec<f32>; 3],
    layout: Layout,
}

impl Streams {
    fn new(seed: u64, source_hidden: usize, target_hidden: usize, directions: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut normal = |rows, columns| DMatrix::from_fn(rows, columns, |_, _| rng.sample::<f32, _>(StandardNormal));
        let weight = normal(target_hidden, directions) * normal(directions, source_hidden);
        let mut split = |rows: usize, shift: f32| {
            let x = normal(source_hidden, rows).add_scalar(shift);
            let y = &weight * &x + normal(target_hidden, rows) * 0.5;
            (x.as_slice().to_vec(), y.as_slice().to_vec())
        };
        let [train, validation, test] = [split(90, 0.0), split(40, 0.2), split(50, 0.5)];
        Self {
            x: [train.0, validation.0, test.0],
            y: [train.1, validation.1, test.1],
            layout: Layout {
                source_hidden,
                target_hidden,
                pairs: vec![PairSpec {
                    source_layers: vec![0],
                    target_layer: 0,
                }],
            },
        }
    }

    fn statistics(&self, precision: Precision) -> Statistics {
        let mut statistics = Statistics::new(self.layout.clone(), precision).unwrap();
        for split in Split::ALL {
            let (x, y) = (&self.x[split.index()], &self.y[split.index()]);
            let keys: Vec<u64> = (0..(x.len() / self.layout.source_hidden) as u64).collect();
            let rows = Rows {
                keys: &keys,
                source: vec![x],
                target: vec![y],
            };
            statistics.add(split, &rows).unwrap();
        }
        statistics.flush();
        statistics
    }

    /// R² on test rows, row by row.
    fn r2(&self, weight: &DMatrix<f64>, bias: &DVector<f32>) -> f64 {
        let test = Split::Test.index();
        let matrix = |values: &[f32], rows: usize| DMatrix::from_column_slice(rows, values.len() / rows, values).cast();
        let x: DMatrix<f64> = matrix(&self.x[test], self.layout.source_hidden);
        let y: DMatrix<f64> = matrix(&self.y[test], self.layout.target_hidden);
        let (mean, bias) = (y.column_mean(), bias.clone().cast::<f64>());
        let rows = x.column_iter().zip(y.column_iter());
        let error: f64 = rows.map(|(x, y)| (y - weight * x - &bias).norm_squared()).sum();
        1.0 - error / y.column_iter().map(|y| (y - &mean).norm_squared()).sum::<f64>()
    }
}

#[test]
fn all_ranks_together_are_the_whole_map_and_quality_is_that_of_the_rows() {
    let mut rng = ChaCha8Rng::seed_from_u64(21);
    for seed in 0..12 {
        let (d, targets) = (rng.random_range(1..=12), rng.random_range(1..=12));
        let all = d.min(targets);
        let streams = Streams::new(seed, d, targets, rng.random_range(1..=all));
        let ridge = [RidgeChoice::Fixed(0.0), RidgeChoice::Fixed(0.1), RidgeChoice::Auto][seed as usize % 3];
        let precision = [Precision::F64, Precision::F32][seed as usize % 2];
        let statistics = streams.statistics(precision);
        let at = format!("{d} -> {targets}, {ridge:?}, {precision:?}");
        let plain = fit(&statistics, ridge);
        let (whole, _) = product_of(&plain);
        assert_eq!((plain.map_rank, plain.by_rank.len()), (all, 0));
        let every: Vec<FittedPair> = (1..=all)
            .map(|rank| fit_rank(&statistics, ridge, RankChoice::Fixed(rank)))
            .collect();
        let last = &every[all - 1];
        let apart = (product_of(last).0 - &whole).norm() / whole.norm();
        assert!(apart < 1e-6, "{at}: {apart:e}");
        assert!((last.r2 - plain.r2).abs() < 1e-5 && last.lambda == plain.lambda);
        for (index, found) in every.iter().enumerate() {
            let direct = streams.r2(&product_of(found).0, &found.bias);
            let near = |told: f64| {
                assert!(
                    (told - direct).abs() < 2e-6 * (1.0 + direct.abs()),
                    "{at}: {told}, {direct}"
                )
            };
            near(found.r2);
            for of in every.iter().flat_map(|other| &other.by_rank) {
                if of.rank == index + 1 {
                    near(of.r2);
                }
            }
        }
    }
}

#[test]
fn test_rows_have_no_say_in_the_rank() {
    let mut streams = Streams::new(3, 20, 16, 4);
    let before = fit_rank(&streams.statistics(Precision::F64), RidgeChoice::Auto, RankChoice::Auto);
    assert_eq!(before.map_rank, 4, "{:?}", before.by_rank);
    assert!(matches!(before.weight, FittedWeight::LowRank { .. }));
    streams.y[Split::Test.index()].reverse();
    let after = fit_rank(&streams.statistics(Precision::F64), RidgeChoice::Auto, RankChoice::Auto);
    assert_eq!(
        (after.map_rank, &after.weight, after.lambda),
        (4, &before.weight, before.lambda)
    );
    assert!(after.r2 < 0.5 && before.r2 > 0.9);
    // Validation rows have. With another sign, no direction helps, and one is the least harm.
    let validation = Split::Validation.index();
    streams.y[validation].iter_mut().for_each(|value| *value = -*value);
    let ridge = RidgeChoice::Fixed(0.0);
    assert_eq!(
        fit_rank(&streams.statistics(Precision::F64), ridge, RankChoice::Auto).map_rank,
        1
    );
}

#[test]
fn sums_of_version_1_serve_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.stats");
    std::fs::write(&path, include_bytes!("../stats/file/fixtures/version-1.stats")).unwrap();
    let (statistics, _) = Statistics::load(&path).unwrap();
    let layout = statistics.layout();
    let ridge = RidgeChoice::Fixed(0.5);
    let of = |rank| fit_pairs(&statistics, ridge, rank, |_| ()).unwrap();
    let all = layout.source_hidden.min(layout.target_hidden);
    for rank in 1..=all {
        // The whole map's measures know nothing of components, and count all rows of the sums.
        for found in of(RankChoice::Fixed(rank)) {
            let told = found.by_rank.iter().find(|told| told.rank == rank).unwrap();
            assert!((told.r2 - found.r2).abs() < 1e-6, "{told:?}, {}", found.r2);
            assert_eq!((found.test_rows, found.validation_rows), (18, 12));
        }
    }
    for (auto, whole) in of(RankChoice::Auto).iter().zip(of(RankChoice::Full)) {
        assert!(auto.map_rank >= 1 && auto.map_rank <= whole.map_rank);
        let last = auto.by_rank.last().unwrap();
        assert_eq!(last.rank, whole.map_rank);
        assert!((last.r2 - whole.r2).abs() < 1e-6);
    }
}

/// Three pairs of two inputs, the last of the wider input.
fn pairs_of_two_inputs() -> Statistics {
    let Streams { x, y, .. } = Streams::new(9, 12, 7, 3);
    let pair = |source_layers: &[usize], target_layer| PairSpec {
        source_layers: source_layers.to_vec(),
        target_layer,
    };
    let layout = Layout {
        source_hidden: 6,
        target_hidden: 7,
        pairs: vec![pair(&[2, 5], 1), pair(&[2], 1), pair(&[5, 2], 1)],
    };
    let mut statistics = Statistics::new(layout, Precision::F64).unwrap();
    for split in Split::ALL {
        let half = |start: usize| -> Vec<f32> {
            let rows = x[split.index()].chunks(12);
            rows.flat_map(|row| row[start..start + 6].to_vec()).collect()
        };
        let keys: Vec<u64> = (0..(x[split.index()].len() / 12) as u64).collect();
        let (first, second) = (half(0), half(6));
        let rows = Rows {
            keys: &keys,
            source: vec![&first, &second],
            target: vec![&y[split.index()]],
        };
        statistics.add(split, &rows).unwrap();
    }
    statistics.flush();
    statistics
}

#[test]
fn pairs_are_handed_over_one_by_one() {
    let statistics = pairs_of_two_inputs();
    let (ridge, rank) = (RidgeChoice::Auto, RankChoice::Fixed(2));
    let collected = fit_pairs(&statistics, ridge, rank, |_| ()).unwrap();
    let mut handed = Vec::new();
    fit_each(&statistics, ridge, rank, |place, pair| {
        handed.push((place, pair));
        Ok::<_, FitError>(())
    })
    .unwrap();
    // Inputs ascend.
    assert_eq!(handed.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1, 0, 2]);
    for (place, pair) in &handed {
        assert_eq!(
            (pair, &pair.spec),
            (&collected[*place], &statistics.layout().pairs[*place])
        );
    }

    /// An error that isn't the crate's.
    #[derive(Debug, PartialEq)]
    enum Failed {
        Fit(FitError),
        DiskFull,
    }
    impl From<FitError> for Failed {
        fn from(error: FitError) -> Self {
            Self::Fit(error)
        }
    }
    let mut count = 0;
    let stopped = fit_each(&statistics, ridge, rank, |_, _| {
        count += 1;
        if count == 2 { Err(Failed::DiskFull) } else { Ok(()) }
    });
    assert_eq!((stopped, count), (Err(Failed::DiskFull), 2));
    let refused = fit_each(&statistics, ridge, RankChoice::Fixed(0), |_, _| Ok(()));
    assert_eq!(refused, Err(Failed::Fit(FitError::Rank { found: 0, largest: 6 })));
}

#[test]
fn ranks_that_some_pair_can_not_have_are_refused() {
    let statistics = pairs_of_two_inputs();
    let largest = 6;
    for found in [0, 7, 12, usize::MAX] {
        let error = FitError::Rank { found, largest };
        let choice = RankChoice::Fixed(found);
        assert_eq!(choice.check(statistics.layout()), Err(error.clone()));
        assert_eq!(fit_pairs(&statistics, RidgeChoice::Auto, choice, |_| ()), Err(error));
    }
    for choice in [
        RankChoice::Fixed(1),
        RankChoice::Fixed(6),
        RankChoice::Auto,
        RankChoice::Full,
    ] {
        assert_eq!(choice.check(statistics.layout()), Ok(()));
    }
    let message = FitError::Rank { found: 7, largest }.to_string();
    assert!(message.starts_with("rank: found 7, expected 1 to 6"), "{message}");
    // The sizes of concatenated layers count together: 12 to 7.
    let mut wide = statistics.layout().clone();
    wide.pairs.remove(1);
    assert_eq!(RankChoice::Fixed(7).check(&wide), Ok(()));
    assert_eq!(
        RankChoice::Fixed(8).check(&wide),
        Err(FitError::Rank { found: 8, largest: 7 })
    );
}

#[test]
fn edges() {
    let ridge = RidgeChoice::Fixed(0.0);
    // The rank is chosen on validation rows, even if lambda is given.
    let split = Split::Validation;
    let none = tiny([LINE, &[], LINE]);
    let error = fit_pairs(&none, ridge, RankChoice::Auto, |_| ()).unwrap_err();
    assert_eq!(error, FitError::NoRows { split });
    fit_rank(&none, ridge, RankChoice::Fixed(1));
    // A source that never changes: the map is 0, and no number of it is none.
    let still: &[[f32; 2]] = &[[1.0, 1.0], [1.0, 3.0], [1.0, 5.0]];
    for ridge in [RidgeChoice::Fixed(0.0), RidgeChoice::Fixed(1.0), RidgeChoice::Auto] {
        let found = fit_rank(&tiny([still, still, still]), ridge, RankChoice::Fixed(1));
        assert_eq!((product_of(&found).0[(0, 0)], found.bias[0], found.r2), (0.0, 3.0, 0.0));
    }
    // The same with a target that is wider.
    let mut streams = Streams::new(1, 2, 3, 1);
    streams.x.iter_mut().flatten().for_each(|value| *value = 1.5);
    let found = fit_rank(&streams.statistics(Precision::F64), ridge, RankChoice::Fixed(2));
    assert_eq!(product_of(&found).0.norm(), 0.0);
    // Slopes beyond f32.
    let steep: &[[f32; 2]] = &[[0.0, 0.0], [1e-20, 3e38]];
    let error = fit_pairs(&tiny([steep, steep, steep]), ridge, RankChoice::Fixed(1), |_| ()).unwrap_err();
    assert!(matches!(error, FitError::NotFinite { .. }), "{error}");
}

#[test]
fn the_smallest_rank_within_a_hundredth_of_the_best() {
    assert_eq!(smallest_sufficient(&[9.0, 2.0, 1.02, 1.009, 1.0, 1.2]), 3);
    // Never 0, even if the mean is best.
    assert_eq!(smallest_sufficient(&[1.0, 2.0, 3.0]), 1);
    // What is left of an exact map is rounding.
    assert_eq!(smallest_sufficient(&[1e6, 10.0, 1e-9, -1e-9, 1e-10]), 2);
    assert_eq!(smallest_sufficient(&[f64::NAN, f64::NAN, f64::NAN]), 2);
}

#[test]
fn powers_of_two_the_last_and_the_chosen_one() {
    assert_eq!(reported_ranks(5, 12), [1, 2, 4, 5, 8, 12]);
    assert_eq!(reported_ranks(4, 8), [1, 2, 4, 8]);
    assert_eq!(reported_ranks(1, 1), [1]);
}
