//! The kinds of map that a version of the format has.

use crate::error::Problem;

pub(super) const AFFINE: &str = "affine";
pub(super) const LOW_RANK: &str = "low-rank";

/// The kinds of map in a version of the format, and how a message lists them.
pub(super) struct VersionKinds {
    pub(super) known: &'static [&'static str],
    pub(super) expected: &'static str,
}

impl VersionKinds {
    /// The error for a pair of another kind.
    pub(super) fn unknown(&self, pair: usize, found: String) -> Problem {
        let expected = self.expected;
        Problem::Kind { pair, found, expected }
    }
}
