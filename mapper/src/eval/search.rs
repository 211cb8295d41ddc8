//! The proposed spec: its layer and strength. They are chosen on the finding half within the perplexity budget, by the
//! scores of generated texts if there are some, otherwise by propensity.

use anyhow::Result;

use steermap_report::result::{Candidate, Generation, Proposal, SteeringKind};

use super::config::{ServedVector, entry};
use super::measure::{Bench, PreparedTask};
use crate::statistics::mean;

/// Number of layers that are searched with all alphas: those at which the mapped vector steers most.
const LAYERS: usize = 2;

impl Bench<'_> {
    /// The layer and alpha (of those above 0) at which the mapped vector raises the finding half's propensity
    /// most, with perplexity within `budget` times that without steering. `None` if there is none.
    ///
    /// # Errors
    ///
    /// An error of the engine, or a stop.
    pub async fn search(
        &mut self,
        prepared: &PreparedTask<'_>,
        candidates: &[Candidate],
        budget: f64,
        served: &ServedVector<'_>,
    ) -> Result<Option<Proposal>> {
        let name = &prepared.task.name;
        let unsteered = self.unsteered(&format!("{name}/finding"), &prepared.finding).await?;
        let mut best: Option<Proposal> = None;
        for candidate in strongest(candidates) {
            let layer = candidate.target_layer;
            let direction = prepared.mapped(layer)?;
            let upwards: Vec<f64> = self
                .alphas
                .relative_to(direction.mean_norm)
                .into_iter()
                .filter(|alpha| *alpha > 0.0)
                .collect();
            // Perplexity grows with alpha, so the search ends at the first alpha beyond the budget.
            let mut affordable = Vec::new();
            for alpha in upwards {
                let unit = format!("{name}/perplexity/{layer}/mapped");
                let ratio = self.perplexity(&unit, &direction, alpha).await? / self.unsteered_perplexity;
                if ratio > budget {
                    break;
                }
                affordable.push((alpha, ratio));
            }
            let alphas: Vec<f64> = affordable.iter().map(|(alpha, _)| *alpha).collect();
            let unit = format!("{name}/search/{layer}");
            let steered = self
                .propensities(&unit, &prepared.finding, &direction, &alphas, &[])
                .await?;
            for ((alpha, perplexity_ratio), items) in affordable.into_iter().zip(steered) {
                let gain = mean(&items) - mean(&unsteered);
                if gain > best.as_ref().map_or(0.0, |best| best.gain) {
                    best = Some(Proposal {
                        target_layer: layer,
                        alpha,
                        gain,
                        perplexity_ratio,
                        score: None,
                        toml: entry(served, layer, alpha),
                    });
                }
            }
        }
        Ok(best)
    }

    /// The alpha at `layer` at which the finding prompts' texts with the mapped vector score best, and better than
    /// without steering, with perplexity within `budget` times that without steering. `None` if there is none.
    ///
    /// # Errors
    ///
    /// An error of the engine, or a stop.
    pub async fn search_by_texts(
        &mut self,
        prepared: &PreparedTask<'_>,
        layer: usize,
        texts: &Generation,
        budget: f64,
        served: &ServedVector<'_>,
    ) -> Result<Option<Proposal>> {
        let name = &prepared.task.name;
        let direction = prepared.mapped(layer)?;
        let of = |kind: SteeringKind| texts.settings.iter().filter(move |setting| setting.kind == kind);
        let least = of(SteeringKind::Unsteered)
            .next()
            .map_or(0.0, |setting| setting.finding.score);
        let mut best: Option<(f64, f64, f64)> = None;
        for setting in of(SteeringKind::Mapped) {
            let unit = format!("{name}/perplexity/{layer}/mapped");
            let ratio = self.perplexity(&unit, &direction, setting.alpha).await? / self.unsteered_perplexity;
            let score = setting.finding.score;
            if ratio <= budget && score > best.map_or(least, |(_, score, _)| score) {
                best = Some((setting.alpha, score, ratio));
            }
        }
        let Some((alpha, score, perplexity_ratio)) = best else {
            return Ok(None);
        };
        let unsteered = self.unsteered(&format!("{name}/finding"), &prepared.finding).await?;
        let unit = format!("{name}/search/{layer}/texts/{alpha}");
        let steered = self
            .propensities(&unit, &prepared.finding, &direction, &[alpha], &[])
            .await?;
        Ok(Some(Proposal {
            target_layer: layer,
            alpha,
            gain: mean(&steered[0]) - mean(&unsteered),
            perplexity_ratio,
            score: Some(score),
            toml: entry(served, layer, alpha),
        }))
    }
}

/// The candidates at which the mapped vector steers most, upwards.
fn strongest(candidates: &[Candidate]) -> Vec<&Candidate> {
    let mut upwards: Vec<&Candidate> = candidates
        .iter()
        .filter(|candidate| candidate.mapped_slope > 0.0)
        .collect();
    upwards.sort_by(|a, b| b.mapped_slope.total_cmp(&a.mapped_slope));
    upwards.truncate(LAYERS);
    upwards
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(target_layer: usize, mapped_slope: f64) -> Candidate {
        Candidate {
            source_layers: vec![0],
            target_layer,
            native_slope: 1.0,
            mapped_slope,
        }
    }

    #[test]
    fn the_layers_that_steer_most_are_searched() {
        let candidates = [
            candidate(0, 1.0),
            candidate(1, -5.0),
            candidate(2, 3.0),
            candidate(3, 2.0),
        ];
        let layers: Vec<usize> = strongest(&candidates)
            .iter()
            .map(|candidate| candidate.target_layer)
            .collect();
        assert_eq!(layers, [2, 3]);
        assert!(strongest(&[candidate(0, f64::NAN)]).is_empty());
    }
}
