//! Generated texts: what they score, over tasks and task by task, and the texts themselves.

use maud::{Markup, html};

use super::parts::*;
use crate::figures::curve_style;
use crate::number::{Digits, NONE, counted as counted_in_text};
use crate::result::{
    Estimate, Evaluation, GeneratedText, Generation, KindScore, SteeringKind, TaskResult, TextMeans, TextScores,
};

/// The columns of the tables, and the rows of one prompt.
const KINDS: [SteeringKind; 5] = [
    SteeringKind::Unsteered,
    SteeringKind::Prompted,
    SteeringKind::Native,
    SteeringKind::Mapped,
    SteeringKind::MappedRandom,
];

/// Scores of the texts of all tasks.
pub(super) fn section(evaluation: &Evaluation) -> Markup {
    let Some(all) = &evaluation.summary.all.texts else {
        return html! {};
    };
    let kinds: Vec<&str> = KINDS.map(|kind| curve_style(kind).name).to_vec();
    let heads = |last: &str| format!("Task|{}|{last}", kinds.join("|"));
    let tasks = evaluation.tasks.iter().enumerate();
    let own = tasks.filter_map(|(index, task)| Some((index, task, task.generation.as_ref()?)));
    let caption = html! {
        "Mean score of the texts of the measuring prompts, at the strength (alpha) that the finding prompts choose; 0 to 1, brackets \
         are 95% intervals over prompts. The last columns are Spearman correlations over all vectors and strengths"
    };
    let body = html! {
        p {
            "Propensities concern one token; here the target writes texts. A text's score is the harmonic mean of whether it shows the \
             concept (by a fixed rule), how fluent it is, and whether it still answers its prompt. "
            (counted(all.tasks, "task")) " with prompts."
        }
        (table("Scores of generated texts", caption, "compact", &heads("Propensity ranks as score|as concept"), html! {
            @for (index, task, texts) in own.clone() { tr {
                th scope="row" { a href={ "#task-" (index) } { (task.name) } }
                @for kind in KINDS { td { @match texts.chosen.iter().find(|chosen| chosen.kind == kind) {
                    None => (NONE),
                    Some(chosen) => {
                        (estimate(&chosen.score, TWO))
                        @if chosen.alpha != 0.0 { span.more { "at " (tagged(chosen.alpha, Digits::Auto)) } }
                    }
                } } }
                td { (maybe(texts.agreement.score, TWO)) } td { (maybe(texts.agreement.concept, TWO)) }
            } }
            (means(evaluation, |kind| Some(kind.score), |texts| vec![texts.agreement_score, texts.agreement_concept]))
        }))
        @if let Some(judge) = &evaluation.run.judge {
            @let caption = html! { "The same texts, scored by " (judge.model) " with the rubric below, 0 to 1" };
            (table("Scores by the judge", caption, "compact", &heads("Propensity ranks as judge"), html! {
                @for (index, task, texts) in own { tr {
                    th scope="row" { a href={ "#task-" (index) } { (task.name) } }
                    @for kind in KINDS {
                        @let chosen = texts.chosen.iter().find(|chosen| chosen.kind == kind);
                        td { (optional(chosen.and_then(|chosen| chosen.judged.as_ref()), TWO)) }
                    }
                    td { (maybe(texts.agreement.judged, TWO)) }
                } }
                (means(evaluation, |kind| kind.judged, |texts| vec![texts.agreement_judged]))
            }))
            (details("The judge's instructions", html! { p.prompt { (judge.rubric) } }))
        }
    };
    super::section("texts", "Generated texts", body)
}

/// The rows of means over both sets of tasks.
fn means(
    evaluation: &Evaluation,
    score: fn(&KindScore) -> Option<Estimate>,
    agreement: fn(&TextMeans) -> Vec<Option<Estimate>>,
) -> Markup {
    let summary = &evaluation.summary;
    let sets = [
        ("Mean where native steers", &summary.steering),
        ("Mean of all tasks", &summary.all),
    ];
    let of =
        |texts: &TextMeans, kind: SteeringKind| texts.kinds.iter().find(|found| found.kind == kind).and_then(score);
    html! { @for (name, means) in sets { @if let Some(texts) = &means.texts { tr {
        th scope="row" { (name) span.more { (counted(texts.tasks, "task")) } }
        @for kind in KINDS { td { (optional(of(texts, kind).as_ref(), TWO)) } }
        @for value in agreement(texts) { td { (optional(value.as_ref(), TWO)) } }
    } } } }
}

/// The texts of one task.
pub(super) fn of_task(task: &TaskResult) -> Markup {
    let Some(generation) = &task.generation else {
        return html! {};
    };
    let prompts = counted_in_text(generation.prompts.len(), "prompt", "prompts");
    html! {
        h4 { "Generated texts" }
        p {
            "At most " (counted(generation.max_tokens, "token")) ", " (counted(generation.texts_per_prompt, "text")) " per prompt: one \
             greedy, the others sampled. Rule for " (task.positive) ": " (generation.rule)
        }
        (settings(task, generation))
        @if let Some(front) = &generation.baseline {
            (details("Instruction or examples that ask for the concept in place of steering", html! { p.prompt { (front) } }))
        }
        (details(&format!("Texts for {prompts}, side by side"), html! {
            @for number in 0..generation.prompts.len() { (side_by_side(task, generation, number)) }
        }))
    }
}

/// Scores by vector and alpha.
fn settings(task: &TaskResult, generation: &Generation) -> Markup {
    let caption = html! { "Half of the prompts choose the strength, the other half measures" };
    let heads = "Vector|Alpha|Propensity|Score, choosing|Score, measuring|Concept|Fluency|Answers|Judged";
    let scores = |scores: &TextScores| {
        html! {
            td { (tagged(scores.score, TWO)) } td { (tagged(scores.concept, TWO)) } td { (tagged(scores.fluency, TWO)) }
            td { (tagged(scores.answers, TWO)) } td { (maybe(scores.judged, TWO)) }
        }
    };
    let body = html! {
        @for setting in &generation.settings {
            @let chosen = generation.chosen.iter().any(|chosen| (chosen.kind, chosen.alpha) == (setting.kind, setting.alpha));
            tr.aside[!chosen] {
                th scope="row" { (curve_style(setting.kind).name) @if chosen && setting.alpha != 0.0 { span.more { "chosen" } } }
                td { @if setting.alpha == 0.0 { (NONE) } @else { (tagged(setting.alpha, Digits::Auto)) } }
                td { (maybe(setting.propensity, TWO)) } td { (tagged(setting.finding.score, TWO)) } (scores(&setting.measuring))
            }
        }
    };
    details(
        "Scores by vector and strength",
        table(&format!("Texts: {}", task.name), caption, "compact", heads, body),
    )
}

/// The greedy texts of one prompt, at the strengths that were chosen.
fn side_by_side(task: &TaskResult, generation: &Generation, number: usize) -> Markup {
    let find = |kind: SteeringKind| -> Option<&GeneratedText> {
        let chosen = generation.chosen.iter().find(|chosen| chosen.kind == kind)?;
        let mut texts = generation.texts.iter();
        texts.find(|text| (text.prompt, text.number, text.kind) == (number, 0, kind) && text.alpha == chosen.alpha)
    };
    html! {
        table.texts {
            caption {
                span.prompt { (generation.prompts[number].text) }
                span.more { @if generation.prompts[number].finding { "chooses the strength" } @else { "measures" } }
            }
            thead { tr { th.left.alpha scope="col" { "Vector" } th scope="col" { "Greedy text" } th scope="col" { "Score" } } }
            tbody { @for text in KINDS.into_iter().filter_map(find) { tr {
                th.alpha scope="row" {
                    (curve_style(text.kind).name) @if text.alpha != 0.0 { span.more { (tagged(text.alpha, Digits::Auto)) } }
                }
                td {
                    span.generated { (text.text.trim_start()) }
                    @if text.concept { span.mark.yes { "\u{25b2} " (task.positive) } } @else { span.mark.no { "not " (task.positive) } }
                }
                td { (tagged(text.score, TWO)) }
            } } }
        }
    }
}
