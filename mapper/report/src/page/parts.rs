//! The elements that the page's sections are built from.

use maud::{Markup, PreEscaped, html};

use crate::figures::{Figure, outcome};
use crate::number::{Digits, NONE, exact, grouped, text};
use crate::result::{Estimate, Outcome, ValueSpread};

/// The digits of most numbers on the page.
pub(super) const TWO: Digits = Digits::Fixed(2);
/// Figures wider than this scroll in a box where the page is narrow.
const NARROW: f64 = 480.0;

/// A section with its heading.
pub(super) fn section(id: &str, title: &str, body: Markup) -> Markup {
    html! { section id=(id) aria-labelledby={ (id) "-h" } { h2 id={ (id) "-h" } { (title) } (body) } }
}

/// The figure with a name, if there is one.
pub(super) fn named<'a>(all: &'a [Figure], name: &str) -> Option<&'a Figure> {
    all.iter().find(|figure| figure.name == name)
}

/// A figure with its caption. It scales with its column, within limits that keep it readable.
pub(super) fn figure(figure: &Figure) -> Markup {
    let width = figure.width();
    let least = if width > NARROW { width * 0.72 } else { 0.0 };
    let svg = figure.markup(&format!("max-width:{:.0}px;min-width:{least:.0}px", width * 1.2));
    html! {
        figure id={ "figure-" (figure.name) } {
            @if width > NARROW { (scroll(&format!("Figure: {}", figure.title), svg)) } @else { (svg) }
            figcaption { b { (figure.title) "." } " " (figure.caption) }
        }
    }
}

/// A box that scrolls sideways, also by keyboard.
pub(super) fn scroll(name: &str, content: Markup) -> Markup {
    html! { div.scroll tabindex="0" role="region" aria-label=(name) { (content) } }
}

/// A table in a box that scrolls; the first column has the rows' names. `heads` are separated by `|`, `body` holds the
/// rows.
pub(super) fn table(name: &str, caption: Markup, class: &str, heads: &str, body: Markup) -> Markup {
    scroll(
        name,
        html! {
            table class=(class) {
                caption { span { b { (name) "." } " " (caption) } }
                thead { tr { @for (index, head) in heads.split('|').enumerate() { th.left[index == 0] scope="col" { (head) } } } }
                tbody { (body) }
            }
        },
    )
}

/// A collapsible block, closed at first.
pub(super) fn details(summary: &str, content: Markup) -> Markup {
    html! { details { summary { (summary) } (content) } }
}

/// An outcome, shown by a word, a sign and a border, not by colour alone.
pub(super) fn mark(found: Outcome) -> Markup {
    html! { span class={ "mark " (class(found)) } { (outcome(found).0) } }
}

/// The CSS class of an outcome.
pub(super) fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Carried => "yes",
        Outcome::NotCarried => "no",
        Outcome::SaysNothing => "none",
    }
}

/// A number of the evaluation: rounded for readers, with the JSON's number in `data-value`.
pub(super) fn tagged(value: f64, digits: Digits) -> Markup {
    html! { @if value.is_finite() { span data-value=(exact(value)) { (text(value, digits)) } } @else { (NONE) } }
}

/// The same, if there is one.
pub(super) fn maybe(value: Option<f64>, digits: Digits) -> Markup {
    tagged(value.unwrap_or(f64::NAN), digits)
}

/// Several numbers.
pub(super) fn numbers(values: &[f64], digits: Digits) -> Markup {
    html! { @for (index, &value) in values.iter().enumerate() { @if index > 0 { ", " } (tagged(value, digits)) } }
}

/// A count of the evaluation.
pub(super) fn count(value: usize) -> Markup {
    html! { span data-value=(value) { (grouped(value as u64)) } }
}

/// `30 items`, `1 item`.
pub(super) fn counted(number: usize, one: &str) -> Markup {
    html! { (count(number)) " " (one) @if number != 1 { "s" } }
}

/// Layers of a pair: `12+14 → 11`.
pub(super) fn layers(source: &[usize], target: usize) -> Markup {
    html! { (listed(source, "+")) " \u{2192} " (count(target)) }
}

fn listed(counts: &[usize], between: &str) -> Markup {
    html! { @for (index, &value) in counts.iter().enumerate() { @if index > 0 { (between) } (count(value)) } }
}

/// Layers in few words: `4 to 7`; `2, 5, 6`.
pub(super) fn range(layers: &[usize]) -> Markup {
    match layers {
        [first, _, .., last] if last - first + 1 == layers.len() => html! { (count(*first)) " to " (count(*last)) },
        _ => listed(layers, ", "),
    }
}

/// `[0.71, 0.95]`
pub(super) fn interval([low, high]: [f64; 2], digits: Digits) -> Markup {
    html! { "[" (tagged(low, digits)) ", " (tagged(high, digits)) "]" }
}

/// A value over its interval.
pub(super) fn estimate(estimate: &Estimate, digits: Digits) -> Markup {
    over(tagged(estimate.value, digits), [estimate.low, estimate.high], digits)
}

/// The same, if there is one.
pub(super) fn optional(value: Option<&Estimate>, digits: Digits) -> Markup {
    html! { @match value { Some(value) => (estimate(value, digits)), None => (NONE) } }
}

/// Mean ± deviation over the mean's interval.
pub(super) fn spread(spread: &ValueSpread, digits: Digits) -> Markup {
    let value = html! { (tagged(spread.mean, digits)) " \u{b1} " (tagged(spread.deviation, digits)) };
    if spread.count == 0 {
        html! { (NONE) }
    } else {
        over(value, spread.interval, digits)
    }
}

/// Mean over the range of 95% of the values.
pub(super) fn ranged(spread: &ValueSpread, digits: Digits) -> Markup {
    if spread.count == 0 {
        html! { (NONE) }
    } else {
        over(tagged(spread.mean, digits), spread.range, digits)
    }
}

/// A value over its interval, in a table's cell.
fn over(value: Markup, ends: [f64; 2], digits: Digits) -> Markup {
    html! { (value) " " span.more { (interval(ends, digits)) } }
}

/// A cell's value and interval, in one line of text.
pub(super) fn in_line(cell: Markup) -> Markup {
    PreEscaped(cell.0.replace("<span class=\"more\">", "<span class=\"muted\">"))
}
