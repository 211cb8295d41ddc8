//! How well the map predicts the target's states.

use maud::{Markup, html};

use super::parts::*;
use crate::figures::Figure;
use crate::number::Digits;
use crate::result::{Evaluation, Representation};

const THREE: Digits = Digits::Fixed(3);

pub(super) fn section(evaluation: &Evaluation, all: &[Figure]) -> Markup {
    let representation = &evaluation.representation;
    // Large heat maps have the page's width to themselves.
    let beside = |figure: &Figure| if figure.width() > 560.0 { "stacked" } else { "figures" };
    let body = html! {
        p {
            "Measured on " b { (representation.text) } ": " (counted(representation.positions, "paired position")) " of "
            (counted(representation.documents, "document"))
            @if representation.held_out { " (only documents that the map's own rule holds out)." }
            @else { " (all documents of a text that the map was not fitted on)." }
        }
        @match named(all, "r2") {
            None => p { "No layer pair was measured." },
            Some(r2) => {
                div class=(beside(r2)) {
                    (figure(r2))
                    @if let Some(spread) = named(all, "r2-spread") { (figure(spread)) }
                }
                (details("Numbers of all layer pairs", pairs(representation)))
            }
        }
        @if let Some(of_layers) = named(all, "cka") { (figure(of_layers)) (details("Numbers of CKA", cka(representation))) }
    };
    super::section("representation", "How well the map predicts the target's states", body)
}

fn pairs(representation: &Representation) -> Markup {
    let caption = html! {
        "Percentages are quantiles of the R\u{b2} of single dimensions; the cosine is that of mapped and true states"
    };
    let heads = "Layers|R\u{b2}|stated in the map|5%|25%|median|75%|95%|Cosine|CKA";
    let body = html! {
        @for pair in &representation.pairs { tr {
            th scope="row" { (layers(&pair.source_layers, pair.target_layer)) }
            td { (tagged(pair.r2, THREE)) } td { (tagged(pair.stated_r2, THREE)) }
            @for quantile in pair.r2_quantiles { td { (tagged(quantile, TWO)) } }
            td { (tagged(pair.cosine, THREE)) } td { (tagged(pair.cka, THREE)) }
        } }
    };
    table("Layer pairs", caption, "", heads, body)
}

fn cka(representation: &Representation) -> Markup {
    let columns = representation.cka.iter().map(Vec::len).max().unwrap_or(0);
    let heads = (0..columns).fold("Source layer".to_string(), |heads, layer| format!("{heads}|{layer}"));
    let body = html! {
        @for (layer, values) in representation.cka.iter().enumerate() { tr {
            th scope="row" { (layer) }
            @for column in 0..columns { td { (maybe(values.get(column).copied(), TWO)) } }
        } }
    };
    table("Linear CKA", html! { "Columns are target layers" }, "", &heads, body)
}
