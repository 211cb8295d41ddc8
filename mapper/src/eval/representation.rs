//! How well a map predicts the target's states on a text: R², its spread over dimensions, cosine, debiased linear CKA.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use steermap_maps::MapFile;
use steermap_report::result::{PairResult, Representation};

use super::text::NeutralText;
use crate::align::{TokenizedText, pair_positions};
use crate::capture::{LayerStates, StreamCapture};
use crate::collect::rows::{Counts, Rules, WindowRule, text_rows};
use crate::progress::Progress;
use crate::session::Session;
use crate::statistics::{Gram, mean_cosine, r_squared};
use crate::windows::{WINDOW_BYTES, windows};

/// Texts whose states are in memory at a time, in addition to the kept rows.
const TEXTS_AT_A_TIME: usize = 32;

/// Paired states of two models, by layer: `[rows, hidden_size]`, row by row.
struct PairedStates {
    rows: usize,
    documents: usize,
    source: Vec<Vec<f32>>,
    target: Vec<Vec<f32>>,
}

/// Measures `map` on `text`, from about `positions` paired positions on.
///
/// # Errors
///
/// A text with too few positions, or an error of an engine.
pub async fn measure(
    source: &Session,
    target: &Session,
    map: &MapFile,
    text: &NeutralText,
    positions: usize,
    progress: &Progress,
) -> Result<Representation> {
    let rules = Rules::of_map(map);
    let states = capture(source, target, text, &rules, positions, progress).await?;
    ensure!(
        states.rows >= 2,
        "text: found {} paired positions in {}, expected at least two",
        states.rows,
        text.name
    );
    let hidden = (map.header().source.hidden_size, map.header().target.hidden_size);
    let still = "found states that do not vary over the text, expected varying states: CKA is not defined";
    let side = |states: &[Vec<f32>], hidden| -> Result<Vec<Gram>> {
        let sides = states.iter().map(|layer| Gram::new(layer, hidden).context(still));
        sides.collect()
    };
    let (source_side, target_side) = (side(&states.source, hidden.0)?, side(&states.target, hidden.1)?);
    let mut cka = Vec::with_capacity(source_side.len());
    for layer in &source_side {
        let row: Result<Vec<f64>> = target_side
            .iter()
            .map(|other| layer.cka(other).context(still))
            .collect();
        cka.push(row?);
    }
    let mut pairs = Vec::new();
    for pair in map.pairs() {
        let inputs: Vec<&[f32]> = pair
            .source_layers
            .iter()
            .map(|&layer| &states.source[layer][..])
            .collect();
        let input = side_by_side(&inputs, hidden.0, states.rows);
        let truth = &states.target[pair.target_layer];
        let at = || format!("layers {}", pair.layers());
        let predicted = pair.map.load().with_context(at)?.affine_rows(&input);
        let r2 = r_squared(&predicted, truth, hidden.1).with_context(at)?;
        pairs.push(PairResult {
            source_layers: pair.source_layers.clone(),
            target_layer: pair.target_layer,
            stated_r2: pair.fit.r2,
            r2: r2.all,
            r2_quantiles: r2.quantiles([0.05, 0.25, 0.5, 0.75, 0.95]),
            cosine: mean_cosine(&predicted, truth, hidden.1).with_context(at)?,
            cka: match pair.source_layers[..] {
                [only] => cka[only][pair.target_layer],
                _ => {
                    let input = Gram::new(&input, hidden.0 * inputs.len()).context(still)?;
                    input.cka(&target_side[pair.target_layer]).context(still)?
                }
            },
        });
    }
    Ok(Representation {
        text: text.name.clone(),
        text_sha256: text.sha256.clone(),
        held_out: text.held_out,
        documents: states.documents,
        positions: states.rows,
        pairs,
        cka,
    })
}

/// Runs both models over the text. Positions are paired and left out by `rules`, which are those of the fit.
async fn capture(
    source: &Session,
    target: &Session,
    text: &NeutralText,
    rules: &Rules,
    positions: usize,
    progress: &Progress,
) -> Result<PairedStates> {
    let tokenizers = [source.tokenizer()?, target.tokenizer()?];
    let layers = |session: &Session| -> Result<Vec<usize>> {
        let stream = session.slot().stream()?;
        Ok((0..stream.num_layers - usize::from(!stream.last_block)).collect())
    };
    let layers = [layers(source)?, layers(target)?];
    let captures = layers.clone().map(|layers| Arc::new(StreamCapture::new(layers)));
    let mut counts = Counts::default();
    let window_bytes = match rules.window {
        WindowRule::Bytes { bytes } => bytes,
        WindowRule::SourceTokens(_) => WINDOW_BYTES,
    };
    let mut states = PairedStates {
        rows: 0,
        documents: 0,
        source: vec![Vec::new(); layers[0].len()],
        target: vec![Vec::new(); layers[1].len()],
    };
    let mut cut =
        text.documents.iter().enumerate().flat_map(|(number, document)| {
            windows(document, window_bytes).map(move |window| (number, &document[window]))
        });
    while states.rows < positions {
        let mut texts = Vec::new();
        for (number, window) in cut.by_ref().take(TEXTS_AT_A_TIME) {
            states.documents = states.documents.max(number + 1);
            let mut both = [
                TokenizedText::new(&tokenizers[0], window)?,
                TokenizedText::new(&tokenizers[1], window)?,
            ];
            both[0].truncate(source.max_sequence());
            both[1].truncate(target.max_sequence());
            let pairing = pair_positions(&both[0], &both[1]);
            texts.push((both, pairing));
        }
        if texts.is_empty() {
            break;
        }
        // By length: the engine runs prompts of one length together.
        texts.sort_by_key(|(both, _)| (both[0].ids.len(), both[1].ids.len()));
        let run = async |session: &Session, side: usize| -> Result<Vec<Vec<LayerStates>>> {
            let mut order: Vec<usize> = (0..texts.len()).collect();
            order.sort_by_key(|&i| texts[i].0[side].ids.len());
            let prompts: Vec<&[u32]> = order.iter().map(|&i| texts[i].0[side].ids.as_slice()).collect();
            let streams = session.streams(&captures[side], &prompts, || progress.add(1)).await?;
            let mut sorted: Vec<(usize, Vec<LayerStates>)> = order.into_iter().zip(streams).collect();
            sorted.sort_by_key(|(i, _)| *i);
            Ok(sorted.into_iter().map(|(_, states)| states).collect())
        };
        let (of_source, of_target) = (run(source, 0).await?, run(target, 1).await?);
        for (((_, pairing), source), target) in texts.iter().zip(&of_source).zip(&of_target) {
            let rows = text_rows(pairing, source, target, rules, &mut counts);
            states.rows += rows.ends.len();
            let append = |to: &mut [Vec<f32>], from: Vec<Vec<f32>>| {
                to.iter_mut().zip(from).for_each(|(to, from)| to.extend(from));
            };
            append(&mut states.source, rows.source);
            append(&mut states.target, rows.target);
        }
    }
    Ok(states)
}

/// Rows of several layers, concatenated: `[rows, layers * hidden]`.
fn side_by_side(layers: &[&[f32]], hidden: usize, rows: usize) -> Vec<f32> {
    let mut joined = Vec::with_capacity(rows * hidden * layers.len());
    for row in 0..rows {
        for layer in layers {
            joined.extend_from_slice(&layer[row * hidden..(row + 1) * hidden]);
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use nalgebra::{dmatrix, dvector};
    use steermap_maps::{AffineMap, LinearMap};

    use super::*;

    #[test]
    fn states_are_predicted_row_by_row() {
        let map = LinearMap::from(AffineMap {
            weight: dmatrix![1.0, 0.0, 2.0; 0.0, -1.0, 0.5],
            bias: dvector![10.0, 20.0],
        });
        let (a, b) = ([1.0, 2.0, 4.0, 5.0], [3.0, 6.0]);
        // Widths differ only between models; here one of 2 and one of 1 to see the order.
        let joined = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(side_by_side(&[&a], 2, 2), a);
        assert_eq!(side_by_side(&[&b, &b], 1, 2), [3.0, 3.0, 6.0, 6.0]);
        assert_eq!(map.affine_rows(&joined), [17.0, 19.5, 26.0, 18.0]);
    }
}
