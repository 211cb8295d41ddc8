//! What the tests of several modules need.

use std::fs;
use std::path::{Path, PathBuf};

use nalgebra::{DMatrix, DVector};
use tempfile::TempDir;

use crate::digest;
use crate::error::{FileError, Problem};
use crate::map::{AffineMap, FitReport, LayerPair, LowRankMap, MapHeader, Positions};
use crate::model::{ModelInfo, Numerics};
use crate::provenance::Provenance;

pub(crate) fn model(model: &str, hidden_size: usize, num_layers: usize) -> ModelInfo {
    ModelInfo {
        model: model.into(),
        fingerprint: format!("sm1:{}", &digest::sha256(model.as_bytes())[..32]),
        hidden_size,
        num_layers,
    }
}

pub(crate) fn provenance() -> Provenance {
    Provenance {
        tool: "mapper 0.1.0".into(),
        date: "2026-01-31".into(),
        command: "mapper vector --name \"happy\"".into(),
        seed: Some(7),
        corpus: "pairs".into(),
        corpus_sha256: digest::sha256(b"corpus"),
    }
}

/// xorshift64*, so that a failure comes again.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % bound
    }

    /// Flips bits, cuts the end off, or moves, repeats or takes out a piece.
    pub(crate) fn spoil(&mut self, bytes: &mut Vec<u8>) {
        match self.below(8) {
            0 => bytes.truncate(self.below(bytes.len())),
            1 => {
                let start = self.below(bytes.len());
                let end = (start + 1 + self.below(40)).min(bytes.len());
                let piece: Vec<_> = bytes.drain(start..end).collect();
                if self.below(2) == 0 {
                    let at = self.below(bytes.len() + 1);
                    bytes.splice(at..at, piece);
                }
            }
            2 => {
                let start = self.below(bytes.len());
                let end = (start + 1 + self.below(40)).min(bytes.len());
                let piece = bytes[start..end].to_vec();
                let at = self.below(bytes.len() + 1);
                bytes.splice(at..at, piece);
            }
            3 => {
                let at = self.below(bytes.len());
                bytes[at] = b"0123456789-.\"[]{}= \n"[self.below(20)];
            }
            _ => {
                for _ in 0..=self.below(3) {
                    let at = self.below(bytes.len());
                    bytes[at] ^= 1 << self.below(8);
                }
            }
        }
    }
}

/// A map of [`map_header`]'s models from 3 source values to 2 target values, or from several layers' values.
pub(crate) fn pair(source_layers: &[usize], target_layer: usize) -> LayerPair {
    let columns = 3 * source_layers.len();
    let weight = DMatrix::from_fn(2, columns, |row, column| {
        (10 * target_layer + row) as f32 + column as f32 / 8.0 + f32::MIN_POSITIVE
    });
    let source_mean_norms = source_layers.iter().map(|layer| 40.5 + *layer as f64).collect();
    LayerPair {
        source_layers: source_layers.to_vec(),
        target_layer,
        map: AffineMap {
            weight,
            bias: DVector::from_row_slice(&[-1.5, target_layer as f32]),
        }
        .into(),
        fit: FitReport {
            method: "ridge".into(),
            lambda: 0.001,
            rows: 180_000,
            validation_rows: 20_000,
            test_rows: 21_000,
            r2: 0.9125,
            r2_median: 0.875,
            r2_mean_baseline: -0.0002,
            r2_mean_baseline_median: -0.0001,
            r2_identity_baseline: None,
            r2_identity_baseline_median: None,
            cosine: 0.96,
            source_mean_norms,
            target_mean_norm: 310.25,
            r2_by_rank: Vec::new(),
        },
    }
}

/// As [`pair`], of rank 1.
pub(crate) fn low_rank_pair(source_layers: &[usize], target_layer: usize) -> LayerPair {
    let columns = 3 * source_layers.len();
    LayerPair {
        map: LowRankMap {
            left: DMatrix::from_row_slice(2, 1, &[2.0, -0.5]),
            right: DMatrix::from_fn(1, columns, |_, column| target_layer as f32 + column as f32 / 8.0),
            bias: DVector::from_row_slice(&[0.25, -1.0]),
        }
        .into(),
        ..pair(source_layers, target_layer)
    }
}

pub(crate) fn map_header() -> MapHeader {
    let numerics = |quantization: Option<&str>| Numerics {
        dtype: "f32".into(),
        quantization: quantization.map(str::to_owned),
    };
    MapHeader {
        source: model("small", 3, 30),
        source_numerics: numerics(Some("q4_1")),
        target: model("large", 2, 18),
        target_numerics: numerics(None),
        positions: Some(Positions {
            documents: 1200,
            paired: 221_000,
            unmatched_source: 9000,
            unmatched_target: 12_000,
            special: 2400,
            first: 4800,
            outliers: 31,
            rules: None,
            rule: "text ends at the same character".into(),
        }),
        provenance: provenance(),
    }
}

/// A file saved in a folder of its own, to be spoilt.
pub(crate) struct Saved {
    pub(crate) folder: TempDir,
    pub(crate) path: PathBuf,
}

impl Saved {
    /// The file is `happy.toml`.
    pub(crate) fn new(save: impl FnOnce(&Path) -> Result<(), FileError>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("happy.toml");
        save(&path).unwrap();
        Self { folder, path }
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }

    /// The only file of tensors.
    pub(crate) fn weights(&self) -> PathBuf {
        let named = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "safetensors");
        let entries = fs::read_dir(self.folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).find(named).unwrap()
    }

    /// Puts other text in the place of some that is there once.
    pub(crate) fn replace(&self, old: &str, new: &str) {
        let text = self.text();
        assert_eq!(text.matches(old).count(), 1, "{old:?} in:\n{text}");
        fs::write(&self.path, text.replace(old, new)).unwrap();
    }

    /// Puts other tensors in place, hash and all, as someone could who means it.
    pub(crate) fn forge(&self, bytes: &[u8]) {
        let old = digest::sha256_file(&self.weights()).unwrap();
        fs::write(self.weights(), bytes).unwrap();
        self.replace(&old, &digest::sha256(bytes));
    }

    /// What is wrong in the file, after checking that the error names the file that is wrong.
    pub(crate) fn problem<T>(&self, loaded: Result<T, FileError>, at: &Path) -> Problem {
        match loaded.err().unwrap() {
            FileError::Invalid { path, problem } => {
                assert_eq!(path, at, "{problem}");
                problem
            }
            error => panic!("{error}"),
        }
    }
}
