//! Names and hashes of a task's files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use steermap_maps::digest::{sha256_file, sha256_of_all};

/// A file's name without its folder; empty if it is not Unicode.
pub(super) fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// A file's name without its extension.
pub(super) fn stem(path: &Path) -> Result<String> {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let stem = stem.filter(|stem| !stem.trim().is_empty());
    stem.map(str::to_string).with_context(|| {
        format!(
            "{}: found a blank name or one that is not Unicode, expected a name",
            path.display()
        )
    })
}

/// One SHA-256 over files.
pub(super) fn digest(files: &[PathBuf]) -> Result<String> {
    let mut digests = Vec::with_capacity(files.len());
    for file in files {
        digests.push(sha256_file(file)?);
    }
    Ok(sha256_of_all(&digests))
}
