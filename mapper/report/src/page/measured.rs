//! How it was measured: the protocol, the controls, and the terms.

use maud::{Markup, PreEscaped, html};

use super::parts::*;
use crate::number::Digits;
use crate::result::{Control, ControlKind, Evaluation};
use crate::wording::texts;

/// A control's name, its directions, and what it would show if they steered.
pub(super) fn control(kind: ControlKind) -> [&'static str; 3] {
    texts(match kind {
        ControlKind::MappedRandom => "mapped-random",
        ControlKind::Isotropic => "isotropic",
        ControlKind::OtherTasks => "other-tasks",
        ControlKind::ShuffledLabels => "shuffled-labels",
        ControlKind::ShuffledMap => "shuffled-map",
    })
}

pub(super) fn section(evaluation: &Evaluation) -> Markup {
    let (run, protocol) = (&evaluation.run, &evaluation.run.protocol);
    let body = html! {
        p {
            "The following was fixed before anything was measured, so that no figure is the best of many. Each task's items are in two \
             halves: the finding half decides whether the native vector steers and what is proposed for serving; everything else is \
             measured on the other half."
        }
        dl.facts {
            dt { "Headlines are over" } dd {
                "target layers " (range(&protocol.band)) " (" (protocol.band_is) "), "
                @if let Some(most) = protocol.most_direct {
                    "without those where more than " (tagged(most, Digits::Auto)) " of the native vector's effect goes straight to \
                     the logits"
                } @else { "whatever share of the effect goes straight to the logits" }
            }
            dt { "Decisive layer" } dd { (count(protocol.layer)) ": curves, controls and texts are measured there" }
            dt { "Carried" } dd {
                "means that the native vector steers, that the whole interval of retention lies between "
                (tagged(protocol.retention_bounds[0], Digits::Auto)) " and " (tagged(protocol.retention_bounds[1], Digits::Auto))
                ", that the mapped vector stands out of the decisive control (rank, adjusted p at most "
                (tagged(protocol.level, Digits::Auto)) "), and that it moves its own task more than the others (specific)"
            }
            dt { "Says nothing" } dd {
                "means that the native vector itself does not steer, or that nothing can be concluded: neither a success nor a failure"
            }
            dt { "Decisive control" } dd {
                (counted(protocol.control_draws, "draw")) " per task, on at most " (counted(protocol.control_items, "item"))
                "; p-values corrected over all tasks (Holm)"
            }
            dt { "Intervals" } dd {
                "95%, " (counted(run.resamples, "resample")) " over clusters of items that share a deciding word; those of retention \
                 also include the variation of vectors from " (counted(protocol.half_samples, "half sample")) " of the pairs; those \
                 of means resample tasks"
            }
        }
        (controls(evaluation))
    };
    super::section("measured", "How this was measured", body)
}

fn controls(evaluation: &Evaluation) -> Markup {
    let of = |kind: ControlKind| -> Option<&Control> {
        let mut all = evaluation.tasks.iter().flat_map(|task| &task.controls);
        all.find(|control| control.kind == kind && control.spread.count > 0)
    };
    use ControlKind::*;
    let kinds = [MappedRandom, Isotropic, OtherTasks, ShuffledLabels, ShuffledMap];
    let caption = html! { "The same measurement with other directions, which should not steer" };
    let heads = "Control|What steers|If it steered as well, it would show|Measured";
    let body = html! {
        @for kind in kinds { tr {
        @let [name, what, shows] = control(kind);
            th scope="row" { (name) } td.left { (what) } td.left { (shows) }
            td.left { @match of(kind) { None => "no", Some(first) => {
                (counted(first.spread.count, "draw")) " per task, " (counted(first.items, "item")) ", " (first.alphas.len()) " alphas"
            } } }
        } }
    };
    table("Controls", caption, "prose", heads, body)
}

/// The terms and measures, and how to read them.
pub(super) fn terms(evaluation: &Evaluation) -> Markup {
    let body = html! {
        p {
            "The measures follow the Linear Representation Transferability paper (arXiv 2506.00653), with controls beside them. "
            @if evaluation.run.map.offset == "affine" {
                "Vectors go through the map as " code { "A v + p" } ", as in the paper."
            } @else {
                "Vectors go through the map's linear part, " code { "A v" } ": a vector is a difference of states, in which the map's \
                 constant cancels."
            }
        }
        dl.terms { (PreEscaped(include_str!("terms.html"))) }
    };
    super::section("terms", "Terms", body)
}
