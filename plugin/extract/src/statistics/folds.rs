//! Splits pairs into the parts of a cross-validation.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Number of parts that pairs are split into for cross-validation.
pub const FOLDS: usize = 5;

/// Fewest groups of pairs: two for each part, so that every part can compare pairs with each other.
pub const LEAST_GROUPS: usize = 2 * FOLDS;

/// The seed of the order in which groups are distributed.
const SEED: u64 = 1;

/// The parts of a cross-validation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folds {
    /// The part of each pair: 0 to `FOLDS - 1`.
    pub(super) of: Vec<usize>,
}

impl Folds {
    /// Splits pairs into `FOLDS` parts whose numbers of groups differ by at most one. `groups[i]` is the group of pair
    /// `i`, numbered from 0 without gaps; all pairs of a group are in one part. Groups are distributed in a random
    /// order, the same on every machine, so that the order of a file does not matter. `None` for fewer than
    /// [`LEAST_GROUPS`] groups.
    pub fn new(groups: &[usize]) -> Option<Self> {
        let count = groups.iter().max().map_or(0, |last| last + 1);
        if count < LEAST_GROUPS {
            return None;
        }
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(SEED));
        let mut fold_of = vec![0; count];
        for (place, group) in order.into_iter().enumerate() {
            fold_of[group] = place % FOLDS;
        }
        let of = groups.iter().map(|&group| fold_of[group]).collect();
        Some(Self { of })
    }

    /// The indices of the pairs in a part, and of all others.
    pub fn split(&self, fold: usize) -> (Vec<usize>, Vec<usize>) {
        (0..self.of.len()).partition(|&pair| self.of[pair] == fold)
    }
}
