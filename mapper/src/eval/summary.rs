//! All tasks together.

use steermap_report::result::{Estimate, LayerMean, Means, Outcome, Protocol, Representation, Summary, TaskResult};

use super::{analysis, verdict};
use crate::statistics::mean;

/// Works the summary out of tasks that have their verdicts.
pub fn summary(
    tasks: &[TaskResult],
    representation: &Representation,
    protocol: &Protocol,
    resamples: usize,
    seed: u64,
) -> Summary {
    let all: Vec<&TaskResult> = tasks.iter().collect();
    let steering: Vec<&TaskResult> = tasks.iter().filter(|task| task.native_steers.steers).collect();
    let carried = |task: &&TaskResult| task.verdict.outcome == Outcome::Carried;
    let layers = protocol
        .band
        .iter()
        .map(|&layer| layer_mean(&steering, layer, resamples, seed));
    let mut summary = Summary {
        measured: tasks.len(),
        steered: steering.len(),
        judged: tasks
            .iter()
            .filter(|task| task.verdict.outcome != Outcome::SaysNothing)
            .count(),
        carried: tasks.iter().filter(carried).count(),
        all: means(&all, resamples, seed),
        steering: means(&steering, resamples, seed),
        layers: layers.collect(),
        verdict: verdict::unsaid(),
    };
    summary.verdict = verdict::of_map(&summary, tasks, representation, protocol);
    summary
}

fn means(tasks: &[&TaskResult], resamples: usize, seed: u64) -> Means {
    let over = |of: &dyn Fn(&TaskResult) -> Option<Estimate>| {
        let estimates: Vec<Estimate> = tasks.iter().filter_map(|task| of(task)).collect();
        analysis::mean_of(&estimates, resamples, seed)
    };
    Means {
        tasks: tasks.len(),
        counting: tasks.iter().filter(|task| task.band_retention.is_some()).count(),
        retention: over(&|task| task.band_retention),
        pearson: over(&|task| Some(analysis::estimate_of(&task.pearson))),
        mse: over(&|task| Some(analysis::estimate_of(&task.mse))),
        mse_probability: over(&|task| Some(analysis::estimate_of(&task.mse_probability))),
    }
}

fn layer_mean(tasks: &[&TaskResult], layer: usize, resamples: usize, seed: u64) -> LayerMean {
    let results: Vec<_> = tasks
        .iter()
        .filter_map(|task| task.layers.iter().find(|result| result.target_layer == layer))
        .collect();
    let counting: Vec<Estimate> = results
        .iter()
        .filter(|result| result.counts)
        .map(|result| result.retention)
        .collect();
    let shares: Vec<f64> = results.iter().filter_map(|result| result.direct_share).collect();
    LayerMean {
        target_layer: layer,
        tasks: counting.len(),
        retention: analysis::mean_of(&counting, resamples, seed),
        direct_share: (!shares.is_empty()).then(|| mean(&shares)),
    }
}
