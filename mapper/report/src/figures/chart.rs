//! Charts with two axes, by the plotting library, and the legend above.

use std::sync::Arc;

use kuva::plot::scatter::MarkerShape;
use kuva::plot::{BandPlot, LinePlot, LineStyle, ScatterPlot};
use kuva::render::color::Color;
use kuva::render::layout::{ComputedLayout, Layout, TickFormat};
use kuva::render::plots::Plot;
use kuva::render::render::{Primitive, render_multiple};
use kuva::render::render_utils::{auto_nice_range, compute_tick_step, generate_ticks};

use super::colours::css;
use super::drawing::{BEGIN, Drawing, SMALL, Stroke, fill, plain, stroke, text_width, widest};
use crate::number::{Digits, text};
use crate::result::SteeringKind;

/// Values are clamped to this size, since an axis can't resolve larger ones; measured values stay far below it.
const HUGE: f64 = 1e100;

/// The stroke, marker and name of a curve. No two kinds differ by colour alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CurveStyle {
    pub(super) stroke: Stroke,
    pub(super) marker: Option<MarkerShape>,
    pub(crate) name: &'static str,
}

/// The style of the curves of a kind of steering.
pub(crate) fn curve_style(kind: SteeringKind) -> CurveStyle {
    let style = |stroke, marker, name| CurveStyle { stroke, marker, name };
    match kind {
        SteeringKind::Unsteered => style(stroke("ink", 1.2, "1 3"), None, "unsteered"),
        SteeringKind::Native => style(stroke("native", 2.0, ""), Some(MarkerShape::Circle), "native"),
        SteeringKind::Mapped => style(stroke("mapped", 2.0, "7 3"), Some(MarkerShape::Diamond), "mapped"),
        SteeringKind::Unmapped => style(stroke("unmapped", 2.0, "2 3"), Some(MarkerShape::Triangle), "unmapped"),
        SteeringKind::MappedRandom => style(stroke("random", 2.0, "1 2"), Some(MarkerShape::Square), "mapped random"),
        SteeringKind::Prompted => style(stroke("unmapped", 1.5, "12 4"), None, "asked in the prompt"),
        SteeringKind::Random => style(stroke("random", 2.0, "9 3 2 3"), None, "random"),
    }
}

/// An axis with its name.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub low: f64,
    pub high: f64,
    pub name: &'static str,
    pub step: f64,
}

impl Axis {
    /// From `low` to `high`, with about `ticks` ticks.
    pub fn between(low: f64, high: f64, ticks: usize, name: &'static str) -> Self {
        Self {
            low,
            high,
            name,
            step: compute_tick_step(low, high, ticks),
        }
    }

    /// From the least value to the largest.
    pub fn tight(values: impl IntoIterator<Item = f64>, ticks: usize, name: &'static str) -> Self {
        let (low, high) = apart(ends(values));
        Self::between(low, high, ticks, name)
    }

    /// From and to a tick.
    pub fn nice(values: impl IntoIterator<Item = f64>, ticks: usize, name: &'static str) -> Self {
        let (low, high) = apart(ends(values));
        let (low, high) = auto_nice_range(low, high, ticks);
        Self::between(low, high, ticks, name)
    }

    /// The width of the widest label.
    pub fn labels(&self) -> f64 {
        let mut ticks = generate_ticks(self.low, self.high, 6);
        ticks.extend([self.low, self.high]);
        let labels = ticks.into_iter().map(|tick| tick_label(tick, self.step));
        widest(&labels.collect::<Vec<_>>(), SMALL).max(16.0)
    }

    /// A value, clamped to the axis.
    pub fn inside(&self, value: f64) -> f64 {
        value.clamp(self.low, self.high)
    }
}

/// A tick's label: as many decimals as the ticks' distance needs.
fn tick_label(value: f64, step: f64) -> String {
    let whole = |decimals: &usize| {
        let scaled = step * 10f64.powi(*decimals as i32);
        scaled >= 0.5 && (scaled - scaled.round()).abs() < 1e-6 * scaled
    };
    match (0..6).find(whole) {
        Some(decimals) if value.abs() < 1e6 => text(value, Digits::Fixed(decimals)),
        _ => text(value, Digits::Auto),
    }
}

/// The least and the largest of the finite values; 0 and 1 if there are none.
pub(super) fn ends(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let values = values.into_iter().filter(|value| value.is_finite());
    let ends = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value.max(-HUGE)), high.max(value.min(HUGE)))
    });
    if ends.0 > ends.1 { (0.0, 1.0) } else { ends }
}

/// The range, widened if its length is nearly 0.
fn apart((low, high): (f64, f64)) -> (f64, f64) {
    let size = high.abs().max(low.abs());
    let short = high - low < (size * 1e-6).max(1e-9);
    let half = f64::from(u8::from(short)) * (size * 0.1).max(0.5);
    (low - half, high + half)
}

/// A chart under construction; what is added first is drawn lowest.
pub(super) struct Chart {
    pub layout: Layout,
    plots: Vec<Plot>,
    legend: Drawing,
}

impl Chart {
    /// With its legend, if there are entries; `top` and `bottom` are the space for more.
    pub fn new(size: (f64, f64), [top, bottom]: [f64; 2], entries: &[(LegendSign, &str)], x: &Axis, y: &Axis) -> Self {
        let legend = legend(size.0 - 8.0, entries);
        let format = |step: f64| TickFormat::Custom(Arc::new(move |value| tick_label(value, step)));
        let mut layout = Layout::new((x.low, x.high), (y.low, y.high))
            .with_width(size.0)
            .with_height(size.1)
            .with_force_margins(
                y.labels() + if y.name.is_empty() { 12.0 } else { 32.0 },
                // Half of the last label is to the right of the axis.
                (x.labels() / 2.0 + 2.0).max(14.0),
            )
            .with_force_margins_y(legend.scene.height + top, bottom)
            .with_x_tick_step(x.step)
            .with_y_tick_step(y.step)
            .with_x_tick_format(format(x.step))
            .with_y_tick_format(format(y.step))
            .with_tick_size(SMALL)
            .with_label_size(SMALL)
            .with_tick_length(4.0);
        let theme = &mut layout.theme;
        (theme.axis_color, theme.grid_color, theme.tick_color) = (css("axis"), css("grid"), css("axis"));
        (layout.x_axis_min, layout.x_axis_max) = (Some(x.low), Some(x.high));
        (layout.y_axis_min, layout.y_axis_max) = (Some(y.low), Some(y.high));
        let name = |axis: &Axis| (!axis.name.is_empty()).then(|| axis.name.to_string());
        (layout.x_label, layout.y_label) = (name(x), name(y));
        Self {
            layout,
            plots: Vec::new(),
            legend,
        }
    }

    /// A chart of named rows of a height, from the top, `right` of which there is space for more. The middle of row `i`
    /// is at `rows - i`.
    pub fn of_rows(
        wide: f64,
        tall: f64,
        right: f64,
        entries: &[(LegendSign, &str)],
        x: &Axis,
        names: &[String],
    ) -> Self {
        let rows = names.len() as f64;
        let left = widest(names, 12) + 16.0;
        let mut chart = Self::new(
            (left + wide + right, 0.0),
            [8.0, 38.0],
            entries,
            x,
            &Axis::between(0.5, rows + 0.5, 1, ""),
        );
        let layout = &mut chart.layout;
        layout.height = Some(chart.legend.scene.height + 46.0 + rows * tall);
        (layout.force_margin_left, layout.force_margin_right) = (Some(left), Some(right));
        layout.y_categories = Some(names.iter().rev().map(|name| plain(name)).collect());
        for tick in generate_ticks(x.low, x.high, 6) {
            chart.upright(tick, stroke("grid", 1.0, ""));
        }
        chart
    }

    /// A rectangle.
    pub fn block(&mut self, xs: [f64; 2], [low, high]: [f64; 2], colour: &str, opacity: f64) {
        self.band(&xs, &[low; 2], &[high; 2], colour, opacity);
    }

    /// A rectangle over the whole height of the data's area.
    pub fn tint(&mut self, xs: [f64; 2], colour: &str, opacity: f64) {
        self.block(xs, self.layout.y_range.into(), colour, opacity);
    }

    pub fn line(&mut self, points: impl IntoIterator<Item = (f64, f64)>, stroke: Stroke) {
        let mut line = LinePlot::new().with_data(finite(points));
        (line.color, line.stroke_width) = (css(stroke.colour), stroke.width);
        if !stroke.dash.is_empty() {
            line.line_style = LineStyle::Custom(stroke.dash.to_string());
        }
        self.plots.push(line.into());
    }

    /// A line over the whole width of the data's area.
    pub fn level(&mut self, y: f64, stroke: Stroke) {
        let (low, high) = self.layout.x_range;
        self.line([(low, y), (high, y)], stroke);
    }

    /// A line over the whole height of the data's area.
    pub fn upright(&mut self, x: f64, stroke: Stroke) {
        let (low, high) = self.layout.y_range;
        self.line([(x, low), (x, high)], stroke);
    }

    pub fn markers(&mut self, points: Vec<(f64, f64)>, shape: MarkerShape, size: f64, colour: &str) {
        let mut markers = ScatterPlot::new().with_data(finite(points));
        (markers.marker, markers.size, markers.color) = (shape, size, css(colour));
        self.plots.push(markers.into());
    }

    /// A curve as its vector looks, with its markers if `marked` (a single point has no line).
    pub fn curve(&mut self, xs: &[f64], ys: &[f64], style: CurveStyle, marked: bool) {
        let CurveStyle { stroke, marker, .. } = style;
        self.line(pairs(xs, ys), stroke);
        if let Some(marker) = marker.filter(|_| marked || xs.len() < 2) {
            self.markers(pairs(xs, ys), marker, 2.8, stroke.colour);
        }
    }

    /// The area between two curves, filled.
    pub fn band(&mut self, xs: &[f64], low: &[f64], high: &[f64], colour: &str, opacity: f64) {
        let (low, high) = (finite(pairs(xs, low)), finite(pairs(xs, high)));
        if low.len() == high.len() {
            let mut band = BandPlot::new::<f64, f64, f64, _, _, _>([], [], []);
            (band.x, band.y_lower) = low.into_iter().unzip();
            band.y_upper = high.into_iter().map(|point| point.1).collect();
            (band.color, band.opacity) = (fill(colour), opacity);
            self.plots.push(band.into());
        }
    }

    /// The area between two curves, as its two edges.
    pub fn edges(&mut self, xs: &[f64], low: &[f64], high: &[f64], stroke: Stroke) {
        for edge in [low, high] {
            self.line(pairs(xs, edge), stroke);
        }
    }

    /// The drawing, and where data are in it.
    pub fn draw(self) -> (Drawing, ComputedLayout) {
        let frame = ComputedLayout::from_layout(&self.layout);
        let rows = self.layout.y_categories.is_some();
        let mut scene = render_multiple(self.plots, self.layout);
        // Without the upright axis and its ticks: the grid is enough. Data are inside as they are, so nothing is
        // clipped.
        scene.elements.retain(|element| match element {
            Primitive::Line { x2, .. } => *x2 != frame.margin_left,
            element => !matches!(element, Primitive::ClipStart { .. } | Primitive::ClipEnd),
        });
        scene.defs.clear();
        for element in scene.elements.iter_mut().filter(|_| rows) {
            if let Primitive::Text { color, .. } = element {
                color.get_or_insert(Color::from(css("ink")));
            }
        }
        let mut drawing = Drawing { scene };
        drawing.place((8.0, 0.0), self.legend);
        (drawing, frame)
    }
}

fn pairs(xs: &[f64], ys: &[f64]) -> Vec<(f64, f64)> {
    xs.iter().copied().zip(ys.iter().copied()).collect()
}

fn finite(points: impl IntoIterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let points = points.into_iter().filter(|(x, y)| x.is_finite() && y.is_finite());
    points.map(|(x, y)| (x, y.clamp(-HUGE, HUGE))).collect()
}

/// A sign in a legend.
#[derive(Clone, Copy)]
pub(super) enum LegendSign {
    /// A line and its marker.
    Line(Stroke, Option<MarkerShape>),
    /// An area of colour.
    Area(&'static str, f64),
    /// Two edges.
    Edges(Stroke),
    /// A diamond, filled or hollow.
    Diamond(&'static str, bool),
    /// A square.
    Square(&'static str),
}

/// The sign and the name of a kind of vector.
pub(super) fn entry(kind: SteeringKind) -> (LegendSign, &'static str) {
    let CurveStyle { stroke, marker, name } = curve_style(kind);
    (LegendSign::Line(stroke, marker), name)
}

/// Rows of signs and names from the left, wrapped at `width`.
pub(super) fn legend(width: f64, entries: &[(LegendSign, &str)]) -> Drawing {
    let mut drawing = Drawing::new(width, 0.0);
    let (mut x, mut y) = (0.0, 0.0);
    for &(sign, name) in entries {
        let space = 32.0 + text_width(name, SMALL) + 12.0;
        if x > 0.0 && x + space > width {
            (x, y) = (0.0, y + 17.0);
        }
        let middle = y + 8.0;
        let centre = (x + 13.0, middle);
        let square = (centre.0 - 3.0, middle - 3.0);
        match sign {
            LegendSign::Line(stroke, marker) => {
                drawing.line((x, middle), (x + 26.0, middle), stroke);
                match marker {
                    Some(MarkerShape::Diamond) => drawing.regular(centre, 4.2, 4, stroke.colour),
                    Some(MarkerShape::Triangle) => drawing.regular(centre, 4.2, 3, stroke.colour),
                    Some(_) => drawing.regular(centre, 3.2, 16, stroke.colour),
                    None => {}
                }
            }
            LegendSign::Area(colour, opacity) => drawing.rect((x, middle - 5.0), (26.0, 10.0), colour, opacity),
            LegendSign::Edges(stroke) => {
                drawing.line((x, y + 3.5), (x + 26.0, y + 3.5), stroke);
                drawing.line((x, y + 12.5), (x + 26.0, y + 12.5), stroke);
            }
            LegendSign::Diamond(colour, hollow) => drawing.diamond(centre, 6.0, colour, hollow),
            LegendSign::Square(colour) => drawing.rect(square, (6.0, 6.0), colour, 1.0),
        }
        drawing.text((x + 32.0, middle + 4.0), name, BEGIN);
        x += space;
    }
    drawing.scene.height = if entries.is_empty() { 0.0 } else { y + 17.0 };
    drawing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_take_whatever_comes() {
        for values in [
            vec![],
            vec![f64::NAN],
            vec![0.0],
            vec![3.0, 3.0],
            vec![-1e300, 1e300],
            vec![1e-300, 2e-300],
            vec![5.0, f64::INFINITY],
        ] {
            for axis in [Axis::nice(values.clone(), 5, ""), Axis::tight(values.clone(), 5, "")] {
                assert!(axis.low < axis.high && axis.step > 0.0, "{values:?}: {axis:?}");
                assert!((axis.high - axis.low).is_finite(), "{values:?}: {axis:?}");
                assert!(axis.labels() < 100.0, "{values:?}: {axis:?}");
            }
        }
    }

    #[test]
    fn ticks_have_the_decimals_that_they_need() {
        assert_eq!(tick_label(0.5, 0.5), "0.5");
        assert_eq!(tick_label(-1.0, 0.25), "\u{2212}1.00");
        assert_eq!(tick_label(20.0, 10.0), "20");
        assert_eq!(tick_label(1.5, 2.5), "1.5");
        assert_eq!(tick_label(2e9, 1e9), "2.00e9");
    }
}
