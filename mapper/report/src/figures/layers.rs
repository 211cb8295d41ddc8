//! Retention and direct share by layer, and the slopes of the layers that could be steered.

use kuva::plot::scatter::MarkerShape;
use kuva::render::layout::AxisLabelOverlap;

use super::chart::{Axis, Chart, LegendSign, curve_style, ends, entry, legend};
use super::drawing::{Drawing, MIDDLE, SMALL, fit, stroke, widest};
use super::forest::three;
use crate::number::layers;
use crate::result::{Candidate, Estimate, Evaluation, LayerResult, Protocol, SteeringKind, TaskResult};

/// A layer in the chart: its number, retention, direct share, and whether it counts.
struct Point(f64, Option<Estimate>, Option<f64>, bool);

fn points(layers: &[LayerResult]) -> Vec<Point> {
    let points = layers.iter();
    let points = points.map(|l| Point(l.target_layer as f64, Some(l.retention), l.direct_share, l.counts));
    points.collect()
}

/// Of one task: every measured layer.
pub(super) fn of_task(protocol: &Protocol, task: &TaskResult, size: (f64, f64)) -> Drawing {
    let hollow = (LegendSign::Diamond("mapped", true), "does not count");
    draw(protocol, &points(&task.layers), &[], hollow, size)
}

/// Means over tasks, with every task whose native vector steers behind them.
pub(super) fn of_all(evaluation: &Evaluation, size: (f64, f64)) -> Drawing {
    let means = evaluation.summary.layers.iter();
    let means = means.map(|mean| Point(mean.target_layer as f64, mean.retention, mean.direct_share, true));
    let means: Vec<Point> = means.collect();
    let tasks = evaluation.tasks.iter().filter(|task| task.native_steers.steers);
    let tasks: Vec<Vec<Point>> = tasks.map(|task| points(&task.layers)).collect();
    let single = (LegendSign::Line(stroke("axis", 0.8, ""), None), "single tasks");
    draw(&evaluation.run.protocol, &means, &tasks, single, size)
}

/// A legend's entry.
type Entry = (LegendSign, &'static str);

/// Two panels, one below the other.
fn draw(protocol: &Protocol, points: &[Point], behind: &[Vec<Point>], other: Entry, size: (f64, f64)) -> Drawing {
    let entries = [
        (LegendSign::Diamond("mapped", false), "retention, 95%"),
        other,
        (LegendSign::Square("native"), "direct share"),
        (LegendSign::Area("chosen", 1.0), "band of the headlines"),
    ];
    let legend = legend(size.0 - 8.0, &entries);
    let every = || points.iter().chain(behind.iter().flatten());
    let band = protocol.band.iter().map(|&layer| layer as f64);
    let (low, high) = ends(every().map(|point| point.0).chain(band));
    // Values far outside are drawn at the edge.
    let near = |value: f64| value.clamp(-1.0, 2.0);
    let retention = every().filter_map(|point| point.1).flat_map(|e| three(&e));
    let retention = Axis::nice(retention.map(near).chain([0.0, 1.0]), 4, "retention");
    let direct = every().filter_map(|point| point.2).chain(protocol.most_direct);
    let direct = Axis::nice(direct.map(near).chain([0.0, 1.0]), 3, "direct share");
    let above = legend.scene.height + 4.0;
    let tall = [0.58, 0.42].map(|share| (size.1 - above) * share);
    let mut drawing = Drawing::new(size.0, size.1);
    drawing.place((8.0, 0.0), legend);
    // The common parts of both panels, and the position of a layer in a panel.
    let panel = |y: Axis, tall: f64, gaps: [f64; 2], name, colour, value: fn(&Point) -> Option<f64>| {
        let mut x = Axis::between(low - 0.6, high + 0.6, 1, name);
        x.step = ((high - low) / 12.0).ceil().max(1.0);
        let mut chart = Chart::new((size.0, tall), gaps, &[], &x, &y);
        chart.layout.force_margin_left = Some(64.0);
        for run in protocol.band.chunk_by(|&layer, &next| next == layer + 1) {
            let ends = [run[0] as f64 - 0.5, run[run.len() - 1] as f64 + 0.5];
            chart.tint(ends, "chosen", 0.75);
        }
        chart.level(0.0, stroke("axis", 1.0, ""));
        let place = move |point: &Point| Some((point.0, y.inside(value(point)?)));
        for task in behind {
            chart.line(task.iter().filter_map(&place), stroke("axis", 0.8, ""));
        }
        chart.line(points.iter().filter_map(&place), stroke(colour, 1.5, ""));
        (chart, place)
    };
    let value = |point: &Point| point.1.map(|estimate| estimate.value);
    let (mut chart, place) = panel(retention.clone(), tall[0], [20.0, 18.0], "", "mapped", value);
    chart.level(1.0, stroke("axis", 1.0, ""));
    for Point(layer, estimate, ..) in points {
        let ends = estimate.iter().flat_map(|e| [e.low, e.high]);
        chart.line(
            ends.map(|end| (*layer, retention.inside(end))),
            stroke("mapped", 1.5, ""),
        );
    }
    let (mut upper, frame) = chart.draw();
    for point in points {
        if let Some((x, y)) = place(point) {
            upper.diamond((frame.map_x(x), frame.map_y(y)), 5.5, "mapped", !point.3);
        }
    }
    let x = frame.map_x(protocol.layer as f64);
    let at = (x.clamp(90.0, size.0 - 40.0), 11.0);
    upper.text(at, "decisive", MIDDLE.of(SMALL, "ink", false));
    upper.polygon(&[(x, 19.0), (x - 4.0, 13.5), (x + 4.0, 13.5)], "ink");
    drawing.place((0.0, above), upper);

    let (mut chart, place) = panel(direct.clone(), tall[1], [6.0, 38.0], "target layer", "native", |p| p.2);
    if let Some(most) = protocol.most_direct.map(|most| direct.inside(most)) {
        chart.block([low - 0.6, high + 0.6], [most, direct.high], "bad", 0.1);
        chart.level(most, stroke("bad", 1.2, "6 3"));
    }
    chart.markers(
        points.iter().filter_map(place).collect(),
        MarkerShape::Square,
        3.0,
        "native",
    );
    drawing.place((0.0, above + tall[0]), chart.draw().0);
    drawing
}

/// Slopes with the native and the mapped vector on the finding half; the pair that is measured stands on a tinted
/// ground.
pub(super) fn candidates(task: &TaskResult, size: (f64, f64)) -> Drawing {
    let all = &task.candidates;
    let mut entries = [SteeringKind::Native, SteeringKind::Mapped].map(entry).to_vec();
    entries.push((LegendSign::Area("chosen", 1.0), "measured"));
    let native: Vec<f64> = all.iter().map(|candidate| candidate.native_slope).collect();
    let mapped: Vec<f64> = all.iter().map(|candidate| candidate.mapped_slope).collect();
    let slopes = native.iter().chain(&mapped).copied().chain([0.0]);
    let y = Axis::nice(slopes, 6, "slope (logits per alpha)");
    let x = Axis::between(0.5, all.len() as f64 + 0.5, 1, "layers, source \u{2192} target");
    let name = |c: &Candidate| fit(&layers(&c.source_layers, c.target_layer), SMALL, 80.0);
    let names: Vec<String> = all.iter().map(name).collect();
    let wide = widest(&names, SMALL);
    let turned = wide + 8.0 > (size.0 - 80.0) / all.len().max(1) as f64;
    let mut chart = Chart::new(size, [10.0, if turned { wide + 34.0 } else { 40.0 }], &entries, &x, &y);
    chart.layout.x_categories = Some(names);
    chart.layout.x_label_overlap = AxisLabelOverlap::Thin;
    chart.layout.x_tick_rotate = turned.then_some(-90.0);
    for (index, candidate) in all.iter().enumerate() {
        if (candidate.target_layer, &candidate.source_layers) == (task.target_layer, &task.source_layers) {
            chart.tint([index as f64 + 0.5, index as f64 + 1.5], "chosen", 0.75);
        }
    }
    chart.level(0.0, stroke("axis", 1.0, ""));
    let places: Vec<f64> = (1..=all.len()).map(|place| place as f64).collect();
    chart.curve(&places, &native, curve_style(SteeringKind::Native), true);
    chart.curve(&places, &mapped, curve_style(SteeringKind::Mapped), true);
    chart.draw().0
}
