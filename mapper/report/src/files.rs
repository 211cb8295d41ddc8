//! The files of a report.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use steermap_maps::atomic;

use crate::result::Evaluation;
use crate::{figures, html, json};

/// The file that [`read`] reads.
const JSON: &str = "report.json";

/// Writes `report.html`, `report.json` and `figures/*.png` into a folder, which is made if it isn't there; each file whole
/// or not at all, the page last. Returns the files' paths, the page's first.
///
/// # Errors
///
/// A number that isn't finite (JSON has none such), a folder or file that can't be written, a figure that can't be drawn.
pub fn write(evaluation: &Evaluation, folder: &Path) -> Result<Vec<PathBuf>> {
    let json = (folder.join(JSON), json::text(evaluation)?.into_bytes());
    let page = (folder.join("report.html"), html(evaluation).into_bytes());
    let pictures = folder.join("figures");
    let mut files = Vec::new();
    for figure in figures(evaluation) {
        files.push((pictures.join(format!("{}.png", figure.name)), figure.png()?));
    }
    files.extend([json, page]);
    fs::create_dir_all(&pictures).with_context(|| format!("{}: can't be made", pictures.display()))?;
    for (path, content) in &files {
        atomic::write(path, |file| file.write_all(content))
            .with_context(|| format!("{}: can't be written", path.display()))?;
    }
    Ok(files.into_iter().rev().map(|(path, _)| path).collect())
}

/// Reads a folder's `report.json` back, to be drawn again.
///
/// # Errors
///
/// Names the file: it isn't there, it is of another format (both are named), or a field is wrong (it is named).
pub fn read(folder: &Path) -> Result<Evaluation> {
    let path = folder.join(JSON);
    let text = fs::read_to_string(&path).with_context(|| format!("{}: can't be read", path.display()))?;
    json::parse(&text).with_context(|| path.display().to_string())
}
