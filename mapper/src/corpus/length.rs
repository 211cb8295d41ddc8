//! How long a document may be.

use anyhow::{Result, bail};

/// Maximum number of bytes of a document's text. A larger one is probably a file of another format.
pub const MAX_DOCUMENT: usize = 16 << 20;

/// Refuses a text of more than [`MAX_DOCUMENT`] bytes.
pub(super) fn check_length(bytes: usize) -> Result<()> {
    if bytes > MAX_DOCUMENT {
        bail!("found a document of more than {MAX_DOCUMENT} bytes, expected fewer");
    }
    Ok(())
}
