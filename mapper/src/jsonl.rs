//! Files of one JSON value per line.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

/// Reads all values of a file; blank lines are skipped. `expected` says what a line looks like, for messages; `check`
/// says what is wrong with a value.
///
/// # Errors
///
/// A file that can't be read, a line that is no such value or does not pass: each names the file and the line.
pub fn read<T: DeserializeOwned>(path: &Path, expected: &str, check: impl Fn(&T) -> Result<()>) -> Result<Vec<T>> {
    let file = File::open(path).with_context(|| format!("{}: can't be read", path.display()))?;
    let mut values = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let at = || format!("{}, line {}", path.display(), index + 1);
        let line = line.with_context(at)?;
        if line.trim().is_empty() {
            continue;
        }
        let value: T = match serde_json::from_str(&line) {
            Ok(value) => value,
            Err(error) => bail!("{}: {error}; expected {expected}", at()),
        };
        check(&value).with_context(at)?;
        values.push(value);
    }
    Ok(values)
}
