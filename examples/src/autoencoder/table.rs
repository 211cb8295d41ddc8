//! The page with the results, in Markdown.

use std::fmt::Write;

use steermap_mapper::statistics::holm;
use steermap_report::result::Estimate;

use super::measure::{ConceptResult, ControlRetention, FeatureProtocol};
use super::{AutoencoderQuality, Training};

/// Significance level of the adjusted p-values.
const LEVEL: f64 = 0.05;
/// Most characters in a line of text.
const LINE_WIDTH: usize = 120;

/// Everything that the page reports.
pub struct FeatureReport<'a> {
    /// The source and the target.
    pub models: [&'a str; 2],
    /// Number of stories, and their seed.
    pub stories: (usize, u64),
    /// How the autoencoder was trained.
    pub training: &'a Training,
    /// Number of states that it was trained on.
    pub trained_on: usize,
    /// Its quality on held-out states.
    pub quality: &'a AutoencoderQuality,
    /// R² of the map from features to states, and of the map between states, on the same held-out states.
    pub r2: [f64; 2],
    /// How steering was measured.
    pub protocol: &'a FeatureProtocol,
    /// Least area under the ROC curve on held-out pairs at which a feature counts as one of its concept.
    pub least_auroc: f64,
    /// Results of the concepts that have a feature.
    pub measured: &'a [ConceptResult],
    /// Concepts without a feature: name, and area of the best feature on held-out pairs.
    pub without: &'a [(String, f64)],
}

impl FeatureReport<'_> {
    /// The page, in Markdown.
    pub fn text(&self) -> String {
        let mut text =
            "# Does a feature of a sparse autoencoder transfer?\n\nMade by `cargo xtask sae`.\n\n".to_string();
        text += &self.introduction();
        let mut line = |line: String| writeln!(text, "{line}").expect("writing to a string does not fail");
        line(format!("\n## The autoencoder\n\n{}", self.autoencoder()));
        line(header(&[
            "concept",
            "feature",
            "active on",
            "active in",
            "AUROC, choosing pairs",
            "AUROC, other pairs",
            "cosine, source",
            "cosine, target",
        ]));
        for of in self.measured {
            line(format!(
                "| {} | {} | {} | {:.1}% | {:.3} | {:.3} | {:.3} | {:.3} |",
                of.concept,
                of.label.feature,
                of.side,
                100.0 * of.density,
                of.label.chosen_by,
                of.label.held_out,
                of.cosine,
                of.mapped_cosine
            ));
        }
        for (concept, auroc) in self.without {
            line(format!(
                "\n{concept}: no feature separates its pairs; the best has {auroc:.3} on the other pairs."
            ));
        }
        line(format!("\n## Steering\n\n{}", self.steering()));
        line(header(&[
            "concept",
            "items (clusters)",
            "native slope",
            "mean difference, mapped",
            "p",
            "feature, mapped",
            "p",
            "feature to state",
            "p",
            "mapped random",
            "other features",
            "share, source",
            "share, target",
        ]));
        let adjusted = [0, 1, 2].map(|which| self.adjusted(which));
        for (number, of) in self.measured.iter().enumerate() {
            line(format!(
                "| {} | {} ({}) | {} | {} | {:.3} | {} | {:.3} | {} | {:.3} | {} | {} | {} | {} |",
                of.concept,
                of.items.0,
                of.items.1,
                estimate(&of.native),
                estimate(&of.mapped),
                adjusted[0][number],
                estimate(&of.feature),
                adjusted[1][number],
                estimate(&of.direct),
                adjusted[2][number],
                range(&of.random),
                range(&of.others),
                estimate(&of.shares[0]),
                estimate(&of.shares[1]),
            ));
        }
        text
    }

    fn introduction(&self) -> String {
        let FeatureProtocol {
            source_layer,
            target_layer,
            alphas,
            ..
        } = self.protocol;
        let ([source, target], (stories, seed), least_auroc) = (self.models, self.stories, self.least_auroc);
        let trained = format!(
            "A sparse autoencoder was trained on the stream of {source} after layer {source_layer}, over {stories} \
             stories (seed {seed}), without any concept labels. Half of each concept's pairs choose the feature whose \
             mean activity in a text separates the two sides best, in either direction; on the other half its area \
             under the ROC curve (AUROC) is measured. A feature counts as one of the concept from {least_auroc} on. So \
             its meaning is known although it was not made from the pairs."
        );
        let steered = format!(
            "The feature's decoder row was read as by `mapper sae`, and mapped as by `mapper apply` (ridge on the same \
             stories, layers {source_layer} -> {target_layer}). Like the other directions, it was added to the stream \
             of {target} after layer {target_layer}: {alphas}, in units of the stream's mean norm. All directions \
             have the same lengths."
        );
        [trained, steered].map(|text| paragraph(&text)).join("\n")
    }

    fn autoencoder(&self) -> String {
        let Training {
            features,
            active,
            steps,
            batch,
            seed,
            ..
        } = self.training;
        let AutoencoderQuality { mean_active, rows, .. } = self.quality;
        let (trained_on, dead) = (self.trained_on, self.quality.dead());
        let explained = 100.0 * self.quality.explained_variance;
        paragraph(&format!(
            "TopK: {features} features, {active} active at a time. {steps} steps of Adam with {batch} states each, \
             of {trained_on} (seed {seed}). On {rows} held-out states it explains {explained:.1}% of the variance, \
             with {mean_active:.1} active features on average; {dead} features are active in none of them. `cosine, \
             source` is between the feature's direction and the mean-difference vector of the same concept, on the \
             source. `cosine, target` is between the mapped feature and the target's own mean-difference vector."
        ))
    }

    fn steering(&self) -> String {
        let (count, draws, [features, states]) = (self.measured.len(), self.protocol.draws, self.r2);
        let columns = format!(
            "`native slope`: slope of the mean propensity against alpha with the target's own mean-difference vector, \
             in logits per mean norm of the stream, on the measuring half of the items. The next columns are \
             retentions, ratios of a slope to the native one. `mean difference, mapped`: with the vector found on the \
             source. `feature, mapped`: with the feature, signed to point to the concept's positive side. `feature to \
             state`: with the feature's direction in a map fitted from features to the target's states, as in arXiv \
             2506.00653 (ridge; R² {features:.3}, that of the map from states {states:.3}, on the same held-out \
             states). `p`: p-value from the rank among mapped random directions, after Holm's correction over the \
             concepts."
        );
        let controls = format!(
            "`mapped random`: the central 95% of the retentions of {draws} mapped random directions of the source. \
             `other features`: the same for as many other features of the autoencoder, some of which may be of the \
             concept too. Both are measured at the first and the last alpha. `share`: ratio of the slope with the \
             feature to that with the source's mean-difference vector, on the source without a map, and on the target \
             with both mapped. If the two are equal, the map keeps as much of the feature as of the mean-difference \
             vector."
        );
        let intervals = "95% intervals are over clusters of items that share their deciding words. They do not include the \
             uncertainty of the vectors, of the autoencoder and of the maps.";
        let conclusion = self.conclusion(count);
        [&conclusion, &columns, &controls, intervals].map(paragraph).join("\n")
    }

    fn conclusion(&self, count: usize) -> String {
        let all = count + self.without.len();
        let passed = |which: usize| self.adjusted(which).iter().filter(|p| **p <= LEVEL).count();
        let [differences, features, direct] = [0, 1, 2].map(passed);
        format!(
            "{count} of {all} concepts have a feature. The mapped feature steers beyond random directions (p at most \
             {LEVEL}) for {features} of these, its direction in the map from features to states for {direct}, and the \
             mapped mean-difference vector for {differences}."
        )
    }

    /// The p-values of one kind of vector, as [`ConceptResult::p_values`] orders them, after Holm's correction.
    fn adjusted(&self, which: usize) -> Vec<f64> {
        holm(&self.measured.iter().map(|of| of.p_values[which]).collect::<Vec<_>>())
    }
}

/// The header of a table.
fn header(columns: &[&str]) -> String {
    let rule = columns.iter().map(|_| "---");
    let rule = rule.collect::<Vec<_>>().join(" | ");
    format!("| {} |\n| {rule} |", columns.join(" | "))
}

/// Breaks text into lines of at most [`LINE_WIDTH`] characters, ending with a line break.
fn paragraph(text: &str) -> String {
    let (mut lines, mut length) = (String::new(), 0);
    for word in text.split(' ') {
        let more = word.chars().count();
        if length > 0 && length + 1 + more > LINE_WIDTH {
            lines.push('\n');
            length = 0;
        } else if length > 0 {
            lines.push(' ');
            length += 1;
        }
        lines += word;
        length += more;
    }
    lines + "\n"
}

fn estimate(of: &Estimate) -> String {
    format!("{:.3} ({:.3} to {:.3})", of.value, of.low, of.high)
}

fn range(control: &ControlRetention) -> String {
    let [low, high] = control.range;
    format!("{low:+.2} to {high:+.2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_wrapped() {
        let text = paragraph(&["word"; 60].join(" "));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.iter().map(|line| line.len()).collect::<Vec<_>>(), [119, 119, 59]);
        assert_eq!(paragraph("a b"), "a b\n");
        assert_eq!(header(&["a", "b"]), "| a | b |\n| --- | --- |");
    }
}
