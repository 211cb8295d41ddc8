//! How the two models' positions were paired: the table `[positions]`.

use serde::{Deserialize, Serialize};

use crate::error::Problem;

/// How the positions of two tokenizers were paired, and how many were left out and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Left out as the first of their text, where the norms of states differ.
    pub first: u64,
    /// Left out for their norm.
    pub outliers: u64,
    /// The rule by which positions were paired and left out, in words.
    pub rule: String,
    /// The same rules as data, so that an evaluation can leave out what the fit left out. Older maps lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<PositionRules>,
}

/// Which positions are left out, and how text is cut: the table `[positions.rules]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PositionRules {
    /// Longest stretch of text that runs at once, in bytes of text; absent where windows were of one model's tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_bytes: Option<u64>,
    /// Positions left out at the start of either model's tokens.
    pub skip_first: u64,
    /// Rows above this many times the median norm of their text are left out; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outliers: Option<f64>,
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
        if let Some(rules) = &self.rules {
            rules.check()?;
        }
        Problem::unless_said("positions.rule", &self.rule)
    }
}

impl PositionRules {
    fn check(&self) -> Result<(), Problem> {
        for (key, count) in [
            ("window_bytes", self.window_bytes),
            ("skip_first", Some(self.skip_first)),
        ] {
            Problem::unless_counted(&format!("positions.rules.{key}"), count.unwrap_or(0))?;
        }
        match self.outliers.filter(|ratio| ratio.is_nan() || *ratio <= 0.0) {
            Some(ratio) => Err(Problem::value("positions.rules.outliers", ratio, "a number above 0")),
            None => Ok(()),
        }
    }
}
