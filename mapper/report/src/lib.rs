//! What an evaluation found ([`result`]), and how it is shown: as a page, as figures, as text and as JSON.
//!
//! | function | what it gives |
//! | --- | --- |
//! | [`write()`] | `report.html`, `report.json` and `figures/*.png` in a folder |
//! | [`read()`] | the evaluation that a folder's `report.json` has |
//! | [`html()`] | the page |
//! | [`figures()`] | the figures, each as SVG and as PNG |
//! | [`text()`] | a table for a terminal, and what to paste |
//!
//! The page runs no script and asks the network for nothing, which its content security policy states too. Every number of
//! it is one of the JSON, rounded; the element that shows it has the unrounded one in `data-value`. Every text that comes
//! from a file is escaped. Figures name colours by CSS variables, so that they follow the reader's theme.
//!
//! This crate knows no engine and measures nothing.

pub mod result;

mod figures;
mod files;
mod json;
mod number;
mod page;
mod text;

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

pub use figures::{Figure, figures};
pub use files::{read, write};
pub use page::html;
pub use text::text;

/// What the paper reports, to stand beside this pair's figures.
mod paper {
    /// Which paper.
    pub(crate) const NAME: &str = "arXiv 2506.00653";
    /// Its range of Pearson correlations, over items at each alpha (3.4 and Table 1).
    pub(crate) const PEARSON: &str = "0.73 to 0.98";
    /// Its range of mean squared errors: of propensities, which it defines as differences of logits (3.4). Their scale isn't said, and
    /// the authors' code could not be had; they are as small as those of probabilities.
    pub(crate) const MSE: &str = "0.005 to 0.096";
}

/// The three texts of a figure (what it is called, what it is for those who can't see it, how it is read) or of a control.
fn texts(key: &str) -> [&'static str; 3] {
    let blocks = include_str!("texts.txt").split("\n\n");
    let mut lines = blocks
        .map(str::lines)
        .find_map(|mut lines| (lines.next() == Some(key)).then_some(lines));
    std::array::from_fn(|_| lines.as_mut().and_then(Iterator::next).unwrap_or_default())
}
