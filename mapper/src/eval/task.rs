//! The result of one task, without the parts that need the other tasks.

use anyhow::{Context, Result, bail};
use steermap_maps::{MapFile, OffsetRule, VectorFile};
use steermap_report::result::{
    Candidate, Control, ControlKind, Curve, HalfSamples, Protocol, SteeringKind, TaskResult,
};

use super::Stopped;
use super::analysis::{self, Propensities};
use super::config::ServedVector;
use super::controls::ControlSlopes;
use super::layers::{Half, LayerSlopes, layer_results};
use super::measure::{Bench, PreparedTask, ScaledDirection};
use super::options::EvalJob;
use super::texts::DecisivePropensities;
use super::verdict;
use crate::behaviour::cosine;
use crate::statistics::{Resamples, half_sample_error, mean};

/// Number of random source directions whose cosines are computed. Each costs one product, so many are cheap.
const RANDOM_COSINES: usize = 200;

/// Propensities on the measuring half at the layer where controls are measured.
struct Curves {
    alphas: Vec<f64>,
    unsteered: Vec<f64>,
    measured: Vec<(SteeringKind, Propensities)>,
    /// Alphas of the isotropic random directions, and their propensities.
    random_alphas: Vec<f64>,
    random: Vec<Propensities>,
    /// Those of the task's vector through the map of shuffled pairings.
    shuffled_map: Vec<Propensities>,
    /// The native and the mapped vector's propensities at these alphas.
    native_there: Propensities,
    mapped_there: Propensities,
}

impl EvalJob {
    /// Measures a task and computes its result, without the parts that need the other tasks: side effects, specificity,
    /// verdict.
    ///
    /// # Errors
    ///
    /// An error of the engine, a stop, or propensities that don't vary.
    pub(super) async fn task(
        &self,
        bench: &mut Bench<'_>,
        task: &PreparedTask<'_>,
        protocol: &Protocol,
        shuffled_map: Option<&MapFile>,
    ) -> Result<TaskResult> {
        let (name, layer) = (&task.task.name, protocol.layer);
        let finding_resamples = Resamples::clustered(self.resamples, &task.finding_clusters, self.seed);
        let resamples = Resamples::clustered(self.resamples, &task.clusters, self.seed);
        let finding = bench.layer_slopes(task, Half::Finding, &protocol.band).await?;
        let candidates: Vec<Candidate> = finding
            .iter()
            .map(|slopes| slopes.candidate(task))
            .collect::<Result<_>>()?;
        let best = candidates
            .iter()
            .max_by(|a, b| a.native_slope.total_cmp(&b.native_slope));
        let best_layer = best.context("layers: found none")?.target_layer;
        let random = (0..self.random).map(|number| task.random(layer, number, self.seed));
        let random: Vec<ScaledDirection> = random.collect::<Result<_>>()?;
        let native_steers = bench
            .native_steers(
                task,
                &LayerSlopes::at(&finding, layer)?.native,
                &random,
                protocol,
                (&finding_resamples, self.seed),
            )
            .await?;
        let slopes = bench.layer_slopes(task, Half::Measuring, &protocol.band).await?;
        let own = LayerSlopes::at(&slopes, layer)?;
        let half_samples = self.half_samples(bench, task, own).await?;
        let curves = self.curves(bench, task, layer, &random, shuffled_map).await?;
        let mapped_random = task.mapped_random(layer, protocol.control_draws.max(RANDOM_COSINES), self.seed)?;
        let draws = &mapped_random[..protocol.control_draws];
        let mut controls = bench
            .own_controls(task, protocol, own, draws, (self.resamples, self.seed))
            .await?;
        controls.extend(self.curve_controls(&curves)?);
        let perplexity = bench.perplexities(task, layer, &curves.alphas).await?;
        let at_decisive = DecisivePropensities {
            alphas: &curves.alphas,
            unsteered: &curves.unsteered,
            native: &curves.measured[0].1,
            mapped: &curves.measured[1].1,
        };
        let texts = bench
            .texts(
                task,
                &mapped_random,
                &at_decisive,
                &self.texts,
                (self.resamples, self.seed),
            )
            .await;
        // Everything else of the task is measured already, so an error here only costs the texts.
        let generation = match texts {
            Err(error) if !error.is::<Stopped>() => {
                bench
                    .notes
                    .push(format!("{name}: its texts were not scored: {error:#}"));
                None
            }
            texts => texts?,
        };
        let served = ServedVector {
            task: name,
            map: &self.map,
            offset: (self.offset != OffsetRule::Linear).then_some(self.offset.as_str()),
        };
        let proposal = match &generation {
            _ if !native_steers.steers => None,
            Some(texts) => {
                bench
                    .search_by_texts(task, layer, texts, self.perplexity_budget, &served)
                    .await?
            }
            None => bench.search(task, &candidates, self.perplexity_budget, &served).await?,
        };

        let standard_error = half_samples.as_ref().map_or(0.0, |halves| halves.standard_error);
        let (layers, band_retention) = layer_results(task, &slopes, protocol, &resamples, standard_error)?;
        let (alphas, native_items, mapped_items) = (&curves.alphas, &curves.measured[0].1, &curves.measured[1].1);
        let retention = analysis::retention(
            &analysis::item_slopes(alphas, native_items)?,
            &analysis::item_slopes(alphas, mapped_items)?,
            &resamples,
            standard_error,
        );
        let still = layers.iter().find(|layer| !layer.retention.value.is_finite());
        if let Some(still) = still {
            bail!(
                "layer {}: found a native vector that moves no propensity of the measuring half, expected one that does",
                still.target_layer
            );
        }
        let spread = |values: &[f64]| {
            analysis::spread(values, self.resamples, self.seed).context("found nothing to take a mean of")
        };
        let pearson = spread(&analysis::item_pearsons(native_items, mapped_items))
            .context("no item's propensity moves with alpha")?;
        let item_pearson = analysis::alpha_pearson(alphas, native_items, mapped_items, &resamples)
            .context("the items' propensities are all the same at every alpha")?;
        let probabilities = [native_items, mapped_items].map(analysis::probabilities);
        let of_measured = curves
            .measured
            .iter()
            .map(|(kind, items)| analysis::curve(*kind, alphas, items.clone(), &resamples));
        let of_measured: Vec<Curve> = of_measured.collect::<Result<_>>()?;
        let (native, mapped) = (task.native(layer)?, task.mapped(layer)?);
        let random_cosines: Vec<f64> = mapped_random
            .iter()
            .take(RANDOM_COSINES)
            .map(|random| cosine(&random.unit, &native.unit))
            .collect();
        let source_layers = task.mapped_layer(layer)?.source_layers.clone();
        let auroc = |vector: &VectorFile, layer: Option<usize>| layer.and_then(|layer| vector.layer(layer)?.auroc);
        Ok(TaskResult {
            name: name.clone(),
            description: task.task.description.clone(),
            positive: task.task.positive.clone(),
            negative: task.task.negative.clone(),
            kind: task.task.kind.to_string(),
            sha256: task.task.sha256.clone(),
            pairs: task.vectors.native.header().pairs as usize,
            position: task.task.position.as_str().to_string(),
            finding: task.finding.len(),
            measuring: task.measuring.len(),
            clusters: task.clusters.iter().max().map_or(0, |last| last + 1),
            candidates,
            layers,
            band_retention,
            best_layer,
            source_auroc: auroc(&task.vectors.found, source_layers.last().copied()),
            native_auroc: auroc(&task.vectors.native, Some(layer)),
            source_layers,
            target_layer: layer,
            mean_norm: native.mean_norm,
            cosine: cosine(&native.unit, &mapped.unit),
            random_cosines: spread(&random_cosines)?,
            unsteered: analysis::estimate(&curves.unsteered, &resamples),
            pearson,
            item_pearson,
            mse: spread(&analysis::item_errors(native_items, mapped_items))?,
            mse_probability: spread(&analysis::item_errors(&probabilities[0], &probabilities[1]))?,
            random: analysis::random_curves(&curves.random_alphas, &curves.random)?,
            alphas: curves.alphas,
            curves: of_measured,
            native_steers,
            retention,
            half_samples,
            controls,
            specificity: None,
            perplexity,
            side_effects: Vec::new(),
            generation,
            proposal,
            verdict: verdict::pending(),
        })
    }

    /// Measures the curves at all alphas.
    async fn curves(
        &self,
        bench: &mut Bench<'_>,
        task: &PreparedTask<'_>,
        layer: usize,
        random: &[ScaledDirection],
        shuffled_map: Option<&MapFile>,
    ) -> Result<Curves> {
        let name = &task.task.name;
        let (native, mapped, unmapped) = (task.native(layer)?, task.mapped(layer)?, task.unmapped(layer)?);
        let alphas = self.alphas.relative_to(native.mean_norm);
        let unsteered = bench.unsteered(&format!("{name}/unsteered"), &task.measuring).await?;
        let mut measured: Vec<(SteeringKind, Propensities)> = Vec::new();
        let directions = [
            (SteeringKind::Native, "native", Some(native)),
            (SteeringKind::Mapped, "mapped", Some(mapped)),
            (SteeringKind::Unmapped, "unmapped", unmapped),
        ];
        for (kind, spelled, direction) in directions {
            let Some(direction) = direction else { continue };
            let unit = format!("{name}/curve/{spelled}");
            let of = bench.propensities(&unit, &task.measuring, &direction, &alphas, &unsteered);
            measured.push((kind, of.await?));
        }
        let picked = spaced(alphas.len(), self.random_alphas);
        let random_alphas: Vec<f64> = picked.iter().map(|&i| alphas[i]).collect();
        let unit = format!("{name}/curve/random");
        let random = bench
            .curves(&unit, &task.measuring, random, &random_alphas, &unsteered)
            .await?;
        let shuffled = match shuffled_map {
            Some(map) => vec![task.through(map, layer)?],
            None => Vec::new(),
        };
        let unit = format!("{name}/curve/shuffled-map");
        let shuffled_map = bench
            .curves(&unit, &task.measuring, &shuffled, &random_alphas, &unsteered)
            .await?;
        let there = |of: usize| -> Propensities { picked.iter().map(|&i| measured[of].1[i].clone()).collect() };
        Ok(Curves {
            native_there: there(0),
            mapped_there: there(1),
            alphas,
            unsteered,
            measured,
            random_alphas,
            random,
            shuffled_map,
        })
    }

    /// The controls that are measured at several alphas.
    fn curve_controls(&self, curves: &Curves) -> Result<Vec<Control>> {
        let alphas = &curves.random_alphas;
        let slope_of = |propensities: &Propensities| analysis::mean_slope(alphas, propensities);
        let (native, mapped) = (slope_of(&curves.native_there)?, slope_of(&curves.mapped_there)?);
        let mut controls = Vec::new();
        for (kind, directions) in [
            (ControlKind::Isotropic, &curves.random),
            (ControlKind::ShuffledMap, &curves.shuffled_map),
        ] {
            let slopes = ControlSlopes {
                kind,
                alphas: alphas.clone(),
                items: curves.unsteered.len(),
                slopes: directions.iter().map(slope_of).collect::<Result<_>>()?,
                native,
                mapped,
                propensities: (alphas.len() > 2).then_some((&curves.native_there, &directions[..])),
            };
            controls.extend(slopes.control(self.resamples, self.seed));
        }
        Ok(controls)
    }

    /// The uncertainty of the vectors, from vectors of half of the pairs; `None` if there are none.
    async fn half_samples(
        &self,
        bench: &mut Bench<'_>,
        task: &PreparedTask<'_>,
        own: &LayerSlopes,
    ) -> Result<Option<HalfSamples>> {
        let directions: Vec<ScaledDirection> = task.halves(own.layer)?.into_iter().flatten().collect();
        let unit = format!("{}/halves", task.task.name);
        let slopes = bench.slopes(&unit, &task.measuring, &directions).await?;
        let retention: Vec<f64> = slopes.chunks(2).map(|two| mean(&two[1]) / mean(&two[0])).collect();
        let full = mean(&own.mapped) / mean(&own.native);
        Ok(half_sample_error(full, &retention).map(|standard_error| HalfSamples {
            retention,
            standard_error,
        }))
    }
}

/// At most `wanted` of `count` indices, evenly spaced, including both ends.
fn spaced(count: usize, wanted: usize) -> Vec<usize> {
    if wanted >= count {
        return (0..count).collect();
    }
    let step = (count - 1) as f64 / (wanted.max(2) - 1) as f64;
    (0..wanted.max(2)).map(|i| (i as f64 * step).round() as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alphas_for_random_directions_are_spread_out() {
        assert_eq!(spaced(21, 5), [0, 5, 10, 15, 20]);
        assert_eq!(spaced(4, 9), [0, 1, 2, 3]);
        assert_eq!(spaced(6, 3), [0, 3, 5]);
    }
}
