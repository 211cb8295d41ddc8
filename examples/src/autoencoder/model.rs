//! The autoencoder itself.

/// A TopK autoencoder (Gao et al. 2024, "Scaling and evaluating sparse autoencoders", arXiv 2406.04093) of `width`
/// inputs and `features` features:
///
/// ```text
/// a  = TopK(ReLU(W_enc (x - b_dec) + b_enc))
/// x' = W_dec^T a + b_dec
/// ```
///
/// Activations are in the units of the states, since each row of the decoder has norm 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Autoencoder {
    /// Width of a state.
    pub width: usize,
    /// The most features that are active in a state.
    pub active: usize,
    /// Encoder, `[features, width]`, row by row.
    pub encoder: Vec<f32>,
    /// `[features]`
    pub encoder_bias: Vec<f32>,
    /// Decoder, `[features, width]`, row by row, each of norm 1: the direction that each feature adds to the stream.
    pub decoder: Vec<f32>,
    /// `[width]`
    pub decoder_bias: Vec<f32>,
}

impl Autoencoder {
    /// Number of features.
    pub fn features(&self) -> usize {
        self.encoder_bias.len()
    }

    /// The direction that a feature adds to the stream: `[width]`, norm 1.
    ///
    /// # Panics
    ///
    /// If there is no such feature.
    pub fn direction(&self, feature: usize) -> &[f32] {
        row(&self.decoder, self.width, feature)
    }

    /// The active features of a state `[width]`, at most `active`, with their activations, which are above 0. Sorted by
    /// feature.
    pub fn encode(&self, state: &[f32]) -> Vec<(usize, f32)> {
        let mut scratch = ModelScratch::default();
        self.encode_into(state, &mut scratch);
        scratch.active
    }

    /// As [`encode`](Self::encode), with reused buffers.
    pub(super) fn encode_into(&self, state: &[f32], scratch: &mut ModelScratch) {
        let ModelScratch {
            centred,
            scores,
            active,
        } = scratch;
        centred.clear();
        centred.extend(state.iter().zip(&self.decoder_bias).map(|(x, bias)| x - bias));
        let rows = self.encoder.chunks_exact(self.width);
        scores.clear();
        scores.extend(rows.zip(&self.encoder_bias).map(|(row, bias)| dot(row, centred) + bias));
        active.clear();
        let positive = scores.iter().copied().enumerate().filter(|(_, score)| *score > 0.0);
        active.extend(positive);
        if active.len() > self.active {
            // Ties go to the lower index, so that the result is the same on every machine.
            let largest_first = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
            active.select_nth_unstable_by(self.active, largest_first);
            active.truncate(self.active);
            active.sort_unstable_by_key(|(feature, _)| *feature);
        }
    }

    /// Reconstructs a state from its active features into `state`: `[width]`.
    pub fn decode_into(&self, active: &[(usize, f32)], state: &mut Vec<f32>) {
        state.clone_from(&self.decoder_bias);
        for &(feature, activation) in active {
            add(state, activation, self.direction(feature));
        }
    }
}

/// Buffers for encoding a state, with the result.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelScratch {
    /// The state less the decoder's bias: `[width]`.
    pub centred: Vec<f32>,
    /// Before TopK: `[features]`.
    scores: Vec<f32>,
    /// The active features, by feature.
    pub active: Vec<(usize, f32)>,
}

/// Row `index` of a matrix.
pub(super) fn row(matrix: &[f32], width: usize, index: usize) -> &[f32] {
    &matrix[index * width..(index + 1) * width]
}

/// Row `index` of a matrix, mutable.
pub(super) fn row_mut(matrix: &mut [f32], width: usize, index: usize) -> &mut [f32] {
    &mut matrix[index * width..(index + 1) * width]
}

/// Number of partial sums of an inner product: one or two vector registers on most CPUs.
const LANES: usize = 16;

/// Inner product, always summed in the same order.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let rest: f32 = rest.map(|(x, y)| x * y).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for (sum, (x, y)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Adds `factor * from` to `to`.
pub(super) fn add(to: &mut [f32], factor: f32, from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += factor * from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_by_hand() {
        // Three features of two inputs, one of which may be active.
        let mut autoencoder = Autoencoder {
            width: 2,
            active: 1,
            encoder: vec![1.0, 0.0, 0.0, 1.0, -1.0, 0.0],
            encoder_bias: vec![0.0, 0.5, 0.0],
            decoder: vec![1.0, 0.0, 0.0, 1.0, -1.0, 0.0],
            decoder_bias: vec![1.0, 1.0],
        };
        // Scores 2, 1 + 0.5 and -2.
        assert_eq!(autoencoder.encode(&[3.0, 2.0]), [(0, 2.0)]);
        autoencoder.active = 2;
        assert_eq!(autoencoder.encode(&[3.0, 2.0]), [(0, 2.0), (1, 1.5)]);
        // More features are allowed than are active.
        autoencoder.active = 3;
        assert_eq!(autoencoder.encode(&[3.0, 2.0]), [(0, 2.0), (1, 1.5)]);
        let mut state = Vec::new();
        autoencoder.decode_into(&[(0, 2.0), (1, 1.5)], &mut state);
        assert_eq!(state, [3.0, 2.5]);
        assert_eq!(autoencoder.direction(2), [-1.0, 0.0]);
    }

    #[test]
    fn ties_go_to_the_lower_feature() {
        let autoencoder = Autoencoder {
            width: 1,
            active: 2,
            encoder: vec![1.0; 5],
            encoder_bias: vec![0.0; 5],
            decoder: vec![1.0; 5],
            decoder_bias: vec![0.0],
        };
        assert_eq!(autoencoder.encode(&[2.0]), [(0, 2.0), (1, 2.0)]);
        assert!(autoencoder.encode(&[-2.0]).is_empty());
    }

    #[test]
    fn products_include_the_remainder() {
        let a: Vec<f32> = (0..19).map(|i| i as f32).collect();
        assert_eq!(dot(&a, &a), 2109.0);
        assert_eq!(dot(&[], &[]), 0.0);
    }
}
