//! What the figures say, in sentences.

use steermap_maps::map::spell_source_layers;

use super::result::{Estimate, Kind, PairResult, Representation, Spread, TaskResult, Verdict};

/// Between texts of one kind R² differs by some hundredths.
const FAR_WORSE: f64 = 0.25;

/// Of one task. The native vector must steer for retention to mean anything, and a mapped vector is carried if all of its
/// interval is above 0 and above what 97.5% of random directions retain.
pub fn of_task(positive: &str, native: &Estimate, retention: &Estimate, random: &Spread) -> Verdict {
    let [low, high] = random.range;
    if !steers(native, random) {
        let why = match native.low > 0.0 {
            true => format!(
                "random directions move it as much ({} of its slope)",
                percents(random.range)
            ),
            false => "the interval of its slope contains 0".to_string(),
        };
        return Verdict {
            carried: false,
            sentence: format!(
                "The target's own vector does not steer towards {positive:?} here: {why}. So retention says nothing."
            ),
        };
    }
    let carried = retention.low > 0.0 && retention.low > high;
    let figures = format!(
        "{} of the native slope, 95% interval {}",
        percent(retention.value),
        percents([retention.low, retention.high])
    );
    let random = format!("random directions: {}", percents([low, high]));
    let sentence = match carried {
        true => format!("The map carries {positive:?}: the mapped vector has {figures} ({random})."),
        false if retention.low <= 0.0 && retention.high >= 0.0 => format!(
            "The map does not carry {positive:?}: the mapped vector has {figures}, which contains 0 ({random})."
        ),
        false if retention.high < 0.0 => {
            format!("The map turns {positive:?} around: the mapped vector has {figures} ({random}).")
        }
        false => {
            format!(
                "The map does not carry {positive:?} beyond chance: the mapped vector has {figures}, which reaches what random \
             directions have ({})",
                percents([low, high])
            ) + "."
        }
    };
    Verdict { carried, sentence }
}

/// Of the map: broken, if it does not predict the very text that its fit held out; else what its tasks say. `retention` is of
/// those whose native vector steers.
pub fn of_map(tasks: &[TaskResult], retention: Option<&Estimate>, representation: &Representation) -> Verdict {
    let steering = of_all(tasks, retention);
    let used = |pair: &&PairResult| {
        tasks
            .iter()
            .any(|task| (&task.source_layers, task.target_layer) == (&pair.source_layers, pair.target_layer))
    };
    let misfit = representation.pairs.iter().filter(used).find(|pair| far_worse(pair));
    match misfit.filter(|_| representation.held_out) {
        Some(pair) => Verdict {
            carried: false,
            sentence: format!(
                "This map is broken: {}. Steered through it all the same (a direction changes little from layer to layer): {}",
                misfits(pair, true),
                steering.sentence
            ),
        },
        None => steering,
    }
}

/// Of all tasks.
fn of_all(tasks: &[TaskResult], retention: Option<&Estimate>) -> Verdict {
    let count = tasks.len();
    let carried = tasks.iter().filter(|task| task.verdict.carried).count();
    let Some(retention) = retention else {
        return Verdict {
            carried: false,
            sentence: match count {
                0 => "No task was measured.".to_string(),
                _ => "On no task does the target's own vector steer, so retention says nothing.".to_string(),
            },
        };
    };
    let figures = format!(
        "mean retention {}, 95% interval {}",
        percent(retention.value),
        percents([retention.low, retention.high])
    );
    if retention.low <= 0.0 && retention.high >= 0.0 {
        return Verdict {
            carried: false,
            sentence: format!("This map does not carry steering: {figures}, which contains 0."),
        };
    }
    let whole = 2 * carried > count && retention.low > 0.0;
    let sentence = match (carried, whole) {
        (0, _) => format!("This map does not carry steering beyond chance on any of {count} tasks: {figures}."),
        _ => format!("The map carries {carried} of {count} tasks: {figures}."),
    };
    Verdict {
        carried: whole,
        sentence,
    }
}

/// The layer pairs that predict this text's states far worse than their file states, which retention need not show.
pub fn of_pairs(representation: &Representation) -> Vec<String> {
    let worse = representation.pairs.iter().filter(|pair| far_worse(pair));
    worse.map(|pair| misfits(pair, representation.held_out)).collect()
}

fn far_worse(pair: &PairResult) -> bool {
    pair.r2 < pair.stated_r2 - FAR_WORSE
}

fn misfits(pair: &PairResult, held_out: bool) -> String {
    format!(
        "at layers {} -> {} its R² is {:.3} instead of the {:.3} that its file states, on {}",
        spell_source_layers(&pair.source_layers),
        pair.target_layer,
        pair.r2,
        pair.stated_r2,
        match held_out {
            true => "the documents that its fit held out: it is not a map of these layers",
            false => "this text: it is not a map of these layers, or the text is unlike what it was fitted on",
        }
    )
}

/// Whether the target's own vector steers clearly enough for retention to mean something.
pub fn native_steers(task: &TaskResult) -> bool {
    let native = task.curves.iter().find(|curve| curve.kind == Kind::Native);
    native.is_some_and(|native| steers(&native.slope, &task.random_retention))
}

/// All of the native slope's interval is above 0, and 97.5% of random directions have less of a slope.
fn steers(native: &Estimate, random: &Spread) -> bool {
    native.low > 0.0 && random.range[1] < 1.0
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

fn percents([low, high]: [f64; 2]) -> String {
    format!("{} to {}", percent(low), percent(high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{Size, sample};

    fn estimate(value: f64, low: f64, high: f64) -> Estimate {
        Estimate { value, low, high }
    }

    fn random(low: f64, high: f64) -> Spread {
        Spread {
            count: 20,
            mean: 0.0,
            deviation: 0.1,
            interval: [-0.05, 0.05],
            range: [low, high],
        }
    }

    #[test]
    fn a_vector_is_carried_if_it_stands_out_of_chance() {
        let native = estimate(9.0, 7.0, 11.0);
        let verdict = |retention| of_task("happy", &native, &retention, &random(-0.2, 0.2));
        assert_eq!(
            verdict(estimate(0.98, 0.95, 1.01)).sentence,
            "The map carries \"happy\": the mapped vector has 98% of the native slope, 95% interval 95% to 101% (random \
             directions: -20% to 20%)."
        );
        assert!(verdict(estimate(0.5, 0.3, 0.7)).carried);
        for (retention, words) in [
            (estimate(0.02, -0.1, 0.1), "which contains 0"),
            (estimate(0.2, 0.1, 0.3), "beyond chance"),
            (estimate(-0.4, -0.5, -0.3), "turns \"happy\" around"),
        ] {
            let verdict = verdict(retention);
            assert!(
                !verdict.carried && verdict.sentence.contains(words),
                "{}",
                verdict.sentence
            );
        }
    }

    #[test]
    fn a_native_vector_that_does_not_steer_measures_nothing() {
        let kept = estimate(0.9, 0.8, 1.0);
        for (native, random, words) in [
            (estimate(0.1, -0.5, 0.7), random(-0.2, 0.2), "contains 0"),
            (estimate(1.0, 0.5, 1.5), random(-1.2, 1.3), "as much"),
        ] {
            let verdict = of_task("happy", &native, &kept, &random);
            assert!(
                !verdict.carried && verdict.sentence.contains(words),
                "{}",
                verdict.sentence
            );
            assert!(verdict.sentence.contains("says nothing"));
        }
    }

    #[test]
    fn a_map_far_below_what_its_file_states_is_named() {
        let mut sample = sample(&Size::single());
        let used = (sample.tasks[0].source_layers.clone(), sample.tasks[0].target_layer);
        let retention = sample.summary.retention;
        let representation = &mut sample.representation;
        let of = |representation: &Representation| of_map(&sample.tasks, retention.as_ref(), representation);
        assert_eq!(of_pairs(representation), Vec::<String>::new());
        assert!(of(representation).carried);
        let pair = representation
            .pairs
            .iter_mut()
            .find(|pair| (&pair.source_layers, pair.target_layer) == (&used.0, used.1))
            .unwrap();
        (pair.r2, pair.stated_r2) = (0.06, 0.79);
        for (held_out, carried, words) in [(false, true, "unlike"), (true, false, "held out")] {
            representation.held_out = held_out;
            let told = of_pairs(representation);
            assert_eq!(told.len(), 1);
            assert!(
                told[0].contains("R² is 0.060") && told[0].contains(words),
                "{}",
                told[0]
            );
            let verdict = of(representation);
            assert_eq!(verdict.carried, carried, "{}", verdict.sentence);
            assert_eq!(verdict.sentence.starts_with("This map is broken: "), held_out);
        }
    }

    #[test]
    fn no_tasks_no_claim() {
        assert_eq!(of_all(&[], None).sentence, "No task was measured.");
    }
}
