//! One task from its measurements to its result, and all of them to a summary.

use anyhow::{Context, Result, ensure};
use steermap_maps::{MapFile, OffsetRule};

use super::analysis::{self, Propensities};
use super::job::{EvalJob, file_stem};
use super::measure::{Bench, Prepared};
use super::result::{Curve, Estimate, Kind, Perplexity, Representation, Summary, TaskResult};
use super::search::Names;
use super::{vectors, verdict};
use crate::behaviour::cosine;
use crate::statistics::{Resamples, mean};

/// Random directions whose cosines are drawn: a product each, so many are cheap.
const RANDOM_COSINES: usize = 200;

impl EvalJob {
    /// Measures a task and works its result out, but for its side effects, which need the other tasks.
    ///
    /// # Errors
    ///
    /// What the engine answers with, a stop, or propensities that say nothing.
    pub(super) async fn task(
        &self,
        bench: &mut Bench<'_>,
        task: &Prepared<'_>,
        layers: &[usize],
        map: &MapFile,
    ) -> Result<TaskResult> {
        let name = &task.task.name;
        let alphas_at = |mean_norm: f64| self.alphas.relative_to(mean_norm);
        let candidates = bench.candidates(task, layers, alphas_at).await?;
        let chosen = candidates
            .iter()
            .max_by(|a, b| a.native_slope.total_cmp(&b.native_slope));
        let chosen = chosen.context("layers: found none")?.clone();
        let layer = chosen.target_layer;
        let mean_norm = task.mapped_layer(layer)?.mean_norm;
        let (native, mapped, unmapped) = (task.native(layer)?, task.mapped(layer)?, task.unmapped(layer)?);

        let alphas = self.alphas.relative_to(mean_norm);
        let unsteered = bench.unsteered(&format!("{name}/unsteered"), &task.measuring).await?;
        let mut measured: Vec<(Kind, Propensities)> = Vec::new();
        let directions = [
            (Kind::Native, "native", Some(&native)),
            (Kind::Mapped, "mapped", Some(&mapped)),
            (Kind::Unmapped, "unmapped", unmapped.as_ref()),
        ];
        for (kind, spelled, direction) in directions {
            let Some(direction) = direction else { continue };
            let unit = format!("{name}/curve/{spelled}");
            measured.push((
                kind,
                bench
                    .propensities(&unit, &task.measuring, direction, &alphas, &unsteered)
                    .await?,
            ));
        }
        let picked = spaced(alphas.len(), self.random_alphas);
        let random_alphas: Vec<f64> = picked.iter().map(|&i| alphas[i]).collect();
        let random = (0..self.random).map(|number| task.random(layer, number, self.seed));
        let random: Vec<_> = random.collect::<Result<_>>()?;
        let random = bench.random(task, &random, &random_alphas, &unsteered).await?;
        let perplexity = bench.perplexities(task, layer, &alphas).await?;
        let strong = self.strong_alpha(&perplexity);
        let generation = bench.generation(task, layer, strong, self.max_tokens).await?;
        let vector_path = vectors::path(&self.out, name, false);
        let names = Names {
            vector: &vector_path.to_string_lossy(),
            map: &self.map.to_string_lossy(),
            map_name: &file_stem(&self.map),
            offset: (self.offset != OffsetRule::Linear).then_some(self.offset.as_str()),
        };
        let proposal = bench
            .search(task, &candidates, alphas_at, self.perplexity_budget, &names)
            .await?;

        let resamples = Resamples::new(self.resamples, task.measuring.len(), self.seed);
        let (native_items, mapped_items) = (&measured[0].1, &measured[1].1);
        let native_slopes = analysis::item_slopes(&alphas, native_items)?;
        let retention = analysis::retention(
            &native_slopes,
            &analysis::item_slopes(&alphas, mapped_items)?,
            &resamples,
        );
        ensure!(
            retention.value.is_finite(),
            "task {name:?}: found a native vector at layer {layer} that moves no propensity"
        );
        // At the same alphas, since propensities bend.
        let at_picked: Propensities = picked.iter().map(|&i| native_items[i].clone()).collect();
        let native_slope = mean(&analysis::item_slopes(&random_alphas, &at_picked)?);
        let random = analysis::random_curves(&random_alphas, &random)?;
        let shares: Vec<f64> = random.slopes.iter().map(|slope| slope / native_slope).collect();
        let spread = |values: &[f64]| {
            analysis::spread(values, self.resamples, self.seed).context("found nothing to take a mean of")
        };
        let pearson = analysis::spread(
            &analysis::item_pearsons(native_items, mapped_items),
            self.resamples,
            self.seed,
        )
        .with_context(|| format!("task {name:?}: no item's propensity moves with alpha"))?;
        let probabilities = [native_items, mapped_items].map(analysis::probabilities);
        let random_retention = spread(&shares)?;
        let curves = measured
            .iter()
            .map(|(kind, items)| analysis::curve(*kind, &alphas, items.clone(), &resamples));
        let curves: Vec<Curve> = curves.collect::<Result<_>>()?;
        let verdict = verdict::of_task(&task.task.positive, &curves[0].slope, &retention, &random_retention);
        let auroc = |vector: &steermap_maps::VectorFile, layer: Option<usize>| {
            layer.and_then(|layer| vector.layer(layer)?.auroc)
        };
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
            candidates,
            source_auroc: auroc(&task.vectors.found, chosen.source_layers.last().copied()),
            native_auroc: auroc(&task.vectors.native, Some(layer)),
            source_layers: chosen.source_layers,
            target_layer: layer,
            mean_norm,
            cosine: cosine(&native.unit, &mapped.unit),
            random_cosines: spread(&task.random_cosines(map, layer, RANDOM_COSINES, self.seed)?)?,
            alphas,
            unsteered: analysis::estimate(&unsteered, &resamples),
            pearson,
            mse: spread(&analysis::item_errors(native_items, mapped_items))?,
            mse_probability: spread(&analysis::item_errors(&probabilities[0], &probabilities[1]))?,
            curves,
            random,
            retention,
            random_retention,
            perplexity,
            side_effects: Vec::new(),
            generation,
            proposal,
            verdict,
        })
    }

    /// The largest alpha above 0 at which perplexity is within the budget with both vectors, to either side where there is
    /// another; else the smallest.
    pub(super) fn strong_alpha(&self, perplexity: &Perplexity) -> f64 {
        let within = |alpha: f64| {
            let at = perplexity.alphas.iter().position(|other| *other == alpha);
            at.is_none_or(|at| {
                [perplexity.native[at], perplexity.mapped[at]]
                    .iter()
                    .all(|steered| *steered <= self.perplexity_budget * perplexity.unsteered)
            })
        };
        let upwards = || perplexity.alphas.iter().copied().filter(|alpha| *alpha > 0.0);
        let strongest = upwards()
            .filter(|&alpha| within(alpha) && within(-alpha))
            .reduce(f64::max);
        let most = perplexity
            .alphas
            .iter()
            .fold(0.0, |most: f64, alpha| most.max(alpha.abs()));
        strongest.or_else(|| upwards().reduce(f64::min)).unwrap_or(most)
    }

    /// All tasks together; means are over those whose native vector steers.
    pub(super) fn summary(&self, tasks: &[TaskResult], representation: &Representation) -> Summary {
        let steering: Vec<&TaskResult> = tasks.iter().filter(|task| verdict::native_steers(task)).collect();
        let over = |of: fn(&TaskResult) -> f64| -> Option<Estimate> {
            let values: Vec<f64> = steering.iter().map(|task| of(task)).collect();
            let resamples = Resamples::new(self.resamples, values.len(), self.seed);
            (!values.is_empty()).then(|| analysis::estimate(&values, &resamples))
        };
        let retention = over(|task| task.retention.value);
        Summary {
            retention,
            pearson: over(|task| task.pearson.mean),
            mse: over(|task| task.mse.mean),
            mse_probability: over(|task| task.mse_probability.mean),
            verdict: verdict::of_map(tasks, retention.as_ref(), representation),
        }
    }
}

/// At most `wanted` of `count` indices, evenly spaced, both ends among them.
pub(super) fn spaced(count: usize, wanted: usize) -> Vec<usize> {
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
