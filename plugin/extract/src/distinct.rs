//! Finds repeated pairs, and pairs that share a text.

use std::collections::{HashMap, HashSet};

use crate::statistics::LEAST_GROUPS;
use crate::text::{Pair, Text};

/// Pairs without repeats, in groups that have no text in common. A direction that was found from a text also separates
/// that text, so pairs of one group are never held out from each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistinctPairs {
    /// Each pair once, in the order of its first occurrence.
    pub pairs: Vec<Pair>,
    /// How many pairs were repeats.
    pub repeats: usize,
    /// The group of each pair, numbered from 0 in the order of first occurrence.
    pub groups: Vec<usize>,
}

impl DistinctPairs {
    /// Removes repeats and forms groups.
    pub fn new(pairs: &[Pair]) -> Self {
        let mut seen = HashSet::new();
        let distinct: Vec<Pair> = pairs.iter().filter(|pair| seen.insert(*pair)).cloned().collect();
        Self {
            repeats: pairs.len() - distinct.len(),
            groups: groups(&distinct),
            pairs: distinct,
        }
    }

    /// The number of groups.
    pub fn independent(&self) -> usize {
        self.groups.iter().max().map_or(0, |last| last + 1)
    }

    /// Describes the number of pairs and groups.
    pub fn describe(&self) -> String {
        let mut text = format!("{} distinct pairs", self.pairs.len());
        if self.repeats > 0 {
            text += &format!(" ({} repeats of them left out)", self.repeats);
        }
        match self.independent() {
            1 => text += ", all linked by texts that they share",
            groups if groups < self.pairs.len() => text += &format!(", in {groups} groups that share no text"),
            _ => {}
        }
        text
    }

    /// Why no pairs are held out, as text; `None` if there are enough pairs.
    pub fn too_few(&self) -> Option<String> {
        let (groups, pairs) = (self.independent(), self.pairs.len());
        if groups >= LEAST_GROUPS {
            None
        } else if groups == pairs {
            Some(format!(
                "distinct pairs: found {pairs}, expected at least {LEAST_GROUPS}"
            ))
        } else {
            Some(format!(
                "groups of pairs that share no text: found {groups}, expected at least {LEAST_GROUPS}"
            ))
        }
    }
}

/// The connected components of pairs; two pairs are connected if they share a text.
fn groups(pairs: &[Pair]) -> Vec<usize> {
    // Each pair points to an earlier one of its component, or to itself.
    let mut parent: Vec<usize> = (0..pairs.len()).collect();
    let mut first: HashMap<&Text, usize> = HashMap::new();
    for (index, pair) in pairs.iter().enumerate() {
        for text in [&pair.positive, &pair.negative] {
            let other = *first.entry(text).or_insert(index);
            let (a, b) = (root(&mut parent, other), root(&mut parent, index));
            parent[a.max(b)] = a.min(b);
        }
    }
    let mut number = HashMap::new();
    (0..pairs.len())
        .map(|index| {
            let (root, next) = (root(&mut parent, index), number.len());
            *number.entry(root).or_insert(next)
        })
        .collect()
}

/// The first pair of a component. Halves the path to it, so that long chains stay cheap.
fn root(parent: &mut [usize], mut index: usize) -> usize {
    while parent[index] != index {
        parent[index] = parent[parent[index]];
        index = parent[index];
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(texts: &[(&str, &str)]) -> Vec<Pair> {
        let pair = |(positive, negative): &(&str, &str)| Pair {
            positive: Text::Plain(positive.to_string()),
            negative: Text::Plain(negative.to_string()),
        };
        texts.iter().map(pair).collect()
    }

    #[test]
    fn repeats_count_once() {
        let given = pairs(&[("a", "b"), ("c", "d"), ("a", "b"), ("e", "f"), ("c", "d"), ("a", "b")]);
        let distinct = DistinctPairs::new(&given);
        assert_eq!(distinct.pairs, pairs(&[("a", "b"), ("c", "d"), ("e", "f")]));
        assert_eq!((distinct.repeats, distinct.independent()), (3, 3));
        assert_eq!(distinct.describe(), "3 distinct pairs (3 repeats of them left out)");
        let none = DistinctPairs::new(&given[..2]);
        assert_eq!((none.repeats, none.describe()), (0, "2 distinct pairs".to_string()));
        assert_eq!(DistinctPairs::new(&pairs(&[("a", "b"); 9])).pairs.len(), 1);
    }

    #[test]
    fn pairs_that_share_a_text_are_one_group() {
        // The last one joins two groups, and the sides changed are the same texts.
        let given = pairs(&[("a", "b"), ("c", "d"), ("e", "b"), ("d", "c"), ("x", "y"), ("e", "c")]);
        let distinct = DistinctPairs::new(&given);
        assert_eq!(distinct.groups, [0, 0, 0, 0, 1, 0]);
        assert_eq!(distinct.describe(), "6 distinct pairs, in 2 groups that share no text");
        let apart = DistinctPairs::new(&given[..3]);
        assert_eq!(apart.groups, [0, 1, 0]);
        // One negative for all.
        let texts: Vec<String> = (0..40).map(|i| i.to_string()).collect();
        let shared: Vec<(&str, &str)> = texts.iter().map(|text| (text.as_str(), "no")).collect();
        let shared = DistinctPairs::new(&pairs(&shared));
        assert_eq!(
            shared.describe(),
            "40 distinct pairs, all linked by texts that they share"
        );
        assert_eq!(
            shared.too_few().unwrap(),
            "groups of pairs that share no text: found 1, expected at least 10"
        );
    }

    #[test]
    fn ten_pairs_are_enough() {
        let texts: Vec<String> = (0..20).map(|i| i.to_string()).collect();
        let all: Vec<(&str, &str)> = texts.chunks(2).map(|two| (two[0].as_str(), two[1].as_str())).collect();
        let of = |count: usize| DistinctPairs::new(&pairs(&all[..count]));
        assert_eq!(of(10).too_few(), None);
        assert_eq!(
            of(9).too_few().unwrap(),
            "distinct pairs: found 9, expected at least 10"
        );
    }
}
