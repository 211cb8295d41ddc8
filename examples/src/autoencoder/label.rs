//! Labels of features: which feature separates the two sides of a concept.

use steermap_extract::statistics::auroc;
use steermap_mapper::statistics::mean;

use super::model::{Autoencoder, ModelScratch};

/// How active each feature is in a text: the mean of its activation over all positions but the first, `[features]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Activity(Vec<f64>);

impl Activity {
    /// From a text's states, `[positions, width]` row by row. If there is only one position, it is used.
    pub fn of(autoencoder: &Autoencoder, states: &[f32]) -> Self {
        let mut sums = vec![0f64; autoencoder.features()];
        let positions = states.len() / autoencoder.width;
        let skipped = usize::from(positions > 1);
        let mut scratch = ModelScratch::default();
        for state in states.chunks_exact(autoencoder.width).skip(skipped) {
            autoencoder.encode_into(state, &mut scratch);
            for &(feature, activation) in &scratch.active {
                sums[feature] += f64::from(activation);
            }
        }
        let count = (positions - skipped).max(1) as f64;
        sums.iter_mut().for_each(|sum| *sum /= count);
        Self(sums)
    }
}

/// Which of a concept's sides a feature is active on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConceptSide {
    /// The positive one.
    Positive,
    /// The negative one: the concept is the feature's direction with the opposite sign.
    Negative,
}

impl ConceptSide {
    /// Factor that makes the feature's direction point to the positive side: 1 or -1.
    pub fn sign(self) -> f64 {
        match self {
            Self::Positive => 1.0,
            Self::Negative => -1.0,
        }
    }

    /// Chooses the value for this side.
    pub fn of<T>(self, positive: T, negative: T) -> T {
        match self {
            Self::Positive => positive,
            Self::Negative => negative,
        }
    }
}

/// The feature that separates a concept's pairs best.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureLabel {
    /// Its number.
    pub feature: usize,
    /// Where it is active.
    pub side: ConceptSide,
    /// Area under the ROC curve on the pairs that chose it, 0.5 to 1. Biased upwards, since it is the best of many.
    pub chosen_by: f64,
    /// The same for that feature and side on the other pairs, which is unbiased.
    pub held_out: f64,
}

/// Finds the feature whose activity separates a concept's sides best on the pairs of even groups, and measures it on
/// those of odd groups. Pairs of one group share a text and stay in the same half. Ties go to the feature whose mean
/// activity differs most between the sides. `None` if either half has no pair, or if there are no features.
pub fn label(positive: &[Activity], negative: &[Activity], groups: &[usize]) -> Option<FeatureLabel> {
    let scores = |texts: &[Activity], feature: usize, odd: bool| -> Vec<f64> {
        let of_half = texts.iter().zip(groups).filter(|(_, group)| (*group % 2 == 1) == odd);
        of_half.map(|(text, _)| text.0[feature]).collect()
    };
    let separation = |feature: usize, odd: bool| -> Option<Separation> {
        let (positive, negative) = (scores(positive, feature, odd), scores(negative, feature, odd));
        Some(Separation {
            auroc: auroc(&positive, &negative)?,
            difference: mean(&positive) - mean(&negative),
        })
    };
    let mut best: Option<(usize, Separation)> = None;
    for feature in 0..positive.first()?.0.len() {
        let found = separation(feature, false)?;
        if best.as_ref().is_none_or(|(_, best)| found.is_better_than(best)) {
            best = Some((feature, found));
        }
    }
    let (feature, chosen_by) = best?;
    let (chosen_by, held_out) = (chosen_by.auroc, separation(feature, true)?.auroc);
    let label = |side, chosen_by, held_out| FeatureLabel {
        feature,
        side,
        chosen_by,
        held_out,
    };
    Some(if chosen_by >= 0.5 {
        label(ConceptSide::Positive, chosen_by, held_out)
    } else {
        label(ConceptSide::Negative, 1.0 - chosen_by, 1.0 - held_out)
    })
}

/// How a feature's activity differs between the sides.
struct Separation {
    /// Area under the ROC curve; below 0.5 if the feature is more active on the negative side.
    auroc: f64,
    /// Mean activity on the positive side minus that on the negative side.
    difference: f64,
}

impl Separation {
    fn is_better_than(&self, other: &Self) -> bool {
        let ranked = |of: &Self| ((of.auroc - 0.5).abs(), of.difference.abs());
        ranked(self) > ranked(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: &[[f64; 3]]) -> Vec<Activity> {
        values.iter().map(|values| Activity(values.to_vec())).collect()
    }

    #[test]
    fn even_groups_choose_the_feature_and_odd_groups_measure_it() {
        // The third feature separates all pairs of even groups; on odd groups it orders one couple of four the wrong
        // way round.
        let positive = texts(&[[1.0, 0.0, 0.0], [0.0, 0.0, 2.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.5]]);
        let negative = texts(&[[1.0, 0.0, 3.0], [0.0, 0.0, 3.0], [0.0, 1.0, 4.0], [0.0, 0.0, 1.0]]);
        let found = label(&positive, &negative, &[0, 1, 2, 3]).unwrap();
        let expected = FeatureLabel {
            feature: 2,
            side: ConceptSide::Negative,
            chosen_by: 1.0,
            held_out: 0.75,
        };
        assert_eq!(found, expected);
        // Both features separate all pairs; the second one's means differ more.
        let one = texts(&[[1.0, 4.0, 0.0]; 2]);
        let other = texts(&[[0.0, 1.0, 0.0]; 2]);
        assert_eq!(label(&one, &other, &[0, 1]).unwrap().feature, 1);
        let turned = label(&negative, &positive, &[0, 1, 2, 3]).unwrap();
        assert_eq!((turned.side, turned.held_out), (ConceptSide::Positive, 0.75));
        // All pairs are of one group, so none is held out.
        assert_eq!(label(&positive, &negative, &[0; 4]), None);
        assert_eq!(label(&[], &[], &[]), None);
    }

    #[test]
    fn activity_is_the_mean_without_the_first_position() {
        let autoencoder = Autoencoder {
            width: 1,
            active: 2,
            encoder: vec![1.0, -1.0],
            encoder_bias: vec![0.0, 0.0],
            decoder: vec![1.0, -1.0],
            decoder_bias: vec![0.0],
        };
        let of = |states: &[f32]| Activity::of(&autoencoder, states).0;
        assert_eq!(of(&[90.0, 2.0, -4.0]), [1.0, 2.0]);
        assert_eq!(of(&[3.0]), [3.0, 0.0]);
        assert_eq!(of(&[]), [0.0, 0.0]);
    }
}
