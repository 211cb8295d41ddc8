//! How R² spreads over the dimensions, pair by pair.

use super::chart::{Axis, Chart, LegendSign, ends};
use super::drawing::{Drawing, fit, stroke};
use crate::number::layers;
use crate::result::PairResult;

/// One row a pair: 5 to 95% as a line, 25 to 75% as a box, the median as a bar, R² over all dimensions as a diamond. A
/// dimension that is predicted worse than -1 tells no more: the axis ends there.
pub(super) fn boxes(pairs: &[PairResult]) -> Drawing {
    let name = |pair: &PairResult| fit(&layers(&pair.source_layers, pair.target_layer), 12, 150.0);
    let names: Vec<String> = pairs.iter().map(name).collect();
    let (low, _) = ends(pairs.iter().map(|pair| pair.r2_quantiles[0].min(pair.r2)));
    let x = Axis::between(if low < 0.0 { low.max(-1.0) - 0.04 } else { 0.0 }, 1.0, 6, "R\u{b2}");
    let entries = [
        (LegendSign::Diamond("mapped", false), "all dimensions at once"),
        (LegendSign::Area("native", 0.35), "by dimension: 5, 25, 50, 75, 95%"),
    ];
    let mut chart = Chart::of_rows(390.0, 20.0, 16.0, &entries, &x, &names);
    chart.upright(0.0, stroke("axis", 1.0, ""));
    for (row, pair) in pairs.iter().enumerate() {
        let y = (pairs.len() - row) as f64;
        let [least, lower, median, upper, most] = pair.r2_quantiles.map(|value| x.inside(value));
        chart.line([(least, y), (most, y)], stroke("native", 1.5, ""));
        chart.block([lower, upper], [y - 0.26, y + 0.26], "bg", 1.0);
        chart.block([lower, upper], [y - 0.26, y + 0.26], "native", 0.35);
        chart.line([(median, y - 0.36), (median, y + 0.36)], stroke("native", 2.5, ""));
    }
    let (mut drawing, frame) = chart.draw();
    for (row, pair) in pairs.iter().enumerate() {
        let y = frame.map_y((pairs.len() - row) as f64);
        drawing.diamond((frame.map_x(x.inside(pair.r2)), y), 4.6, "mapped", false);
        if pair.r2_quantiles[0] < x.low {
            drawing.arrow((frame.margin_left, y), -1.0, "native");
        }
    }
    drawing
}
