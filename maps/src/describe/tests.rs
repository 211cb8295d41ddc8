//! The whole text, so that a change of it is seen.

use std::collections::BTreeMap;

use super::*;
use crate::testing::{low_rank_pair, map_header, model, pair, provenance};
use crate::{
    AffineMap, FloatDtype, LayerVector, MapWriter, Mapped, OffsetRule, RankR2, TokenPosition, VectorHeader, digest,
};

fn header() -> VectorHeader {
    VectorHeader {
        concept: "happy".into(),
        method: "mean-difference".into(),
        token_position: TokenPosition::Last,
        pairs: 64,
        model: model("small", 3, 30),
        numerics: map_header().source_numerics,
        provenance: provenance(),
    }
}

fn layers() -> Vec<LayerVector> {
    let layer = |layer, mean_norm, auroc| LayerVector {
        layer,
        direction: vec![3.0, 0.0, 4.0],
        mean_norm,
        auroc,
        neutral: None,
    };
    vec![layer(2, 0.0, None), layer(11, 40.0, Some(0.9375))]
}

#[test]
fn maps() {
    let mut many = pair(&[13, 14], 11);
    many.fit.r2 = -1234567.0;
    many.fit.lambda = 1e-5;
    let file = MapFile::new(map_header(), vec![pair(&[14], 11), many]).unwrap();
    assert_eq!(map(&file), include_str!("tests/map.txt"));
}

#[test]
fn maps_in_files_with_factors_and_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let mut low_rank = low_rank_pair(&[13, 14], 11);
    let ranks = (1..=8u64).map(|rank| RankR2 {
        rank: 4 * rank,
        r2: rank as f64 / 10.0,
    });
    low_rank.fit.r2_by_rank = ranks.collect();
    let path = folder.path().join("small--large.toml");
    let writer = MapWriter::create(&path, map_header(), 2).unwrap();
    let mut writer = writer.with_dtype(FloatDtype::Bf16).with_file_bytes(1);
    writer.push(&pair(&[14], 11)).unwrap();
    writer.push(&low_rank).unwrap();
    assert_eq!(map(&writer.finish().unwrap()), include_str!("tests/low_rank_map.txt"));
}

#[test]
fn identity_baselines() {
    let mut header = map_header();
    header.target.hidden_size = 3;
    header.positions = None;
    let mut pair = pair(&[14], 11);
    pair.map = AffineMap {
        weight: nalgebra::DMatrix::identity(3, 3),
        bias: nalgebra::DVector::zeros(3),
    }
    .into();
    pair.fit.r2_identity_baseline = Some(0.125);
    pair.fit.r2_identity_baseline_median = Some(-2.5);
    let text = map(&MapFile::new(header, vec![pair]).unwrap());
    assert!(text.contains("0.1250  -2.5000  0.9600\n"), "{text}");
    assert!(!text.contains("Positions"), "{text}");
}

#[test]
fn vectors() {
    let file = VectorFile::new(header(), layers()).unwrap();
    assert_eq!(vector(&file), include_str!("tests/vector.txt"));
    let mapped = Mapped {
        map: "small-to-large".into(),
        map_sha256: digest::sha256(b"map"),
        source_model: "small".into(),
        source_fingerprint: "sm1:11".into(),
        offset: OffsetRule::Linear,
        source_layers: BTreeMap::from([(2, vec![4, 5]), (11, vec![14])]),
    };
    let file = VectorFile::new_mapped(header(), layers(), mapped).unwrap();
    assert_eq!(vector(&file), include_str!("tests/mapped.txt"));
}

/// Names as real ones are, many layers, large counts.
#[test]
fn lines_are_short_enough() {
    let mut header = map_header();
    header.source.model = "SmolLM2-135M-Instruct-GGUF-Q4_1".into();
    header.target.model = "Llama-3.3-70B-Instruct-abliterated".into();
    header.source_numerics.dtype = "bf16".into();
    header.provenance.command = "mapper fit --source small --target large --corpus c4.txt --out maps".into();
    let mut pair = pair(&[13, 14, 15], 11);
    (pair.fit.rows, pair.fit.validation_rows, pair.fit.test_rows) = (123_456_789, 12_345_678, 12_345_678);
    pair.fit.source_mean_norms = vec![12345.678; 3];
    pair.fit.r2_mean_baseline = -123_456.0;
    let text = map(&MapFile::new(header, vec![pair]).unwrap());
    for line in text.lines() {
        assert!(line.chars().count() <= 120, "{line}");
        assert_eq!(line.trim_end(), line);
    }
}

#[test]
fn numbers() {
    for (value, text) in [
        (0.0, "0"),
        (0.001, "0.0010"),
        (0.000999, "9.99e-4"),
        (-0.5, "-0.5000"),
        (1.0, "1.000"),
        (-54.56789, "-54.568"),
        (310.25, "310.250"),
        (34_000.04, "34000.0"),
        (-1e6, "-1.00e6"),
        (1e300, "1.00e300"),
    ] {
        assert_eq!(number(value), text);
    }
    for (value, text) in [
        (0.91251, "0.9125"),
        (-0.0002, "-0.0002"),
        (-12_345.678_91, "-12345.6789"),
        (-1e5, "-1.00e5"),
    ] {
        assert_eq!(score(value), text);
    }
    for (count, text) in [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_048_524, "1023.9 KiB"),
        (1_048_575, "1.0 MiB"),
        (134_250_496, "128.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (1 << 51, "2048.0 TiB"),
    ] {
        assert_eq!(bytes(count), text);
    }
    assert_eq!(optional(Some(0.5), score), "0.5000");
    assert_eq!(optional(None, score), "-");
}

#[test]
fn what_could_steer_a_terminal_is_spelled_out() {
    assert_eq!(plain("a\u{1b}[2J\n\u{9b}ü\"\\"), "a\\u{1b}[2J\\n\\u{9b}ü\"\\");
    let mut header = header();
    header.concept = "\u{1b}[31m".into();
    header.method = "a\rb".into();
    header.model.model = "a\nb".into();
    header.model.fingerprint = "\u{7}".repeat(30);
    header.numerics.quantization = Some("a\tb".into());
    header.provenance.command = "\u{8}".into();
    let text = vector(&VectorFile::new(header, layers()).unwrap());
    assert!(text.lines().all(|line| !line.contains(char::is_control)), "{text:?}");
    assert_eq!(short("0123456789abcdef"), "0123456789ab…");
    assert_eq!(short("0123456789ab"), "0123456789ab");
}
