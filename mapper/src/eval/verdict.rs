//! Verdicts on tasks and maps, in sentences.

use steermap_maps::map::spell_source_layers;
use steermap_report::result::{
    Control, Estimate, NativeSteers, Outcome, PairResult, Protocol, Representation, Specificity, Summary, TaskResult,
    Verdict,
};

/// Between texts of one kind R² differs by some hundredths.
const FAR_WORSE: f64 = 0.25;
/// A specific vector's share of its own task is at least this part of the native vector's.
const LEAST_SHARE: f64 = 0.9;

/// The measurements that decide one task's verdict.
pub struct Evidence<'a> {
    /// What a positive propensity stands for.
    pub positive: &'a str,
    /// On the finding half.
    pub native_steers: &'a NativeSteers,
    /// The native vector's slope on the measuring half.
    pub native: &'a Estimate,
    /// On the measuring half.
    pub retention: &'a Estimate,
    /// The share of the native vector's effect that goes straight to the logits.
    pub direct_share: Option<f64>,
    /// The decisive control, with its adjusted p-value.
    pub control: Option<&'a Control>,
    /// `None` of a single task.
    pub specificity: Option<&'a Specificity>,
}

/// A placeholder until the verdict is reached.
pub fn pending() -> Verdict {
    Verdict {
        outcome: Outcome::SaysNothing,
        sentence: String::new(),
    }
}

/// The verdict of one task. Retention only means something if the native vector steers. The map carries the vector if
/// it stands out of the decisive control, all of its retention's interval lies within the bounds, and it is specific.
pub fn of_task(evidence: &Evidence<'_>, protocol: &Protocol) -> Verdict {
    let positive = evidence.positive;
    if let Some(why) = inconclusive_reason(evidence, protocol) {
        return Verdict {
            outcome: Outcome::SaysNothing,
            sentence: format!(
                "The target's own vector does not steer towards {positive:?} here: {why}. So retention says nothing."
            ),
        };
    }
    let direct = evidence.direct_share.zip(protocol.most_direct);
    if let Some((share, _)) = direct.filter(|(share, most)| share > most) {
        return Verdict {
            outcome: Outcome::SaysNothing,
            sentence: format!(
                "At layer {} {} of the native vector's effect towards {positive:?} goes straight to the logits, so retention \
                 says little of the map.",
                protocol.layer,
                percent(share)
            ),
        };
    }
    let retention = evidence.retention;
    let figures = format!(
        "{} of the native slope, 95% interval {}",
        percent(retention.value),
        percents([retention.low, retention.high])
    );
    let failings = failings(evidence, protocol);
    if !failings.is_empty() {
        let sentence = if retention.high < 0.0 {
            format!("The map turns {positive:?} around: the mapped vector has {figures}.")
        } else {
            format!(
                "The map does not carry {positive:?}: the mapped vector has {figures}; {}.",
                failings.join("; ")
            )
        };
        return Verdict {
            outcome: Outcome::NotCarried,
            sentence,
        };
    }
    let Some(specificity) = evidence.specificity else {
        return Verdict {
            outcome: Outcome::SaysNothing,
            sentence: format!(
                "The mapped vector has {figures}, which mapped random directions don't reach. Whether it moves {positive:?} \
                 alone can't be said without another task whose own vector steers."
            ),
        };
    };
    Verdict {
        outcome: Outcome::Carried,
        sentence: format!(
            "The map carries {positive:?}: the mapped vector has {figures}; mapped random directions don't reach it ({}), and \
             it moves its own task {} as much as the others.",
            evidence.control.map_or(String::new(), spell_p),
            times(specificity.own, specificity.others),
        ),
    }
}

/// Why retention says nothing; `None` if it does say something.
fn inconclusive_reason(evidence: &Evidence<'_>, protocol: &Protocol) -> Option<String> {
    let finding = evidence.native_steers;
    if finding.slope.low <= 0.0 {
        Some("the interval of its slope on the finding half contains 0".to_string())
    } else if !finding.steers {
        Some(format!(
            "its slope on the finding half, {:.2}, is what random directions may have (up to {:.2}, corrected for {} tasks)",
            finding.slope.value, finding.least, protocol.tasks
        ))
    } else if evidence.native.low <= 0.0 || !evidence.retention.value.is_finite() {
        Some("the interval of its slope on the measuring half contains 0".to_string())
    } else {
        None
    }
}

/// The criteria that a task does not meet.
fn failings(evidence: &Evidence<'_>, protocol: &Protocol) -> Vec<String> {
    let [least, most] = protocol.retention_bounds;
    let retention = evidence.retention;
    let mut failings = Vec::new();
    match evidence.control {
        Some(control) if control.p_adjusted.is_some_and(|p| p <= protocol.level) => {}
        Some(control) => failings.push(format!(
            "mapped random directions have {}, {}",
            percents(control.spread.range),
            spell_p(control)
        )),
        None => failings.push("there is no control".to_string()),
    }
    if retention.low <= least {
        failings.push(format!("its interval is not above {}", percent(least)));
    }
    if retention.high >= most {
        failings.push(format!(
            "its interval is not below {}, so it is another effect than the native one",
            percent(most)
        ));
    }
    if let Some(specificity) = evidence.specificity {
        if !keeps_share(specificity) {
            failings.push(format!(
                "it moves its own task {} as much as the others, the native vector {}",
                times(specificity.own, specificity.others),
                times(1.0, specificity.native_others)
            ));
        }
        if !nearest_own(specificity) {
            failings.push(format!(
                "what it does to all tasks is nearer to what the native vector of {:?} does (cosine {:.2}) than to what its own does \
                 ({:.2})",
                specificity.nearest_other, specificity.other_profile, specificity.own_profile
            ));
        }
    }
    failings
}

/// Sets whether a vector with these effects is specific.
pub fn specificity(effects: Specificity) -> Specificity {
    Specificity {
        specific: keeps_share(&effects) && nearest_own(&effects),
        ..effects
    }
}

/// Compares the share of its own task in all effects of the vector with that of the native vector, `1 / (1 +
/// native_others)`.
fn keeps_share(effects: &Specificity) -> bool {
    effects.own > 0.0 && effects.own / (effects.own + effects.others) >= LEAST_SHARE / (1.0 + effects.native_others)
}

/// The mean over the others does not show whether the vector is that of one of them; the cosine of the profiles does.
fn nearest_own(effects: &Specificity) -> bool {
    effects.own_profile > effects.other_profile
}

/// The verdict of the map. It is broken if it predicts the text that its fit held out far worse than its file states,
/// or no better than the mean does; otherwise the tasks decide.
pub fn of_map(
    summary: &Summary,
    tasks: &[TaskResult],
    representation: &Representation,
    protocol: &Protocol,
) -> Verdict {
    let steering = of_all(summary, protocol);
    let used = |pair: &&PairResult| {
        let same =
            |task: &TaskResult| (&task.source_layers, task.target_layer) == (&pair.source_layers, pair.target_layer);
        tasks.iter().any(same)
    };
    let wrong = |pair: &&PairResult| far_worse(pair) || predicts_nothing(pair);
    let misfit = representation.pairs.iter().filter(used).find(wrong);
    match misfit.filter(|_| representation.held_out) {
        Some(pair) => Verdict {
            outcome: Outcome::NotCarried,
            sentence: format!(
                "This map is broken: {}. Steered through it all the same (a direction changes little from layer to layer): {}",
                misfits(pair, true),
                steering.sentence
            ),
        },
        None => steering,
    }
}

/// The verdict over all tasks.
fn of_all(summary: &Summary, protocol: &Protocol) -> Verdict {
    let Summary {
        measured,
        steered,
        judged,
        carried,
        ..
    } = *summary;
    let says_nothing = |sentence: &str| Verdict {
        outcome: Outcome::SaysNothing,
        sentence: sentence.to_string(),
    };
    if measured == 0 {
        return says_nothing("No task was measured.");
    }
    if steered == 0 {
        return says_nothing("On no task does the target's own vector steer, so retention says nothing.");
    }
    let Some(retention) = summary.steering.retention.filter(|_| judged > 0) else {
        return says_nothing(&format!(
            "Of {measured} tasks measured, {steered} with an own vector that steers, none says anything of the map: see each \
             task's verdict."
        ));
    };
    let interval = |of: Estimate| format!("{}, 95% interval {}", percent(of.value), percents([of.low, of.high]));
    let over = |tasks: usize| {
        if tasks == 1 {
            "one task".to_string()
        } else {
            format!("{tasks} tasks")
        }
    };
    let mut figures = format!(
        "mean retention at the layers that count {} (over {} whose own vector steers)",
        interval(retention),
        over(summary.steering.counting)
    );
    if let Some(all) = summary
        .all
        .retention
        .filter(|_| summary.all.counting > summary.steering.counting)
    {
        figures += &format!(", {} over all {}", interval(all), over(summary.all.counting));
    }
    let of = match judged {
        1 => "the only task that says something".to_string(),
        _ => format!("the {judged} tasks that say something"),
    };
    let of = format!("{of} ({measured} measured, {steered} with an own vector that steers)");
    let least = protocol.retention_bounds[0];
    let whole = 2 * carried > judged && retention.low > least;
    let few = 2 * judged < steered;
    let mut sentence = match (carried, whole) {
        (0, _) if retention.low <= 0.0 && retention.high >= 0.0 => {
            format!("This map does not carry steering: over {of}, {figures}, which contains 0.")
        }
        (0, _) if judged == 1 => format!("This map does not carry {of}: {figures}."),
        (0, _) => format!("This map carries none of {of}: {figures}."),
        (_, true) if carried == judged && judged == 1 => format!("This map carries {of}: {figures}."),
        (_, true) => format!("This map carries {carried} of {of}: {figures}."),
        (_, false) if carried == judged => format!(
            "This map carries {of}, but the interval of its mean retention reaches below {}: {figures}.",
            percent(least)
        ),
        (_, false) => format!("This map carries only {carried} of {of}: {figures}."),
    };
    if few {
        sentence += " These are too few to speak for the map.";
    }
    Verdict {
        outcome: match (few, whole) {
            (true, _) => Outcome::SaysNothing,
            (false, true) => Outcome::Carried,
            (false, false) => Outcome::NotCarried,
        },
        sentence,
    }
}

/// The layer pairs that predict this text's states far worse than their file states, which retention need not show.
pub fn of_pairs(representation: &Representation) -> Vec<String> {
    let worse = representation
        .pairs
        .iter()
        .filter(|pair| far_worse(pair) || predicts_nothing(pair));
    worse.map(|pair| misfits(pair, representation.held_out)).collect()
}

fn far_worse(pair: &PairResult) -> bool {
    pair.r2 < pair.stated_r2 - FAR_WORSE
}

/// Whether the mean of the states predicts as well.
fn predicts_nothing(pair: &PairResult) -> bool {
    pair.r2 <= 0.0
}

fn misfits(pair: &PairResult, held_out: bool) -> String {
    if !far_worse(pair) {
        return format!(
            "at layers {} -> {} its R² is {:.3}, as its file states: the mean of the states does as well",
            spell_source_layers(&pair.source_layers),
            pair.target_layer,
            pair.r2
        );
    }
    format!(
        "at layers {} -> {} its R² is {:.3} instead of the {:.3} that its file states, on {}",
        spell_source_layers(&pair.source_layers),
        pair.target_layer,
        pair.r2,
        pair.stated_r2,
        if held_out {
            "the documents that its fit held out: it is not a map of these layers"
        } else {
            "this text: it is not a map of these layers, or the text is unlike what it was fitted on"
        }
    )
}

fn spell_p(control: &Control) -> String {
    let p = control.p_adjusted.unwrap_or(control.p_value);
    format!("p = {p:.3} of {} draws", control.retention.len())
}

fn times(own: f64, others: f64) -> String {
    match own / others {
        many if many > 100.0 => "more than 100 times".to_string(),
        some => format!("{some:.1} times"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0}%", share * 100.0)
}

fn percents([low, high]: [f64; 2]) -> String {
    format!("{} to {}", percent(low), percent(high))
}

#[cfg(test)]
mod tests;
