//! CKA.

use super::*;

/// CKA as Kornblith et al. 2019 have it, without a correction for few rows; row by row.
fn biased_cka(x: &[f32], dx: usize, y: &[f32], dy: usize) -> f64 {
    let products = |states: &[f32], width: usize| -> Vec<Vec<f64>> {
        let n = states.len() / width;
        let means: Vec<f64> = (0..width)
            .map(|j| states.iter().skip(j).step_by(width).map(|&v| f64::from(v)).sum::<f64>() / n as f64)
            .collect();
        let centred: Vec<Vec<f64>> = rows(states, width)
            .iter()
            .map(|row| row.iter().zip(&means).map(|(&v, mean)| f64::from(v) - mean).collect())
            .collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        centred
            .iter()
            .map(|a| centred.iter().map(|b| dot(a, b)).collect())
            .collect()
    };
    let (k, l) = (products(x, dx), products(y, dy));
    let inner = |a: &[Vec<f64>], b: &[Vec<f64>]| -> f64 {
        let pairs = a.iter().flatten().zip(b.iter().flatten());
        pairs.map(|(a, b)| a * b).sum()
    };
    inner(&k, &l) / (inner(&k, &k) * inner(&l, &l)).sqrt()
}

#[test]
fn cka_is_its_definition() {
    for case in reference().cka {
        let (x, y) = (
            Gram::new(&case.x, case.dx).unwrap(),
            Gram::new(&case.y, case.dy).unwrap(),
        );
        let found = x.cka(&y).unwrap();
        println!("{}: {found}, biased {}", case.name, case.biased);
        // What `Gram` promises of its f32.
        assert!((found - case.cka).abs() < 2e-7, "{found}, expected {}", case.cka);
        assert_eq!(y.cka(&x), Some(found));
        near(x.cka(&x).unwrap(), 1.0, 1e-15);
        if case.name != "one massive row" {
            near(biased_cka(&case.x, case.dx, &case.y, case.dy), case.biased, 1e-12);
        }
    }
}

#[test]
fn unrelated_states_are_unrelated_however_wide() {
    // Independent normal states, fewer rows than dimensions.
    let (n, dx, dy) = (64, 512, 384);
    let values: Vec<[f64; 2]> = (0..20)
        .map(|seed| {
            let (x, y) = (noise(n, dx, seed), noise(n, dy, 1000 + seed));
            let debiased = Gram::new(&x, dx).unwrap().cka(&Gram::new(&y, dy).unwrap()).unwrap();
            [debiased, if seed < 2 { biased_cka(&x, dx, &y, dy) } else { f64::NAN }]
        })
        .collect();
    // About 1 / sqrt((1 + n / dx) (1 + n / dy)).
    assert!(
        values[..2].iter().all(|[_, biased]| (0.85..0.92).contains(biased)),
        "{values:?}"
    );
    // A correlation of n (n - 3) / 2 free products.
    let deviation = (2.0 / (n * (n - 3)) as f64).sqrt();
    let debiased: Vec<f64> = values.iter().map(|[debiased, _]| *debiased).collect();
    println!("{debiased:?}, expected deviation {deviation}");
    assert!(debiased.iter().all(|value| value.abs() < 4.0 * deviation));
    assert!(mean(&debiased).abs() < 4.0 * deviation / 20f64.sqrt());
    assert!(debiased.iter().any(|value| *value < 0.0));
    // States that share their first half are half alike: 0.5 for equal variances.
    let (x, y) = (noise(n, dx, 50), noise(n, dx, 51));
    let shared: Vec<f32> = (0..n * dx)
        .map(|place| if place % dx < dx / 2 { x[place] } else { y[place] })
        .collect();
    let found = Gram::new(&x, dx)
        .unwrap()
        .cka(&Gram::new(&shared, dx).unwrap())
        .unwrap();
    assert!((found - 0.5).abs() < 4.0 * deviation, "{found}");
}

#[test]
fn cka_sees_no_turn_no_scale_and_no_shift() {
    let case = reference().cka.remove(0);
    // The axes in another order, one of them mirrored, at twice the size, elsewhere.
    let turned: Vec<f32> = rows(&case.x, case.dx)
        .iter()
        .flat_map(|row| {
            let order = [3, 0, 4, 2, 1].map(|axis: usize| 2.0 * row[axis] + 64.0);
            [-order[0], order[1], order[2], order[3], order[4]]
        })
        .collect();
    let x = Gram::new(&case.x, case.dx).unwrap();
    near(x.cka(&Gram::new(&turned, case.dx).unwrap()).unwrap(), 1.0, 1e-6);
    // Very large and very small states, to the last bit.
    for scale in [2f32.powi(100), 2f32.powi(-80)] {
        let scaled: Vec<f32> = case.x.iter().map(|value| value * scale).collect();
        near(x.cka(&Gram::new(&scaled, case.dx).unwrap()).unwrap(), 1.0, 1e-15);
    }
}

#[test]
fn states_without_cka() {
    let moving = [1.0, 2.0, 3.0, 5.0, 1.0, 1.0, 0.0, 4.0, 2.0, 2.0];
    let gram = |states: &[f32], d: usize| Gram::new(states, d);
    let five = gram(&moving, 2).unwrap();
    assert!(five.cka(&five).is_some());
    assert!(five.cka(&gram(&moving, 1).unwrap()).is_none());
    assert!(gram(&moving[..8], 2).is_some());
    assert!(gram(&moving[..6], 2).is_none());
    assert!(gram(&moving, 3).is_none());
    assert!(gram(&moving, 0).is_none());
    assert!(gram(&[], 2).is_none());
    assert!(gram(&[0.1; 12], 2).is_none());
    // All equally far from each other: what would be compared is rounding.
    let mut apart = [0f32; 81];
    (0..9).for_each(|i| apart[10 * i] = 0.3);
    assert!(gram(&apart, 9).is_none());
    for value in [f32::NAN, f32::INFINITY] {
        let mut states = moving;
        states[3] = value;
        assert!(gram(&states, 2).is_none());
    }
}
