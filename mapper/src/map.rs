//! From statistics to a map file.

use anyhow::{Context, Result};
use steermap_maps::{AffineMap, FitReport, LayerPair, MapFile, MapHeader, Positions, Provenance};

use crate::collect::Collected;
use crate::corpus::summary;
use crate::fit::{FittedPair, RidgeChoice, fit_pairs};

/// Fits the map of every layer pair that `collected` has statistics of. `command` is the command line, for the file's
/// provenance; `progress` is told after each pair how many are done.
///
/// # Errors
///
/// Statistics of a run that has not ended, or that don't suffice: no held-out documents, say.
pub fn fit_map(
    mut collected: Collected,
    ridge: RidgeChoice,
    command: String,
    progress: impl FnMut(usize),
) -> Result<MapFile> {
    collected.header.check_parts()?;
    collected.statistics.flush();
    let fitted = fit_pairs(&collected.statistics, ridge, progress)?;
    let header = &collected.header;
    let (counts, (corpus, corpus_sha256)) = (header.counts(), summary(&header.corpus()));
    let header = MapHeader {
        source: header.source.info(),
        source_numerics: header.source.numerics(),
        target: header.target.info(),
        target_numerics: header.target.numerics(),
        positions: Some(Positions {
            documents: counts.documents,
            paired: counts.rows,
            unmatched_source: counts.unmatched_source,
            unmatched_target: counts.unmatched_target,
            special: counts.special,
            first: counts.first,
            outliers: counts.outliers,
            rule: header.rules.describe(),
        }),
        provenance: provenance(command, corpus, corpus_sha256),
    };
    MapFile::new(header, fitted.into_iter().map(layer_pair).collect())
        .context("no map could be made from these statistics")
}

/// The provenance of a file that is made now, with nothing random in it.
pub fn provenance(command: String, corpus: String, corpus_sha256: String) -> Provenance {
    Provenance {
        tool: concat!("mapper ", env!("CARGO_PKG_VERSION")).to_string(),
        date: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        command,
        seed: None,
        corpus,
        corpus_sha256,
    }
}

fn layer_pair(fitted: FittedPair) -> LayerPair {
    LayerPair {
        source_layers: fitted.spec.source_layers,
        target_layer: fitted.spec.target_layer,
        map: AffineMap {
            weight: fitted.weight,
            bias: fitted.bias,
        },
        fit: FitReport {
            method: "ridge".to_string(),
            lambda: fitted.lambda,
            rows: fitted.rows,
            validation_rows: fitted.validation_rows,
            test_rows: fitted.test_rows,
            r2: fitted.r2,
            r2_median: fitted.r2_median,
            r2_mean_baseline: fitted.r2_mean_baseline,
            r2_mean_baseline_median: fitted.r2_mean_baseline_median,
            r2_identity_baseline: fitted.r2_identity_baseline,
            r2_identity_baseline_median: fitted.r2_identity_baseline_median,
            cosine: fitted.cosine,
            source_mean_norms: fitted.source_mean_norms,
            target_mean_norm: fitted.target_mean_norm,
        },
    }
}
