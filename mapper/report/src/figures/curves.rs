//! Propensity and perplexity against alpha.

use super::chart::{Axis, Chart, LegendSign, curve_style, ends, entry, legend};
use super::drawing::{BEGIN, Drawing, HATCH, MIDDLE, SMALL, Stroke, fit, stroke};
use crate::result::{SteeringKind, TaskResult, TextSetting};

/// The edges of the mapped vector's band.
const EDGE: Stroke = stroke("mapped", 1.0, "1 2");
const ALPHA: &str = "alpha (mean norms of the stream)";
const PROPENSITY: &str = "mean propensity (logits)";

fn entries(tasks: &[TaskResult]) -> Vec<(LegendSign, &'static str)> {
    let curves = || tasks.iter().flat_map(|task| &task.curves);
    let used = |kind: &SteeringKind| curves().any(|curve| curve.kind == *kind);
    let kinds = [SteeringKind::Native, SteeringKind::Mapped, SteeringKind::Unmapped]
        .into_iter()
        .filter(used);
    let mut entries: Vec<_> = kinds.map(entry).collect();
    entries.push((LegendSign::Area("native", 0.22), "native, 95%"));
    entries.push((LegendSign::Edges(EDGE), "mapped, 95%"));
    if tasks.iter().any(|task| !task.random.alphas.is_empty()) {
        entries.push((LegendSign::Area(HATCH, 0.55), "95% of random directions"));
    }
    entries.push(entry(SteeringKind::Unsteered));
    entries
}

/// The curves of one task. `full`: with legend, markers and names of axes; else a small panel.
pub(super) fn curves(task: &TaskResult, size: (f64, f64), full: bool) -> Drawing {
    let (alphas, random) = (&task.alphas, &task.random);
    let curves = task.curves.iter();
    let values = curves.flat_map(|curve| [&curve.mean, &curve.low, &curve.high]);
    let values = values.chain([&random.low, &random.high]).flatten();
    let values = values.chain([&task.unsteered.value]).copied();
    let (names, ticks, bottom, tasks) = if full {
        ([ALPHA, PROPENSITY], [8, 6], 40.0, std::slice::from_ref(task))
    } else {
        ([""; 2], [4; 2], 24.0, &[][..])
    };
    let x = Axis::tight(alphas.iter().copied(), ticks[0], names[0]);
    let y = Axis::nice(values, ticks[1], names[1]);
    let entries = if full { entries(tasks) } else { Vec::new() };
    let mut chart = Chart::new(size, [10.0, bottom], &entries, &x, &y);
    chart.upright(x.inside(0.0), stroke("line", 1.2, ""));
    chart.level(y.inside(0.0), stroke("line", 1.2, ""));
    chart.band(&random.alphas, &random.low, &random.high, HATCH, 0.55);
    chart.edges(&random.alphas, &random.low, &random.high, stroke("random", 0.8, ""));
    chart.level(task.unsteered.value, curve_style(SteeringKind::Unsteered).stroke);
    for curve in &task.curves {
        match curve.kind {
            SteeringKind::Native => chart.band(alphas, &curve.low, &curve.high, "native", 0.22),
            SteeringKind::Mapped => chart.edges(alphas, &curve.low, &curve.high, EDGE),
            _ => {}
        }
    }
    for curve in &task.curves {
        chart.curve(alphas, &curve.mean, curve_style(curve.kind), full);
    }
    chart.draw().0
}

/// The curves of all tasks in one figure.
pub(super) fn small_multiples(tasks: &[TaskResult]) -> Drawing {
    let columns = match tasks.len() {
        0 | 1 => 1,
        2 | 4 => 2,
        3 | 5..=9 => 3,
        _ => 4,
    };
    let (panel, across, down) = ((290.0, 190.0), 306.0, 218.0);
    let width = columns as f64 * across - 16.0;
    let legend = legend(width - 16.0, &entries(tasks));
    let top = legend.scene.height + 12.0;
    let mut all = Drawing::new(width, top + tasks.len().div_ceil(columns) as f64 * down + 18.0);
    all.place((8.0, 2.0), legend);
    for (index, task) in tasks.iter().enumerate() {
        let (x, y) = ((index % columns) as f64 * across, top + (index / columns) as f64 * down);
        let (more, colour, room) = if task.native_steers.steers {
            ("", "ink", 270.0)
        } else {
            (" (native does not steer)", "muted", 100.0)
        };
        let name = format!("{}{more}", fit(&task.name, 13, room));
        all.text((x + 8.0, y + 15.0), &name, BEGIN.of(13, colour, true));
        all.place((x, y + 22.0), curves(task, panel, false));
    }
    let foot = format!("Across: {ALPHA}. Up: {PROPENSITY}.");
    all.text((8.0, all.scene.height - 6.0), &fit(&foot, SMALL, width), BEGIN);
    all
}

/// The scores of the generated texts of all prompts against alpha.
pub(super) fn scores(task: &TaskResult, size: (f64, f64)) -> Drawing {
    let settings = task.generation.iter().flat_map(|generation| &generation.settings);
    let of = |kind: SteeringKind| settings.clone().filter(move |setting| setting.kind == kind);
    let score = |setting: &TextSetting| {
        let halves = [setting.finding, setting.measuring];
        let texts: usize = halves.iter().map(|scores| scores.texts).sum();
        halves
            .map(|scores| scores.score * scores.texts as f64)
            .iter()
            .sum::<f64>()
            / texts.max(1) as f64
    };
    let kinds = [
        SteeringKind::Native,
        SteeringKind::Mapped,
        SteeringKind::MappedRandom,
        SteeringKind::Unsteered,
        SteeringKind::Prompted,
    ];
    let used: Vec<SteeringKind> = kinds.into_iter().filter(|&kind| of(kind).next().is_some()).collect();
    let entries: Vec<_> = used.iter().map(|&kind| entry(kind)).collect();
    let x = Axis::tight(settings.clone().map(|setting| setting.alpha), 8, ALPHA);
    let y = Axis::nice(settings.clone().map(score).chain([0.0]), 6, "score of texts (0 to 1)");
    let mut chart = Chart::new(size, [10.0, 40.0], &entries, &x, &y);
    for kind in used {
        let points: Vec<(f64, f64)> = of(kind).map(|setting| (setting.alpha, score(setting))).collect();
        let (alphas, values): (Vec<f64>, Vec<f64>) = points.into_iter().unzip();
        match kind {
            SteeringKind::Unsteered | SteeringKind::Prompted => {
                chart.level(y.inside(values[0]), curve_style(kind).stroke)
            }
            _ => chart.curve(&alphas, &values, curve_style(kind), true),
        }
    }
    chart.draw().0
}

/// Perplexity with the native and the mapped vector against alpha, and what the budget allows.
pub(super) fn perplexity(task: &TaskResult, budget: f64, size: (f64, f64)) -> Drawing {
    let perplexity = &task.perplexity;
    let (limit, budget) = (perplexity.unsteered * budget, stroke("bad", 1.5, "12 4"));
    let mut entries = [SteeringKind::Native, SteeringKind::Mapped, SteeringKind::Unsteered]
        .map(entry)
        .to_vec();
    entries.push((LegendSign::Line(budget, None), "budget"));
    let curves = [
        (SteeringKind::Native, &perplexity.native),
        (SteeringKind::Mapped, &perplexity.mapped),
    ];
    let values = curves.iter().flat_map(|(_, values)| values.iter());
    let values = values.chain([&perplexity.unsteered, &limit]);
    // Far above, a curve is at the edge.
    let most = limit.max(perplexity.unsteered) * 1e4;
    let (low, high) = ends(
        values
            .copied()
            .filter(|value| *value > 0.0)
            .map(|value| value.min(most)),
    );
    // A short range has no ticks on a logarithmic axis.
    let logarithmic = high > 8.0 * low;
    let y = if logarithmic {
        Axis::between(low * 0.9, high * 1.1, 6, "perplexity (logarithmic)")
    } else {
        Axis::nice([low, high], 6, "perplexity")
    };
    let x = Axis::tight(perplexity.alphas.iter().copied(), 8, ALPHA);
    // Above is room for a word.
    let mut chart = Chart::new(size, [20.0, 40.0], &entries, &x, &y);
    if logarithmic {
        (chart.layout.log_y, chart.layout.y_tick_step) = (true, None);
    }
    chart.level(perplexity.unsteered, curve_style(SteeringKind::Unsteered).stroke);
    chart.level(limit, budget);
    let proposed = task.proposal.as_ref().map(|proposal| proposal.alpha);
    let proposed = proposed.filter(|alpha| x.inside(*alpha) == *alpha);
    if let Some(alpha) = proposed {
        chart.upright(alpha, stroke("good", 1.5, "3 3"));
    }
    for (kind, values) in curves {
        let values: Vec<f64> = values.iter().map(|value| y.inside(*value)).collect();
        chart.curve(&perplexity.alphas, &values, curve_style(kind), true);
    }
    let (mut drawing, frame) = chart.draw();
    if let Some(alpha) = proposed {
        let at = frame.map_x(alpha).clamp(frame.margin_left + 28.0, size.0 - 34.0);
        let font = MIDDLE.of(SMALL, "good", false);
        drawing.text((at, frame.margin_top - 5.0), "proposed", font);
    }
    drawing
}
