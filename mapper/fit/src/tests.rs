use nalgebra::{DMatrix, DVector};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use serde::Deserialize;

use crate::ridge::{Cholesky, Spectrum, Validation};
use crate::stats::{Layout, PairSpec, Precision, Rows, StatsError};
use crate::*;

/// Rows of one pair, split by split; made by a script in `fixtures`.
#[derive(Deserialize)]
pub(crate) struct Problem {
    pub name: String,
    pub source_layers: usize,
    pub source_hidden: usize,
    pub target_hidden: usize,
    /// Rows of each.
    pub splits: [usize; 3],
    /// Row by row.
    pub x: Vec<f32>,
    pub y: Vec<f32>,
}

/// A problem, and what numpy and scikit-learn say of it; made by `fixtures/make_ridge.py`.
#[derive(Deserialize)]
struct Case {
    #[serde(flatten)]
    problem: Problem,
    fits: Vec<Fit>,
    errors: Vec<f64>,
    auto: f64,
    r2_mean: [f64; 2],
    r2_identity: Option<[f64; 2]>,
    constant_dimensions: usize,
    source_norm: f64,
    target_norm: f64,
}

#[derive(Deserialize)]
struct Fit {
    lambda: f64,
    weight: Vec<f64>,
    bias: Vec<f64>,
    r2: [f64; 2],
    cosine: f64,
}

impl Case {
    fn all() -> Vec<Self> {
        serde_json::from_str(include_str!("fixtures/ridge.json")).unwrap()
    }
}

impl Problem {
    pub(crate) fn statistics(&self) -> Statistics {
        let layout = Layout {
            source_hidden: self.source_hidden,
            target_hidden: self.target_hidden,
            pairs: vec![PairSpec {
                source_layers: (0..self.source_layers).collect(),
                target_layer: 7,
            }],
        };
        let mut statistics = Statistics::new(layout, Precision::F64).unwrap().with_block_rows(16);
        let mut start = 0;
        let (h, d) = (self.source_hidden, self.source_hidden * self.source_layers);
        for (split, &rows) in Split::ALL.into_iter().zip(&self.splits) {
            let keys: Vec<u64> = (start..start + rows).map(|row| row as u64).collect();
            let layers: Vec<Vec<f32>> = (0..self.source_layers)
                .map(|layer| {
                    let row = |row: usize| &self.x[row * d + layer * h..][..h];
                    (start..start + rows).flat_map(row).copied().collect()
                })
                .collect();
            let rows = Rows {
                keys: &keys,
                source: layers.iter().map(Vec::as_slice).collect(),
                target: vec![&self.y[start * self.target_hidden..(start + rows) * self.target_hidden]],
            };
            statistics.add(split, &rows).unwrap();
            start += keys.len();
        }
        statistics.flush();
        statistics
    }
}

pub(crate) fn fit(statistics: &Statistics, choice: RidgeChoice) -> FittedPair {
    fit_rank(statistics, choice, RankChoice::Full)
}

pub(crate) fn fit_rank(statistics: &Statistics, ridge: RidgeChoice, rank: RankChoice) -> FittedPair {
    let mut told = Vec::new();
    let fitted = fit_pairs(statistics, ridge, rank, |done| told.push(done)).unwrap();
    assert_eq!(told, (1..=fitted.len()).collect::<Vec<_>>());
    fitted.into_iter().next().unwrap()
}

/// `A` of a map that is kept whole.
fn whole(pair: &FittedPair) -> &DMatrix<f32> {
    match &pair.weight {
        FittedWeight::Full(weight) => weight,
        FittedWeight::LowRank { .. } => panic!("a map of rank {}, expected a whole one", pair.map_rank),
    }
}

/// Norm of the difference over the norm of what is expected.
pub(crate) fn off(found: impl IntoIterator<Item = f32>, expected: &[f64]) -> f64 {
    let difference: f64 = found
        .into_iter()
        .zip(expected)
        .map(|(a, b)| (f64::from(a) - b).powi(2))
        .sum();
    (difference / expected.iter().map(|b| b * b).sum::<f64>()).sqrt()
}

#[test]
fn maps_and_measures_are_those_of_scikit_learn_and_numpy() {
    for case in Case::all() {
        let statistics = case.problem.statistics();
        for expected in &case.fits {
            let found = fit(&statistics, RidgeChoice::Fixed(expected.lambda));
            let at = format!("{}, lambda {}", case.problem.name, expected.lambda);
            let d = case.problem.source_hidden * case.problem.source_layers;
            assert_eq!(whole(&found).shape(), (case.problem.target_hidden, d), "{at}");
            // Row by row, as numpy has it.
            let weight = off(whole(&found).transpose().iter().copied(), &expected.weight);
            // A mean a thousand times the spread makes the intercept large: its own size is the scale.
            let bias = off(found.bias.iter().copied(), &expected.bias);
            println!("{at}: weight {weight:.1e} bias {bias:.1e}");
            let tolerance = if case.problem.name.contains("1e10") { 1e-5 } else { 1e-6 };
            assert!(
                weight < tolerance && bias < tolerance,
                "{at}: weight off by {weight:e}, bias by {bias:e}"
            );
            let near = |found: f64, expected: f64| {
                assert!(
                    (found - expected).abs() < 2e-6 * (1.0 + expected.abs()),
                    "{at}: {found}, {expected}"
                );
            };
            near(found.r2, expected.r2[0]);
            near(found.r2_median, expected.r2[1]);
            near(found.r2_mean_baseline, case.r2_mean[0]);
            near(found.r2_mean_baseline_median, case.r2_mean[1]);
            near(found.cosine, expected.cosine);
            near(found.source_mean_norms[0], case.source_norm);
            near(found.target_mean_norm, case.target_norm);
            assert_eq!(found.source_mean_norms.len(), case.problem.source_layers);
            assert_eq!(found.r2_identity_baseline.is_some(), case.r2_identity.is_some(), "{at}");
            if let Some([whole, median]) = case.r2_identity {
                near(found.r2_identity_baseline.unwrap(), whole);
                near(found.r2_identity_baseline_median.unwrap(), median);
            }
            assert_eq!(found.constant_dimensions, case.constant_dimensions, "{at}");
            assert_eq!(found.lambda, expected.lambda);
            let rows = [found.rows, found.validation_rows, found.test_rows];
            assert_eq!(rows, case.problem.splits.map(|rows| rows as u64));
            assert_eq!(found.cosine_rows, case.problem.splits[2]);
        }
    }
}

/// The factorisation of a case, if it may be trusted.
fn cholesky(statistics: &Statistics, lambda: f64) -> Option<Cholesky> {
    let train = statistics.train();
    Cholesky::of(train.gram[0].view(), train.count, statistics.precision(), lambda)
}

#[test]
fn both_routes_give_the_same_map() {
    for case in Case::all() {
        let statistics = case.problem.statistics();
        let (cross, rows) = (&statistics.train().cross[0], case.problem.splits[0] as u64);
        let spectrum = Spectrum::of(&statistics, 0).unwrap();
        for Fit { lambda, .. } in case.fits {
            let solver = Solver::of(&statistics, 0, RidgeChoice::Fixed(lambda)).unwrap();
            let (by_cholesky, rank) = (matches!(solver, Solver::Cholesky(_)), solver.rank());
            let at = format!("{}, lambda {lambda}", case.problem.name);
            // One of the ill-conditioned case's penalties is too small beside its largest eigenvalue.
            assert_eq!(by_cholesky, lambda > 1e-9, "{at}");
            let Some(cholesky) = cholesky(&statistics, lambda) else {
                assert!(!by_cholesky, "{at}");
                continue;
            };
            assert_eq!(rank, case.problem.source_hidden * case.problem.source_layers, "{at}");
            let short = cholesky.unwhiten(cholesky.whiten(cross.view(), rows));
            let long = spectrum.unwhiten(spectrum.whiten(spectrum.rotate(cross.view(), rows), lambda), lambda);
            let off = (&short - &long).norm_l2() / long.norm_l2();
            println!("{at}: {off:.1e}");
            assert!(off < 1e-9, "{at}: {off:e}");
        }
    }
}

#[test]
fn what_is_too_near_to_singular_goes_by_the_spectrum() {
    let gram = |off: f64| faer::mat![[1.0, 0.0], [off, 1.0]];
    let trusted = |off, lambda| Cholesky::of(gram(off).as_ref(), 1, Precision::F64, lambda).is_some();
    assert!(trusted(0.5, 1e-3) && trusted(1.0, 1e-3));
    // No penalty; one lost in rounding; an indefinite sum; one whose second pivot is below half the penalty.
    assert!(!trusted(0.5, 0.0) && !trusted(1.0, 1e-8) && !trusted(2.0, 0.5) && !trusted(1.2, 0.25));
    // In f32 the covariance itself is less exact.
    let single = |lambda| Cholesky::of(gram(0.5).as_ref(), 1, Precision::F32, lambda).is_some();
    assert!(single(1e-5) && !single(1e-7));

    // A small penalty on states of which one dimension is another's double: solved, though not by Cholesky.
    let layout = Layout {
        source_hidden: 2,
        target_hidden: 1,
        pairs: vec![PairSpec {
            source_layers: vec![0],
            target_layer: 0,
        }],
    };
    let mut statistics = Statistics::new(layout, Precision::F64).unwrap();
    for split in Split::ALL {
        let rows = Rows {
            keys: &[0, 1, 2],
            source: vec![&[0.0, 0.0, 1.0, 2.0, 2.0, 4.0]],
            target: vec![&[1.0, 6.0, 11.0]],
        };
        statistics.add(split, &rows).unwrap();
    }
    statistics.flush();
    for (lambda, rank) in [(0.0, 1), (1e-14, 1), (1e-6, 2)] {
        assert_eq!(cholesky(&statistics, lambda).is_some(), rank == 2);
        let found = fit(&statistics, RidgeChoice::Fixed(lambda));
        assert_eq!((found.input_rank, found.lambda), (rank, lambda));
        // Of all that fit, the smallest.
        assert!((whole(&found)[(0, 0)] - 1.0).abs() < 1e-5 && (whole(&found)[(0, 1)] - 2.0).abs() < 1e-5);
        assert!((found.bias[0] - 1.0).abs() < 1e-5 && found.r2 > 0.999_999);
    }
}

#[test]
fn lambda_is_the_grid_s_best_on_validation_rows() {
    for case in Case::all() {
        let found = fit(&case.problem.statistics(), RidgeChoice::Auto).lambda;
        println!("{}: {found:e}, {:e}", case.problem.name, case.auto);
        assert!(
            (found - case.auto).abs() <= 1e-6 * case.auto,
            "{}: {found:e}, {:e}",
            case.problem.name,
            case.auto
        );
    }
}

#[test]
fn validation_errors_are_those_of_scikit_learn_s_predictions() {
    for case in Case::all() {
        let statistics = case.problem.statistics();
        let spectrum = Spectrum::of(&statistics, 0).unwrap();
        let validation = Validation::of(&statistics, 0, &spectrum);
        let train = statistics.train();
        let rotated = spectrum.rotate(train.cross[0].view(), train.count);
        let found = validation.errors(&statistics, 0, &spectrum, rotated.as_ref());
        assert_eq!(found.len(), case.errors.len());
        let moments = statistics.validation().input(statistics.plan(), 0);
        let squares: f64 = moments.pair(0).squares.iter().sum();
        for ((lambda, found), expected) in found.into_iter().zip(&case.errors) {
            // Which directions lambda 0 leaves out is another choice on states than on their covariance.
            if lambda == 0.0 && case.problem.name == "states of condition 1e10" {
                continue;
            }
            let off = (found - expected).abs();
            let at = format!("{}, lambda {lambda:e}: {found}, {expected}", case.problem.name);
            assert!(off < 1e-6 * expected + 1e-9 * squares, "{at}");
        }
    }
}

/// States of two streams, where the target's are an affine map of the source's.
struct Planted {
    weight: DMatrix<f32>,
    bias: DVector<f32>,
    statistics: Statistics,
}

fn planted(precision: Precision, rows: usize) -> Planted {
    let (d, t) = (24, 17);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut normal = |_, _| rng.sample::<f32, _>(StandardNormal);
    let weight = DMatrix::from_fn(t, d, &mut normal);
    let bias = DVector::from_fn(t, &mut normal) * 10.0;
    let mean = DVector::from_fn(d, &mut normal) * 100.0;
    let layout = Layout {
        source_hidden: d,
        target_hidden: t,
        pairs: vec![PairSpec {
            source_layers: vec![3],
            target_layer: 4,
        }],
    };
    let mut statistics = Statistics::new(layout, precision).unwrap().with_block_rows(100);
    for split in Split::ALL {
        let mut x = DMatrix::from_fn(d, rows, &mut normal);
        x.column_iter_mut().for_each(|mut column| column += &mean);
        let y = (weight.clone().cast::<f64>() * x.clone().cast::<f64>()).cast::<f32>();
        let y = DMatrix::from_fn(t, rows, |i, j| y[(i, j)] + bias[i]);
        let keys: Vec<u64> = (0..rows as u64).collect();
        let rows = Rows {
            keys: &keys,
            source: vec![x.as_slice()],
            target: vec![y.as_slice()],
        };
        statistics.add(split, &rows).unwrap();
    }
    statistics.flush();
    Planted {
        weight,
        bias,
        statistics,
    }
}

#[test]
fn a_planted_map_is_recovered() {
    for (precision, tolerance) in [(Precision::F64, 1e-5), (Precision::F32, 1e-4)] {
        let planted = planted(precision, 1000);
        for choice in [RidgeChoice::Auto, RidgeChoice::Fixed(0.0)] {
            let found = fit(&planted.statistics, choice);
            let weight = (whole(&found) - &planted.weight).norm() / planted.weight.norm();
            let bias = (&found.bias - &planted.bias).norm() / planted.bias.norm();
            println!(
                "{precision:?} {choice:?}: weight {weight:.1e} bias {bias:.1e} lambda {:.1e}",
                found.lambda
            );
            // The intercept also carries the weights' errors times the mean, a hundred times the spread.
            assert!(
                weight < tolerance && bias < 100.0 * tolerance,
                "{precision:?}: {weight:e}, {bias:e}"
            );
            assert!(found.r2 > 0.999_999 && found.r2_median > 0.999_999 && found.cosine > 0.999_999);
            assert_eq!(found.input_rank, 24);
            assert!(found.r2_mean_baseline.abs() < 0.05);
        }
    }
}

#[test]
fn pairs_come_in_the_layout_s_order_and_share_inputs() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let pair = |source_layers: &[usize], target_layer| PairSpec {
        source_layers: source_layers.to_vec(),
        target_layer,
    };
    let layout = Layout {
        source_hidden: 5,
        target_hidden: 5,
        pairs: vec![pair(&[2], 9), pair(&[1, 2], 4), pair(&[2], 4), pair(&[2, 1], 4)],
    };
    let mut statistics = Statistics::new(layout.clone(), Precision::F64).unwrap();
    for split in Split::ALL {
        let mut states = || (0..5 * 60).map(|_| rng.sample(StandardNormal)).collect::<Vec<f32>>();
        let (a, b, c) = (states(), states(), states());
        // Layer 9 is layer 2 twice, layer 4 is noise.
        let twice: Vec<f32> = b.iter().map(|b| 2.0 * b).collect();
        let keys: Vec<u64> = (0..60).collect();
        let rows = Rows {
            keys: &keys,
            source: vec![&a, &b],
            target: vec![&c, &twice],
        };
        statistics.add(split, &rows).unwrap();
    }
    statistics.flush();
    let fitted = fit_pairs(&statistics, RidgeChoice::Fixed(1e-9), RankChoice::Full, |_| ()).unwrap();
    let specs: Vec<_> = fitted.iter().map(|fitted| fitted.spec.clone()).collect();
    assert_eq!(specs, layout.pairs);
    assert!((whole(&fitted[0]) - DMatrix::identity(5, 5) * 2.0).norm() < 1e-5);
    assert!(fitted[0].r2 > 0.999_999 && fitted[2].r2 < 0.5);
    assert!(fitted[0].r2_identity_baseline.is_some() && fitted[1].r2_identity_baseline.is_none());
    // The other order of concatenation is the same map with its blocks exchanged.
    let exchanged = whole(&fitted[3]).columns(5, 5) - whole(&fitted[1]).columns(0, 5);
    assert!(exchanged.norm() < 1e-5);
    assert_eq!(fitted[1].source_mean_norms.len(), 2);
    assert_eq!(fitted[1].source_mean_norms[1], fitted[0].source_mean_norms[0]);
    // Layers 1 and 2 of the source, 4 and 9 of the target.
    let train = statistics.train();
    assert_eq!(fitted[0].source_mean_norms, [train.source_norms[1] / 60.0]);
    assert_eq!(fitted[0].target_mean_norm, train.target_norms[1] / 60.0);
}

/// Statistics of one dimension each, with these rows per split.
pub(crate) fn tiny(rows: [&[[f32; 2]]; 3]) -> Statistics {
    tiny_with(rows, 4096)
}

/// The same, keeping so many held-out rows.
fn tiny_with(rows: [&[[f32; 2]]; 3], held_out: usize) -> Statistics {
    let layout = Layout {
        source_hidden: 1,
        target_hidden: 1,
        pairs: vec![PairSpec {
            source_layers: vec![0],
            target_layer: 0,
        }],
    };
    let statistics = Statistics::new(layout, Precision::F64).unwrap();
    let mut statistics = statistics.with_held_out_rows(held_out);
    for (split, rows) in Split::ALL.into_iter().zip(rows) {
        let (x, y): (Vec<f32>, Vec<f32>) = rows.iter().map(|[x, y]| (*x, *y)).unzip();
        let keys: Vec<u64> = (0..rows.len() as u64).collect();
        let rows = Rows {
            keys: &keys,
            source: vec![&x],
            target: vec![&y],
        };
        statistics.add(split, &rows).unwrap();
    }
    statistics.flush();
    statistics
}

pub(crate) const LINE: &[[f32; 2]] = &[[0.0, 1.0], [1.0, 3.0], [2.0, 5.0]];

fn error(statistics: &Statistics, choice: RidgeChoice) -> FitError {
    fit_pairs(statistics, choice, RankChoice::Full, |_| ()).unwrap_err()
}

#[test]
fn a_line_by_hand() {
    let found = fit(&tiny([LINE, LINE, LINE]), RidgeChoice::Fixed(0.0));
    assert!((whole(&found)[(0, 0)] - 2.0).abs() < 1e-6 && (found.bias[0] - 1.0).abs() < 1e-6);
    // Covariance 4/3 over variance 2/3 plus lambda 2/3.
    let found = fit(&tiny([LINE, LINE, LINE]), RidgeChoice::Fixed(2.0 / 3.0));
    assert!((whole(&found)[(0, 0)] - 1.0).abs() < 1e-6 && (found.bias[0] - 2.0).abs() < 1e-6);
    // Errors -1, 0, 1 about squares 4, 0, 4.
    assert!((found.r2 - 0.75).abs() < 1e-6 && (found.r2_median - 0.75).abs() < 1e-6);
    assert_eq!(found.r2_mean_baseline, 0.0);
    // The identity is off by 1, 2, 3.
    assert!((found.r2_identity_baseline.unwrap() - (1.0 - 14.0 / 8.0)).abs() < 1e-12);
}

#[test]
fn missing_rows_are_named() {
    let auto = RidgeChoice::Auto;
    let split = Split::Train;
    assert_eq!(error(&tiny([&[], LINE, LINE]), auto), FitError::NoRows { split });
    let split = Split::Validation;
    assert_eq!(error(&tiny([LINE, &[], LINE]), auto), FitError::NoRows { split });
    let message = error(&tiny([LINE, LINE, &[]]), auto).to_string();
    assert!(
        message.contains("test") && message.contains("more documents"),
        "{message}"
    );
    let (split, found, needed) = (Split::Test, 1, 2);
    let few = FitError::TooFewRows { split, found, needed };
    assert_eq!(error(&tiny([LINE, LINE, &LINE[..1]]), auto), few);
    // A lambda that is given needs no validation rows.
    assert_eq!(
        fit(&tiny([LINE, &[], LINE]), RidgeChoice::Fixed(0.0)).validation_rows,
        0
    );
}

#[test]
fn what_can_not_be_fitted_is_refused() {
    let good = tiny([LINE, LINE, LINE]);
    for found in [-1.0, f64::INFINITY, f64::NAN] {
        assert!(matches!(
            error(&good, RidgeChoice::Fixed(found)),
            FitError::Lambda { .. }
        ));
    }
    let flat: &[[f32; 2]] = &[[0.0, 2.0], [1.0, 2.0]];
    let layer = 0;
    assert_eq!(
        error(&tiny([LINE, LINE, flat]), RidgeChoice::Auto),
        FitError::ConstantTarget { layer }
    );
    // A source that never changes has nothing to say: the mean is predicted, without an error.
    let still: &[[f32; 2]] = &[[1.0, 1.0], [1.0, 3.0], [1.0, 5.0]];
    for (choice, rank) in [
        (RidgeChoice::Auto, 0),
        (RidgeChoice::Fixed(0.0), 0),
        (RidgeChoice::Fixed(1.0), 1),
    ] {
        let found = fit(&tiny([still, still, still]), choice);
        assert_eq!(
            (whole(&found)[(0, 0)], found.bias[0], found.input_rank),
            (0.0, 3.0, rank)
        );
    }
    // Slopes beyond f32.
    let steep: &[[f32; 2]] = &[[0.0, 0.0], [1e-20, 3e38]];
    assert!(matches!(
        error(&tiny([steep, steep, steep]), RidgeChoice::Fixed(0.0)),
        FitError::NotFinite { .. }
    ));
}

#[test]
fn products_that_overflow_f32_are_refused() {
    let layout = planted(Precision::F32, 2).statistics.layout().clone();
    let mut statistics = Statistics::new(layout, Precision::F32).unwrap();
    let huge: Vec<f32> = (0..48).map(|i| if i < 24 { 1e30 } else { -1e30 }).collect();
    let target: Vec<f32> = (0..34).map(|i| i as f32).collect();
    for split in Split::ALL {
        let rows = Rows {
            keys: &[1, 2],
            source: vec![&huge],
            target: vec![&target],
        };
        statistics.add(split, &rows).unwrap();
    }
    statistics.flush();
    assert!(matches!(
        error(&statistics, RidgeChoice::Auto),
        FitError::NotFinite { .. }
    ));
}

#[test]
fn measures_are_of_the_rows_that_are_kept() {
    // Of the third test row, which is off the line, nothing is kept.
    let off: &[[f32; 2]] = &[[0.0, 1.0], [1.0, 3.0], [2.0, 50.0]];
    let found = fit(&tiny_with([LINE, LINE, off], 2), RidgeChoice::Auto);
    let rows = [found.rows, found.validation_rows, found.test_rows];
    assert_eq!((rows, found.cosine_rows), ([3, 2, 2], 2));
    assert!(found.r2 > 0.999_999 && found.cosine > 0.999_999, "{found:?}");
    assert!(fit(&tiny_with([LINE, LINE, off], 3), RidgeChoice::Auto).r2 < 0.5);
    let split = Split::Validation;
    let none = tiny_with([LINE, LINE, LINE], 0);
    assert_eq!(error(&none, RidgeChoice::Auto), FitError::NoRows { split });
}

#[test]
fn staged_rows_are_not_forgotten() {
    let mut statistics = tiny([LINE, LINE, LINE]);
    let rows = Rows {
        keys: &[4],
        source: vec![&[1.0]],
        target: vec![&[1.0]],
    };
    statistics.add(Split::Train, &rows).unwrap();
    let expected = FitError::Statistics(StatsError::Unflushed { rows: 1 });
    assert_eq!(error(&statistics, RidgeChoice::Auto), expected);
}
