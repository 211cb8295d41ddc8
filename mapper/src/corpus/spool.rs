//! Temporary files, for input that can be read only once.

use std::io::{self, Read};

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

/// Maximum number of bytes that a compressed Parquet file is unpacked to. Parquet is read from its end, so it must be
/// in a file; text and JSON are unpacked while they are read, whatever their size.
const MAX_UNPACKED: u64 = 64 << 30;

/// Copies standard input to a temporary file.
///
/// # Errors
///
/// The operating system's error, such as no space for temporary files (`TMPDIR`).
pub(super) fn standard_input(input: &mut dyn Read) -> Result<NamedTempFile> {
    let mut file = NamedTempFile::new().context("corpus: a temporary file for standard input")?;
    io::copy(input, &mut file).context("corpus: standard input, to a temporary file")?;
    Ok(file)
}

/// Unpacks a compressed file to a temporary file.
///
/// # Errors
///
/// Compressed data that is damaged, more than 64 GiB of it, no space for temporary files.
pub(super) fn unpacked(input: &mut impl Read, file: &str) -> Result<NamedTempFile> {
    unpacked_to(input, file, MAX_UNPACKED)
}

fn unpacked_to(input: &mut impl Read, file: &str, most: u64) -> Result<NamedTempFile> {
    let at = || format!("{file}: unpacked to a temporary file");
    let mut spool = NamedTempFile::new().with_context(at)?;
    let bytes = io::copy(&mut input.take(most + 1), &mut spool).with_context(at)?;
    ensure!(
        bytes <= most,
        "{file}: found more than {most} bytes when unpacked, expected fewer"
    );
    Ok(spool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unpacked_is_bounded() {
        let spool = unpacked_to(&mut &b"four"[..], "a", 4).unwrap();
        assert_eq!(std::fs::read(spool.path()).unwrap(), b"four");
        let error = unpacked_to(&mut io::repeat(0), "a", 4).unwrap_err().to_string();
        assert_eq!(error, "a: found more than 4 bytes when unpacked, expected fewer");
    }
}
