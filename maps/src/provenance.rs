//! How a file came to be.

use serde::{Deserialize, Serialize};

use crate::digest;
use crate::error::Problem;

/// How a file came to be: enough to make it again. The same table, `[provenance]`, in every kind of file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Name and version of the tool that wrote the file, such as `"mapper 0.1.0"`.
    pub tool: String,
    /// When, as the caller spells it; RFC 3339 (`"2026-01-31T12:00:00Z"`) sorts well.
    pub date: String,
    /// The command line.
    pub command: String,
    /// The seed, if anything was random. At most `i64::MAX`, the largest integer of TOML.
    pub seed: Option<u64>,
    /// Name of the text that was run through the model.
    pub corpus: String,
    /// SHA-256 of that text, as [`digest::sha256`] spells it.
    pub corpus_sha256: String,
}

impl Provenance {
    pub(crate) fn check(&self) -> Result<(), Problem> {
        Problem::unless_said("provenance.tool", &self.tool)?;
        Problem::unless_said("provenance.date", &self.date)?;
        Problem::unless_said("provenance.command", &self.command)?;
        Problem::unless_said("provenance.corpus", &self.corpus)?;
        digest::check("provenance.corpus_sha256", &self.corpus_sha256)?;
        Problem::unless_counted("provenance.seed", self.seed.unwrap_or_default())
    }
}
