//! An evaluation as people read it: one HTML page that needs nothing else, the same as JSON, and PNGs of its main figures.
//!
//! | module | role |
//! | --- | --- |
//! | `page` | the HTML page, section by section, and its style |
//! | `charts` | the figures' drawings |
//! | `svg`, `axis`, `theme`, `number` | what they stand on: shapes and text, ticks, colours of both themes, rounding |
//! | `png`, `json` | the other two forms |
//!
//! The page runs no script and asks the network for nothing, which its content security policy states too. Every number of
//! it is one of the JSON, rounded; the element that shows it has the unrounded one in `data-value`. Every text that comes
//! from a file is escaped. Figures name colours by CSS variables, so that they follow the reader's theme.

mod axis;
mod charts;
mod json;
mod number;
mod page;
mod png;
mod svg;
mod theme;

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use steermap_maps::atomic;

use crate::eval::result::Evaluation;
use svg::Drawing;

pub use page::html;
pub use png::png;

/// What the paper reports, to stand beside this pair's figures.
mod paper {
    /// Which paper.
    pub const NAME: &str = "the paper (arXiv 2506.00653)";
    /// The same with room to break, for the page.
    pub const NAME_IN_TABLE: &str = "The paper<span class=\"more\">arXiv 2506.00653</span>";
    /// Its range of Pearson correlations.
    pub const PEARSON: &str = "0.73 to 0.98";
    /// Its range of mean squared errors.
    pub const MSE: &str = "0.005 to 0.096";
}

/// Pixels of a PNG per unit of its figure.
const PNG_SCALE: f64 = 1.6;

/// A figure, ready for a page of its own or for a PNG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Short name, for files.
    pub name: String,
    /// What it shows, in a few words.
    pub title: String,
    /// The drawing. Its colours are CSS variables of the report's page.
    pub svg: String,
    /// What it shows, for those who can't see it.
    pub alt: String,
}

/// A figure before it is an SVG.
struct Sketch {
    name: &'static str,
    title: &'static str,
    alt: String,
    drawing: Drawing,
}

/// The main figures: Table 1, retention, propensities, R² and its spread, CKA, side effects. What was not measured has none.
pub fn figures(evaluation: &Evaluation) -> Vec<Figure> {
    let sketches = sketches(evaluation).into_iter();
    sketches
        .map(|sketch| Figure {
            name: sketch.name.to_string(),
            title: sketch.title.to_string(),
            svg: sketch.drawing.svg(sketch.name, sketch.title, &sketch.alt),
            alt: sketch.alt,
        })
        .collect()
}

/// Writes `report.html`, `report.json` and `figures/*.png` into a folder, which is made if it isn't there; each file whole
/// or not at all, the page last. Returns the files' paths, the page's first.
///
/// # Errors
///
/// A number that isn't finite (JSON has none such), a folder or file that can't be written, a figure that can't be drawn.
pub fn write(evaluation: &Evaluation, folder: &Path) -> Result<Vec<PathBuf>> {
    let page = (folder.join("report.html"), html(evaluation).into_bytes());
    let json = (folder.join("report.json"), json::text(evaluation)?.into_bytes());
    let figures_folder = folder.join("figures");
    let mut files = Vec::new();
    for sketch in sketches(evaluation) {
        let svg = sketch.drawing.svg(sketch.name, sketch.title, &sketch.alt);
        let width = (sketch.drawing.width * PNG_SCALE).round() as u32;
        let picture = png(&svg, width).with_context(|| format!("figure {}", sketch.name))?;
        files.push((figures_folder.join(format!("{}.png", sketch.name)), picture));
    }
    files.extend([json, page]);
    fs::create_dir_all(&figures_folder).with_context(|| format!("{}: can't be made", figures_folder.display()))?;
    for (path, content) in &files {
        atomic::write(path, |file| file.write_all(content))
            .with_context(|| format!("{}: can't be written", path.display()))?;
    }
    Ok(files.into_iter().rev().map(|(path, _)| path).collect())
}

fn sketches(evaluation: &Evaluation) -> Vec<Sketch> {
    let tasks = &evaluation.tasks;
    let representation = &evaluation.representation;
    let mut all = Vec::new();
    if !tasks.is_empty() {
        all.push(Sketch {
            name: "table-1",
            title: "Table 1 of this pair",
            alt: page::alt::table(evaluation),
            drawing: charts::table(evaluation),
        });
        all.push(Sketch {
            name: "retention",
            title: "Retention, task by task",
            alt: page::alt::retention(evaluation),
            drawing: charts::forest(evaluation),
        });
        all.push(Sketch {
            name: "propensity",
            title: "Propensity against alpha, task by task",
            alt: page::alt::propensities(tasks),
            drawing: charts::small_multiples(tasks),
        });
    }
    if !representation.pairs.is_empty() {
        all.push(Sketch {
            name: "r2",
            title: "R\u{b2} of mapped states, by layer pair",
            alt: page::alt::r2(representation),
            drawing: charts::r2(evaluation),
        });
        all.push(Sketch {
            name: "r2-spread",
            title: "R\u{b2} by dimension",
            alt: page::alt::spread(representation),
            drawing: charts::boxes(&representation.pairs),
        });
    }
    if representation.cka.iter().any(|row| !row.is_empty()) {
        all.push(Sketch {
            name: "cka",
            title: "Linear CKA of all layers",
            alt: page::alt::cka(representation),
            drawing: charts::cka(evaluation),
        });
    }
    if tasks.iter().any(|task| !task.side_effects.is_empty()) {
        all.push(Sketch {
            name: "side-effects",
            title: "Side effects with the mapped vectors, task on task",
            alt: page::alt::side_effects(tasks, true),
            drawing: charts::side_effects(tasks, true),
        });
    }
    all
}
