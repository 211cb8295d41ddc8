//! A map of random numbers, of any size, and how much memory this process has taken.

use steermap_maps::digest::sha256;
use steermap_maps::{
    FitReport, LayerPair, LayerVector, LinearMap, MapHeader, ModelInfo, Numerics, Provenance, TokenPosition,
    VectorFile, VectorHeader, WeightMatrix,
};

/// Widths of the two streams, and how many pairs of layers there are, from layer `i` to layer `i`.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub source: usize,
    pub target: usize,
    pub pairs: usize,
    /// `None` for affine maps.
    pub rank: Option<usize>,
}

pub fn header(sizes: Sizes) -> MapHeader {
    MapHeader {
        source: model("small", sizes.source, sizes.pairs),
        source_numerics: numerics(),
        target: model("large", sizes.target, sizes.pairs),
        target_numerics: numerics(),
        positions: None,
        provenance: provenance(),
    }
}

/// Pair number `index`, its weights in memory.
pub fn pair(sizes: Sizes, index: usize) -> LayerPair {
    let mut state = index as u64 + 1;
    let mut matrix = |rows, columns| {
        WeightMatrix::from_rows(rows, columns, |_, numbers| {
            for number in numbers {
                // xorshift64; its upper 24 bits, as a number from -0.5 to 0.5, of which a product has a size like its
                // input's.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *number = ((state >> 40) as f32 / (1 << 24) as f32 - 0.5) / (columns as f32).sqrt();
            }
        })
    };
    let bias = vec![0.25; sizes.target];
    let map = match sizes.rank {
        None => LinearMap::new_affine(matrix(sizes.target, sizes.source), bias),
        Some(rank) => LinearMap::new_low_rank(matrix(sizes.target, rank), matrix(rank, sizes.source), bias),
    };
    LayerPair {
        source_layers: vec![index],
        target_layer: index,
        map: map.into(),
        fit: FitReport {
            method: "random".into(),
            lambda: 1.0,
            rows: 1,
            validation_rows: 1,
            test_rows: 1,
            r2: 0.5,
            r2_median: 0.5,
            r2_mean_baseline: 0.0,
            r2_mean_baseline_median: 0.0,
            r2_identity_baseline: None,
            r2_identity_baseline_median: None,
            cosine: 0.5,
            source_mean_norms: vec![1.0],
            target_mean_norm: 1.0,
            r2_by_rank: Vec::new(),
        },
    }
}

/// A vector of the source at all layers.
pub fn vector(sizes: Sizes) -> VectorFile {
    let header = VectorHeader {
        concept: "ones".into(),
        method: "none".into(),
        token_position: TokenPosition::Last,
        pairs: 1,
        model: model("small", sizes.source, sizes.pairs),
        numerics: numerics(),
        provenance: provenance(),
    };
    let layers = (0..sizes.pairs).map(|layer| LayerVector {
        layer,
        direction: vec![1.0; sizes.source],
        mean_norm: 1.0,
        auroc: None,
        neutral: None,
    });
    VectorFile::new(header, layers.collect()).expect("a vector")
}

/// The most bytes of memory that this process has had resident, where the system says it.
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

fn model(name: &str, hidden_size: usize, num_layers: usize) -> ModelInfo {
    ModelInfo {
        model: name.into(),
        fingerprint: format!("sm1:{}", &sha256(name.as_bytes())[..32]),
        hidden_size,
        num_layers,
    }
}

fn numerics() -> Numerics {
    Numerics {
        dtype: "f32".into(),
        quantization: None,
    }
}

fn provenance() -> Provenance {
    Provenance {
        tool: "a test".into(),
        date: "2026-01-01".into(),
        command: "none".into(),
        seed: Some(1),
        corpus: "none".into(),
        corpus_sha256: sha256(b""),
    }
}
