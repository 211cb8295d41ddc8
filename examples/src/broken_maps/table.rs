//! The evaluations as a table, and the check of each verdict.

use steermap_mapper::statistics::mean;
use steermap_report::result::{ControlKind, Estimate, Evaluation, LayerResult, PairResult, TaskResult, Verdict};

use super::Variant;
use crate::show::outcome_name;

/// Beginning of the verdict on a map that does not predict the documents held out from its fit.
const BROKEN: &str = "This map is broken";
/// Part of the verdict on a map that predicts nothing, if its file states so.
const AS_STATED: &str = ", as its file states: ";
/// Beginning of most other verdicts.
const MAP: &str = "This map";

/// A map and what its evaluation found.
pub struct EvaluatedVariant {
    /// The map.
    pub variant: Variant,
    /// Its evaluation.
    pub evaluation: Evaluation,
}

impl EvaluatedVariant {
    /// The first unexpected result, if there is one.
    pub fn wrong(&self) -> Option<String> {
        let evaluation = &self.evaluation;
        wrong(
            self.variant,
            evaluation.representation.held_out,
            &evaluation.summary.verdict,
        )
    }

    fn row(&self) -> String {
        let evaluation = &self.evaluation;
        let summary = &evaluation.summary;
        let layers = evaluation.tasks.first().map(|task| &task.layers[..]);
        let [stated, measured] = r2(layers.unwrap_or_default(), &evaluation.representation.pairs);
        let cosines: Vec<f64> = evaluation.tasks.iter().map(|task| task.cosine).collect();
        format!(
            "| {} | {stated:.3} | {measured:.3} | {} | {:.2} | {} / {} / {} | {} | {} |\n",
            self.variant.title(),
            representation(&summary.verdict),
            mean(&cosines),
            summary.steered,
            summary.judged,
            summary.carried,
            summary
                .steering
                .retention
                .as_ref()
                .map_or_else(|| "-".to_string(), percents),
            short(&summary.verdict.sentence),
        )
    }
}

/// The page: how the maps were made and evaluated, the table, and each verdict in full. `fitted` is the text that the
/// first of `maps`, the intact one, was fitted on.
pub fn page(maps: &[EvaluatedVariant], fitted: &str) -> String {
    let mut text = "# Does an evaluation see that a map is broken?\n\n".to_string();
    if let Some(intact) = maps.first() {
        text += &introduction(&intact.evaluation, fitted);
    }
    text += "| map | R², stated | R², measured | representation | cosine | tasks | retention | verdict |\n";
    text += "| --- | ---: | ---: | --- | ---: | --- | --- | --- |\n";
    text.extend(maps.iter().map(EvaluatedVariant::row));
    text += "\n## The maps\n\n";
    text.extend(
        maps.iter()
            .map(|map| format!("* {}: {}.\n", map.variant.title(), map.variant.description())),
    );
    if let Some([least, most]) = maps.first().and_then(|intact| other_tasks(&intact.evaluation.tasks)) {
        text += &format!(
            "\nThe intact map's evaluation also has other tasks' vectors as a control. Relative to a task's own vector, their \
             effect is {least:+.2} to {most:+.2}.\n"
        );
    }
    text += "\n## What `mapper eval` says\n\n";
    text.extend(maps.iter().map(|map| {
        format!(
            "* {}: {}\n",
            map.variant.title(),
            map.evaluation.summary.verdict.sentence
        )
    }));
    text
}

fn introduction(evaluation: &Evaluation, fitted: &str) -> String {
    let run = &evaluation.run;
    let protocol = &run.protocol;
    let layers: Vec<String> = protocol.band.iter().map(usize::to_string).collect();
    format!(
        "Made by `cargo xtask broken`. The map from {} to {} was fitted on {fitted} and broken in five ways, and `mapper eval`\n\
         evaluated each, with {} draws of the decisive control on {} items and the text of the fit. Steered layers: {}, the middle \
         half\nof the target's depth. They are given explicitly, so that layers count even if most of the effect goes straight to \
         the\nlogits; otherwise too few tasks would be left to judge a map by.\n\n\
         R² is the mean over these layers, for the pairs of layers that vectors use: as stated in the map's file, and measured on \
         the\ndocuments that the fit held out. Cosine: between mapped and native vector at layer {}, mean over tasks. Tasks: number \
         whose\nown vector steers / that say something / that are carried. Retention: mean over the tasks whose own vector steers, \
         95% interval.\n\n",
        run.source.model,
        run.target.model,
        protocol.control_draws,
        protocol.control_items,
        layers.join(", "),
        protocol.layer,
    )
}

fn wrong(variant: Variant, held_out: bool, verdict: &Verdict) -> Option<String> {
    let name = variant.name();
    if !held_out {
        return Some(format!(
            "{name}: representation.held_out: found false, expected true: the text is not that of the fit"
        ));
    }
    let expected = variant.expected();
    (verdict.outcome != expected).then(|| {
        format!(
            "{name}: summary.verdict: found {} ({}), expected {}",
            outcome_name(verdict.outcome),
            verdict.sentence,
            outcome_name(expected)
        )
    })
}

/// Mean R², stated and measured, of the pairs used by vectors at the layers that count.
fn r2(layers: &[LayerResult], pairs: &[PairResult]) -> [f64; 2] {
    let used = |pair: &&PairResult| {
        let mut counting = layers.iter().filter(|layer| layer.in_band);
        counting.any(|layer| (layer.target_layer, &layer.source_layers) == (pair.target_layer, &pair.source_layers))
    };
    let used: Vec<&PairResult> = pairs.iter().filter(used).collect();
    let over = |of: fn(&PairResult) -> f64| mean(&used.iter().map(|pair| of(pair)).collect::<Vec<f64>>());
    [over(|pair| pair.stated_r2), over(|pair| pair.r2)]
}

/// The judgement on the representation, taken from the verdict's sentence.
fn representation(verdict: &Verdict) -> &'static str {
    if verdict.sentence.starts_with(BROKEN) && verdict.sentence.contains(AS_STATED) {
        "broken: no better than the mean state, as the file states"
    } else if verdict.sentence.starts_with(BROKEN) {
        "broken: far below what the file states"
    } else {
        "as the file states"
    }
}

/// A verdict's sentence without its figures. For a broken map, with the result of steering through it.
fn short(sentence: &str) -> String {
    let clause = |text: &str| {
        let end = text.find([':', '(']).unwrap_or(text.len());
        text[..end].trim_end().to_string()
    };
    match sentence.rfind(MAP) {
        Some(steering) if steering > 0 => format!(
            "{}; steered through it all the same: {}",
            clause(sentence),
            clause(&sentence[steering..])
        ),
        _ => clause(sentence),
    }
}

fn percents(of: &Estimate) -> String {
    let [value, low, high] = [of.value, of.low, of.high].map(|share| format!("{:.0}%", 100.0 * share));
    format!("{value} ({low} to {high})")
}

/// The least and the largest effect of other tasks' vectors relative to that of a task's own, over the tasks whose own
/// vector steers.
fn other_tasks(tasks: &[TaskResult]) -> Option<[f64; 2]> {
    let steered = tasks.iter().filter(|task| task.native_steers.steers);
    let controls = steered.flat_map(|task| &task.controls);
    let others = controls.filter(|control| control.kind == ControlKind::OtherTasks);
    let shares: Vec<f64> = others.flat_map(|control| control.retention.iter().copied()).collect();
    let least = shares.iter().copied().reduce(f64::min)?;
    let most = shares.iter().copied().reduce(f64::max)?;
    Some([least, most])
}

#[cfg(test)]
mod tests {
    use steermap_report::result::Outcome;

    use super::*;

    fn verdict(outcome: Outcome, sentence: &str) -> Verdict {
        Verdict {
            outcome,
            sentence: sentence.to_string(),
        }
    }

    #[test]
    fn verdicts_are_cut_before_their_figures() {
        for (sentence, expected) in [
            (
                "This map carries 6 of the 6 tasks that say something (7 measured, 6 with an own vector that steers): mean \
                 retention at the layers that count 98%",
                "This map carries 6 of the 6 tasks that say something",
            ),
            (
                "This map does not carry steering: over the 6 tasks that say something (7 measured)",
                "This map does not carry steering",
            ),
            (
                "This map is broken: at layers 2 -> 4 its R² is -0.1 instead of the 0.6 that its file states. Steered through it \
                 all the same (a direction changes little from layer to layer): This map carries none of the 6 tasks that say \
                 something (7 measured)",
                "This map is broken; steered through it all the same: This map carries none of the 6 tasks that say something",
            ),
            ("No task was measured.", "No task was measured."),
        ] {
            assert_eq!(short(sentence), expected);
        }
    }

    #[test]
    fn a_broken_map_must_be_reported_and_an_intact_one_must_carry() {
        let carried = verdict(Outcome::Carried, "This map carries 6 of the 6 tasks");
        let not = verdict(Outcome::NotCarried, "This map is broken: at layers 2 -> 4");
        let nothing = verdict(Outcome::SaysNothing, "These are too few to speak for the map.");
        assert_eq!(wrong(Variant::Intact, true, &carried), None);
        assert!(wrong(Variant::Intact, false, &carried).is_some());
        for variant in Variant::BROKEN {
            assert_eq!(wrong(variant, true, &not), None);
            let told = wrong(variant, true, &carried).unwrap();
            assert!(
                told.starts_with(variant.name()) && told.ends_with("expected not carried"),
                "{told}"
            );
            assert!(wrong(variant, true, &nothing).is_some());
        }
        assert!(wrong(Variant::Intact, true, &not).is_some());
        assert_eq!(representation(&not), "broken: far below what the file states");
        assert_eq!(representation(&carried), "as the file states");
        let as_stated = "This map is broken: at layers 3 -> 4 its R² is -0.014, as its file states: the mean";
        assert_eq!(
            representation(&verdict(Outcome::NotCarried, as_stated)),
            "broken: no better than the mean state, as the file states"
        );
    }

    #[test]
    fn r2_is_the_mean_over_the_pairs_that_vectors_use() {
        let estimate = Estimate {
            value: 1.0,
            low: 0.5,
            high: 1.5,
        };
        let layer = |source: usize, target_layer: usize, in_band: bool| LayerResult {
            source_layers: vec![source],
            target_layer,
            in_band,
            counts: in_band,
            native: estimate,
            mapped: estimate,
            retention: estimate,
            direct_share: None,
            cosine: 1.0,
        };
        let pair = |source: usize, target_layer: usize, stated_r2: f64, r2: f64| PairResult {
            source_layers: vec![source],
            target_layer,
            stated_r2,
            r2,
            r2_quantiles: [r2; 5],
            cosine: 1.0,
            cka: 1.0,
        };
        let layers = [layer(0, 2, true), layer(1, 3, true), layer(1, 7, false)];
        let pairs = [
            pair(0, 2, 0.5, 0.25),
            pair(1, 2, 0.4, -9.0),
            pair(1, 3, 1.0, 0.75),
            pair(1, 7, 0.1, -9.0),
        ];
        assert_eq!(r2(&layers, &pairs), [0.75, 0.5]);
        assert_eq!(percents(&estimate), "100% (50% to 150%)");
    }
}
