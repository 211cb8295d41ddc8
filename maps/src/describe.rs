//! A file's contents as text. Nothing is measured here, and no weights are read.
//!
//! Lines stay within 120 columns for names of usual length. Control characters, which a terminal would act on, are
//! escaped.

use crate::map::{LayerPair, MapFile, Positions};
use crate::model::{ModelInfo, Numerics};
use crate::provenance::Provenance;
use crate::vector::VectorFile;

use grid::Grid;

mod grid;

/// How many characters of a fingerprint or hash are shown: enough to tell files apart at a glance.
const SHORT: usize = 12;

/// Shown in place of a missing value.
const NONE: &str = "-";

/// A map file: both models, the layer pairs with their weights, their fits and their quality, and the provenance.
pub fn map(file: &MapFile) -> String {
    let header = file.header();
    let mut text = format!(
        "Map from {} to {}\n\n",
        plain(&header.source.model),
        plain(&header.target.model)
    );
    text += &models(&[
        ("source", &header.source, &header.source_numerics),
        ("target", &header.target, &header.target_numerics),
    ]);
    text += "\nWeights\n\n";
    text += &weights(file.pairs());
    text += &files(file);
    text += "\nFit\n\n";
    text += &fits(file.pairs());
    text +=
        "\nHow good it is, on held-out text: of the map, of predicting the mean, of the source's state as it is\n\n";
    text += &scores(file.pairs());
    let ranks = ranks(file.pairs());
    if !ranks.is_empty() {
        text += "\nR2 of the best map of each rank\n\n";
        text += &ranks;
    }
    text += "\nProvenance\n\n";
    text += &provenance(&header.provenance);
    if let Some(found) = &header.positions {
        text += "\nPositions\n\n";
        text += &positions(found);
    }
    text
}

/// A vector file: the model, the layers with their norms and AUROC, and the provenance.
pub fn vector(file: &VectorFile) -> String {
    let header = file.header();
    let mut text = format!(
        "Vector \"{}\": {}, token position {}, {} pairs\n\n",
        plain(&header.concept),
        plain(&header.method),
        header.token_position.as_str(),
        header.pairs
    );
    text += &models(&[("model", &header.model, &header.numerics)]);
    if let Some(mapped) = file.mapped() {
        text += &format!(
            "\nMapped from {} ({})\nthrough {} ({}), offset {}\n",
            plain(&mapped.source_model),
            short(&mapped.source_fingerprint),
            plain(&mapped.map),
            short(&mapped.map_sha256),
            mapped.offset
        );
    }
    text += "\nLayers\n\n";
    text += &layers(file);
    text += "\nProvenance\n\n";
    text += &provenance(&header.provenance);
    text
}

fn models(models: &[(&str, &ModelInfo, &Numerics)]) -> String {
    let mut grid = Grid::new(
        3,
        [
            "",
            "model",
            "fingerprint",
            "hidden size",
            "layers",
            "dtype",
            "quantization",
        ],
    );
    for (role, model, numerics) in models {
        grid.row([
            (*role).to_owned(),
            plain(&model.model),
            short(&model.fingerprint),
            model.hidden_size.to_string(),
            model.num_layers.to_string(),
            plain(&numerics.dtype),
            numerics.quantization.as_deref().map_or(NONE.to_owned(), plain),
        ]);
    }
    grid.to_string()
}

fn weights(pairs: &[LayerPair]) -> String {
    let mut grid = Grid::new(2, ["layers", "kind", "rank", "dtype", "outputs", "inputs", "size"]);
    for pair in pairs {
        let map = &pair.map;
        grid.row([
            pair.layers(),
            map.kind().to_string(),
            map.kind().rank().map_or(NONE.to_owned(), |rank| rank.to_string()),
            map.dtype().to_string(),
            map.rows().to_string(),
            map.columns().to_string(),
            bytes(map.bytes()),
        ]);
    }
    grid.to_string()
}

/// The weights files; empty for a map in memory.
fn files(file: &MapFile) -> String {
    let mut grid = Grid::new(1, ["file", "size", "sha256"]);
    for (name, length, sha256) in file.weights_files() {
        grid.row([plain(&name), bytes(length), short(sha256)]);
    }
    if file.weights_files().next().is_some() {
        format!("\n{grid}")
    } else {
        String::new()
    }
}

/// R² by rank, one or more lines per pair.
fn ranks(pairs: &[LayerPair]) -> String {
    const IN_A_LINE: usize = 6;
    let width = pairs.iter().map(|pair| pair.layers().len()).max().unwrap_or_default();
    let mut text = String::new();
    for pair in pairs {
        let mut layers = pair.layers();
        for ranks in pair.fit.r2_by_rank.chunks(IN_A_LINE) {
            let ranks: Vec<_> = ranks
                .iter()
                .map(|of| format!("{}: {}", of.rank, score(of.r2)))
                .collect();
            text += &format!("  {layers:width$}  {}\n", ranks.join("  "));
            layers.clear();
        }
    }
    text
}

fn fits(pairs: &[LayerPair]) -> String {
    let mut grid = Grid::new(
        2,
        [
            "layers",
            "method",
            "lambda",
            "rows",
            "validation",
            "test",
            "source norm",
            "target norm",
        ],
    );
    for pair in pairs {
        let fit = &pair.fit;
        let source_norms: Vec<_> = fit.source_mean_norms.iter().map(|norm| number(*norm)).collect();
        grid.row([
            pair.layers(),
            plain(&fit.method),
            number(fit.lambda),
            fit.rows.to_string(),
            fit.validation_rows.to_string(),
            fit.test_rows.to_string(),
            source_norms.join(" "),
            number(fit.target_mean_norm),
        ]);
    }
    grid.to_string()
}

fn scores(pairs: &[LayerPair]) -> String {
    let mut grid = Grid::new(
        1,
        [
            "layers",
            "R2",
            "median",
            "mean: R2",
            "median",
            "identity: R2",
            "median",
            "cosine",
        ],
    );
    for pair in pairs {
        let fit = &pair.fit;
        grid.row([
            pair.layers(),
            score(fit.r2),
            score(fit.r2_median),
            score(fit.r2_mean_baseline),
            score(fit.r2_mean_baseline_median),
            optional(fit.r2_identity_baseline, score),
            optional(fit.r2_identity_baseline_median, score),
            score(fit.cosine),
        ]);
    }
    grid.to_string()
}

fn layers(file: &VectorFile) -> String {
    let mut grid = Grid::new(
        0,
        [
            "layer",
            "from",
            "norm",
            "mean norm of stream",
            "norm / mean norm",
            "AUROC",
        ],
    );
    for layer in file.layers() {
        let from = file.mapped().and_then(|mapped| mapped.source_layers.get(&layer.layer));
        let from = from.map(|from| from.iter().map(usize::to_string).collect::<Vec<_>>().join("+"));
        // A mean norm of 0 gives no unit to measure in.
        let ratio = (layer.mean_norm > 0.0).then(|| layer.norm() / layer.mean_norm);
        grid.row([
            layer.layer.to_string(),
            from.unwrap_or_else(|| NONE.to_owned()),
            number(layer.norm()),
            number(layer.mean_norm),
            optional(ratio, number),
            optional(layer.auroc, score),
        ]);
    }
    grid.to_string()
}

fn provenance(provenance: &Provenance) -> String {
    let seed = provenance.seed.map_or_else(|| NONE.to_owned(), |seed| seed.to_string());
    let corpus = format!("{} ({})", plain(&provenance.corpus), short(&provenance.corpus_sha256));
    list(&[
        ("tool", plain(&provenance.tool)),
        ("date", plain(&provenance.date)),
        ("command", plain(&provenance.command)),
        ("seed", seed),
        ("corpus", corpus),
    ])
}

fn positions(positions: &Positions) -> String {
    let mut lines: Vec<_> = positions.counts().map(|(key, count)| (key, count.to_string())).into();
    lines.push(("rule", plain(&positions.rule)));
    list(&lines)
}

fn list(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(key, _)| key.len()).max().unwrap_or_default();
    let lines = lines.iter().map(|(key, value)| format!("  {key:width$}  {value}\n"));
    lines.collect()
}

/// A number with about four significant digits.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(1e-3..1e6).contains(&size) => format!("{value:.2e}"),
        size if size < 1.0 => format!("{value:.4}"),
        size if size < 1000.0 => format!("{value:.3}"),
        _ => format!("{value:.1}"),
    }
}

/// A number of bytes.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1 << 10 {
        return format!("{count} B");
    }
    let mut size = count as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be written as 1024.0.
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// A number that is at most 1 and may be far below 0, with four decimals.
fn score(value: f64) -> String {
    if value.abs() < 1e5 {
        format!("{value:.4}")
    } else {
        format!("{value:.2e}")
    }
}

fn optional(value: Option<f64>, spell: fn(f64) -> String) -> String {
    value.map_or_else(|| NONE.to_owned(), spell)
}

/// The start of a fingerprint or hash.
fn short(text: &str) -> String {
    let start: String = text.chars().take(SHORT).collect();
    let rest = if start.len() < text.len() { "…" } else { "" };
    plain(&start) + rest
}

/// A text without control characters.
fn plain(text: &str) -> String {
    let letters = text.chars().map(|letter| {
        if letter.is_control() {
            letter.escape_default().to_string()
        } else {
            letter.to_string()
        }
    });
    letters.collect()
}

#[cfg(test)]
mod tests;
