//! Heat maps: R² of the fitted pairs, CKA of all layers, side effects of tasks on tasks.

use super::colours::{STEPS, step};
use super::drawing::{BEGIN, Drawing, END, MIDDLE, SMALL, fit, text_width, widest};
use crate::number::{Digits, text};
use crate::result::{Evaluation, PairResult, TaskResult};
use steermap_maps::map::spell_source_layers;

/// A table of coloured cells. Where nothing was measured, the ground shows.
struct HeatMap {
    rows: Vec<String>,
    columns: Vec<String>,
    /// The names of the rows, of the columns, of the colours, and of an empty cell.
    names: [&'static str; 4],
    low: f64,
    high: f64,
}

/// Width of all cells together that is aimed at, and least width of one that has its number in it.
const WIDTHS: [f64; 2] = [620.0, 34.0];
/// Most cells that have their numbers in them.
const MOST_NUMBERS: usize = 400;
/// Longest name of a row or column.
const NAME: f64 = 130.0;
/// Width of the scale.
const SCALE: f64 = 156.0;

impl HeatMap {
    fn draw(self, cell: impl Fn(usize, usize) -> Option<f64>) -> Drawing {
        let (low, high, [of_rows, of_columns, scale, empty]) = (self.low, self.high, self.names);
        let (rows, columns) = (self.rows.len(), self.columns.len());
        // From 0, or to either side of it.
        let (ramp, digits) = if low < 0.0 { ("div", 1) } else { ("seq", 2) };
        let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let cells = cells.filter_map(|(row, column)| Some((row, column, cell(row, column)?)));
        let cells: Vec<(usize, usize, f64)> = cells.collect();
        let width = (WIDTHS[0] / columns.max(1) as f64).clamp(7.0, 46.0);
        let numbered = width >= WIDTHS[1] && cells.len() <= MOST_NUMBERS;
        let height = if numbered { 24.0 } else { (width * 0.8).clamp(6.0, 20.0) };
        let column_names = widest(&self.columns, SMALL).clamp(10.0, NAME);
        let stride = (24.0 / width).ceil() as usize;
        let slanted = column_names > width * stride as f64 - 2.0;
        // Slanted names of the last columns reach beyond the cells.
        let lean = if slanted { column_names * 0.72 } else { 0.0 };
        let left = widest(&self.rows, SMALL).clamp(10.0, NAME) + 32.0;
        let (top, size) = (42.0 + lean, (width * columns as f64, height * rows as f64));
        let key = text_width(scale, SMALL) + SCALE + 90.0 + text_width(empty, SMALL);
        let mut drawing = Drawing::new(left + (size.0 + lean + 10.0).max(key), top + size.1 + 58.0);
        for &(row, column, value) in &cells {
            let (x, y) = (left + width * column as f64, top + height * row as f64);
            let step = step(value, low, high);
            let colour = format!("{ramp}-{step}");
            drawing.rect((x + 0.5, y + 0.5), (width - 1.0, height - 1.0), &colour, 1.0);
            if numbered {
                let (ink, shown) = (format!("{ramp}-ink-{step}"), text(value, Digits::Fixed(digits)));
                let at = (x + width / 2.0, y + height / 2.0 + 4.0);
                drawing.number(at, &shown, value, MIDDLE.of(SMALL, &ink, false));
            }
        }
        drawing.frame((left, top), size, "line");
        let names = self.rows.iter().enumerate();
        for (row, name) in names.step_by((12.0 / height).ceil() as usize) {
            let at = (left - 7.0, top + height * (row as f64 + 0.5) + 4.0);
            drawing.text(at, &fit(name, SMALL, NAME), END);
        }
        let font = if slanted { BEGIN.turned(-45.0) } else { MIDDLE };
        for (column, name) in self.columns.iter().enumerate().step_by(stride) {
            let at = (left + width * (column as f64 + 0.5), top - 6.0);
            drawing.text(at, &fit(name, SMALL, NAME), font);
        }
        drawing.text((left + size.0 / 2.0, 13.0), of_columns, MIDDLE);
        drawing.text((12.0, top + size.1 / 2.0), of_rows, MIDDLE.turned(-90.0));

        let y = top + size.1 + 16.0;
        drawing.text((left, y + 10.0), scale, BEGIN);
        let (x, one) = (left + text_width(scale, SMALL) + 10.0, SCALE / STEPS as f64);
        for step in 0..STEPS {
            let corner = (x + one * step as f64, y);
            drawing.rect(corner, (one + 0.3, 12.0), &format!("{ramp}-{step}"), 1.0);
        }
        drawing.frame((x, y), (SCALE, 12.0), "line");
        let ends = [(low, BEGIN, 0.0), ((low + high) / 2.0, MIDDLE, 0.5), (high, END, 1.0)];
        for (value, font, to) in ends {
            drawing.text((x + SCALE * to, y + 26.0), &text(value, Digits::Fixed(1)), font);
        }
        if cells.len() < rows * columns {
            drawing.frame((x + SCALE + 18.0, y), (22.0, 12.0), "line");
            drawing.text((x + SCALE + 46.0, y + 10.0), empty, BEGIN);
        }
        drawing
    }
}

/// Of layers on layers, from 0 to 1.
fn of_layers(rows: Vec<String>, columns: Vec<String>, [scale, empty]: [&'static str; 2]) -> HeatMap {
    let names = ["source layer", "target layer", scale, empty];
    let (low, high) = (0.0, 1.0);
    HeatMap {
        rows,
        columns,
        names,
        low,
        high,
    }
}

/// R² of every fitted pair. Layers without any have no row or column: a map of few pairs is a small table.
pub(super) fn r2(evaluation: &Evaluation) -> Drawing {
    let pairs = &evaluation.representation.pairs;
    let mut rows: Vec<&[usize]> = pairs.iter().map(|pair| &pair.source_layers[..]).collect();
    // Pairs of several source layers come last.
    rows.sort_by_key(|layers| (layers.len(), *layers));
    rows.dedup();
    let mut columns: Vec<usize> = pairs.iter().map(|pair| pair.target_layer).collect();
    columns.sort_unstable();
    columns.dedup();
    let row_names = rows.iter().map(|layers| spell_source_layers(layers)).collect();
    let column_names = columns.iter().map(usize::to_string).collect();
    of_layers(row_names, column_names, ["R\u{b2}", "not fitted"]).draw(|row, column| {
        let here = |pair: &&PairResult| (&pair.source_layers[..], pair.target_layer) == (rows[row], columns[column]);
        pairs.iter().find(here).map(|pair| pair.r2)
    })
}

/// CKA of every source layer with every target layer.
pub(super) fn cka(evaluation: &Evaluation) -> Drawing {
    let cka = &evaluation.representation.cka;
    let columns = cka.iter().map(Vec::len).max().unwrap_or(0);
    let names = |count: usize| (0..count).map(|layer| layer.to_string()).collect();
    let map = of_layers(names(cka.len()), names(columns), ["CKA", "not measured"]);
    map.draw(|row, column| cka[row].get(column).copied())
}

/// The effect of steering for the row's task on the column's, with the native or the mapped vector.
pub(super) fn side_effects(tasks: &[TaskResult], mapped: bool) -> Drawing {
    let rows: Vec<String> = tasks.iter().map(|task| task.name.clone()).collect();
    // One scale for both vectors, so that the figures can be compared.
    let effects = tasks.iter().flat_map(|task| &task.side_effects);
    let sizes = effects.flat_map(|effect| [effect.native.abs(), effect.mapped.abs()]);
    let most = sizes.filter(|size| size.is_finite()).fold(0.0, f64::max);
    let high = if most > 0.0 { most } else { 1.0 };
    let names = ["steered for", "measured", "change (logits)", "not measured"];
    let (columns, low) = (rows.clone(), -high);
    HeatMap {
        rows,
        columns,
        names,
        low,
        high,
    }
    .draw(|row, column| {
        let mut effects = tasks[row].side_effects.iter();
        let effect = effects.find(|effect| effect.task == tasks[column].name)?;
        Some(if mapped { effect.mapped } else { effect.native })
    })
}
