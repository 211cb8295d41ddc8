//! A vector's layers as a table.

use std::fmt::Write;

use steermap_extract::statistics::auroc_interval;
use steermap_extract::{DistinctPairs, VectorOfPairs};
use steermap_maps::VectorFile;

/// How the AUROC is measured.
const NOTE: &str = "AUROC of held-out pairs, five-fold cross-validation; 0.5 is chance. Interval: Wilson's, wider as the folds share pairs\n";

/// The number of pairs, the layers as a table, how the AUROC is measured, and the proposed layer.
pub fn found_table(found: &VectorOfPairs) -> String {
    let (vector, pairs) = (&found.vector, &found.pairs);
    let mut text = format!("{}\n{}", pairs.describe(), rows(vector, Some(pairs)));
    let layers = vector.layers();
    if let Some(reason) = pairs.too_few() {
        text += &format!("AUROC not measured: {reason}\n");
    } else if layers.iter().any(|layer| layer.auroc.is_none()) {
        text += "AUROC not measured at layers where no direction was found from four fifths of the pairs\n";
    }
    if layers.iter().any(|layer| layer.auroc.is_some()) {
        text += NOTE;
    }
    if let Some(layer) = found.proposed() {
        text += &format!(
            "proposed: layer {layer} (the largest ratio among the layers in the middle half of the depth that separate best)\n"
        );
    }
    text
}

/// A vector's layers as a table, with the AUROC but without its interval.
pub fn table(vector: &VectorFile) -> String {
    rows(vector, None)
}

fn rows(vector: &VectorFile, pairs: Option<&DistinctPairs>) -> String {
    let mut text = String::from("layer   |vector|   mean |stream|   ratio   held-out AUROC");
    text += if pairs.is_some() { "     95% interval\n" } else { "\n" };
    for layer in vector.layers() {
        let (norm, mean) = (layer.norm(), layer.mean_norm);
        let ratio = if mean > 0.0 {
            format!("{:.3}", norm / mean)
        } else {
            "-".to_string()
        };
        let auroc = layer.auroc.map_or("-".to_string(), |auroc| format!("{auroc:.3}"));
        let _ = write!(
            text,
            "{:>5} {norm:>10.3} {mean:>15.3} {ratio:>7} {auroc:>16}",
            layer.layer
        );
        if let Some(pairs) = pairs {
            let interval = layer.auroc.map(|auroc| auroc_interval(auroc, pairs.independent()));
            let interval = interval.map_or("-".to_string(), |(low, high)| format!("{low:.3} to {high:.3}"));
            let _ = write!(text, " {interval:>16}");
        }
        text += "\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use steermap_maps::{LayerVector, ModelInfo, Numerics, Provenance, TokenPosition, VectorHeader};

    use super::*;
    use crate::pairs::{Pair, Text};

    fn found(pairs: usize, repeats: usize, auroc: &[Option<f64>]) -> VectorOfPairs {
        let text = |side: &str, index: usize| Text::Plain(format!("{side} {index}"));
        let pair = |index: usize| Pair {
            positive: text("good", index % pairs),
            negative: text("bad", index % pairs),
        };
        let given: Vec<Pair> = (0..pairs + repeats).map(pair).collect();
        let header = VectorHeader {
            concept: "happy".into(),
            method: "mean-difference".into(),
            token_position: TokenPosition::Last,
            pairs: pairs as u32,
            model: ModelInfo {
                model: "small".into(),
                fingerprint: "sm1:1".into(),
                hidden_size: 2,
                num_layers: 9,
            },
            numerics: Numerics {
                dtype: "f32".into(),
                quantization: None,
            },
            provenance: Provenance {
                tool: "test".into(),
                date: "2026-01-01T00:00:00Z".into(),
                command: "test".into(),
                seed: None,
                corpus: "none".into(),
                corpus_sha256: "0".repeat(64),
            },
        };
        let layer = |(layer, &auroc): (usize, &Option<f64>)| LayerVector {
            layer,
            direction: vec![3.0, 4.0],
            mean_norm: if layer == 0 { 0.0 } else { 20.0 },
            auroc,
            neutral: None,
        };
        VectorOfPairs {
            vector: VectorFile::new(header, auroc.iter().enumerate().map(layer).collect()).unwrap(),
            pairs: DistinctPairs::new(&given),
        }
    }

    #[test]
    fn intervals_are_of_the_distinct_pairs() {
        let found = found(64, 36, &[Some(1.0), Some(0.5)]);
        let expected = "\
64 distinct pairs (36 repeats of them left out)
layer   |vector|   mean |stream|   ratio   held-out AUROC     95% interval
    0      5.000           0.000       -            1.000   0.917 to 1.000
    1      5.000          20.000   0.250            0.500   0.356 to 0.644
AUROC of held-out pairs, five-fold cross-validation; 0.5 is chance. Interval: Wilson's, wider as the folds share pairs
";
        assert_eq!(found_table(&found), expected);
        let plain = table(&found.vector);
        assert!(
            plain.contains("0.250            0.500\n") && !plain.contains("interval"),
            "{plain}"
        );
    }

    #[test]
    fn too_few_pairs_have_no_measure() {
        let expected = "\
2 distinct pairs (8 repeats of them left out)
layer   |vector|   mean |stream|   ratio   held-out AUROC     95% interval
    0      5.000           0.000       -                -                -
AUROC not measured: distinct pairs: found 2, expected at least 10
";
        assert_eq!(found_table(&found(2, 8, &[None])), expected);
        let some = found_table(&found(20, 0, &[None, Some(0.75)]));
        assert!(
            some.contains("from four fifths of the pairs\nAUROC of held-out"),
            "{some}"
        );
    }
}
