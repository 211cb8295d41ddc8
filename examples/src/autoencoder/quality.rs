//! Quality of an autoencoder on held-out states.

use rayon::prelude::*;

use super::model::{Autoencoder, ModelScratch};
use super::rows::{StateRows, squared_distance};

/// Quality of an autoencoder on given states.
#[derive(Clone, Debug, PartialEq)]
pub struct AutoencoderQuality {
    /// `1 - sum ‖x - x'‖² / sum ‖x - mean‖²`: the share of the states' variance that the reconstruction explains. Not
    /// finite if all states are equal.
    pub explained_variance: f64,
    /// Mean number of active features per state.
    pub mean_active: f64,
    /// By feature: the share of states in which it is active.
    pub density: Vec<f64>,
    /// Number of states that it was measured on.
    pub rows: usize,
}

impl AutoencoderQuality {
    /// Measures it on `rows`.
    pub fn of(autoencoder: &Autoencoder, rows: &StateRows) -> Self {
        let measured: Vec<(f64, Vec<usize>)> = (0..rows.len())
            .into_par_iter()
            .map_init(
                Default::default,
                |(scratch, state): &mut (ModelScratch, Vec<f32>), index| {
                    autoencoder.encode_into(rows.row(index), scratch);
                    autoencoder.decode_into(&scratch.active, state);
                    let features = scratch.active.iter().map(|(feature, _)| *feature).collect();
                    (squared_distance(rows.row(index), state), features)
                },
            )
            .collect();
        let mut counts = vec![0u64; autoencoder.features()];
        measured
            .iter()
            .flat_map(|(_, features)| features)
            .for_each(|&feature| counts[feature] += 1);
        let error: f64 = measured.iter().map(|(error, _)| error).sum();
        let count = rows.len().max(1) as f64;
        Self {
            explained_variance: 1.0 - error / rows.variation(),
            mean_active: counts.iter().sum::<u64>() as f64 / count,
            density: counts.iter().map(|&times| times as f64 / count).collect(),
            rows: rows.len(),
        }
    }

    /// Features that are active in no state.
    pub fn dead(&self) -> usize {
        self.density.iter().filter(|share| **share == 0.0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_by_hand() {
        // The first feature reconstructs the first input exactly; the second input is not reconstructed.
        let autoencoder = Autoencoder {
            width: 2,
            active: 1,
            encoder: vec![1.0, 0.0, -1.0, 0.0],
            encoder_bias: vec![0.0, -9.0],
            decoder: vec![1.0, 0.0, -1.0, 0.0],
            decoder_bias: vec![0.0, 0.0],
        };
        let rows = StateRows {
            width: 2,
            values: vec![4.0, 1.0, 0.0, -1.0],
        };
        let quality = AutoencoderQuality::of(&autoencoder, &rows);
        // Of the variation 4 + 4 + 1 + 1, 1 + 1 remains unexplained.
        assert!((quality.explained_variance - 0.8).abs() < 1e-12);
        assert_eq!((quality.mean_active, quality.dead(), quality.rows), (0.5, 1, 2));
        assert_eq!(quality.density, [0.5, 0.0]);
    }
}
