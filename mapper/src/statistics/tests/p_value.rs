//! Ranks among controls, and many tests at once.

use super::*;

#[test]
fn p_values_by_rank() {
    for Rank { observed, controls, p } in reference().rank {
        assert_eq!(rank_p_value(observed, &controls), Some(p));
    }
    // One of four is as large, whichever its sign.
    assert_eq!(rank_p_value(2.0, &[1.0, -2.0, 0.5, -1.0]), Some(2.0 / 5.0));
    assert_eq!(rank_p_value(-2.0, &[1.0, -2.0, 0.5, -1.0]), Some(1.0));
    assert_eq!(rank_p_value(f64::INFINITY, &[1.0]), Some(0.5));
    assert_eq!(rank_p_value(1.0, &[]), None);
    assert_eq!(rank_p_value(f64::NAN, &[1.0]), None);
    assert_eq!(rank_p_value(1.0, &[f64::NAN]), None);
}

#[test]
fn effects_like_the_controls_pass_as_often_as_said() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut draw = || -> f64 { StandardNormal.sample(&mut rng) };
    let (mut one_sided, mut two_sided) = (0, 0);
    for _ in 0..4000 {
        let controls: Vec<f64> = (0..19).map(|_| draw()).collect();
        let observed = draw();
        one_sided += usize::from(rank_p_value(observed, &controls) <= Some(0.1));
        two_sided += usize::from(rank_p_value(observed.abs(), &controls) <= Some(0.1));
    }
    println!("{one_sided} and {two_sided} of 4000");
    // 200 and 400, with standard deviations of 14 and 19.
    assert!((145..255).contains(&one_sided) && (325..475).contains(&two_sided));
}

#[test]
fn the_fewest_draws_just_pass() {
    assert_eq!(least_draws(1, 0.05), 19);
    assert_eq!(least_draws(3, 0.05), 59);
    assert_eq!(least_draws(7, 0.01), 699);
    assert_eq!(least_draws(1, 0.3), 3);
    assert_eq!(least_draws(1, 1.0), 0);
    assert_eq!(least_draws(0, 0.05), 0);
    for level in [0.05, 0.01, 0.1, 0.3] {
        for tests in 1..400 {
            let smallest = |draws: usize| {
                let mut p_values = vec![1.0; tests];
                p_values[0] = rank_p_value(1.0, &vec![0.0; draws]).unwrap();
                holm(&p_values)[0]
            };
            let draws = least_draws(tests, level);
            assert!(smallest(draws) <= level);
            assert!(smallest(draws - 1) > level);
        }
    }
}

#[test]
fn many_tests_by_holm() {
    for Holm { p, adjusted } in reference().holm {
        let found = holm(&p);
        found
            .iter()
            .zip(&adjusted)
            .for_each(|(found, p)| near(*found, *p, 1e-15));
    }
    // Wikipedia's example ("Holm–Bonferroni method"): at 0.05 the first and the fourth are rejected.
    let found = holm(&[0.01, 0.04, 0.03, 0.005]);
    let expected = [0.03, 0.06, 0.06, 0.02];
    found.iter().zip(expected).for_each(|(found, p)| near(*found, p, 1e-15));
    assert_eq!(holm(&[]), [0.0; 0]);
    assert_eq!(holm(&[0.7, 0.6]), [1.0, 1.0]);
    let found = holm(&[0.25, f64::NAN, 0.125]);
    assert_eq!((found[0], found[2]), (0.5, 0.375));
    assert!(found[1].is_nan());
}
