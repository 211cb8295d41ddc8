//! One task.

use maud::{Markup, html};

use super::measured::control;
use super::parts::*;
use super::texts;
use crate::figures::{curve_style, of_task};
use crate::number::{Digits, NONE};
use crate::result::{Evaluation, TaskResult};

pub(super) fn section(evaluation: &Evaluation, task: &TaskResult, index: usize) -> Markup {
    html! {
        section.task id={ "task-" (index) } aria-labelledby={ "task-" (index) "-h" } {
            h3 id={ "task-" (index) "-h" } { (task.name) " " (mark(task.verdict.outcome)) }
            p { (task.verdict.sentence) }
            p.muted { (task.description) }
            (facts(task))
            div.figures { @for one in of_task(evaluation, task, index) { (figure(&one)) } }
            @if !task.layers.is_empty() { (layer_table(evaluation, task)) }
            @if !task.controls.is_empty() { (controls(task)) }
            @if !task.side_effects.is_empty() { (details("Side effects on the other tasks", side_effects(task))) }
            (details("Numbers of the curves", curves(task)))
            @if !task.candidates.is_empty() { (details("Slopes of all layers, on the finding half", candidates(task))) }
            (texts::of_task(task))
            (proposal(evaluation, task))
        }
    }
}

/// What was measured, and the numbers that no figure shows.
fn facts(task: &TaskResult) -> Markup {
    let native = &task.native_steers;
    let yes = |yes: bool| html! { b { @if yes { "yes" } @else { "no" } } };
    html! {
        dl.facts {
            dt { "Propensity" } dd {
                "above zero: " (task.positive) "; below: " (task.negative) "; unsteered " (in_line(estimate(&task.unsteered, TWO)))
            }
            dt { "Items (" (task.kind) ")" } dd {
                (count(task.finding)) " find, " (count(task.measuring)) " measure, in " (counted(task.clusters, "cluster"))
            }
            dt { "Vectors" } dd {
                "from " (counted(task.pairs, "contrastive pair")) ", states: " (task.position) "; area under the ROC curve on other \
                 pairs: source " (maybe(task.source_auroc, TWO)) ", native " (maybe(task.native_auroc, TWO))
            }
            dt { "Layers" } dd {
                (layers(&task.source_layers, task.target_layer)) "; alpha 1 is " (tagged(task.mean_norm, Digits::Auto))
                ", the stream's mean norm there. For comparison only: on the finding half the native vector is steepest at layer "
                (count(task.best_layer))
            }
            dt { "Native vector steers" } dd {
                (yes(native.steers)) ": on the finding half its slope is " (in_line(estimate(&native.slope, TWO)))
                @if native.random.count > 0 {
                    ", those of " (counted(native.random.count, "random direction")) " " (in_line(ranged(&native.random, TWO)))
                    ", so chance explains slopes of at most " (tagged(native.least, TWO))
                }
            }
            dt { "Retention" } dd {
                (in_line(estimate(&task.retention, TWO))) "; over the band's layers that count "
                (in_line(optional(task.band_retention.as_ref(), TWO)))
            }
            @if let Some(half) = &task.half_samples {
                dt { "Uncertainty of the vectors" } dd {
                    "vectors from " (counted(half.retention.len(), "half sample")) " of the pairs retain "
                    (numbers(&half.retention, TWO)) ": they add a standard error of " (tagged(half.standard_error, Digits::Auto))
                    ", which is included in the interval"
                }
            }
            @if let Some(specificity) = &task.specificity {
                dt { "Specific" } dd {
                    (yes(specificity.specific)) ": in units of the effects of the tasks' native vectors, the mapped vector moves its own \
                     task by " (tagged(specificity.own, TWO)) " and the others by " (tagged(specificity.others, TWO))
                    "; the native vector moves the others by " (tagged(specificity.native_others, TWO))
                    ". The effects on all tasks have cosine " (tagged(specificity.own_profile, TWO))
                    " with those of its own native vector and " (tagged(specificity.other_profile, TWO))
                    " with those of the nearest other one, that of " (specificity.nearest_other)
                }
            }
            dt { "Pearson over items" } dd {
                (in_line(spread(&task.item_pearson, TWO))) " (" (counted(task.item_pearson.count, "alpha")) ", as in the paper)"
            }
            dt { "Pearson over alphas" } dd { (in_line(spread(&task.pearson, TWO))) " (" (counted(task.pearson.count, "item")) ")" }
            dt { "MSE" } dd {
                (in_line(spread(&task.mse, Digits::Auto))) " in logits, " (in_line(spread(&task.mse_probability, Digits::Auto)))
                " in probability"
            }
            dt { "Cosine with native" } dd {
                (tagged(task.cosine, TWO)) "; mapped random directions " (in_line(ranged(&task.random_cosines, TWO)))
            }
            @for curve in &task.curves {
                dt { "Slope, " (curve_style(curve.kind).name) } dd { (in_line(estimate(&curve.slope, TWO))) " logits per alpha" }
            }
        }
    }
}

/// A table of one task.
fn own(task: &TaskResult, name: &str, caption: Markup, heads: &str, body: Markup) -> Markup {
    table(&format!("{name}: {}", task.name), caption, "compact", heads, body)
}

fn layer_table(evaluation: &Evaluation, task: &TaskResult) -> Markup {
    let heads = "Layers|In the headlines|Native slope|Mapped slope|Retention|Direct share|Cosine";
    let body = html! {
        @for layer in &task.layers { tr.aside[!layer.counts] {
            th scope="row" {
                (layers(&layer.source_layers, layer.target_layer))
                @if layer.target_layer == evaluation.run.protocol.layer { span.more { "decisive" } }
                @if layer.target_layer == task.best_layer { span.more { "steepest on the finding half" } }
            }
            td { @if layer.counts { "yes" } @else if layer.in_band { "no: too direct" } @else { "no: outside the band" } }
            td { (estimate(&layer.native, TWO)) } td { (estimate(&layer.mapped, TWO)) }
            td { (estimate(&layer.retention, TWO)) } td { (maybe(layer.direct_share, TWO)) }
            td { (tagged(layer.cosine, TWO)) }
        } }
    };
    let caption = html! { "Slopes in logits per alpha, on the measuring half" };
    own(task, "Layers", caption, heads, body)
}

fn controls(task: &TaskResult) -> Markup {
    let caption = html! {
        "Retention of other directions, and of the mapped vector at the same alphas and items; p is the mapped vector's rank among them"
    };
    let heads =
        "Control|Draws|Alphas|Items|Retention|Mapped|p|Adjusted p|Pearson over items|Absolute Pearson over alphas";
    let body = html! {
        @for result in &task.controls { tr {
            th scope="row" { (control(result.kind)[0]) } td { (count(result.spread.count)) }
            td {
                (result.alphas.len())
                @if let [first, .., last] = result.alphas[..] {
                    span.more { (tagged(first, Digits::Auto)) " to " (tagged(last, Digits::Auto)) }
                }
            }
            td { (count(result.items)) } td { (ranged(&result.spread, TWO)) } td { (tagged(result.mapped, TWO)) }
            td { (tagged(result.p_value, Digits::Auto)) } td { (maybe(result.p_adjusted, Digits::Auto)) }
            td { @match &result.item_pearson { Some(pearson) => (ranged(pearson, TWO)), None => (NONE) } }
            td { @match &result.pearson { Some(pearson) => (ranged(pearson, TWO)), None => (NONE) } }
        } }
    };
    own(task, "Controls", caption, heads, body)
}

/// All numbers that the curves are drawn from.
fn curves(task: &TaskResult) -> Markup {
    let at = |values: &[f64], index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    let band = |mean: &[f64], low: &[f64], high: &[f64], index: usize| {
        html! { (tagged(at(mean, index), TWO)) " " (interval([at(low, index), at(high, index)], TWO)) }
    };
    // Random directions and perplexity may have been measured at some of the alphas only.
    let find = |alphas: &[f64], alpha: f64| alphas.iter().position(|&other| other == alpha);
    let (random, perplexity) = (&task.random, &task.perplexity);
    let heads = task
        .curves
        .iter()
        .map(|curve| format!("|{} [95%]", curve_style(curve.kind).name));
    let heads: String = heads.collect();
    let heads = format!("Alpha{heads}|random [95%]|perplexity, native|perplexity, mapped");
    let caption = html! {
        "Mean propensities by alpha. Perplexity is of a neutral text of " (counted(perplexity.tokens, "token")) "; unsteered "
        (tagged(perplexity.unsteered, Digits::Auto))
    };
    let body = html! {
        @for (index, &alpha) in task.alphas.iter().enumerate() { tr {
            th scope="row" { (tagged(alpha, Digits::Auto)) }
            @for curve in &task.curves { td { (band(&curve.mean, &curve.low, &curve.high, index)) } }
            td { @if let Some(index) = find(&random.alphas, alpha) { (band(&random.mean, &random.low, &random.high, index)) } }
            @for values in [&perplexity.native, &perplexity.mapped] {
                td { @if let Some(index) = find(&perplexity.alphas, alpha) { (tagged(at(values, index), Digits::Auto)) } }
            }
        } }
    };
    own(task, "Curves", caption, &heads, body)
}

fn candidates(task: &TaskResult) -> Markup {
    let caption = html! { "By layer pair, on the finding half" };
    let body = html! {
        @for candidate in &task.candidates { tr {
            th scope="row" { (layers(&candidate.source_layers, candidate.target_layer)) }
            td { (tagged(candidate.native_slope, TWO)) } td { (tagged(candidate.mapped_slope, TWO)) }
        } }
    };
    own(task, "Slopes", caption, "Layers|Native|Mapped", body)
}

fn side_effects(task: &TaskResult) -> Markup {
    let caption = html! { "Change of the other tasks' mean propensities (logits) from minus to plus alpha" };
    let body = html! {
        @for effect in &task.side_effects { tr {
            th scope="row" { (effect.task) } td { "\u{b1} " (tagged(effect.alpha, Digits::Auto)) }
            td { (tagged(effect.native, Digits::Signed)) } td { (tagged(effect.mapped, Digits::Signed)) }
        } }
    };
    own(task, "Side effects", caption, "Other task|Alpha|Native|Mapped", body)
}

fn proposal(evaluation: &Evaluation, task: &TaskResult) -> Markup {
    let budget = tagged(evaluation.run.perplexity_budget, Digits::Auto);
    html! {
        h4 { "Spec to serve" }
        @match &task.proposal {
            None => p { "None is proposed (perplexity budget \u{d7} " (budget) ")." },
            Some(proposal) => {
                p {
                    "Layer " (count(proposal.target_layer)) ", alpha " (tagged(proposal.alpha, Digits::Auto)) ": mean propensity "
                    (tagged(proposal.gain, Digits::Signed)) " on the finding half, perplexity \u{d7} "
                    (tagged(proposal.perplexity_ratio, TWO)) " (budget \u{d7} " (budget) ")"
                    @if let Some(score) = proposal.score { ", texts score " (tagged(score, TWO)) ", which chose the alpha" }
                    ". Paste it into a request, or below "
                    code { "[[steering.defaults]]" } "; the names are those in " code { "steering.toml" } " beside this report:"
                }
                pre tabindex="0" role="region" aria-label="Spec to serve" { code { (proposal.toml) } }
            }
        }
    }
}
