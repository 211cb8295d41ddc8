//! An affine map from a source's features to a target's states, as arXiv 2506.00653 fits one beside its map between
//! states.

use anyhow::{Context, Result, ensure};
use nalgebra::{DMatrix, DVector};

use super::model::{Autoencoder, ModelScratch};
use super::rows::{StateRows, TrainingSplit, squared_distance};

/// Ridge penalties that are tried, in units of the mean square of a feature.
const PENALTIES: [f64; 6] = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];

/// An affine map from features to states: `h_T ~ F^T a + p`.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureMap {
    /// `F`, `[features, target width]`: the target's stream per unit of each feature.
    pub directions: DMatrix<f64>,
    /// `p`, `[target width]`
    pub bias: DVector<f64>,
    /// The ridge penalty, of `mean ‖h_T - F^T a - p‖² + lambda ‖F‖²`.
    pub lambda: f64,
    /// Share of variance explained on the second half of the held-out states; lambda is chosen on the first half.
    pub r2: f64,
}

impl FeatureMap {
    /// Fits the map by ridge regression on the train states of both models, which are of the same positions.
    ///
    /// # Errors
    ///
    /// If the numbers of states differ, or no feature is active in any state.
    pub fn fit(autoencoder: &Autoencoder, source: &TrainingSplit, target: &TrainingSplit) -> Result<Self> {
        let sizes = |split: &TrainingSplit| (split.train.len(), split.held_out.len());
        ensure!(
            sizes(source) == sizes(target),
            "states: found {:?} of the source and {:?} of the target, expected the same positions of both",
            sizes(source),
            sizes(target)
        );
        let sums = Sums::of(autoencoder, &source.train, &target.train);
        let half = source.held_out.len() / 2;
        let [choosing, measuring] = [(0, half), (half, source.held_out.len())].map(|(start, end)| {
            let part = |rows: &StateRows| StateRows {
                width: rows.width,
                values: rows.values[start * rows.width..end * rows.width].to_vec(),
            };
            (part(&source.held_out), part(&target.held_out))
        });
        let unit = sums.gram.trace() / autoencoder.features() as f64;
        ensure!(
            unit > 0.0,
            "features: found none that is active in any train state, expected some"
        );
        let mut best: Option<Self> = None;
        for penalty in PENALTIES {
            let mut map = sums.solve(penalty * unit)?;
            map.r2 = map.explained(autoencoder, &choosing.0, &choosing.1);
            if best.as_ref().is_none_or(|best| map.r2 > best.r2) {
                best = Some(map);
            }
        }
        let mut best = best.context("PENALTIES: found none, expected at least one")?;
        best.r2 = best.explained(autoencoder, &measuring.0, &measuring.1);
        Ok(best)
    }

    /// The target's stream per unit of a feature: `[target width]`.
    ///
    /// # Panics
    ///
    /// If the autoencoder does not have the feature.
    pub fn direction(&self, feature: usize) -> Vec<f32> {
        self.directions.row(feature).iter().map(|x| *x as f32).collect()
    }

    /// `1 - sum ‖h_T - F^T a - p‖² / sum ‖h_T - mean‖²`
    fn explained(&self, autoencoder: &Autoencoder, source: &StateRows, target: &StateRows) -> f64 {
        let mut scratch = ModelScratch::default();
        let mut predicted = Vec::new();
        for state in source.iter() {
            autoencoder.encode_into(state, &mut scratch);
            let mut row = self.bias.clone();
            for &(feature, activation) in &scratch.active {
                row += self.directions.row(feature).transpose() * f64::from(activation);
            }
            predicted.extend(row.iter().map(|x| *x as f32));
        }
        explained_variance(&predicted, target)
    }
}

/// `1 - sum ‖h - predicted‖² / sum ‖h - mean‖²` of states `h`; `predicted` has a row for each.
pub fn explained_variance(predicted: &[f32], states: &StateRows) -> f64 {
    let rows = predicted.chunks_exact(states.width.max(1));
    let error: f64 = rows
        .zip(states.iter())
        .map(|(row, state)| squared_distance(row, state))
        .sum();
    1.0 - error / states.variation()
}

/// The centred second moments that the fit needs, as means over the rows.
struct Sums {
    /// `[features, features]`
    gram: DMatrix<f64>,
    /// `[features, target width]`
    cross: DMatrix<f64>,
    features: DVector<f64>,
    states: DVector<f64>,
}

impl Sums {
    fn of(autoencoder: &Autoencoder, source: &StateRows, target: &StateRows) -> Self {
        let (features, width) = (autoencoder.features(), target.width);
        let mut gram = DMatrix::<f64>::zeros(features, features);
        // One column per feature, so that each sum is contiguous.
        let mut cross = DMatrix::<f64>::zeros(width, features);
        let mut mean = DVector::<f64>::zeros(features);
        let mut scratch = ModelScratch::default();
        for (source, target) in source.iter().zip(target.iter()) {
            autoencoder.encode_into(source, &mut scratch);
            for &(one, activation) in &scratch.active {
                let activation = f64::from(activation);
                mean[one] += activation;
                for &(other, by) in &scratch.active {
                    gram[(one, other)] += activation * f64::from(by);
                }
                let column = cross.column_mut(one).into_iter();
                column
                    .zip(target)
                    .for_each(|(sum, x)| *sum += activation * f64::from(*x));
            }
        }
        let count = source.len().max(1) as f64;
        let states = DVector::from_iterator(width, target.mean().into_iter().map(f64::from));
        let mean = mean / count;
        Self {
            gram: gram / count - &mean * mean.transpose(),
            cross: cross.transpose() / count - &mean * states.transpose(),
            features: mean,
            states,
        }
    }

    /// The map at a penalty; its R² is not measured yet.
    fn solve(&self, lambda: f64) -> Result<FeatureMap> {
        let size = self.gram.nrows();
        let gram = &self.gram + DMatrix::identity(size, size) * lambda;
        let factor = gram.cholesky().context("the features depend on each other")?;
        let directions = factor.solve(&self.cross);
        Ok(FeatureMap {
            bias: &self.states - directions.tr_mul(&self.features),
            directions,
            lambda,
            r2: f64::NAN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::numbers;
    use super::*;

    #[test]
    fn a_planted_map_is_recovered() {
        let (width, features, to) = (4, 6, 3);
        let autoencoder = Autoencoder {
            width,
            active: 3,
            encoder: numbers(features * width, 1),
            encoder_bias: vec![0.0; features],
            decoder: numbers(features * width, 2),
            decoder_bias: vec![0.0; width],
        };
        let truth = numbers(features * to, 3);
        let both = |rows: usize, seed: u64| {
            let source = StateRows {
                width,
                values: numbers(rows * width, seed),
            };
            let mut values = Vec::new();
            for row in source.iter() {
                let mut state = vec![7.0f32; to];
                for (feature, activation) in autoencoder.encode(row) {
                    super::super::model::add(&mut state, activation, &truth[feature * to..(feature + 1) * to]);
                }
                values.extend(state);
            }
            (source, StateRows { width: to, values })
        };
        let ((train, target_train), (held_out, target_held_out)) = (both(3000, 4), both(400, 5));
        let source = TrainingSplit { train, held_out };
        let target = TrainingSplit {
            train: target_train,
            held_out: target_held_out,
        };
        let map = FeatureMap::fit(&autoencoder, &source, &target).unwrap();
        assert!(map.r2 > 0.999, "{}", map.r2);
        for feature in 0..features {
            let found = map.direction(feature);
            let apart = squared_distance(&found, &truth[feature * to..(feature + 1) * to]);
            assert!(apart < 1e-3, "{feature}: {found:?}");
        }
        let fewer = TrainingSplit {
            held_out: StateRows::default(),
            ..target
        };
        assert!(FeatureMap::fit(&autoencoder, &source, &fewer).is_err());
    }
}
