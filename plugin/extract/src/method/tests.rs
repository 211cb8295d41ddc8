use std::collections::BTreeMap;

use super::*;

/// States of pairs, and the directions that scikit-learn finds in them; made by `fixtures/make_methods.py`.
#[derive(Deserialize)]
struct Case {
    name: String,
    width: usize,
    positive: Vec<f32>,
    negative: Vec<f32>,
    order: Vec<usize>,
    directions: BTreeMap<Method, Vec<f64>>,
    votes: BTreeMap<Method, Vec<f64>>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../fixtures/methods.json")).unwrap()
}

fn rows(values: &[f32], width: usize) -> Vec<&[f32]> {
    values.chunks_exact(width).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// Asserts that a method finds the direction that a library did.
fn assert_found(case: &Case, method: Method, sign: Sign, expected: &[f64]) {
    let (p, n) = (rows(&case.positive, case.width), rows(&case.negative, case.width));
    let found = match method {
        // The order is numpy's.
        Method::Lat => {
            let line = lat(&p, &n, &case.order).unwrap();
            sign.apply(along(&line, &mean_difference(&p, &n)).unwrap(), &p, &n)
        }
        method => method.direction(&p, &n, sign, 1).unwrap(),
    };
    let found = wide(&found);
    let norms = (dot(&found, &found).sqrt(), dot(expected, expected).sqrt());
    let cosine = dot(&found, expected) / norms.0 / norms.1;
    let name = format!("{}, {method}, {sign}", case.name);
    println!("{name}: 1 - cosine {:.1e}, norms {norms:?}", 1.0 - cosine);
    assert!(cosine > 1.0 - 1e-10, "{name}: cosine {cosine}");
    assert!((norms.0 / norms.1 - 1.0).abs() < 1e-5, "{name}: {norms:?}");
}

#[test]
fn directions_are_scikit_learns() {
    for case in cases() {
        assert_eq!(case.directions.len(), Method::ALL.len());
        for (method, expected) in &case.directions {
            assert_found(&case, *method, Sign::Mean, expected);
        }
    }
}

#[test]
fn votes_are_repengs() {
    let mut turned = 0;
    for case in cases() {
        for method in Method::ALL {
            match case.votes.get(&method) {
                Some(expected) => {
                    assert!(method.finds_a_line());
                    assert_found(&case, method, Sign::Vote, expected);
                    turned += usize::from(dot(expected, &case.directions[&method]) < 0.0);
                }
                // No say in what has a sign of its own.
                None => {
                    assert!(!method.finds_a_line());
                    assert_found(&case, method, Sign::Vote, &case.directions[&method]);
                }
            }
        }
    }
    // Those of the last case, in which few pairs have the mean and the others the majority.
    assert_eq!(turned, 3);
}

#[test]
fn the_whole_vector_carries_the_negative_mean_to_the_positive() {
    for case in cases() {
        let (p, n) = (rows(&case.positive, case.width), rows(&case.negative, case.width));
        for method in Method::ALL {
            let direction = wide(&method.direction(&p, &n, Sign::Mean, 5).unwrap());
            let norm = dot(&direction, &direction).sqrt();
            let gap = dot(&direction, &mean_difference(&p, &n)) / norm;
            assert!(gap > 0.0 && (gap / norm - 1.0).abs() < 1e-5, "{method}: {gap}, {norm}");
            // With the sides changed the direction turns about.
            let turned = wide(&method.direction(&n, &p, Sign::Mean, 5).unwrap());
            assert!(dot(&direction, &turned) < 0.0, "{method}");
        }
    }
}

#[test]
fn only_lat_goes_by_the_seed() {
    let case = cases().remove(1);
    let (p, n) = (rows(&case.positive, case.width), rows(&case.negative, case.width));
    for method in Method::ALL {
        let direction = |seed| method.direction(&p, &n, Sign::Mean, seed).unwrap();
        assert_eq!(direction(1), direction(1), "{method}");
        assert_eq!(direction(1) != direction(2), method.uses_seed(), "{method}");
    }
    // What every machine has to shuffle.
    let mut order: Vec<usize> = (0..8).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(1));
    assert_eq!(order, [3, 4, 5, 2, 7, 1, 6, 0]);
}

#[test]
fn held_out_areas_are_of_the_method() {
    let case = cases().remove(0);
    let (p, n) = (rows(&case.positive, case.width), rows(&case.negative, case.width));
    let folds = |groups: &[usize]| Folds::new(groups).unwrap();
    let each = folds(&(0..p.len()).collect::<Vec<_>>());
    let area = |method: Method, sign| method.held_out_auroc(&p, &n, &each, sign, 1).unwrap();
    let areas = Method::ALL.map(|method| area(method, Sign::Mean));
    println!("{areas:?}");
    let by_hand = statistics::held_out_auroc(&p, &n, &each, |p, n| Some(statistics::mean_difference(p, n)));
    assert_eq!(Some(areas[0]), by_hand);
    assert!(areas.iter().all(|area| *area > 0.5 && *area <= 1.0));
    assert!(areas[1..].iter().any(|area| *area != areas[0]));
    // Few pairs against many: which way is up is another question than which line.
    let case = cases().remove(3);
    let (p, n) = (rows(&case.positive, case.width), rows(&case.negative, case.width));
    let each = folds(&(0..p.len()).collect::<Vec<_>>());
    let area = |sign| Method::PcaCentred.held_out_auroc(&p, &n, &each, sign, 1).unwrap();
    assert!(area(Sign::Vote) > 0.5 && area(Sign::Mean) < 0.5);
    // Without a fold the same pair is left ten times over: its centred difference is nothing.
    let (p, n) = (vec![p[0]; 20], vec![n[0]; 20]);
    let each = folds(&(0..20).collect::<Vec<_>>());
    assert_eq!(Method::PcaDifference.held_out_auroc(&p, &n, &each, Sign::Mean, 1), None);
}

#[test]
fn states_that_are_far_apart_converge() {
    // Separable by any margin: only the penalty keeps the weight finite.
    let positive: Vec<f32> = (0..6 * 300)
        .map(|i| if i % 300 == 0 { 30_000.0 } else { ((i * 7) % 11) as f32 })
        .collect();
    let negative: Vec<f32> = (0..6 * 300)
        .map(|i| if i % 300 == 0 { -30_000.0 } else { ((i * 5) % 13) as f32 })
        .collect();
    let direction = Method::Logistic
        .direction(&rows(&positive, 300), &rows(&negative, 300), Sign::Mean, 0)
        .unwrap();
    assert!((direction[0] - 60_000.0).abs() < 1.0, "{}", direction[0]);
}

#[test]
fn what_separates_nothing_is_refused() {
    let error = |method: Method, p: &[&[f32]], n: &[&[f32]]| {
        format!("{:#}", method.direction(p, n, Sign::Mean, 1).unwrap_err())
    };
    let (a, b, c): (&[f32], &[f32], &[f32]) = (&[1.0, 0.0], &[0.0, 1.0], &[3.0, 3.0]);
    assert!(error(Method::MeanDifference, &[a, b], &[b, a]).contains("does not separate"));
    assert!(error(Method::Logistic, &[a, b], &[a, b]).contains("does not separate"));
    assert!(error(Method::PcaDifference, &[c, c], &[a, a]).contains("no principal component"));
    assert!(error(Method::PcaCentred, &[a, b], &[a, b]).contains("no principal component"));
    assert!(error(Method::Lat, &[a, a], &[a, a]).contains("no principal component"));
    // Differences of (2, 1) and (2, -1): most alike along the first axis, most different along the second.
    let (up, down, zero): (&[f32], &[f32], &[f32]) = (&[2.0, 1.0], &[2.0, -1.0], &[0.0, 0.0]);
    assert!(error(Method::PcaDifference, &[up, down], &[zero, zero]).contains("does not separate"));
    assert_eq!(
        Method::PcaCentred
            .direction(&[up, down], &[zero, zero], Sign::Mean, 0)
            .unwrap(),
        [2.0, 0.0]
    );
    for method in Method::ALL {
        assert!(error(method, &[], &[]).contains("no pairs"));
        assert!(error(method, &[a, b], &[a]).contains("2 positive and 1 negative"));
        assert!(error(method, &[a, b], &[c, &[1.0]]).contains("one width"));
        assert!(error(method, &[a, &[f32::NAN, 0.0]], &[b, c]).contains("not finite"));
    }
}

#[test]
fn one_spelling_everywhere() {
    for method in Method::ALL {
        assert_eq!(method.to_string().parse::<Method>().unwrap(), method);
        assert_eq!(serde_json::to_string(&method).unwrap(), format!("\"{method}\""));
        assert_eq!(method.to_possible_value().unwrap().get_name(), method.as_str());
    }
    assert_eq!(Method::ALL, *Method::value_variants());
    let error = "PCA".parse::<Method>().unwrap_err().to_string();
    assert!(
        error.contains("\"PCA\"") && error.contains("\"pca-centred\""),
        "{error}"
    );
}
