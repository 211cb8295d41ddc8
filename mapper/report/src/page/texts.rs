//! Generated texts, side by side.

use maud::{Markup, html};

use super::parts::*;
use crate::figures::look;
use crate::number::{Digits, NONE, counted as counted_in_text};
use crate::result::{GeneratedText, Generation, Kind, Rate, TaskResult};

/// The vectors that texts can be steered by, as columns.
const STEERED: [Kind; 4] = [Kind::Native, Kind::Mapped, Kind::Unmapped, Kind::Random];

pub(super) fn section(task: &TaskResult) -> Markup {
    let Some(generation) = &task.generation else {
        return html! {};
    };
    let mut prompts: Vec<usize> = generation.texts.iter().map(|text| text.prompt).collect();
    prompts.sort_unstable();
    prompts.dedup();
    let name = format!("Positive texts of {}", task.name);
    let caption = html! { "Texts that the rule calls " (task.positive) ": by alpha and vector" };
    let all: Vec<(Kind, f64, &Rate)> = generation
        .rates
        .iter()
        .map(|rate| (rate.kind, rate.alpha, rate))
        .collect();
    let rate = |rate: &Rate| html! { (count(rate.positive)) " of " (count(rate.texts)) };
    html! {
        h4 { "Texts side by side" }
        p {
            "Greedy continuations of at most " (counted(generation.max_tokens, "token")) ". Rule for " (task.positive) ": "
            (generation.rule)
        }
        (scroll(&name, html! { table { caption { span { (caption) } } (grid(&all, rate)) } }))
        (details(&format!("Texts of {}", counted_in_text(prompts.len(), "prompt", "prompts")), html! {
            @for &prompt in &prompts { (texts_of(task, generation, prompt)) }
        }))
    }
}

/// All texts of one prompt.
fn texts_of(task: &TaskResult, generation: &Generation, prompt: usize) -> Markup {
    let texts = generation.texts.iter().filter(|text| text.prompt == prompt);
    let all: Vec<(Kind, f64, &GeneratedText)> = texts.map(|text| (text.kind, text.alpha, text)).collect();
    let one = |text: &GeneratedText| {
        html! {
            span.generated { (text.text.trim_start()) }
            @if text.positive { span.mark.yes { "\u{25b2} " (task.positive) } } @else { span.mark.no { "not " (task.positive) } }
        }
    };
    html! {
        table.texts {
            caption { span.prompt { (all.first().map_or("", |(_, _, text)| text.prompt_text.as_str())) } }
            (grid(&all, one))
        }
    }
}

/// A row an alpha, a column a vector; what is unsteered has a row of its own, where alpha is 0.
fn grid<T>(all: &[(Kind, f64, &T)], cell: impl Fn(&T) -> Markup) -> Markup {
    let kinds = STEERED
        .into_iter()
        .filter(|kind| all.iter().any(|(other, ..)| other == kind));
    let kinds: Vec<Kind> = kinds.collect();
    let mut alphas: Vec<f64> = all
        .iter()
        .filter(|(kind, ..)| *kind != Kind::Unsteered)
        .map(|(_, alpha, _)| *alpha)
        .collect();
    alphas.sort_by(f64::total_cmp);
    alphas.dedup();
    let place = alphas.partition_point(|&alpha| alpha <= 0.0);
    let unsteered = all.iter().find(|(kind, ..)| *kind == Kind::Unsteered);
    let find = |kind: Kind, alpha: f64| all.iter().find(|(other, at, _)| *other == kind && *at == alpha);
    let steered = |alpha: f64| {
        html! { tr {
            th.alpha scope="row" { (tagged(alpha, Digits::Auto)) }
            @for &kind in &kinds { td { @match find(kind, alpha) { Some((_, _, found)) => (cell(found)), None => (NONE) } } }
        } }
    };
    html! {
        thead { tr { th.left.alpha scope="col" { "Alpha" } @for &kind in &kinds { th scope="col" { (look(kind).2) } } } }
        tbody {
            @for &alpha in &alphas[..place] { (steered(alpha)) }
            @if let Some((_, _, found)) = unsteered {
                tr { th.alpha scope="row" { "unsteered" } td colspan=(kinds.len().max(1)) { (cell(found)) } }
            }
            @for &alpha in &alphas[place..] { (steered(alpha)) }
        }
    }
}
