//! Retention of all tasks, one below the other.

use kuva::plot::scatter::MarkerShape;

use super::chart::{Axis, Chart, LegendSign, ends};
use super::drawing::{BEGIN, Drawing, END, SMALL, fit, stroke};
use crate::number::two;
use crate::result::{Estimate, Evaluation, Outcome, TaskResult};

/// Height of a row, in pixels.
const ROW: f64 = 36.0;
/// How far the decisive layer is above a row's middle and the band below it, in rows.
const SPLIT: f64 = 7.0 / ROW;
/// Room for the numbers and the outcome.
const NUMBERS: f64 = 236.0;

/// An outcome as word and colour.
pub(crate) fn outcome(outcome: Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Carried => ("\u{2713} carried", "good"),
        Outcome::NotCarried => ("\u{2717} not carried", "bad"),
        Outcome::SaysNothing => ("\u{2013} says nothing", "muted"),
    }
}

/// A bar: its row, how far above the row's middle it is, and its colour and width.
struct Bar(usize, f64, Estimate, &'static str, f64);

/// One row a task: retention at the decisive layer with its interval, over the range of the decisive control, and the
/// mean over the band below it; then the means over tasks.
pub(super) fn forest(evaluation: &Evaluation) -> Drawing {
    let (tasks, summary, protocol) = (&evaluation.tasks, &evaluation.summary, &evaluation.run.protocol);
    let mut names: Vec<String> = tasks.iter().map(|task| fit(&task.name, 12, 180.0)).collect();
    let mut bars: Vec<Bar> = Vec::new();
    for (row, task) in tasks.iter().enumerate() {
        let nothing = task.verdict.outcome == Outcome::SaysNothing;
        let colour = if nothing { "muted" } else { "mapped" };
        bars.push(Bar(row, SPLIT, task.retention, colour, 2.0));
        bars.extend(task.band_retention.map(|band| Bar(row, -SPLIT, band, "ink", 1.3)));
    }
    for (means, name) in [
        (&summary.all, "mean of all"),
        (&summary.steering, "mean where native steers"),
    ] {
        if let Some(mean) = means.retention {
            bars.push(Bar(names.len(), 0.0, mean, "ink", 2.2));
            names.push(format!("{name} ({})", means.counting));
        }
    }
    let rows = names.len();
    let at_layer = format!("at layer {}, 95%", protocol.layer);
    let entries = [
        (LegendSign::Diamond("mapped", false), at_layer.as_str()),
        (LegendSign::Diamond("mapped", true), "the same, not carried"),
        (LegendSign::Diamond("muted", true), "the same, says nothing"),
        (LegendSign::Square("ink"), "mean over the band's layers, 95%"),
        (LegendSign::Area("random", 0.3), "95% of mapped random directions"),
        (LegendSign::Area("good", 0.14), "bounds for carried"),
    ];
    let ranges = tasks
        .iter()
        .filter_map(TaskResult::decisive)
        .flat_map(|control| control.spread.range);
    let values = bars.iter().flat_map(|bar| three(&bar.2));
    let (low, high) = ends(values.chain(ranges).chain([-0.25, 1.25]));
    let name = "retention (0: nothing comes through, 1: as the native vector)";
    // Values outside the axis get an arrow.
    let x = Axis::between(low.max(-2.0) - 0.05, high.min(3.0) + 0.05, 6, name);
    let mut chart = Chart::of_rows(380.0, ROW, NUMBERS, &entries, &x, &names);
    let middle = |row: usize| (rows - row) as f64;
    let [least, most] = protocol.retention_bounds.map(|bound| x.inside(bound));
    chart.tint([least, most], "good", 0.14);
    for (row, task) in tasks.iter().enumerate() {
        if let Some(control) = task.decisive() {
            let (y, range, mean) = (middle(row), control.spread.range, x.inside(control.spread.mean));
            chart.block(range.map(|end| x.inside(end)), [y - 0.32, y + 0.32], "random", 0.3);
            chart.line([(mean, y - 0.32), (mean, y + 0.32)], stroke("random", 1.5, ""));
        }
    }
    chart.upright(0.0, stroke("axis", 1.2, ""));
    chart.upright(1.0, stroke("axis", 1.2, "4 3"));
    for &Bar(row, above, estimate, colour, width) in &bars {
        let y = middle(row) + above;
        let ends = [estimate.low, estimate.high].map(|end| x.inside(end));
        chart.line(ends.map(|end| (end, y)), stroke(colour, width, ""));
        for end in ends.into_iter().filter(|end| x.low < *end && *end < x.high) {
            chart.line([(end, y - 0.09), (end, y + 0.09)], stroke(colour, width, ""));
        }
        if colour == "ink" {
            chart.markers(
                vec![(x.inside(estimate.value), y)],
                MarkerShape::Square,
                width + 2.0,
                colour,
            );
        }
    }
    let (mut drawing, frame) = chart.draw();
    let (left, right) = (frame.margin_left, frame.width - NUMBERS);
    for &Bar(row, above, estimate, colour, _) in &bars {
        let (y, task) = (frame.map_y(middle(row) + above), tasks.get(row));
        if estimate.low < x.low {
            drawing.arrow((left, y), -1.0, colour);
        }
        if estimate.high > x.high {
            drawing.arrow((right, y), 1.0, colour);
        }
        let y = frame.map_y(middle(row));
        if let Some(task) = task.filter(|_| above > 0.0) {
            let at = (frame.map_x(x.inside(estimate.value)), y - SPLIT * ROW);
            drawing.diamond(at, 6.0, colour, task.verdict.outcome != Outcome::Carried);
            let (word, colour) = outcome(task.verdict.outcome);
            let font = BEGIN.of(SMALL, colour, colour != "muted");
            drawing.text((right + 142.0, y + 4.0), word, font);
        }
        if above >= 0.0 {
            let [low, value, high] = three(&estimate).map(two);
            let font = END.of(12, "ink", task.is_none());
            drawing.number((right + 46.0, y + 4.0), &value, estimate.value, font);
            let range = fit(&format!("[{low}, {high}]"), SMALL, 96.0);
            drawing.text((right + 54.0, y + 4.0), &range, BEGIN);
        }
    }
    let y = frame.map_y((rows - tasks.len()) as f64 + 0.5);
    drawing.line((8.0, y), (frame.width, y), stroke("line", 1.0, ""));
    drawing
}

pub(super) fn three(estimate: &Estimate) -> [f64; 3] {
    [estimate.low, estimate.value, estimate.high]
}
