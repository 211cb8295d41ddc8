//! The sign of a line.

use std::fmt;

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The rule for the sign of a principal component, which is a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Sign {
    /// Positives project higher than negatives on average
    #[default]
    Mean,
    /// The positive projects higher than the negative in most pairs, as in repeng
    Vote,
}

impl Sign {
    /// The name in arguments.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Vote => "vote",
        }
    }

    /// Reverses a direction that has the sign of the mean if this rule requires it. A tied vote leaves it unchanged.
    /// (repeng then keeps the arbitrary sign of the eigenvalue solver.)
    pub(crate) fn apply(self, mut direction: Vec<f32>, positive: &[&[f32]], negative: &[&[f32]]) -> Vec<f32> {
        if self == Self::Vote && votes(&direction, positive, negative) < 0 {
            direction.iter_mut().for_each(|value| *value = -*value);
        }
        direction
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The number of pairs in which the positive projects higher than the negative minus the number in which it projects
/// lower.
fn votes(direction: &[f32], positive: &[&[f32]], negative: &[&[f32]]) -> i64 {
    let project = |state: &[f32]| -> f64 {
        let products = direction.iter().zip(state).map(|(&u, &x)| f64::from(u) * f64::from(x));
        products.sum()
    };
    let pairs = positive.iter().zip(negative);
    let votes = pairs.map(|(p, n)| {
        let (p, n) = (project(p), project(n));
        i64::from(p > n) - i64::from(p < n)
    });
    votes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_wins_and_a_tie_goes_by_the_mean() {
        let zero: &[f32] = &[0.0];
        let of = |sign: Sign, values: &[f32]| -> f32 {
            let positive: Vec<&[f32]> = values.chunks(1).collect();
            let mean = values.iter().sum::<f32>().signum();
            sign.apply(vec![mean], &positive, &vec![zero; values.len()])[0]
        };
        // One far down, two a little up.
        assert_eq!(of(Sign::Vote, &[-9.0, 1.0, 1.0]), 1.0);
        assert_eq!(of(Sign::Mean, &[-9.0, 1.0, 1.0]), -1.0);
        assert_eq!(of(Sign::Vote, &[9.0, -1.0, -1.0]), -1.0);
        // One each; a pair that projects alike has no vote.
        assert_eq!(of(Sign::Vote, &[-9.0, 1.0, 0.0]), -1.0);
        assert_eq!(of(Sign::Vote, &[9.0, -1.0, 0.0]), 1.0);
    }

    #[test]
    fn one_spelling_everywhere() {
        for sign in Sign::value_variants() {
            assert_eq!(sign.to_possible_value().unwrap().get_name(), sign.as_str());
        }
    }
}
