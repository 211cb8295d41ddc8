//! Fits maps from statistics and writes the map file.

use std::path::PathBuf;

use anyhow::{Context, Result};
use steermap_fit::{FittedPair, FittedWeight, MapShape, RidgeChoice, fit_each};
use steermap_maps::{
    AffineMap, FitReport, LayerPair, LowRankMap, MapFile, MapHeader, MapWriter, Positions, Provenance, RankR2,
};

use crate::by_rank::PairByRank;
use crate::collect::Collected;
use crate::corpus::summary;

/// How maps are fitted, and the file to write.
#[derive(Clone, Debug)]
pub struct MapJob {
    /// The map file to write.
    pub out: PathBuf,
    /// How lambda is chosen.
    pub ridge: RidgeChoice,
    /// Rank and dtype.
    pub shape: MapShape,
    /// The command line, for the file's provenance.
    pub command: String,
}

/// Fits the map of every layer pair in the statistics and writes each when it is done, so that only one is in memory at
/// a time. `progress` is called after each pair with the number of finished pairs. Returns the map as read from the
/// file, and quality by rank for low-rank maps.
///
/// # Errors
///
/// Statistics of an unfinished run, or too few rows, for example no held-out documents. The operating system's error.
/// Then nothing was written.
pub fn fit_map(
    mut collected: Collected,
    job: &MapJob,
    mut progress: impl FnMut(usize),
) -> Result<(MapFile, Vec<PairByRank>)> {
    collected.header.check_parts()?;
    collected.statistics.flush();
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
            rules: Some(header.rules.as_data()),
        }),
        provenance: provenance(job.command.clone(), corpus, corpus_sha256),
    };
    let pairs = collected.statistics.layout().pairs.len();
    let mut writer = MapWriter::create(&job.out, header, pairs)?.with_dtype(job.shape.dtype);
    let (mut by_rank, mut done) = (Vec::new(), 0);
    fit_each(&collected.statistics, job.ridge, job.shape, |_, fitted| {
        if !fitted.by_rank.is_empty() {
            by_rank.push(PairByRank {
                layers: pair_name(&fitted),
                rank: fitted.map_rank,
                by_rank: fitted.by_rank.clone(),
            });
        }
        writer.push(&layer_pair(fitted))?;
        done += 1;
        progress(done);
        anyhow::Ok(())
    })?;
    let map = writer.finish().context("no map could be made from these statistics")?;
    Ok((map, by_rank))
}

/// The provenance of a file that is made now, without a seed.
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

fn pair_name(fitted: &FittedPair) -> String {
    let sources: Vec<String> = fitted.spec.source_layers.iter().map(ToString::to_string).collect();
    format!("{}->{}", sources.join("+"), fitted.spec.target_layer)
}

fn layer_pair(fitted: FittedPair) -> LayerPair {
    let r2_by_rank = fitted.by_rank.iter().map(|of| RankR2 {
        rank: of.rank as u64,
        r2: of.r2,
    });
    LayerPair {
        source_layers: fitted.spec.source_layers,
        target_layer: fitted.spec.target_layer,
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
            r2_by_rank: r2_by_rank.collect(),
        },
        map: match fitted.weight {
            FittedWeight::Full(weight) => AffineMap {
                weight,
                bias: fitted.bias,
            }
            .into(),
            FittedWeight::LowRank { left, right } => LowRankMap {
                left,
                right,
                bias: fitted.bias,
            }
            .into(),
        },
    }
}
