//! The head of the page, the results of all tasks, and those by layer.

use maud::{Markup, html};

use super::parts::*;
use super::section as whole;
use crate::figures::Figure;
use crate::number::{Digits, NONE};
use crate::paper;
use crate::result::{Estimate, Evaluation, Means, SteeringKind, TaskResult, TextMeans};

/// Models, verdict and the headlines.
pub(super) fn header(evaluation: &Evaluation) -> Markup {
    let (run, summary) = (&evaluation.run, &evaluation.summary);
    let (failed, outcome, steering) = (evaluation.failed.len(), summary.verdict.outcome, &summary.steering);
    html! {
        header.wide {
            p.eyebrow { "steermap evaluation: vectors found on a small model, steering a large one" }
            h1 { (run.source.model) " " span.arrow aria-label="to" role="img" { "\u{2192}" } " " (run.target.model) }
            p.muted {
                "through map " b { (run.map.name) } " (" (run.map.offset) ", fitted on " (run.map.corpus) "), vectors by " (run.method)
            }
            p class={ "verdict " (class(outcome)) } { (mark(outcome)) " " (summary.verdict.sentence) }
            dl.key {
                (tile("Tasks measured", count(summary.measured), html! {
                    @if failed == 0 { "none failed" } @else { a href="#failed" { (failed) " more failed" } }
                }))
                (tile("Native vector steers", html! { (count(summary.steered)) " of " (count(summary.measured)) }, html! {
                    "decided on the finding half; for the other tasks retention says nothing"
                }))
                (tile("Carried", html! { (count(summary.carried)) " of " (count(summary.judged)) }, html! {
                    "of the tasks whose verdict says something"
                }))
                (mean("Retention, where native steers", &steering.retention, steering.counting, html! {
                    "; 1: as much as the native vector"
                }))
                (mean("Retention, all tasks", &summary.all.retention, summary.all.counting, html! {}))
                (mean("Pearson over items", &steering.item_pearson, steering.tasks, html! { "; the paper: " (paper::PEARSON) }))
                (mean("MSE of logits", &steering.mse, steering.tasks, html! { "; the paper: " (paper::MSE) }))
                (mean("MSE of probabilities", &steering.mse_probability, steering.tasks, html! {}))
                @if let Some(texts) = &steering.texts { (texts_tile(texts)) }
            }
        }
    }
}

/// A headline number with its name and a remark.
fn tile(name: &str, big: Markup, more: Markup) -> Markup {
    html! { div { dt { (name) } dd { span.big { (big) } } dd.more { (more) } } }
}

/// A headline that is a mean with its interval.
fn mean(name: &str, value: &Option<Estimate>, tasks: usize, more: Markup) -> Markup {
    let digits = if name.starts_with("MSE") { Digits::Auto } else { TWO };
    let body = html! {
        @if let Some(value) = value { "95%: " (interval([value.low, value.high], digits)) br; }
        "mean of " (counted(tasks, "task")) (more)
    };
    tile(name, maybe(value.map(|value| value.value), digits), body)
}

/// Scores of generated texts.
fn texts_tile(texts: &TextMeans) -> Markup {
    let of = |kind: SteeringKind| {
        texts
            .kinds
            .iter()
            .find(|found| found.kind == kind)
            .map(|found| found.score)
    };
    let more = html! {
        "; native " (maybe(of(SteeringKind::Native).map(|score| score.value), TWO)) ", control "
        (maybe(of(SteeringKind::MappedRandom).map(|score| score.value), TWO)) ", asked in the prompt "
        (maybe(of(SteeringKind::Prompted).map(|score| score.value), TWO)) ", unsteered "
        (maybe(of(SteeringKind::Unsteered).map(|score| score.value), TWO))
    };
    mean("Score of texts, mapped", &of(SteeringKind::Mapped), texts.tasks, more)
}

/// The results of every task beside the paper's ranges.
pub(super) fn section(evaluation: &Evaluation, all: &[Figure]) -> Markup {
    let heads = "Retention/decisive layer|Retention/over the band|Mapped random/95%, adjusted p|Specific/own, others|Pearson/\
                 over items|MSE/logits|MSE/probability|Cosine/and random";
    let heads = heads.split('|').filter_map(|head| head.split_once('/'));
    let body = html! {
        @match named(all, "retention") {
            None => p { "No task was measured." },
            Some(retention) => {
                (figure(retention))
                (scroll("Results of all tasks", html! { table.full.compact {
                    caption { span {
                        "Measured at layer " (count(evaluation.run.protocol.layer)) " unless a column says otherwise. \u{b1} is the \
                         standard deviation, brackets are 95% intervals (for random directions, the range of 95% of them). The next \
                         sections say how each column is measured."
                    } }
                    thead { tr {
                        th.left scope="col" { "Task" }
                        @for (name, more) in heads { th scope="col" { (name) span.more { (more) } } }
                    } }
                    tbody { @for (index, task) in evaluation.tasks.iter().enumerate() { (row(task, index)) } }
                    tfoot {
                        (mean_row("Mean where native steers", &evaluation.summary.steering))
                        (mean_row("Mean of all tasks", &evaluation.summary.all))
                        tr.paper {
                            th scope="row" { "The paper" span.more { (paper::NAME) } }
                            td {} td {} td {} td {} td { (paper::PEARSON) } td { (paper::MSE) } td {} td {}
                        }
                    }
                } }))
            }
        }
    };
    whole("results", "Results, task by task", body)
}

fn row(task: &TaskResult, index: usize) -> Markup {
    let outcome = task.verdict.outcome;
    html! {
        tr class=(class(outcome)) {
            th scope="row" { a href={ "#task-" (index) } { (task.name) } span.more { (mark(outcome)) } }
            td { (estimate(&task.retention, TWO)) } td { (optional(task.band_retention.as_ref(), TWO)) }
            td { @match task.decisive() { None => (NONE), Some(control) => {
                (interval(control.spread.range, TWO)) span.more { "p " (maybe(control.p_adjusted, Digits::Auto)) }
            } } }
            td { @match &task.specificity { None => (NONE), Some(specificity) => {
                @if specificity.specific { "yes" } @else { "no" }
                span.more { (tagged(specificity.own, TWO)) ", " (tagged(specificity.others, TWO)) }
            } } }
            td { (spread(&task.item_pearson, TWO)) } td { (spread(&task.mse, Digits::Auto)) }
            td { (spread(&task.mse_probability, Digits::Auto)) }
            td {
                (tagged(task.cosine, TWO))
                @if task.random_cosines.count > 0 { span.more { (interval(task.random_cosines.range, TWO)) } }
            }
        }
    }
}

fn mean_row(name: &str, means: &Means) -> Markup {
    html! {
        tr {
            th scope="row" { (name) span.more { (counted(means.tasks, "task")) } }
            td {} td { (optional(means.retention.as_ref(), TWO)) } td {} td {}
            td { (optional(means.item_pearson.as_ref(), TWO)) } td { (optional(means.mse.as_ref(), Digits::Auto)) }
            td { (optional(means.mse_probability.as_ref(), Digits::Auto)) } td {}
        }
    }
}

/// Results by layer of the band, over tasks.
pub(super) fn layers(evaluation: &Evaluation, all: &[Figure]) -> Markup {
    let heads = "Target layer|Tasks|Retention|Direct share";
    let caption = html! { "Means over the tasks whose native vector steers and where the layer counts" };
    let rows = html! {
        @for layer in &evaluation.summary.layers { tr {
            th scope="row" {
                (count(layer.target_layer))
                @if layer.target_layer == evaluation.run.protocol.layer { span.more { "decisive" } }
            }
            td { (count(layer.tasks)) } td { (optional(layer.retention.as_ref(), TWO)) }
            td { (maybe(layer.direct_share, TWO)) }
        } }
    };
    let body = html! {
        @match named(all, "layers") {
            None => p { "No layer was measured." },
            Some(layers) => { (figure(layers)) (details("Numbers by layer", table("Layers", caption, "", heads, rows))) }
        }
    };
    whole("layers", "Layer by layer", body)
}
