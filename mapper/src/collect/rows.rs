//! Rows of paired states from the streams of one text in two models, and which positions are left out.

use std::cmp::Ordering;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use steermap_maps::{MapFile, PositionRules};

use crate::align::{Pairing, PositionPair};
use crate::capture::LayerStates;
use crate::windows::WINDOW_BYTES;

/// Which positions are left out, and how text is cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Longest text that is run at once.
    pub window: WindowRule,
    /// Positions at the start of either model's tokens that are left out: the first carries massive activations in many
    /// models.
    pub skip_first: usize,
    /// A row is left out if its norm, at any of the captured layers of either model, is more than this many times the
    /// median of its text's rows at that layer. `None` leaves all in.
    pub outliers: Option<f64>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            window: WindowRule::Bytes { bytes: WINDOW_BYTES },
            skip_first: 1,
            outliers: Some(10.0),
        }
    }
}

/// The maximum length of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WindowRule {
    /// Bytes of text, so that windows depend on the text only and are the same for all models.
    Bytes {
        /// How many.
        bytes: usize,
    },
    /// Tokens of the source model, as in version 1. Such statistics are read, fitted and merged, but no longer
    /// collected.
    SourceTokens(usize),
}

impl std::fmt::Display for WindowRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes { bytes } => write!(f, "{bytes} bytes"),
            Self::SourceTokens(tokens) => write!(f, "{tokens} source tokens"),
        }
    }
}

impl Rules {
    /// Whether a pair lies behind the skipped first positions of both models. It is a row unless it is an outlier.
    fn admits(&self, pair: &PositionPair) -> bool {
        pair.source >= self.skip_first && pair.target >= self.skip_first
    }

    /// The number of pairs that the rules admit.
    pub fn admitted(&self, pairing: &Pairing) -> u64 {
        pairing.pairs.iter().filter(|pair| self.admits(pair)).count() as u64
    }

    /// The rules in the form of a map file.
    pub fn as_data(&self) -> PositionRules {
        PositionRules {
            window_bytes: match self.window {
                WindowRule::Bytes { bytes } => Some(bytes as u64),
                WindowRule::SourceTokens(_) => None,
            },
            skip_first: self.skip_first as u64,
            outliers: self.outliers,
        }
    }

    /// The rules by which a map was fitted; the defaults where its file doesn't state them.
    pub fn of_map(map: &MapFile) -> Self {
        let usual = Self::default();
        let Some(rules) = map
            .header()
            .positions
            .as_ref()
            .and_then(|positions| positions.rules.as_ref())
        else {
            return usual;
        };
        let bytes = rules.window_bytes.map(|bytes| WindowRule::Bytes {
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
        });
        Self {
            window: bytes.unwrap_or(usual.window),
            skip_first: usize::try_from(rules.skip_first).unwrap_or(usize::MAX),
            outliers: rules.outliers,
        }
    }

    /// The rules in words.
    pub fn describe(&self) -> String {
        let first = match self.skip_first {
            0 => "no first position left out".to_string(),
            1 => "first position of each text left out".to_string(),
            n => format!("first {n} positions of each text left out"),
        };
        let outliers = match self.outliers {
            Some(ratio) => format!("rows above {ratio} times their text's median norm at any layer left out"),
            None => "no outliers left out".to_string(),
        };
        format!("{first}; {outliers}; texts of at most {}", self.window)
    }
}

/// How many positions were paired, and why others were not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Documents read, or begun.
    pub documents: u64,
    /// Texts that were paired: documents, or windows of longer ones.
    pub texts: u64,
    /// Tokens that the source model read.
    pub source_tokens: u64,
    /// Tokens that the target model read.
    pub target_tokens: u64,
    /// Rows.
    pub rows: u64,
    /// Source tokens that end where no target token does.
    pub unmatched_source: u64,
    /// Target tokens that end where no source token does.
    pub unmatched_target: u64,
    /// Tokens of either model that stand for no text.
    pub special: u64,
    /// Pairs left out as first positions.
    pub first: u64,
    /// Pairs left out as outliers.
    pub outliers: u64,
    /// Windows that the activations of one side don't have.
    #[serde(default)]
    pub missing_windows: u64,
    /// Windows that are longer than a model's context and were cut off there.
    #[serde(default)]
    pub cut_windows: u64,
}

impl Counts {
    /// Adds `other`'s.
    pub fn add(&mut self, other: &Self) {
        self.documents += other.documents;
        self.texts += other.texts;
        self.source_tokens += other.source_tokens;
        self.target_tokens += other.target_tokens;
        self.rows += other.rows;
        self.unmatched_source += other.unmatched_source;
        self.unmatched_target += other.unmatched_target;
        self.special += other.special;
        self.first += other.first;
        self.outliers += other.outliers;
        self.missing_windows += other.missing_windows;
        self.cut_windows += other.cut_windows;
    }
}

/// The rows of one text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextRows {
    /// By row: the byte of the text behind it, which identifies it among the text's rows.
    pub ends: Vec<usize>,
    /// By source layer: `[rows, hidden_size]`, row by row.
    pub source: Vec<Vec<f32>>,
    /// The same of the target.
    pub target: Vec<Vec<f32>>,
}

/// Collects the paired states of one text, by layer. `source` and `target` have one entry for each captured layer.
/// Counts the positions that are left out.
pub fn text_rows(
    pairing: &Pairing,
    source: &[LayerStates],
    target: &[LayerStates],
    rules: &Rules,
    counts: &mut Counts,
) -> TextRows {
    let (inner, first): (Vec<_>, Vec<_>) = pairing.pairs.iter().partition(|pair| rules.admits(pair));
    counts.first += first.len() as u64;
    counts.unmatched_source += pairing.unmatched_source as u64;
    counts.unmatched_target += pairing.unmatched_target as u64;
    counts.special += pairing.special as u64;

    let mut keep = vec![true; inner.len()];
    if let Some(ratio) = rules.outliers {
        type Place = fn(&PositionPair) -> usize;
        let side = |layers, place: Place| <[LayerStates]>::iter(layers).map(move |layer| (layer, place));
        let layers: Vec<(&LayerStates, Place)> = side(source, |p| p.source).chain(side(target, |p| p.target)).collect();
        let within = layers.par_iter().map(|(states, place)| {
            let norms: Vec<f64> = inner.iter().map(|&pair| states.norm(place(pair))).collect();
            let limit = ratio * upper_median(&norms);
            // States that are not finite are kept; `Statistics::add` reports them.
            let within = |norm: f64| !norm.is_finite() || norm.partial_cmp(&limit) != Some(Ordering::Greater);
            norms.into_iter().map(within).collect::<Vec<_>>()
        });
        for within in within.collect::<Vec<_>>() {
            keep.iter_mut().zip(within).for_each(|(keep, within)| *keep &= within);
        }
    }
    let kept: Vec<_> = inner
        .iter()
        .zip(&keep)
        .filter(|(_, keep)| **keep)
        .map(|(pair, _)| *pair)
        .collect();
    counts.outliers += (inner.len() - kept.len()) as u64;
    counts.rows += kept.len() as u64;

    let gather = |layers: &[LayerStates], of: fn(&PositionPair) -> usize| -> Vec<Vec<f32>> {
        let rows = |states: &LayerStates| {
            let mut rows = Vec::with_capacity(kept.len() * states.hidden_size());
            kept.iter().for_each(|pair| rows.extend_from_slice(states.at(of(pair))));
            rows
        };
        layers.par_iter().map(rows).collect()
    };
    TextRows {
        ends: kept.iter().map(|pair| pair.end).collect(),
        source: gather(source, |pair| pair.source),
        target: gather(target, |pair| pair.target),
    }
}

/// The upper median: the middle value, or the larger of the middle two; 0 of nothing. Fits of earlier versions used it
/// too.
fn upper_median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    fn states(values: &[[f32; 2]]) -> LayerStates {
        LayerStates::from_rows(2, values.concat())
    }

    fn pairing(pairs: &[(usize, usize)]) -> Pairing {
        Pairing {
            pairs: pairs
                .iter()
                .enumerate()
                .map(|(i, &(source, target))| PositionPair {
                    source,
                    target,
                    end: i + 1,
                })
                .collect(),
            unmatched_source: 2,
            unmatched_target: 0,
            special: 1,
        }
    }

    #[test]
    fn the_first_position_of_either_side_is_left_out() {
        let source = states(&[[1., 0.], [2., 0.], [3., 0.]]);
        let target = states(&[[0., 1.], [0., 2.], [0., 3.], [0., 4.]]);
        let mut counts = Counts::default();
        // The target has a BOS: its first text token is at position 1.
        let pairing = pairing(&[(0, 1), (1, 2), (2, 3)]);
        let rows = text_rows(&pairing, &[source], &[target], &Rules::default(), &mut counts);
        assert_eq!(rows.ends, [2, 3]);
        assert_eq!(rows.source, [[2., 0., 3., 0.]]);
        assert_eq!(rows.target, [[0., 3., 0., 4.]]);
        assert_eq!(
            (counts.rows, counts.first, counts.special, counts.unmatched_source),
            (2, 1, 1, 2)
        );
    }

    #[test]
    fn massive_activations_are_left_out_unless_asked_for() {
        let calm = states(&[[1., 0.], [2., 0.], [3., 0.], [2., 0.], [2., 0.]]);
        let mut wild = vec![[1., 0.], [2., 0.], [3., 0.], [2., 0.], [2., 0.]];
        wild[2] = [0., 900.];
        let wild = states(&wild);
        let pairing = pairing(&[(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]);
        let mut rules = Rules::default();
        // In either model, at any layer.
        for (source, target) in [
            (vec![calm.clone(), wild.clone()], vec![calm.clone()]),
            (vec![calm.clone()], vec![wild.clone()]),
        ] {
            let mut counts = Counts::default();
            let rows = text_rows(&pairing, &source, &target, &rules, &mut counts);
            assert_eq!((rows.ends.as_slice(), counts.outliers), (&[2, 4, 5][..], 1));
        }
        rules.outliers = None;
        rules.skip_first = 0;
        let mut counts = Counts::default();
        assert_eq!(text_rows(&pairing, &[calm], &[wild], &rules, &mut counts).ends.len(), 5);
    }

    #[test]
    fn states_that_are_no_numbers_are_no_outliers() {
        let calm = states(&[[1., 0.], [2., 0.], [3., 0.], [2., 0.]]);
        for odd in [f32::NAN, f32::INFINITY] {
            let wild = states(&[[1., 0.], [2., 0.], [odd, 0.], [2., 0.]]);
            let mut counts = Counts::default();
            let pairing = pairing(&[(0, 0), (1, 1), (2, 2), (3, 3)]);
            let rows = text_rows(
                &pairing,
                slice::from_ref(&calm),
                &[wild],
                &Rules::default(),
                &mut counts,
            );
            assert_eq!((rows.ends.len(), counts.outliers), (3, 0), "{odd}");
        }
    }

    #[test]
    fn a_text_without_pairs_has_no_rows() {
        let none = LayerStates::default();
        let mut counts = Counts::default();
        let rows = text_rows(
            &Pairing::default(),
            std::slice::from_ref(&none),
            std::slice::from_ref(&none),
            &Rules::default(),
            &mut counts,
        );
        assert!(rows.ends.is_empty() && rows.source[0].is_empty());
    }
}
