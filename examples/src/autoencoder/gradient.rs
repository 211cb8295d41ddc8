//! The gradient of a batch.

use rayon::prelude::*;

use super::model::{Autoencoder, ModelScratch, add, dot, row_mut};
use super::rows::StateRows;

/// Number of parts of a batch. Their gradients are added in a fixed order, so that the result does not depend on the
/// number of threads.
const PARTS: usize = 8;

/// The gradient of half the mean squared error of a batch, `mean ‖x' - x‖² / 2`, in the shapes of [`Autoencoder`].
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Gradient {
    pub encoder: Vec<f32>,
    pub encoder_bias: Vec<f32>,
    pub decoder: Vec<f32>,
    pub decoder_bias: Vec<f32>,
    /// By feature: the rows of the batch in which it is active.
    pub used: Vec<u32>,
}

impl Gradient {
    fn zero(autoencoder: &Autoencoder) -> Self {
        let (features, width) = (autoencoder.features(), autoencoder.width);
        Self {
            encoder: vec![0.0; features * width],
            encoder_bias: vec![0.0; features],
            decoder: vec![0.0; features * width],
            decoder_bias: vec![0.0; width],
            used: vec![0; features],
        }
    }

    /// The gradient over the rows with the indices `batch`, of which there must be at least one.
    pub fn of(autoencoder: &Autoencoder, rows: &StateRows, batch: &[usize]) -> Self {
        let parts: Vec<Self> = batch
            .par_chunks(batch.len().div_ceil(PARTS).max(1))
            .map(|part| Self::of_part(autoencoder, rows, part, 1.0 / batch.len() as f32))
            .collect();
        let mut parts = parts.into_iter();
        let first = parts.next().unwrap_or_else(|| Self::zero(autoencoder));
        parts.fold(first, |mut sum, part| {
            add(&mut sum.encoder, 1.0, &part.encoder);
            add(&mut sum.encoder_bias, 1.0, &part.encoder_bias);
            add(&mut sum.decoder, 1.0, &part.decoder);
            add(&mut sum.decoder_bias, 1.0, &part.decoder_bias);
            sum.used.iter_mut().zip(&part.used).for_each(|(sum, used)| *sum += used);
            sum
        })
    }

    fn of_part(autoencoder: &Autoencoder, rows: &StateRows, part: &[usize], weight: f32) -> Self {
        let width = autoencoder.width;
        let mut gradient = Self::zero(autoencoder);
        let (mut scratch, mut error) = (ModelScratch::default(), Vec::new());
        for &index in part {
            let state = rows.row(index);
            autoencoder.encode_into(state, &mut scratch);
            autoencoder.decode_into(&scratch.active, &mut error);
            for (error, x) in error.iter_mut().zip(state) {
                *error = (*error - x) * weight;
            }
            // The direct contribution to the bias; the one through the activations follows below.
            add(&mut gradient.decoder_bias, 1.0, &error);
            for &(feature, activation) in &scratch.active {
                let by_activation = dot(&error, autoencoder.direction(feature));
                add(row_mut(&mut gradient.decoder, width, feature), activation, &error);
                add(
                    row_mut(&mut gradient.encoder, width, feature),
                    by_activation,
                    &scratch.centred,
                );
                gradient.encoder_bias[feature] += by_activation;
                gradient.used[feature] += 1;
                let looks_for = super::model::row(&autoencoder.encoder, width, feature);
                add(&mut gradient.decoder_bias, -by_activation, looks_for);
            }
        }
        gradient
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::numbers;
    use super::*;

    fn loss(autoencoder: &Autoencoder, rows: &StateRows) -> f64 {
        let mut state = Vec::new();
        let mut error = |row: &[f32]| {
            autoencoder.decode_into(&autoencoder.encode(row), &mut state);
            super::super::rows::squared_distance(&state, row) / 2.0
        };
        rows.iter().map(&mut error).sum::<f64>() / rows.len() as f64
    }

    #[test]
    fn the_gradient_matches_finite_differences_of_the_loss() {
        let (width, features) = (5, 7);
        let autoencoder = Autoencoder {
            width,
            active: 3,
            encoder: numbers(features * width, 1),
            encoder_bias: numbers(features, 2),
            decoder: numbers(features * width, 3),
            decoder_bias: numbers(width, 4),
        };
        let rows = StateRows {
            width,
            values: numbers(20 * width, 5),
        };
        let gradient = Gradient::of(&autoencoder, &rows, &(0..20).collect::<Vec<_>>());
        type Field = (fn(&mut Autoencoder) -> &mut Vec<f32>, fn(&Gradient) -> &Vec<f32>);
        let fields: [Field; 4] = [
            (|a| &mut a.encoder, |g| &g.encoder),
            (|a| &mut a.encoder_bias, |g| &g.encoder_bias),
            (|a| &mut a.decoder, |g| &g.decoder),
            (|a| &mut a.decoder_bias, |g| &g.decoder_bias),
        ];
        for (number, (of, found)) in fields.into_iter().enumerate() {
            for (place, found) in found(&gradient).iter().enumerate() {
                let at = |step: f32| {
                    let mut moved = autoencoder.clone();
                    of(&mut moved)[place] += step;
                    loss(&moved, &rows)
                };
                let expected = (at(1e-3) - at(-1e-3)) / 2e-3;
                let apart = (expected - f64::from(*found)).abs();
                assert!(apart < 2e-3, "field {number}, {place}: {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn the_gradient_does_not_depend_on_the_number_of_threads() {
        let (width, features) = (6, 9);
        let autoencoder = Autoencoder {
            width,
            active: 2,
            encoder: numbers(features * width, 1),
            encoder_bias: vec![0.0; features],
            decoder: numbers(features * width, 3),
            decoder_bias: vec![0.0; width],
        };
        let rows = StateRows {
            width,
            values: numbers(100 * width, 5),
        };
        let batch: Vec<usize> = (0..100).collect();
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Gradient::of(&autoencoder, &rows, &batch))
        };
        assert_eq!(on(1), on(3));
    }
}
