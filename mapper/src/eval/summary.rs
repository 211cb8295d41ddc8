//! The summary over all tasks.

use steermap_report::result::{
    Agreement, Estimate, Generation, KindScore, LayerMean, Means, Outcome, Protocol, Representation, SteeringKind,
    Summary, TaskResult, TextMeans,
};

use super::{analysis, verdict};
use crate::statistics::mean;

/// The summary of tasks that have their verdicts.
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
        verdict: verdict::pending(),
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
        item_pearson: over(&|task| Some(analysis::estimate_of(&task.item_pearson))),
        mse: over(&|task| Some(analysis::estimate_of(&task.mse))),
        mse_probability: over(&|task| Some(analysis::estimate_of(&task.mse_probability))),
        texts: text_means(tasks, resamples, seed),
    }
}

/// Means of the scores of generated texts.
fn text_means(tasks: &[&TaskResult], resamples: usize, seed: u64) -> Option<TextMeans> {
    let texts: Vec<&Generation> = tasks.iter().filter_map(|task| task.generation.as_ref()).collect();
    let of_kind = |kind: SteeringKind| {
        let chosen = texts
            .iter()
            .filter_map(|texts| texts.chosen.iter().find(|chosen| chosen.kind == kind));
        let chosen: Vec<_> = chosen.collect();
        let scores: Vec<Estimate> = chosen.iter().map(|chosen| chosen.score).collect();
        let judged: Vec<Estimate> = chosen.iter().filter_map(|chosen| chosen.judged).collect();
        Some(KindScore {
            kind,
            tasks: chosen.len(),
            score: analysis::mean_of_bounded(&scores, resamples, seed)?,
            judged_tasks: judged.len(),
            judged: analysis::mean_of_bounded(&judged, resamples, seed),
        })
    };
    let agreement = |of: fn(&Agreement) -> Option<f64>| {
        let found: Vec<f64> = texts.iter().filter_map(|texts| of(&texts.agreement)).collect();
        // Each correlation is exact for its own texts; the uncertainty is how tasks differ.
        analysis::spread(&found, resamples, seed).map(|spread| analysis::estimate_of(&spread))
    };
    let kinds = [
        SteeringKind::Unsteered,
        SteeringKind::Prompted,
        SteeringKind::Native,
        SteeringKind::Mapped,
        SteeringKind::MappedRandom,
    ];
    (!texts.is_empty()).then(|| TextMeans {
        tasks: texts.len(),
        kinds: kinds.into_iter().filter_map(of_kind).collect(),
        agreement_concept: agreement(|agreement| agreement.concept),
        agreement_score: agreement(|agreement| agreement.score),
        agreement_judged: agreement(|agreement| agreement.judged),
    })
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
