use steermap_report::result::{ControlKind, Means, ValueSpread};

use super::*;

fn estimate(value: f64, low: f64, high: f64) -> Estimate {
    Estimate { value, low, high }
}

fn spread(low: f64, high: f64) -> ValueSpread {
    ValueSpread {
        count: 20,
        mean: 0.0,
        deviation: 0.1,
        interval: [-0.05, 0.05],
        range: [low, high],
    }
}

fn protocol() -> Protocol {
    Protocol {
        band: vec![2, 3],
        band_is: "middle half".to_string(),
        layer: 3,
        most_direct: Some(0.5),
        control_draws: 99,
        control_items: 16,
        retention_bounds: [0.5, 2.0],
        level: 0.05,
        tasks: 7,
        half_samples: 10,
    }
}

fn control(p: f64) -> Control {
    Control {
        kind: ControlKind::MappedRandom,
        alphas: vec![-0.1, 0.1],
        items: 16,
        retention: vec![0.1; 99],
        spread: spread(-0.2, 0.2),
        mapped: 0.9,
        p_value: p / 7.0,
        p_adjusted: Some(p),
        pearson: None,
        item_pearson: None,
    }
}

struct Case {
    steers: bool,
    finding: Estimate,
    native: Estimate,
    retention: Estimate,
    direct_share: f64,
    p: f64,
    specificity: Option<Specificity>,
}

impl Case {
    fn carried() -> Self {
        Self {
            steers: true,
            finding: estimate(9.0, 7.0, 11.0),
            native: estimate(9.0, 7.0, 11.0),
            retention: estimate(0.98, 0.9, 1.05),
            direct_share: 0.3,
            p: 0.01,
            specificity: Some(of_effects(0.95, 0.2, 0.2)),
        }
    }

    fn verdict(&self) -> Verdict {
        let native_steers = NativeSteers {
            steers: self.steers,
            slope: self.finding,
            least: 1.9,
            random: spread(-1.2, 1.3),
        };
        let evidence = Evidence {
            positive: "happy",
            native_steers: &native_steers,
            native: &self.native,
            retention: &self.retention,
            direct_share: Some(self.direct_share),
            control: Some(&control(self.p)),
            specificity: self.specificity.as_ref(),
        };
        of_task(&evidence, &protocol())
    }
}

#[test]
fn a_vector_is_carried_if_nothing_stands_against_it() {
    let verdict = Case::carried().verdict();
    assert_eq!(verdict.outcome, Outcome::Carried);
    assert_eq!(
        verdict.sentence,
        "The map carries \"happy\": the mapped vector has 98% of the native slope, 95% interval 90% to 105%; mapped random \
         directions don't reach it (p = 0.010 of 99 draws), and it moves its own task 4.7 times as much as the others."
    );
}

#[test]
fn each_failing_is_said() {
    let case = Case::carried;
    for (case, words) in [
        (
            Case { p: 0.06, ..case() },
            "mapped random directions have -20% to 20%, p = 0.060",
        ),
        (
            Case {
                retention: estimate(0.6, 0.45, 0.8),
                ..case()
            },
            "not above 50%",
        ),
        (
            Case {
                retention: estimate(3.1, 2.8, 3.4),
                ..case()
            },
            "not below 200%",
        ),
        (
            Case {
                retention: estimate(1.5, 1.0, 2.1),
                ..case()
            },
            "not below 200%",
        ),
        (
            Case {
                retention: estimate(-0.4, -0.5, -0.3),
                ..case()
            },
            "turns \"happy\" around",
        ),
        (
            Case {
                specificity: Some(of_effects(0.9, 1.1, 0.2)),
                ..case()
            },
            "0.8 times as much as the others, the native vector 5.0 times",
        ),
        (
            Case {
                specificity: Some(Specificity {
                    own_profile: 0.3,
                    other_profile: 0.9,
                    ..of_effects(0.95, 0.2, 0.2)
                }),
                ..case()
            },
            "nearer to what the native vector of \"topic\" does (cosine 0.90) than to what its own does (0.30)",
        ),
    ] {
        let verdict = case.verdict();
        assert_eq!(verdict.outcome, Outcome::NotCarried, "{}", verdict.sentence);
        assert!(verdict.sentence.contains(words), "{}", verdict.sentence);
    }
}

#[test]
fn what_says_nothing_is_neither_carried_nor_failed() {
    let case = Case::carried;
    for (case, words) in [
        (
            Case {
                direct_share: 0.7,
                ..case()
            },
            "70% of the native vector's effect",
        ),
        (
            Case {
                finding: estimate(0.1, -0.5, 0.7),
                steers: false,
                ..case()
            },
            "finding half contains 0",
        ),
        (
            Case {
                steers: false,
                ..case()
            },
            "is what random directions may have (up to 1.90, corrected for 7 tasks)",
        ),
        (
            Case {
                native: estimate(0.3, -0.1, 0.6),
                ..case()
            },
            "measuring half contains 0",
        ),
        (
            Case {
                retention: estimate(f64::NAN, 0.0, 0.0),
                ..case()
            },
            "says nothing",
        ),
        (
            Case {
                specificity: None,
                ..case()
            },
            "can't be said without another task",
        ),
    ] {
        let verdict = case.verdict();
        assert_eq!(verdict.outcome, Outcome::SaysNothing, "{}", verdict.sentence);
        assert!(verdict.sentence.contains(words), "{}", verdict.sentence);
    }
}

#[test]
fn specificity_by_hand() {
    assert!(of_effects(0.9, 0.25, 0.2).specific);
    // More on the others than on its own.
    assert!(!of_effects(0.3, 0.4, 0.2).specific);
    // 0.6 of what it does, where the native vector has 0.83.
    assert!(!of_effects(0.9, 0.6, 0.2).specific);
    // Hundredths of little are little.
    assert!(of_effects(1.0, 0.009, 0.0035).specific);
    // A native vector that is not specific itself.
    assert!(of_effects(0.9, 0.8, 1.2).specific);
    assert!(!of_effects(-0.9, 0.1, 0.2).specific);
    // As much as the native vector, but another's.
    let swapped = Specificity {
        own_profile: 0.3,
        other_profile: 0.9,
        ..of_effects(0.95, 0.2, 0.2)
    };
    assert!(!specificity(swapped).specific);
}

fn of_effects(own: f64, others: f64, native_others: f64) -> Specificity {
    specificity(Specificity {
        own,
        others,
        native_others,
        own_profile: 0.95,
        other_profile: 0.4,
        nearest_other: "topic".to_string(),
        specific: false,
    })
}

fn means(tasks: usize, retention: Option<Estimate>) -> Means {
    Means {
        tasks,
        counting: tasks,
        retention,
        pearson: None,
        item_pearson: None,
        texts: None,
        mse: None,
        mse_probability: None,
    }
}

/// Of `[measured, steered, judged, carried]` tasks.
fn all(tasks: [usize; 4], retention: Option<Estimate>) -> Verdict {
    let [measured, steered, judged, carried] = tasks;
    let summary = Summary {
        measured,
        steered,
        judged,
        carried,
        all: means(measured, retention.map(|_| estimate(0.5, 0.2, 0.8))),
        steering: means(steered, retention),
        layers: Vec::new(),
        verdict: pending(),
    };
    of_all(&summary, &protocol())
}

#[test]
fn headlines_say_how_many_of_which() {
    let good = Some(estimate(0.9, 0.8, 1.0));
    let verdict = all([14, 11, 10, 9], good);
    assert_eq!(verdict.outcome, Outcome::Carried);
    assert_eq!(
        verdict.sentence,
        "This map carries 9 of the 10 tasks that say something (14 measured, 11 with an own vector that steers): mean \
         retention at the layers that count 90%, 95% interval 80% to 100% (over 11 tasks whose own vector steers), 50%, 95% \
         interval 20% to 80% over all 14 tasks."
    );
    let near_0 = Some(estimate(0.02, -0.1, 0.1));
    for (verdict, outcome, words) in [
        (
            all([14, 11, 10, 3], good),
            Outcome::NotCarried,
            "only 3 of the 10 tasks",
        ),
        (
            all([7, 7, 7, 0], good),
            Outcome::NotCarried,
            "carries none of the 7 tasks",
        ),
        (all([7, 7, 7, 0], near_0), Outcome::NotCarried, "contains 0"),
        (
            all([2, 2, 1, 1], good),
            Outcome::Carried,
            "carries the only task that says something",
        ),
        (
            all([7, 6, 1, 1], good),
            Outcome::SaysNothing,
            "too few to speak for the map",
        ),
        (all([7, 0, 0, 0], None), Outcome::SaysNothing, "own vector steer"),
        (all([7, 5, 0, 0], good), Outcome::SaysNothing, "none says anything"),
        (all([7, 5, 2, 1], None), Outcome::SaysNothing, "none says anything"),
        (all([0, 0, 0, 0], None), Outcome::SaysNothing, "No task was measured."),
    ] {
        assert_eq!(verdict.outcome, outcome, "{}", verdict.sentence);
        assert!(verdict.sentence.contains(words), "{}", verdict.sentence);
    }
}

#[test]
fn a_pair_far_below_what_its_file_states_is_named() {
    let pair = |r2: f64| PairResult {
        source_layers: vec![3],
        target_layer: 7,
        stated_r2: 0.79,
        r2,
        r2_quantiles: [r2; 5],
        cosine: 0.9,
        cka: 0.9,
    };
    let of = |r2: f64, held_out: bool| Representation {
        text: "text".to_string(),
        text_sha256: "0".repeat(64),
        held_out,
        documents: 1,
        positions: 100,
        pairs: vec![pair(r2)],
        cka: Vec::new(),
    };
    assert!(of_pairs(&of(0.7, true)).is_empty());
    for (held_out, words) in [(false, "unlike"), (true, "held out")] {
        let told = of_pairs(&of(0.06, held_out));
        assert!(
            told[0].contains("R² is 0.060") && told[0].contains(words),
            "{}",
            told[0]
        );
    }
}
