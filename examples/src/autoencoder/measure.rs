//! What steering by a feature does to the large model, beside the mean-difference vectors of the same concept.

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use steermap_mapper::behaviour::{Choices, cosine};
use steermap_mapper::eval::Alphas;
use steermap_mapper::eval::analysis::{Propensities, estimate, item_slopes, mean_slope, retention};
use steermap_mapper::eval::conclusion::clusters;
use steermap_mapper::eval::measure::{PreparedTask, ScaledDirection};
use steermap_mapper::statistics::{Resamples, quantiles, rank_p_value};
use steermap_mapper::steerer::Steerer;
use steermap_report::result::Estimate;

use super::{Autoencoder, AutoencoderQuality, FeatureLabel};

/// How steering is measured.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureProtocol {
    /// The source's layer that the autoencoder and the map read.
    pub source_layer: usize,
    /// The target's layer that is steered.
    pub target_layer: usize,
    /// Strengths at which every direction is measured. Controls are measured at the first and the last only.
    pub alphas: Alphas,
    /// Number of mapped random directions, and of other features, per concept.
    pub draws: usize,
    /// Number of bootstrap resamples.
    pub resamples: usize,
    /// Seed of draws and resamples.
    pub seed: u64,
}

/// Retention of the directions of a control.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlRetention {
    /// Ratio of slopes to the native vector's, by direction.
    pub retention: Vec<f64>,
    /// The central 95% of them.
    pub range: [f64; 2],
}

/// A concept's steering. Retention is the slope of the mean propensity against alpha over that with the native vector.
#[derive(Clone, Debug, PartialEq)]
pub struct ConceptResult {
    /// The concept.
    pub concept: String,
    /// Name of the side on which the feature is active.
    pub side: String,
    /// The feature.
    pub label: FeatureLabel,
    /// The share of held-out states in which it is active.
    pub density: f64,
    /// Cosine of the feature's direction, signed to point to the positive side, with the source's mean-difference
    /// vector.
    pub cosine: f64,
    /// The same for the mapped feature and the target's own mean-difference vector.
    pub mapped_cosine: f64,
    /// Slope with the native mean-difference vector, in logits per mean norm of the stream.
    pub native: Estimate,
    /// Retention of the mapped mean-difference vector.
    pub mapped: Estimate,
    /// Retention of the mapped feature.
    pub feature: Estimate,
    /// Retention of the feature's direction in a map from features to states.
    pub direct: Estimate,
    /// Ratio of the slope with the feature to that with the mean-difference vector: on the source without a map, and on
    /// the target with both mapped.
    pub shares: [Estimate; 2],
    /// Mapped random directions.
    pub random: ControlRetention,
    /// Other features of the autoencoder, mapped.
    pub others: ControlRetention,
    /// Unadjusted p-values from ranks among the mapped random directions: of the mapped mean-difference vector, of the
    /// mapped feature, and of its direction in the map from features to states.
    pub p_values: [f64; 3],
    /// Number of items, and of clusters of items that share their deciding words.
    pub items: (usize, usize),
}

/// A concept with its labelled feature, ready to be measured.
pub struct LabelledConcept<'a> {
    /// Its task, with its mean-difference vectors on both models.
    pub task: &'a PreparedTask<'a>,
    /// The measuring half of its items, as the source's tokens.
    pub on_source: Choices,
    /// The feature labelled with it.
    pub label: FeatureLabel,
    /// The mapped feature: `[target width]`, in the direction in which it adds to the stream.
    pub mapped: Vec<f32>,
    /// The feature's direction in a map from features to states: `[target width]`.
    pub direct: Vec<f32>,
}

impl LabelledConcept<'_> {
    /// Measures the concept on the source and on the target.
    ///
    /// # Errors
    ///
    /// If the map does not reach the layer, maps a direction to zero, the engine fails, or the native vector moves no
    /// propensity.
    pub async fn measure(
        &self,
        [source, target]: [&Steerer<'_>; 2],
        (autoencoder, quality): (&Autoencoder, &AutoencoderQuality),
        protocol: &FeatureProtocol,
    ) -> Result<ConceptResult> {
        let (task, layer, items) = (self.task, protocol.target_layer, &self.task.measuring);
        let (native, mapped) = (task.native(layer)?, task.mapped(layer)?);
        let feature = ScaledDirection::of(layer, &self.turned(&self.mapped), native.mean_norm)?;
        let direct = ScaledDirection::of(layer, &self.turned(&self.direct), native.mean_norm)?;
        let mapped_cosine = cosine(&feature.unit, &native.unit);
        let alphas = protocol.alphas.relative_to(native.mean_norm);
        let own = propensities(target, items, &[native, mapped, feature, direct], &alphas).await?;
        let slopes: Vec<Vec<f64>> = own.iter().map(|own| item_slopes(&alphas, own)).collect::<Result<_>>()?;
        let resamples = Resamples::clustered(protocol.resamples, &task.clusters, protocol.seed);
        let of =
            |numerator: usize, denominator: usize| retention(&slopes[denominator], &slopes[numerator], &resamples, 0.0);

        // Controls are many, so they are measured at two alphas only, and compared with the slopes of the others at the
        // same two.
        let ends = [alphas[0], alphas[alphas.len() - 1]];
        let at_ends = |all: &Propensities| mean_slope(&ends, &vec![all[0].clone(), all[all.len() - 1].clone()]);
        let own: Vec<f64> = own.iter().map(at_ends).collect::<Result<_>>()?;
        let random = task.mapped_random(layer, protocol.draws, protocol.seed)?;
        let others = self.others(autoencoder, quality, protocol)?;
        let mut controls = Vec::with_capacity(2);
        for directions in [random, others] {
            let measured = propensities(target, items, &directions, &ends).await?;
            let slopes: Vec<f64> = measured.iter().map(|of| mean_slope(&ends, of)).collect::<Result<_>>()?;
            let retention: Vec<f64> = slopes.iter().map(|slope| slope / own[0]).collect();
            let range = quantiles(&retention, [0.025, 0.975]).context("control: found no directions, expected some")?;
            controls.push(ControlRetention { retention, range });
        }
        let others = controls.pop().context("no other features")?;
        let random = controls.pop().context("no random directions")?;
        let p_value = |which: usize| {
            let rank = rank_p_value(own[which] / own[0], &random.retention);
            rank.context("the native vector moves no propensity")
        };
        let (cosine, source_share) = self.on_source(source, autoencoder, protocol).await?;
        Ok(ConceptResult {
            concept: task.task.name.clone(),
            side: self.label.side.of(&task.task.positive, &task.task.negative).clone(),
            label: self.label.clone(),
            density: quality.density[self.label.feature],
            cosine,
            mapped_cosine,
            native: estimate(&slopes[0], &resamples),
            mapped: of(1, 0),
            feature: of(2, 0),
            direct: of(3, 0),
            shares: [source_share, of(2, 1)],
            p_values: [p_value(1)?, p_value(2)?, p_value(3)?],
            random,
            others,
            items: (items.len(), resamples.clusters()),
        })
    }

    /// Measures on the source, without a map: the cosine of the feature with the mean-difference vector, and the ratio
    /// of their slopes.
    async fn on_source(
        &self,
        source: &Steerer<'_>,
        autoencoder: &Autoencoder,
        protocol: &FeatureProtocol,
    ) -> Result<(f64, Estimate)> {
        let layer = protocol.source_layer;
        let found = self.task.vectors.found.layer(layer);
        let found = found.context("the source's vector lacks the layer")?;
        let feature = self.turned(autoencoder.direction(self.label.feature));
        let directions =
            [found.direction.as_slice(), &feature].map(|of| ScaledDirection::of(layer, of, found.mean_norm));
        let [found, feature] = directions;
        let (found, feature) = (found?, feature?);
        let cosine = cosine(&feature.unit, &found.unit);
        let alphas = protocol.alphas.relative_to(found.mean_norm);
        let measured = propensities(source, &self.on_source, &[found, feature], &alphas).await?;
        let slopes: Vec<Vec<f64>> = measured
            .iter()
            .map(|of| item_slopes(&alphas, of))
            .collect::<Result<_>>()?;
        let clusters = clusters(self.task.task.kind, &self.on_source);
        let resamples = Resamples::clustered(protocol.resamples, &clusters, protocol.seed);
        Ok((cosine, retention(&slopes[0], &slopes[1], &resamples, 0.0)))
    }

    /// A direction of the feature, signed to point to the concept's positive side.
    fn turned(&self, direction: &[f32]) -> Vec<f32> {
        let sign = self.label.side.sign() as f32;
        direction.iter().map(|x| sign * x).collect()
    }

    /// Other features that are active in some state, drawn without replacement and mapped.
    fn others(
        &self,
        autoencoder: &Autoencoder,
        quality: &AutoencoderQuality,
        protocol: &FeatureProtocol,
    ) -> Result<Vec<ScaledDirection>> {
        let layer = protocol.target_layer;
        let others = (0..autoencoder.features()).filter(|other| *other != self.label.feature);
        let alive: Vec<usize> = others.filter(|&other| quality.density[other] > 0.0).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(protocol.seed);
        let drawn = rand::seq::index::sample(&mut rng, alive.len(), protocol.draws.min(alive.len()));
        let mut pairs = self.task.map.pairs().iter();
        let pair = pairs.find(|pair| pair.target_layer == layer && pair.source_layers == [protocol.source_layer]);
        let map = pair.context("the map does not have the layers")?.map.load()?;
        let mean_norm = self.task.mapped_layer(layer)?.mean_norm;
        let mapped = drawn.iter().map(|place| {
            let direction = autoencoder.direction(alive[place]);
            ScaledDirection::of(layer, &map.carry(direction, self.task.offset), mean_norm)
        });
        mapped.collect()
    }
}

/// Propensities `[alpha][item]` of each direction; alphas in units of the mean norm.
async fn propensities(
    steerer: &Steerer<'_>,
    items: &Choices,
    directions: &[ScaledDirection],
    alphas: &[f64],
) -> Result<Vec<Propensities>> {
    let offsets = directions
        .iter()
        .flat_map(|direction| alphas.iter().map(|&alpha| direction.at(alpha)));
    let measured = items.propensities_under(steerer, offsets, || ()).await?;
    Ok(measured.chunks(alphas.len()).map(<[Vec<f64>]>::to_vec).collect())
}
