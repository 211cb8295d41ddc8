//! How the two models' positions were paired: the table `[positions]`.

use serde::{Deserialize, Serialize};

use crate::error::Problem;

/// How the positions of two tokenizers were paired, and how many were left out and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Positions {
    /// Documents that were read.
    pub documents: u64,
    /// Pairs of positions that were kept: a row each.
    pub paired: u64,
    /// The source's positions that had no partner.
    pub unmatched_source: u64,
    /// The target's positions that had no partner.
    pub unmatched_target: u64,
    /// Left out as special tokens.
    pub special: u64,
    /// Left out as the first of their text, where states are of another size.
    pub first: u64,
    /// Left out for their norm.
    pub outliers: u64,
    /// The rule by which positions were paired and left out, in words.
    pub rule: String,
}

impl Positions {
    /// The counts with their keys, in the file's order.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 7] {
        [
            ("documents", self.documents),
            ("paired", self.paired),
            ("unmatched_source", self.unmatched_source),
            ("unmatched_target", self.unmatched_target),
            ("special", self.special),
            ("first", self.first),
            ("outliers", self.outliers),
        ]
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        for (key, count) in self.counts() {
            Problem::unless_counted(&format!("positions.{key}"), count)?;
        }
        Problem::unless_said("positions.rule", &self.rule)
    }
}
