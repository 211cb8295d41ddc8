use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::*;

pub const SOURCE: usize = 5;
pub const TARGET: usize = 4;

fn layout() -> Layout {
    let pair = |source_layers: &[usize], target_layer| PairSpec {
        source_layers: source_layers.to_vec(),
        target_layer,
    };
    Layout {
        source_hidden: SOURCE,
        target_hidden: TARGET,
        pairs: vec![pair(&[6], 3), pair(&[6, 2], 8), pair(&[6], 8)],
    }
}

/// Rows of two source and two target layers, correlated, with means of `offset` times the spread.
#[derive(Clone)]
pub struct Data {
    keys: Vec<u64>,
    source: [Vec<f32>; 2],
    target: [Vec<f32>; 2],
}

impl Data {
    pub fn new(rows: usize, offset: f32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut normal = || rng.sample::<f32, _>(StandardNormal);
        let mut layer = |width: usize| -> Vec<f32> {
            let means: Vec<f32> = (0..width).map(|_| offset * normal()).collect();
            let mut values = Vec::new();
            for _ in 0..rows {
                let shared = normal();
                values.extend(means.iter().map(|mean| mean + shared + normal()));
            }
            values
        };
        let (source, target) = ([layer(SOURCE), layer(SOURCE)], [layer(TARGET), layer(TARGET)]);
        let keys = (0..rows).map(|_| rng.random()).collect();
        Self { keys, source, target }
    }

    fn len(&self) -> usize {
        self.keys.len()
    }

    /// These rows, in this order.
    pub fn pick(&self, order: &[usize]) -> Self {
        let rows = |values: &Vec<f32>, width: usize| -> Vec<f32> {
            order
                .iter()
                .flat_map(|&row| values[row * width..][..width].to_vec())
                .collect()
        };
        Self {
            keys: order.iter().map(|&row| self.keys[row]).collect(),
            source: self.source.each_ref().map(|values| rows(values, SOURCE)),
            target: self.target.each_ref().map(|values| rows(values, TARGET)),
        }
    }

    pub fn add(&self, to: &mut Statistics, split: Split, batch: usize) {
        for start in (0..self.len()).step_by(batch) {
            let end = self.len().min(start + batch);
            let rows = Rows {
                keys: &self.keys[start..end],
                source: self.source.iter().map(|v| &v[start * SOURCE..end * SOURCE]).collect(),
                target: self.target.iter().map(|v| &v[start * TARGET..end * TARGET]).collect(),
            };
            to.add(split, &rows).unwrap();
        }
    }

    /// Mean, and all centred products, by two passes in f64; `x` the concatenation of layers 6 and 2, `y` of 3 and 8.
    fn two_pass(&self) -> (Vec<f64>, Vec<Vec<f64>>) {
        let parts = [
            (&self.source[1], SOURCE),
            (&self.source[0], SOURCE),
            (&self.target[0], TARGET),
            (&self.target[1], TARGET),
        ];
        let row = |row: usize| -> Vec<f64> {
            let parts = parts.iter().flat_map(|(v, w)| v[row * w..][..*w].iter());
            parts.map(|&v| f64::from(v)).collect()
        };
        let (n, width) = (self.len(), 2 * SOURCE + 2 * TARGET);
        let mut mean = vec![0.0; width];
        for r in 0..n {
            mean.iter_mut()
                .zip(row(r))
                .for_each(|(mean, value)| *mean += value / n as f64);
        }
        let mut products = vec![vec![0.0; width]; width];
        for r in 0..n {
            let centred: Vec<f64> = row(r).iter().zip(&mean).map(|(value, mean)| value - mean).collect();
            for i in 0..width {
                for j in 0..width {
                    products[i][j] += centred[i] * centred[j];
                }
            }
        }
        (mean, products)
    }
}

pub fn statistics(precision: Precision, block: usize) -> Statistics {
    Statistics::new(layout(), precision)
        .unwrap()
        .with_block_rows(block)
        .with_held_out_rows(16)
}

pub fn of(data: &Data, precision: Precision, block: usize, batch: usize) -> Statistics {
    let mut statistics = statistics(precision, block);
    data.add(&mut statistics, Split::Train, batch);
    data.add(&mut statistics, Split::Test, batch);
    statistics.flush();
    statistics
}

/// The largest difference of any entry of the train sums, relative to the product of its dimensions' spreads.
pub fn difference(a: &Moments, b: &Moments) -> f64 {
    assert_eq!(a.count, b.count);
    let n = a.count as f64;
    let mut worst = 0.0f64;
    let mut see = |a: f64, b: f64, scale: f64| worst = worst.max((a - b).abs() / scale);
    let diagonal = |gram: &matrix::Matrix<f64>, i: usize| gram.column(i)[i].sqrt();
    let plan = layout::LayoutPlan::new(layout()).unwrap();
    for (g, h) in a.gram.iter().zip(&b.gram) {
        for j in 0..g.columns() {
            for i in 0..g.rows() {
                see(g.column(j)[i], h.column(j)[i], diagonal(g, i) * diagonal(g, j));
                assert!(i >= j || g.column(j)[i] == 0.0 && h.column(j)[i] == 0.0);
            }
        }
    }
    for (pair, (c, d)) in plan.pairs.iter().zip(a.cross.iter().zip(&b.cross)) {
        for j in 0..c.columns() {
            let spread = a.target_squares[pair.target][j].sqrt();
            for i in 0..c.rows() {
                see(
                    c.column(j)[i],
                    d.column(j)[i],
                    spread * diagonal(&a.gram[pair.input], i),
                );
            }
        }
    }
    let lists = |m: &Moments| {
        [
            m.target_squares.concat(),
            m.source_norms.clone(),
            m.target_norms.clone(),
        ]
        .concat()
    };
    lists(a).iter().zip(lists(b)).for_each(|(a, b)| see(*a, b, *a));
    let means = |m: &Moments| [m.source_mean.concat(), m.target_mean.concat()].concat();
    // Means are of unit spread here.
    means(a)
        .iter()
        .zip(means(b))
        .for_each(|(a, b)| see(*a, b, 1.0 + a.abs()));
    assert!(n > 0.0);
    worst
}

pub fn sampled(statistics: &Statistics) -> Vec<(u64, Vec<f32>)> {
    let rows = statistics.test().sample().rows().iter();
    rows.map(|row| (row.key, [&row.source[..], &row.target[..]].concat()))
        .collect()
}

#[test]
fn sums_equal_those_of_two_passes() {
    for (precision, tolerance) in [(Precision::F64, 1e-12), (Precision::F32, 1e-6)] {
        for offset in [0.0, 1000.0] {
            let data = Data::new(700, offset);
            let (mean, products) = data.two_pass();
            let statistics = of(&data, precision, 64, 700);
            let moments = statistics.train();
            let near = |found: f64, i: usize, j: usize| {
                let scale = (products[i][i] * products[j][j]).sqrt();
                assert!(
                    (found - products[i][j]).abs() < tolerance * scale,
                    "{offset} {i} {j}: {found}"
                );
            };
            // Inputs ascend: [6], then [6, 2].
            assert_eq!(statistics.layout().inputs(), [vec![6], vec![6, 2]]);
            for (gram, width) in moments.gram.iter().zip([SOURCE, 2 * SOURCE]) {
                assert_eq!(gram.columns(), width);
                for j in 0..width {
                    (j..width).for_each(|i| near(gram.column(j)[i], i, j));
                }
            }
            let first_target = 2 * SOURCE;
            for (cross, target) in moments.cross.iter().zip([0, TARGET, TARGET]) {
                for j in 0..TARGET {
                    (0..cross.rows()).for_each(|i| near(cross.column(j)[i], i, first_target + target + j));
                }
            }
            let means = [
                &moments.source_mean[1],
                &moments.source_mean[0],
                &moments.target_mean[0],
            ];
            for (found, expected) in means.into_iter().flatten().zip(&mean) {
                assert!(
                    (found - expected).abs() < 1e-12 * (1.0 + offset as f64),
                    "{found} {expected}"
                );
            }
            let squares = moments.target_squares.iter().flatten().zip(first_target..);
            squares.for_each(|(found, i)| near(*found, i, i));
            let norm = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let expected = data.source[0].chunks(SOURCE).map(norm).sum::<f64>() / 700.0;
            assert!((moments.source_norms[0] / 700.0 - expected).abs() < 1e-12 * expected);
            let expected = data.target[1].chunks(TARGET).map(norm).sum::<f64>() / 700.0;
            assert!((moments.target_norms[1] / 700.0 - expected).abs() < 1e-12 * expected);
        }
    }
}

#[test]
fn the_batch_size_changes_not_a_bit() {
    let data = Data::new(333, 10.0);
    for precision in [Precision::F64, Precision::F32] {
        let whole = of(&data, precision, 64, 333);
        for batch in [1, 7, 64, 100] {
            let other = of(&data, precision, 64, batch);
            let (a, b) = (whole.train(), other.train());
            assert_eq!(format!("{a:?}"), format!("{b:?}"), "{batch}");
            assert_eq!(sampled(&whole), sampled(&other));
        }
    }
}

#[test]
fn blocks_orders_and_shards_give_the_same() {
    for (precision, tolerance) in [(Precision::F64, 1e-12), (Precision::F32, 2e-6)] {
        for offset in [0.0, 1000.0] {
            let data = Data::new(500, offset);
            let whole = of(&data, precision, 500, 500);
            let check = |other: &Statistics, what: &str| {
                let worst = difference(whole.train(), other.train());
                assert!(worst < tolerance, "{precision:?}, {what}: {worst:e}");
                assert_eq!(sampled(&whole), sampled(other), "{what}");
                assert_eq!(other.rows(Split::Train), 500);
            };
            for block in [1, 3, 64, 499] {
                check(&of(&data, precision, block, 50), &format!("blocks of {block}"));
            }
            let mut order: Vec<usize> = (0..500).collect();
            let mut rng = ChaCha8Rng::seed_from_u64(9);
            for turn in 0..4 {
                order.shuffle(&mut rng);
                check(&of(&data.pick(&order), precision, 64, 50), "another order");
                let (mut shards, mut rest): (Vec<Statistics>, &[usize]) = (Vec::new(), &order);
                while !rest.is_empty() {
                    let (shard, others) = rest.split_at(rng.random_range(0..=rest.len()).max(1));
                    shards.push(of(&data.pick(shard), precision, 32, 17));
                    rest = others;
                }
                shards.push(statistics(precision, 1));
                shards.rotate_left(turn);
                let mut merged = statistics(precision, 8);
                for shard in shards {
                    merged.merge(shard).unwrap();
                }
                check(&merged, "shards");
            }
        }
    }
}

#[test]
fn merging_takes_staged_rows_along() {
    let data = Data::new(100, 1.0);
    let (first, second): (Vec<usize>, Vec<usize>) = ((0..40).collect(), (40..100).collect());
    let (mut a, mut b) = (statistics(Precision::F64, 64), statistics(Precision::F64, 64));
    data.pick(&first).add(&mut a, Split::Train, 10);
    data.pick(&second).add(&mut b, Split::Train, 10);
    assert_eq!(a.rows(Split::Train), 40);
    assert!(matches!(a.check_flushed(), Err(StatsError::Unflushed { rows: 40, .. })));
    a.merge(b).unwrap();
    a.check_flushed().unwrap();
    assert!(difference(of(&data, Precision::F64, 64, 10).train(), a.train()) < 1e-12);
}

#[test]
fn the_block_size_may_change_on_the_way() {
    let data = Data::new(100, 1.0);
    let (first, second): (Vec<usize>, Vec<usize>) = ((0..40).collect(), (40..100).collect());
    let mut changed = statistics(Precision::F64, 64);
    data.pick(&first).add(&mut changed, Split::Train, 10);
    changed = changed.with_block_rows(7);
    data.pick(&second).add(&mut changed, Split::Train, 10);
    changed.flush();
    let whole = of(&data, Precision::F64, 64, 10);
    assert!(difference(whole.train(), changed.train()) < 1e-12);
}

#[test]
fn only_like_is_merged_with_like() {
    let field = |other: Statistics| match statistics(Precision::F64, 8).merge(other).unwrap_err() {
        StatsError::Differs { field, .. } => field,
        error => panic!("{error}"),
    };
    let with = |change: &dyn Fn(&mut Layout)| {
        let mut layout = layout();
        change(&mut layout);
        Statistics::new(layout, Precision::F64).unwrap().with_held_out_rows(16)
    };
    assert_eq!(field(with(&|l| l.source_hidden += 1)), "source_hidden");
    assert_eq!(field(with(&|l| l.target_hidden += 1)), "target_hidden");
    assert_eq!(field(with(&|l| l.pairs.swap(0, 1))), "pairs");
    assert_eq!(field(with(&|l| l.pairs[0].target_layer = 9)), "pairs");
    assert_eq!(field(statistics(Precision::F32, 8)), "precision");
    assert_eq!(
        field(statistics(Precision::F64, 8).with_held_out_rows(15)),
        "held-out rows kept"
    );
    assert!(
        statistics(Precision::F64, 8)
            .merge(statistics(Precision::F64, 99))
            .is_ok()
    );
}

#[test]
fn bad_rows_are_named_and_change_nothing() {
    let data = Data::new(3, 1.0);
    let mut statistics = statistics(Precision::F64, 64);
    let rows = || Rows {
        keys: &data.keys,
        source: data.source.iter().map(Vec::as_slice).collect(),
        target: data.target.iter().map(Vec::as_slice).collect(),
    };
    let mut refused = |rows: &Rows<'_>| {
        let error = statistics.add(Split::Test, rows).unwrap_err();
        assert_eq!(statistics.rows(Split::Test), 0);
        assert!(statistics.test().sample().rows().is_empty());
        error.to_string()
    };
    let mut bad = rows();
    bad.source.pop();
    assert_eq!(refused(&bad), "source: found 1, expected 2");
    let mut bad = rows();
    bad.target[1] = &bad.target[1][1..];
    assert_eq!(refused(&bad), "target[1] (layer 8): found 11, expected 12");
    let mut bad = rows();
    bad.keys = &bad.keys[1..];
    assert_eq!(refused(&bad), "source[0] (layer 2): found 15, expected 10");
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut states = data.target[0].clone();
        states[2 * TARGET + 1] = value;
        let mut bad = rows();
        bad.target[0] = &states;
        let expected = format!("target layer 3, row 2, dimension 1: found {value}, expected finite states");
        assert_eq!(refused(&bad), expected);
    }
    statistics.add(Split::Test, &rows()).unwrap();
    assert_eq!(statistics.rows(Split::Test), 3);
}

#[test]
fn what_does_not_fit_in_memory_is_refused() {
    let mut layout = layout();
    layout.source_hidden = layout::MAX_HIDDEN;
    layout.pairs[0].source_layers = (0..layout::MAX_INPUTS).collect();
    assert!(matches!(
        Statistics::new(layout, Precision::F64),
        Err(StatsError::Memory { .. })
    ));
}

#[test]
fn some_pairs_are_as_if_no_others_had_been_asked_for() {
    let data = Data::new(300, 3.0);
    let all = of(&data, Precision::F64, 64, 50);
    let pairs = &layout().pairs;
    // Layer 2 of the source and layer 3 of the target fall away.
    let mut kept = all.clone().restrict(&pairs[2..]).unwrap();
    assert_eq!(kept.layout().source_layers(), [6]);
    assert_eq!(kept.layout().target_layers(), [8]);
    let mut afresh = Statistics::new(kept.layout().clone(), Precision::F64)
        .unwrap()
        .with_block_rows(64)
        .with_held_out_rows(16);
    for split in [Split::Train, Split::Test] {
        let rows = Rows {
            keys: &data.keys,
            source: vec![&data.source[1]],
            target: vec![&data.target[1]],
        };
        afresh.add(split, &rows).unwrap();
    }
    afresh.flush();
    assert_eq!(sampled(&kept), sampled(&afresh));
    assert_eq!(kept.train().source_norms, all.train().source_norms[1..]);
    let entries = |statistics: &Statistics| {
        [
            statistics.train().gram[0].values(),
            statistics.train().cross[0].values(),
        ]
        .concat()
    };
    for (kept, afresh) in entries(&kept).iter().zip(entries(&afresh)) {
        assert!((kept - afresh).abs() < 1e-9 * (1.0 + afresh.abs()));
    }
    assert!(kept.merge(afresh).is_ok());
    let other = PairSpec {
        source_layers: vec![2],
        target_layer: 3,
    };
    let refused = all.restrict(&[other]).unwrap_err().to_string();
    assert_eq!(
        refused,
        "pairs[0]: found 2:3, expected one of the pairs in the statistics: 6:3,6+2:8,6:8"
    );
}
