//! Training with Adam, unit decoder rows and resets of dead features.

use anyhow::{Result, ensure};
use rand::distr::weighted::WeightedIndex;
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;

use super::gradient::Gradient;
use super::model::{Autoencoder, ModelScratch, add, dot, row, row_mut};
use super::rows::{StateRows, squared_distance};

/// How an autoencoder is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Training {
    /// Number of features, at least one.
    pub features: usize,
    /// The most features that are active in a state.
    pub active: usize,
    /// Number of Adam steps.
    pub steps: usize,
    /// Number of states per step.
    pub batch: usize,
    /// Learning rate of Adam for states scaled to a mean square of 1 per dimension; it falls to 0 over the last fifth
    /// of the steps.
    pub learning_rate: f32,
    /// Number of steps after which features that were not active since the last reset are reset. There is no reset in
    /// the second half.
    pub revive_every: usize,
    /// Seed of the initial weights and of the order of the states.
    pub seed: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            features: 512,
            active: 8,
            steps: 3000,
            batch: 1024,
            learning_rate: 1e-3,
            revive_every: 250,
            seed: 1,
        }
    }
}

/// Share of the steps, at the end, over which the learning rate falls.
const DECAY: f32 = 0.2;
/// Number of states from which directions of reset features are drawn.
const REVIVE_FROM: usize = 8192;
/// Norm of a reset feature's encoder row relative to the mean of the others (Bricken et al. 2023, "Towards
/// Monosemanticity", appendix). It is small so that the reset disturbs training little.
const REVIVED: f32 = 0.2;

impl Training {
    /// Trains an autoencoder on states. The result depends on the seed and the states only, not on the number of
    /// threads. At each reset and at the end, `progress` gets the number of steps done and of features that were not
    /// active since the last reset.
    ///
    /// # Errors
    ///
    /// If a size is 0, or the states are all equal or not finite.
    pub fn run(&self, rows: &StateRows, mut progress: impl FnMut(usize, usize)) -> Result<Autoencoder> {
        ensure!(
            self.features > 0 && self.batch > 0 && self.revive_every > 0,
            "features, batch, revive_every: found {}, {}, {}, expected at least 1 each",
            self.features,
            self.batch,
            self.revive_every
        );
        ensure!(
            (1..=self.features).contains(&self.active),
            "active: found {}, expected 1 to {}, the number of features",
            self.active,
            self.features
        );
        let variation = rows.variation();
        ensure!(
            variation.is_finite() && variation > 0.0,
            "found {} states that vary by {variation}, expected states that differ, all finite",
            rows.len()
        );
        // With a mean square of 1 per dimension, one learning rate suits every stream.
        let scale = (variation / rows.values.len() as f64).sqrt() as f32;
        let scaled = StateRows {
            width: rows.width,
            values: rows.values.iter().map(|x| x / scale).collect(),
        };
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut trained = TrainingState::begin(self.first(&scaled, &mut rng));
        let mut order = StateOrder::new(rows.len());
        let mut idle = vec![true; self.features];
        for step in 1..=self.steps {
            let batch = order.next(self.batch, &mut rng);
            let gradient = Gradient::of(&trained.autoencoder, &scaled, &batch);
            let used = idle.iter_mut().zip(&gradient.used);
            used.for_each(|(idle, used)| *idle &= *used == 0);
            trained.step(gradient, self.rate(step));
            if step % self.revive_every == 0 || step == self.steps {
                let dead: Vec<usize> = (0..self.features).filter(|&feature| idle[feature]).collect();
                progress(step, dead.len());
                if 2 * step <= self.steps {
                    trained.revive(&dead, &scaled, &mut rng);
                }
                idle.fill(true);
            }
        }
        // Scale back: activations and biases are in units of the states; encoder and decoder weights are dimensionless.
        let mut autoencoder = trained.autoencoder;
        autoencoder.encoder_bias.iter_mut().for_each(|bias| *bias *= scale);
        autoencoder.decoder_bias.iter_mut().for_each(|bias| *bias *= scale);
        Ok(autoencoder)
    }

    /// The learning rate of step `step`, counted from 1.
    fn rate(&self, step: usize) -> f32 {
        let left = (self.steps - step) as f32 / (self.steps as f32 * DECAY);
        self.learning_rate * left.min(1.0)
    }

    /// The initial autoencoder: the bias is the mean, directions are random, and the encoder is the transposed decoder
    /// (Gao et al. 2024, 2.4).
    fn first(&self, rows: &StateRows, rng: &mut ChaCha8Rng) -> Autoencoder {
        let mut decoder: Vec<f32> = rng
            .sample_iter(StandardNormal)
            .take(self.features * rows.width)
            .collect();
        decoder.chunks_exact_mut(rows.width).for_each(normalize);
        Autoencoder {
            width: rows.width,
            active: self.active,
            encoder: decoder.clone(),
            encoder_bias: vec![0.0; self.features],
            decoder,
            decoder_bias: rows.mean(),
        }
    }
}

/// Order of the states, shuffled again for each epoch.
struct StateOrder {
    order: Vec<usize>,
    next: usize,
}

impl StateOrder {
    fn new(rows: usize) -> Self {
        Self {
            order: (0..rows).collect(),
            next: rows,
        }
    }

    /// The next `count` states.
    fn next(&mut self, count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
        let mut batch = Vec::with_capacity(count);
        while batch.len() < count {
            if self.next == self.order.len() {
                self.order.shuffle(rng);
                self.next = 0;
            }
            let end = (self.next + count - batch.len()).min(self.order.len());
            batch.extend_from_slice(&self.order[self.next..end]);
            self.next = end;
        }
        batch
    }
}

/// An autoencoder in training, with Adam's moments of each parameter.
struct TrainingState {
    autoencoder: Autoencoder,
    encoder: Adam,
    encoder_bias: Adam,
    decoder: Adam,
    decoder_bias: Adam,
    steps: i32,
}

impl TrainingState {
    fn begin(autoencoder: Autoencoder) -> Self {
        Self {
            encoder: Adam::new(autoencoder.encoder.len()),
            encoder_bias: Adam::new(autoencoder.encoder_bias.len()),
            decoder: Adam::new(autoencoder.decoder.len()),
            decoder_bias: Adam::new(autoencoder.decoder_bias.len()),
            autoencoder,
            steps: 0,
        }
    }

    fn step(&mut self, mut gradient: Gradient, rate: f32) {
        self.steps += 1;
        let of = &mut self.autoencoder;
        // The decoder's rows stay at norm 1, so the component of the gradient along them is removed.
        let rows = gradient.decoder.chunks_exact_mut(of.width);
        for (gradient, direction) in rows.zip(of.decoder.chunks_exact(of.width)) {
            let along = dot(gradient, direction);
            add(gradient, -along, direction);
        }
        self.encoder.step(&mut of.encoder, &gradient.encoder, self.steps, rate);
        self.encoder_bias
            .step(&mut of.encoder_bias, &gradient.encoder_bias, self.steps, rate);
        self.decoder.step(&mut of.decoder, &gradient.decoder, self.steps, rate);
        self.decoder_bias
            .step(&mut of.decoder_bias, &gradient.decoder_bias, self.steps, rate);
        of.decoder.chunks_exact_mut(of.width).for_each(normalize);
    }

    /// Resets the `dead` features. Each gets the direction of a reconstruction error, drawn with probability
    /// proportional to the squared error (Bricken et al. 2023, "Towards Monosemanticity", appendix).
    fn revive(&mut self, dead: &[usize], rows: &StateRows, rng: &mut ChaCha8Rng) {
        let of = &mut self.autoencoder;
        let width = of.width;
        let sample: Vec<usize> = (0..REVIVE_FROM).map(|_| rng.random_range(0..rows.len())).collect();
        let errors: Vec<Vec<f32>> = sample
            .par_iter()
            .map_init(ModelScratch::default, |scratch, &index| {
                let (state, mut error) = (rows.row(index), Vec::new());
                of.encode_into(state, scratch);
                of.decode_into(&scratch.active, &mut error);
                error.iter_mut().zip(state).for_each(|(error, x)| *error = x - *error);
                error
            })
            .collect();
        let nothing = vec![0.0; width];
        let weights = errors.iter().map(|error| squared_distance(error, &nothing));
        // Without any error there is no direction to draw.
        let Ok(drawn) = WeightedIndex::new(weights) else {
            return;
        };
        let alive = (0..of.features()).filter(|feature| !dead.contains(feature));
        let norms: Vec<f32> = alive.map(|feature| norm(row(&of.encoder, width, feature))).collect();
        let length = REVIVED * norms.iter().sum::<f32>() / norms.len().max(1) as f32;
        for &feature in dead {
            let mut direction = errors[drawn.sample(rng)].clone();
            normalize(&mut direction);
            row_mut(&mut of.decoder, width, feature).copy_from_slice(&direction);
            let looks_for = row_mut(&mut of.encoder, width, feature).iter_mut();
            looks_for.zip(&direction).for_each(|(to, x)| *to = x * length);
            of.encoder_bias[feature] = 0.0;
            self.encoder.forget(feature * width, width);
            self.decoder.forget(feature * width, width);
            self.encoder_bias.forget(feature, 1);
        }
    }
}

/// Adam (Kingma & Ba 2015, arXiv 1412.6980) for a slice of parameters.
struct Adam {
    mean: Vec<f32>,
    square: Vec<f32>,
}

impl Adam {
    const BETA: [f32; 2] = [0.9, 0.999];
    const EPSILON: f32 = 1e-8;

    fn new(size: usize) -> Self {
        Self {
            mean: vec![0.0; size],
            square: vec![0.0; size],
        }
    }

    /// Does step `step`, counted from 1.
    fn step(&mut self, values: &mut [f32], gradient: &[f32], step: i32, rate: f32) {
        let [by_mean, by_square] = Self::BETA.map(|beta| 1.0 - beta.powi(step));
        let moments = self.mean.iter_mut().zip(&mut self.square);
        for ((value, gradient), (mean, square)) in values.iter_mut().zip(gradient).zip(moments) {
            *mean += (1.0 - Self::BETA[0]) * (gradient - *mean);
            *square += (1.0 - Self::BETA[1]) * (gradient * gradient - *square);
            *value -= rate * (*mean / by_mean) / ((*square / by_square).sqrt() + Self::EPSILON);
        }
    }

    /// Resets the moments of `count` parameters from `start` on.
    fn forget(&mut self, start: usize, count: usize) {
        self.mean[start..start + count].fill(0.0);
        self.square[start..start + count].fill(0.0);
    }
}

fn norm(row: &[f32]) -> f32 {
    dot(row, row).sqrt()
}

/// Scales a row to norm 1; a row of zeros is left unchanged.
fn normalize(row: &mut [f32]) {
    let norm = norm(row);
    if norm > 0.0 {
        row.iter_mut().for_each(|x| *x /= norm);
    }
}

#[cfg(test)]
mod tests {
    use super::super::AutoencoderQuality;
    use super::super::testing::numbers;
    use super::*;

    const WIDTH: usize = 24;
    const PLANTED: usize = 32;

    /// States that are sums of three of 32 directions, with a mean far from 0, and these directions.
    fn planted(rows: usize) -> (StateRows, Vec<f32>) {
        let mut directions = numbers(PLANTED * WIDTH, 1);
        directions.chunks_exact_mut(WIDTH).for_each(normalize);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut values = Vec::new();
        for _ in 0..rows {
            let mut state = vec![30.0f32; WIDTH];
            for feature in rand::seq::index::sample(&mut rng, PLANTED, 3) {
                let activation = rng.random_range(20.0..60.0);
                add(&mut state, activation, row(&directions, WIDTH, feature));
            }
            values.extend(state);
        }
        (StateRows { width: WIDTH, values }, directions)
    }

    fn training() -> Training {
        Training {
            features: 48,
            active: 3,
            steps: 1500,
            batch: 256,
            learning_rate: 3e-3,
            revive_every: 100,
            seed: 1,
        }
    }

    #[test]
    fn planted_features_are_recovered() {
        let (rows, directions) = planted(8000);
        let autoencoder = training().run(&rows, |_, _| ()).unwrap();
        let best = |direction: &[f32]| {
            let cosines = (0..autoencoder.features()).map(|feature| dot(autoencoder.direction(feature), direction));
            cosines.fold(0.0, f32::max)
        };
        let found = directions
            .chunks_exact(WIDTH)
            .filter(|direction| best(direction) > 0.95);
        let found = found.count();
        let quality = AutoencoderQuality::of(&autoencoder, &rows);
        println!(
            "{found} of {PLANTED} found, explained {:.3}",
            quality.explained_variance
        );
        assert!(found >= 28, "{found} of {PLANTED}");
        assert!(quality.explained_variance > 0.95, "{}", quality.explained_variance);
        assert!(quality.mean_active <= 3.0);
        let norms = (0..48).map(|feature| norm(autoencoder.direction(feature)));
        assert!(norms.into_iter().all(|norm| (norm - 1.0).abs() < 1e-4));
    }

    #[test]
    fn the_seed_determines_the_result() {
        let (rows, _) = planted(500);
        let short = |seed| Training {
            steps: 60,
            revive_every: 20,
            seed,
            ..training()
        };
        let mut told = Vec::new();
        let first = short(1).run(&rows, |step, _| told.push(step)).unwrap();
        assert_eq!(told, [20, 40, 60]);
        assert_eq!(first, short(1).run(&rows, |_, _| ()).unwrap());
        assert_ne!(first, short(2).run(&rows, |_, _| ()).unwrap());
    }

    #[test]
    fn invalid_settings_and_states_are_errors() {
        let (rows, _) = planted(10);
        let error = |training: Training, rows: &StateRows| training.run(rows, |_, _| ()).unwrap_err().to_string();
        let many = Training {
            active: 49,
            ..training()
        };
        assert!(error(many, &rows).contains("found 49, expected 1 to 48"));
        let same = StateRows {
            width: 2,
            values: vec![1.0; 8],
        };
        assert!(error(training(), &same).contains("expected states that differ"));
    }
}
