//! The spec to serve: which layer, how strongly. Chosen on the finding half, with the cost to perplexity in view.

use anyhow::Result;

use super::measure::{Bench, Prepared};
use super::result::{Candidate, Proposal};
use crate::statistics::mean;

/// Layers that are looked at with all alphas: those at which the mapped vector steers most.
const LAYERS: usize = 2;

/// How the proposal names its files.
pub struct Names<'a> {
    /// The task's vector, as a path.
    pub vector: &'a str,
    /// The map, as a path.
    pub map: &'a str,
    /// The map's name.
    pub map_name: &'a str,
    /// `affine` if it isn't the linear part alone.
    pub offset: Option<&'a str>,
}

impl Bench<'_> {
    /// The layer and alpha (of those above 0 in `alphas`) at which the mapped vector raises the finding half's propensity
    /// most, with perplexity within `budget` times that without steering. `None` if there is none.
    ///
    /// # Errors
    ///
    /// What the engine answers with, or a stop.
    pub async fn search(
        &mut self,
        prepared: &Prepared<'_>,
        candidates: &[Candidate],
        alphas_at: impl Fn(f64) -> Vec<f64>,
        budget: f64,
        names: &Names<'_>,
    ) -> Result<Option<Proposal>> {
        let name = &prepared.task.name;
        let unsteered = self.unsteered(&format!("{name}/finding"), &prepared.finding).await?;
        let mut best: Option<Proposal> = None;
        for candidate in strongest(candidates) {
            let layer = candidate.target_layer;
            let direction = prepared.mapped(layer)?;
            let upwards: Vec<f64> = alphas_at(direction.mean_norm)
                .into_iter()
                .filter(|alpha| *alpha > 0.0)
                .collect();
            // More of the same costs more, so the first that costs too much is the last that is looked at.
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
                        toml: toml(name, layer, alpha, names),
                    });
                }
            }
        }
        Ok(best)
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

/// A `[steering]` table for mistral.rs's configuration.
fn toml(task: &str, layer: usize, alpha: f64, names: &Names<'_>) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_string()).to_string();
    let (task, map_name) = (name(task), name(names.map_name));
    let (task, map_name) = (quoted(&task), quoted(&map_name));
    let offset = names
        .offset
        .map_or(String::new(), |offset| format!("offset = {}\n", quoted(offset)));
    format!(
        "[steering.vectors]\n{task} = {}\n\n[steering.maps]\n{map_name} = {}\n\n[[steering.defaults]]\n\
         [[steering.defaults.vectors]]\nvector = {task}\nmap = {map_name}\n{offset}relative_scale = {alpha}\n\
         layers = [{layer}]\n",
        quoted(names.vector),
        quoted(names.map),
    )
}

/// A name as the plugin takes them: letters, digits, `.`, `_` and `-`, 64 at most.
fn name(text: &str) -> String {
    let kept = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '-'
        }
    };
    text.chars().map(kept).take(64).collect()
}

#[cfg(test)]
mod tests {
    use steermap_plugin::SteeringSpec;

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

    #[test]
    fn the_proposal_is_what_the_plugin_reads() {
        let names = Names {
            vector: "report/vectors/mood \"x\".toml",
            map: "small--large.toml",
            map_name: "small--large",
            offset: Some("affine"),
        };
        let text = toml("mood of the day", 7, 0.12, &names);
        let table: toml::Table = text.parse().unwrap();
        let spec: SteeringSpec = table["steering"]["defaults"][0].clone().try_into().unwrap();
        let used = &spec.vectors[0];
        assert_eq!(
            (used.vector.name().unwrap(), used.map.as_deref()),
            ("mood-of-the-day", Some("small--large"))
        );
        assert_eq!((used.relative_scale, used.layers.clone()), (Some(0.12), Some(vec![7])));
        assert_eq!(
            table["steering"]["vectors"]["mood-of-the-day"].as_str(),
            Some("report/vectors/mood \"x\".toml")
        );
    }
}
