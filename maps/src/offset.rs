//! How a steering vector goes through an affine map.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Problem;

/// How a direction `v` of the source model becomes one of the target, under an affine map `h_T ~ A h_S + p`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OffsetRule {
    /// `A v`. A steering vector is a difference of states, so it moves by the linear part alone:
    /// `A (h + a v) + p - (A h + p) = a A v`.
    #[default]
    Linear,
    /// `A v + p`, as in the paper (arXiv 2506.00653): for replication. What `p` adds depends on how long `v` is.
    Affine,
}

impl OffsetRule {
    /// As files and messages spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Affine => "affine",
        }
    }
}

impl fmt::Display for OffsetRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for OffsetRule {
    type Err = Problem;

    /// # Errors
    ///
    /// [`Problem::Value`] for any other text than `linear` and `affine`.
    fn from_str(text: &str) -> Result<Self, Problem> {
        let rules = [Self::Linear, Self::Affine];
        let rule = rules.into_iter().find(|rule| rule.as_str() == text);
        rule.ok_or_else(|| Problem::value("offset", format!("{text:?}"), "\"linear\" or \"affine\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_everywhere() {
        for rule in [OffsetRule::Linear, OffsetRule::Affine] {
            assert_eq!(rule.to_string().parse(), Ok(rule));
            assert_eq!(serde_json::to_string(&rule).unwrap(), format!("\"{rule}\""));
        }
        assert_eq!(OffsetRule::default(), OffsetRule::Linear);
        assert_eq!(format!("{:>7}", OffsetRule::Linear), " linear");
        assert_eq!(
            "Linear".parse::<OffsetRule>().unwrap_err().to_string(),
            "offset: found \"Linear\", expected \"linear\" or \"affine\""
        );
    }
}
