//! The HTML page.

mod measured;
mod parts;
mod representation;
mod results;
mod run;
mod task;
mod texts;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::figures::{self, Figure, colours};
use crate::plain::clean;
use crate::result::Evaluation;
use parts::{figure, named, section, table};

const STYLE: &str = include_str!("style.css");

/// The content security policy: nothing is loaded and no script runs, whatever text a model wrote.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// The sections' identifiers and names.
const CONTENTS: &str = "results=Results|measured=How this was measured|layers=Layers|texts=Generated texts|representation=Representation|tasks=Tasks\
                        |failed=Failed tasks|run=What was run|notes=Notes|terms=Terms";

/// An evaluation as one self-contained HTML page: figures and style are inside, and it runs no script.
pub fn html(evaluation: &Evaluation) -> String {
    let run = &evaluation.run;
    let all = figures::all(evaluation);
    let contents = CONTENTS.split('|').filter_map(|entry| entry.split_once('='));
    let contents = contents.filter(|(id, _)| *id != "texts" || evaluation.summary.all.texts.is_some());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                link rel="icon" href="data:,";
                title { (run.source.model) " to " (run.target.model) " \u{2013} steermap evaluation" }
                style { (PreEscaped(colours::RULES)) (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#content" { "Skip to the results" }
                (results::header(evaluation))
                nav.wide aria-label="Contents" { div {
                    ul { @for (id, name) in contents { li { a href={ "#" (id) } { (name) } } } }
                    ul.tasks { @for (index, task) in evaluation.tasks.iter().enumerate() {
                        li { a href={ "#task-" (index) } { (task.name) } }
                    } }
                } }
                main #content .wide {
                    (results::section(evaluation, &all))
                    (measured::section(evaluation))
                    (results::layers(evaluation, &all))
                    (texts::section(evaluation))
                    (representation::section(evaluation, &all))
                    (tasks(evaluation, &all))
                    (failed(evaluation))
                    (run::section(evaluation))
                    (notes(evaluation))
                    (measured::terms(evaluation))
                }
                footer.wide { p { "Made by " (run.tool) " on " (run.date) ". The same in JSON: " code { "report.json" } "." } }
            }
        }
    };
    clean(&page.into_string())
}

/// All tasks: their curves together, then each task, then their side effects on each other.
fn tasks(evaluation: &Evaluation, all: &[Figure]) -> Markup {
    let tasks = &evaluation.tasks;
    let body = html! {
        @if tasks.is_empty() { p { "No task was measured." } }
        @if let Some(all) = named(all, "propensity").filter(|_| tasks.len() > 1) { (figure(all)) }
        @for (index, task) in tasks.iter().enumerate() { (task::section(evaluation, task, index)) }
        @if let Some(native) = named(all, "side-effects-native") {
            div.task {
                h3 #all-side-effects { "Side effects of all tasks" }
                (figure(native))
                @if let Some(mapped) = named(all, "side-effects") { (figure(mapped)) }
            }
        }
    };
    section("tasks", "Task by task", body)
}

/// Tasks that could not be measured.
fn failed(evaluation: &Evaluation) -> Markup {
    let body = html! {
        @if evaluation.failed.is_empty() { p { "None: every task was measured." } } @else {
            p { "These tasks could not be measured. They are in no mean and count neither as carried nor as not carried." }
            (table("Failed tasks", html! {}, "prose", "Task|Reason", html! {
                @for failed in &evaluation.failed { tr { th scope="row" { (failed.name) } td.left { (failed.reason) } } }
            }))
        }
    };
    section("failed", "Failed tasks", body)
}

/// What was left out, and why.
fn notes(evaluation: &Evaluation) -> Markup {
    let body = html! {
        @if evaluation.notes.is_empty() { p { "Nothing was left out." } }
        @else { ul.notes { @for note in &evaluation.notes { li { (note) } } } }
    };
    section("notes", "Notes", body)
}
