//! The figures: drawings by the plotting library, as SVG for the page and as PNG.

mod boxes;
mod chart;
pub(crate) mod colours;
mod curves;
mod drawing;
mod forest;
mod heat_map;
mod layers;
mod png;

use anyhow::{Context, Result};
use maud::Markup;

pub(crate) use chart::curve_style;
use drawing::Drawing;
pub(crate) use forest::outcome;

use crate::result::{Evaluation, TaskResult};
use crate::wording::texts;

/// Pixels of a PNG per unit of its figure.
const SCALE: f64 = 1.6;
/// Size of a task's own figures.
const SIZE: (f64, f64) = (440.0, 290.0);

/// A figure of the report.
#[derive(Debug)]
pub struct Figure {
    /// Short name, for files and links.
    pub name: String,
    /// What it shows, in a few words.
    pub title: String,
    /// Alternative text: what kind of figure it is, and where its numbers are.
    pub alt: &'static str,
    /// How to read it.
    pub caption: &'static str,
    drawing: Drawing,
}

impl Figure {
    /// Width in CSS pixels at its natural size.
    pub fn width(&self) -> f64 {
        self.drawing.scene.width
    }

    /// As SVG, of which the colours are CSS variables of the report's page.
    pub fn svg(&self) -> String {
        self.markup("").into_string()
    }

    /// As a PNG, in the light theme.
    ///
    /// # Errors
    ///
    /// It can't be drawn.
    pub fn png(&self) -> Result<Vec<u8>> {
        png::png(&self.svg(), SCALE).with_context(|| format!("figure {}", self.name))
    }

    /// As SVG with a style of its element.
    pub(crate) fn markup(&self, style: &str) -> Markup {
        self.drawing.svg(&self.name, &self.title, self.alt, style)
    }
}

/// The main figures. Figures of parts that were not measured are left out.
pub fn figures(evaluation: &Evaluation) -> Vec<Figure> {
    let all = all(evaluation).into_iter();
    all.filter(|figure| figure.name != "side-effects-native").collect()
}

/// The main figures, and the side effects of the native vectors.
pub(crate) fn all(evaluation: &Evaluation) -> Vec<Figure> {
    let (tasks, representation) = (&evaluation.tasks, &evaluation.representation);
    let pairs = !representation.pairs.is_empty();
    let effects = tasks.iter().any(|task| !task.side_effects.is_empty());
    let mut list = FigureList::default();
    list.add(!tasks.is_empty(), "retention", || forest::forest(evaluation));
    list.add(!tasks.is_empty(), "propensity", || curves::small_multiples(tasks));
    let layers = || layers::of_all(evaluation, (640.0, 400.0));
    list.add(!evaluation.summary.layers.is_empty(), "layers", layers);
    list.add(pairs, "r2", || heat_map::r2(evaluation));
    list.add(pairs, "r2-spread", || boxes::boxes(&representation.pairs));
    let cka = representation.cka.iter().any(|row| !row.is_empty());
    list.add(cka, "cka", || heat_map::cka(evaluation));
    list.add(effects, "side-effects-native", || heat_map::side_effects(tasks, false));
    list.add(effects, "side-effects", || heat_map::side_effects(tasks, true));
    list.all
}

/// The figures of one task; `index` is its place among all.
pub(crate) fn of_task(evaluation: &Evaluation, task: &TaskResult, index: usize) -> Vec<Figure> {
    let run = &evaluation.run;
    let (of, all) = (format!(": {}", task.name), Vec::new());
    let mut list = FigureList {
        of,
        all,
        index: Some(index),
    };
    let layers = || layers::of_task(&run.protocol, task, (SIZE.0, 330.0));
    let perplexity = || curves::perplexity(task, run.perplexity_budget, SIZE);
    list.add(true, "task-curves", || curves::curves(task, SIZE, true));
    list.add(!task.layers.is_empty(), "task-layers", layers);
    list.add(!task.perplexity.alphas.is_empty(), "task-perplexity", perplexity);
    let scores = || curves::scores(task, SIZE);
    list.add(task.generation.is_some(), "task-texts", scores);
    let candidates = || layers::candidates(task, SIZE);
    list.add(!task.candidates.is_empty(), "task-candidates", candidates);
    list.all
}

/// Figures, with what is added to their titles and names.
#[derive(Default)]
struct FigureList {
    of: String,
    index: Option<usize>,
    all: Vec<Figure>,
}

impl FigureList {
    fn add(&mut self, measured: bool, key: &str, drawing: impl FnOnce() -> Drawing) {
        if measured {
            let [title, alt, caption] = texts(key);
            let name = self.index.map(|index| key.replacen('-', &format!("-{index}-"), 1));
            let (name, title) = (name.unwrap_or(key.to_string()), format!("{title}{}", self.of));
            let drawing = drawing();
            self.all.push(Figure {
                name,
                title,
                alt,
                caption,
                drawing,
            });
        }
    }
}
