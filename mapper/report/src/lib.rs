//! The result of an evaluation ([`result`]), and its output as a page, as figures, as text and as JSON.
//!
//! | function | what it gives |
//! | --- | --- |
//! | [`write()`] | `report.html`, `report.json` and `figures/*.png` in a folder |
//! | [`read()`] | the evaluation in a folder's `report.json` |
//! | [`html()`] | the page |
//! | [`figures()`] | the figures, each as SVG and as PNG |
//! | [`text()`] | a table for a terminal, and the proposed specs |
//!
//! The page runs no script and loads nothing from the network; its content security policy forbids both. Every number
//! on the page is in the JSON; the page rounds it, and the element that shows it has the unrounded number in
//! `data-value`. Every text that comes from a file is escaped. Figures name colours by CSS variables, so that they
//! follow the reader's theme.
//!
//! This crate does not depend on the engine and measures nothing.

pub mod result;

mod figures;
mod files;
mod json;
mod number;
mod page;
mod plain;
mod text;
mod wording;

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

pub use figures::{Figure, figures};
pub use files::{read, write};
pub use page::html;
pub use text::text;

/// The paper's results, shown beside those of the evaluation.
mod paper {
    /// Which paper.
    pub(crate) const NAME: &str = "arXiv 2506.00653";
    /// Its range of Pearson correlations, over items at each alpha (3.4 and Table 1).
    pub(crate) const PEARSON: &str = "0.73 to 0.98";
    /// Its range of mean squared errors of propensities, which it defines as differences of logits (3.4). The paper
    /// does not state their scale, and the authors' code was not available; the errors are as small as those of
    /// probabilities.
    pub(crate) const MSE: &str = "0.005 to 0.096";
}
