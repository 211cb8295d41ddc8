//! The files of a report.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use steermap_maps::atomic;

use crate::result::Evaluation;
use crate::{figures, html, json};

/// The file that [`read`] reads.
const JSON: &str = "report.json";

/// Writes `report.html`, `report.json` and `figures/*.png` into a folder, which is created if it doesn't exist. Each
/// file is written atomically, the page last. Returns the files' paths, the page's first.
///
/// # Errors
///
/// A number that isn't finite (JSON can't hold it), a folder or file that can't be written, a figure that can't be
/// drawn.
pub fn write(evaluation: &Evaluation, folder: &Path) -> Result<Vec<PathBuf>> {
    let json = (folder.join(JSON), json::text(evaluation)?.into_bytes());
    let page = (folder.join("report.html"), html(evaluation).into_bytes());
    let pictures = folder.join("figures");
    let mut files = Vec::new();
    for figure in figures(evaluation) {
        files.push((pictures.join(format!("{}.png", figure.name)), figure.png()?));
    }
    files.extend([json, page]);
    fs::create_dir_all(&pictures).with_context(|| format!("{}: can't be created", pictures.display()))?;
    for (path, content) in &files {
        atomic::write_bytes(path, content).with_context(|| format!("{}: can't be written", path.display()))?;
    }
    Ok(files.into_iter().rev().map(|(path, _)| path).collect())
}

/// Reads a folder's `report.json`.
///
/// # Errors
///
/// The file doesn't exist, is of another format, or a field is wrong; the message names the file, and the formats or
/// the field.
pub fn read(folder: &Path) -> Result<Evaluation> {
    let path = folder.join(JSON);
    let text = fs::read_to_string(&path).with_context(|| format!("{}: can't be read", path.display()))?;
    json::parse(&text).with_context(|| path.display().to_string())
}
