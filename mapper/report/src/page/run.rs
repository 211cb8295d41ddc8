//! The run: models, options, map and tasks.

use maud::{Markup, html};

use super::parts::*;
use crate::number::{Digits, NONE, grouped};
use crate::result::Evaluation;

pub(super) fn section(evaluation: &Evaluation) -> Markup {
    let (run, map, states) = (&evaluation.run, &evaluation.run.map, &evaluation.representation);
    let body = html! {
        (models(evaluation))
        dl.facts {
            dt { "Program" } dd { (run.tool) }
            dt { "Ended" } dd { (run.date) }
            dt { "Command" } dd { code { (run.command) } }
            dt { "Device" } dd { (run.device) }
            dt { "Time" } dd { (tagged(run.seconds, Digits::Auto)) " s" }
            dt { "Seed" } dd { span data-value=(run.seed) { (run.seed) } }
            dt { "Map" } dd {
                (map.name) ": " (map.offset) ", fitted on " (map.corpus) ", " span data-value=(map.rows) { (grouped(map.rows)) }
                " rows; SHA-256 " code { (map.sha256) }
            }
            dt { "Vectors" } dd { (run.method) }
            dt { "Alphas" } dd { (numbers(&run.alphas, Digits::Auto)) " (" (run.alpha_unit) ")" }
            dt { "Perplexity budget" } dd { "\u{d7} " (tagged(run.perplexity_budget, Digits::Auto)) }
            dt { "Text of the states" } dd { (states.text) "; SHA-256 " code { (states.text_sha256) } }
            dt { "Format" } dd { (evaluation.format) }
        }
        @if !evaluation.tasks.is_empty() { (tasks(evaluation)) }
    };
    super::section("run", "What was run, and with what", body)
}

fn models(evaluation: &Evaluation) -> Markup {
    let heads = "Role|Model|Width of the stream|Decoder blocks|dtype|Quantisation|Fingerprint";
    let both = [
        ("source: vectors are found on it", &evaluation.run.source),
        ("target: it is steered", &evaluation.run.target),
    ];
    let body = html! {
        @for (role, model) in both { tr {
            th scope="row" { (role) }
            td { (model.model) } td { (count(model.hidden_size)) } td { (count(model.num_layers)) } td { (model.dtype) }
            td { (model.quantization.as_deref().unwrap_or(NONE)) } td { code { (model.fingerprint) } }
        } }
    };
    table("Models", html! {}, "", heads, body)
}

fn tasks(evaluation: &Evaluation) -> Markup {
    let heads = "Task|Kind|Pairs|Finding|Measuring|Clusters|SHA-256";
    let body = html! {
        @for task in &evaluation.tasks { tr {
            th scope="row" { (task.name) } td { (task.kind) }
            @for number in [task.pairs, task.finding, task.measuring, task.clusters] { td { (count(number)) } }
            td { code { (task.sha256) } }
        } }
    };
    table("Tasks", html! { "What they are made of" }, "", heads, body)
}
