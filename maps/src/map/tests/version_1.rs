//! Files of version 1. The fixture was written by the last version of this crate that wrote them.

use super::*;

const TOML: &str = include_str!("v1/small--large.toml");
const WEIGHTS: &[u8] = include_bytes!("v1/small--large-f97b9c76b6b199f9.safetensors");
const WEIGHTS_NAME: &str = "small--large-f97b9c76b6b199f9.safetensors";

/// What the fixture was made of.
fn expected() -> Vec<LayerPair> {
    vec![pair(&[14], 11), pair(&[9, 3], 2), pair(&[15], 11)]
}

/// The fixture with another text or other tensors.
fn saved(text: &str, weights: &[u8]) -> Saved {
    Saved(testing::Saved::new(|path| {
        fs::write(path, text).unwrap();
        fs::write(path.with_file_name(WEIGHTS_NAME), weights).unwrap();
        Ok(())
    }))
}

fn message(old: &str, new: &str) -> String {
    assert!(TOML.contains(old), "{old}");
    saved(&TOML.replacen(old, new, 1), WEIGHTS).toml_problem().to_string()
}

#[test]
fn it_is_read() {
    let file = saved(TOML, WEIGHTS).verified().unwrap();
    assert_eq!(file.header(), &map_header());
    assert_same(file.pairs(), &expected());
    let pair = &file.pairs()[1];
    assert_eq!((pair.map.kind(), pair.map.dtype()), (MapKind::Affine, FloatDtype::F32));
    assert_eq!(
        pair.map.load().unwrap().affine(&[1.0; 6]),
        [121.875 - 1.5, 127.875 + 2.0]
    );
}

#[test]
fn it_becomes_version_2_when_it_is_saved() {
    let saved = saved(TOML, WEIGHTS);
    saved.load().unwrap().save(&saved.path).unwrap();
    assert!(saved.text().starts_with("format = \"steermap-map/2\""));
    assert_same(saved.verified().unwrap().pairs(), &expected());
    // The old tensors aren't named after this file, so they are left alone.
    assert_eq!(fs::read(saved.path.with_file_name(WEIGHTS_NAME)).unwrap(), WEIGHTS);
}

#[test]
fn the_files_hash_is_checked_when_a_pair_is_used() {
    let mut spoilt = WEIGHTS.to_vec();
    *spoilt.last_mut().unwrap() ^= 1;
    let saved = saved(TOML, &spoilt);
    let file = saved.load().unwrap();
    for pair in file.pairs() {
        let problem = saved.problem(pair.map.load(), &saved.weights());
        assert!(matches!(problem, Problem::Sha256 { .. }), "{problem}");
    }
    assert!(matches!(
        saved.problem(file.verify(), &saved.weights()),
        Problem::Sha256 { .. }
    ));
    // A right hash of numbers that are none.
    let at = spoilt.len() - 4;
    spoilt[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(saved.weights(), &spoilt).unwrap();
    saved.replace(&digest::sha256(WEIGHTS), &digest::sha256(&spoilt));
    let file = saved.load().unwrap();
    file.pairs()[0].map.load().unwrap();
    let problem = saved.problem(file.pairs()[2].map.load(), &saved.weights());
    assert!(matches!(problem, Problem::NotFinite { index: 5, .. }), "{problem}");
}

#[test]
fn it_has_the_keys_of_version_1_alone() {
    for (old, new) in [
        ("bias = \"pair.1.bias\"", "bias = \"pair.1.bias\"\nrank = 1"),
        ("bias = \"pair.1.bias\"", "bias = \"pair.1.bias\"\ndtype = \"f32\""),
        ("bias = \"pair.1.bias\"", "bias = \"pair.1.bias\"\nsha256 = \"\""),
        ("format", "surprise = 1\nformat"),
        (
            "target_mean_norm = 310.25",
            "target_mean_norm = 310.25\nr2_by_rank = [{ rank = 1, r2 = 0.5 }]",
        ),
    ] {
        let problem = message(old, new);
        assert!(problem.contains("unknown field"), "{problem}");
    }
    assert_eq!(
        message("kind = \"affine\"", "kind = \"low-rank\"\nrank = 1"),
        "pair.0.kind: found \"low-rank\", expected \"affine\", the only kind of steermap-map/1"
    );
    assert_eq!(
        message("kind = \"affine\"", "kind = \"low-rank\""),
        "pair.0.kind: found \"low-rank\", expected \"affine\", the only kind of steermap-map/1"
    );
    assert!(message("weight = \"pair.0.weight\"", "weight = \"pair.1.weight\"").starts_with("pair.0.weight: found"));
    assert!(message("bias = \"pair.2.bias\"", "bias = \"pair.1.bias\"").starts_with("pair.2.bias: found"));
    assert!(message("[weights]", "[[weights]]").contains("invalid type"));
    // Version 2 is none of version 1 and the other way round.
    assert!(message("steermap-map/1", "steermap-map/2").contains("missing field"));
    let problem = after("steermap-map/2", "steermap-map/1");
    assert!(matches!(problem, Problem::Kind { pair: 2, .. }), "{problem}");
}
