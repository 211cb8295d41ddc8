//! Figures of benchmarks and long runs: quartiles, and files of JSON.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use steermap_mapper::statistics::quantiles;

/// First quartile, median and third quartile; NaN of nothing.
pub fn quartiles(values: &[f64]) -> [f64; 3] {
    quantiles(values, [0.25, 0.5, 0.75]).unwrap_or([f64::NAN; 3])
}

/// Writes figures as JSON to `path`, if there is one.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_json(path: Option<&Path>, figures: &impl Serialize) -> Result<()> {
    let Some(path) = path else {
        return Ok(());
    };
    std::fs::write(path, serde_json::to_string_pretty(figures)? + "\n").with_context(|| path.display().to_string())
}
