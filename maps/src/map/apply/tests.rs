//! Answers worked out by hand.

use nalgebra::{DMatrix, DVector};

use super::*;
use crate::testing::{Saved, map_header, model, pair, provenance};
use crate::{AffineMap, LowRankMap, Numerics, TokenPosition, digest};

fn vector_of(model: ModelInfo, layers: &[(usize, &[f32])]) -> VectorFile {
    let header = VectorHeader {
        concept: "happy".into(),
        method: "mean-difference".into(),
        token_position: TokenPosition::Mean,
        pairs: 64,
        model,
        numerics: map_header().source_numerics,
        provenance: provenance(),
    };
    let layers = layers.iter().map(|(layer, direction)| LayerVector {
        layer: *layer,
        direction: direction.to_vec(),
        mean_norm: 40.0,
        auroc: Some(0.75),
        neutral: None,
    });
    VectorFile::new(header, layers.collect()).unwrap()
}

/// A vector of the map's source.
fn vector(layers: &[(usize, &[f32])]) -> VectorFile {
    vector_of(map_header().source, layers)
}

/// A pair with these weights, row by row, and this bias.
fn pair_with(source_layers: &[usize], target_layer: usize, weight: &[f32], bias: [f32; 2]) -> LayerPair {
    LayerPair {
        map: AffineMap {
            weight: DMatrix::from_row_slice(2, 3 * source_layers.len(), weight),
            bias: DVector::from_row_slice(&bias),
        }
        .into(),
        ..pair(source_layers, target_layer)
    }
}

fn map(pairs: Vec<LayerPair>) -> MapFile {
    MapFile::new(map_header(), pairs).unwrap()
}

const WEIGHT: [f32; 6] = [1.0, 2.0, -3.0, 0.5, 0.0, 4.0];

#[test]
fn linear_and_affine() {
    let map = map(vec![pair_with(&[14], 11, &WEIGHT, [10.0, -20.0])]);
    let vector = vector(&[(14, &[1.0, 10.0, 100.0]), (15, &[1.0; 3])]);
    let mapped = map.apply(&vector, OffsetRule::Linear, true).unwrap();
    let expected = MappedLayer {
        target_layer: 11,
        source_layers: vec![14],
        direction: vec![-279.0, 400.5],
        mean_norm: 310.25,
        r2: 0.9125,
    };
    assert_eq!(mapped.layers, [expected]);
    assert_eq!(
        (mapped.offset(), mapped.target()),
        (OffsetRule::Linear, &map_header().target)
    );
    let mapped = map.apply(&vector, OffsetRule::Affine, true).unwrap();
    assert_eq!(mapped.layers[0].direction, [-269.0, 380.5]);
    assert_eq!(mapped.offset(), OffsetRule::Affine);
}

#[test]
fn factors_are_applied_one_after_the_other() {
    let pair = LayerPair {
        map: LowRankMap {
            left: DMatrix::from_row_slice(2, 1, &[2.0, -1.0]),
            right: DMatrix::from_row_slice(1, 3, &[1.0, 0.5, 0.25]),
            bias: DVector::from_row_slice(&[10.0, -20.0]),
        }
        .into(),
        ..pair(&[14], 11)
    };
    let map = map(vec![pair]);
    let vector = vector(&[(14, &[1.0, 10.0, 100.0])]);
    let mapped = map.apply(&vector, OffsetRule::Linear, true).unwrap();
    assert_eq!(mapped.layers[0].direction, [62.0, -31.0]);
    let mapped = map.apply(&vector, OffsetRule::Affine, true).unwrap();
    assert_eq!(mapped.layers[0].direction, [72.0, -51.0]);
}

/// A pair whose weights are spoilt is found when a direction goes through it, and by no other.
#[test]
fn only_the_pairs_that_are_reached_are_read() {
    let saved = Saved::new(|path| map(vec![pair(&[14], 11), pair(&[3], 2)]).save(path));
    let mut bytes = std::fs::read(saved.weights()).unwrap();
    // The last tensor is the second pair's bias.
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(saved.weights(), bytes).unwrap();
    let map = MapFile::load(&saved.path).unwrap();
    let vector = vector(&[(14, &[1.0; 3]), (3, &[1.0; 3])]);
    let reach = map.reach(&vector, true).unwrap();
    assert_eq!(reach.layers().collect::<Vec<_>>(), [2, 11]);
    let whole = reach.direction(11, OffsetRule::Linear).unwrap().unwrap();
    assert_eq!(whole.target_layer, 11);
    let error = reach.direction(2, OffsetRule::Linear).unwrap().unwrap_err().to_string();
    let start = format!(
        "3->2: {}: pair.1.sha256: its tensors hash to ",
        saved.weights().display()
    );
    assert!(error.starts_with(&start), "{error}");
    assert!(matches!(
        map.apply(&vector, OffsetRule::Linear, true),
        Err(ApplyError::Weights { .. })
    ));
    assert!(reach.direction(5, OffsetRule::Linear).is_none());
}

#[test]
fn several_layers_are_concatenated_in_the_pairs_order() {
    // The first three columns see layer 9, the last three layer 3.
    let weight = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 3.0, 0.0];
    let map = map(vec![pair_with(&[9, 3], 2, &weight, [0.0, 0.5])]);
    let vector = vector(&[(3, &[1.0, 2.0, 3.0]), (9, &[10.0, 20.0, 30.0])]);
    let mapped = map.apply(&vector, OffsetRule::Linear, true).unwrap();
    assert_eq!(mapped.layers[0].direction, [10.0 + 3.0, 40.0 + 6.0]);
    assert_eq!(mapped.layers[0].source_layers, [9, 3]);
    let mapped = map.apply(&vector, OffsetRule::Affine, true).unwrap();
    assert_eq!(mapped.layers[0].direction, [13.0, 46.5]);
}

#[test]
fn all_target_layers_that_can_be_reached_come_in_order() {
    let map = map(vec![pair(&[14], 11), pair(&[3], 2), pair(&[14, 4], 5), pair(&[4], 7)]);
    let vector = vector(&[(3, &[1.0; 3]), (14, &[2.0; 3])]);
    let mapped = map.apply(&vector, OffsetRule::Linear, true).unwrap();
    let layers: Vec<_> = mapped.layers.iter().map(|layer| layer.target_layer).collect();
    assert_eq!(layers, [2, 11]);
}

#[test]
fn the_best_pair_counts_and_of_equals_the_first() {
    let best = |scores: [f64; 3], layers: &[(usize, &[f32])]| {
        let mut pairs = vec![pair(&[3], 11), pair(&[4], 11), pair(&[3, 4], 11)];
        pairs.iter_mut().zip(scores).for_each(|(pair, r2)| pair.fit.r2 = r2);
        let mapped = map(pairs).apply(&vector(layers), OffsetRule::Linear, true).unwrap();
        assert_eq!(mapped.layers.len(), 1);
        (mapped.layers[0].source_layers.clone(), mapped.layers[0].r2)
    };
    let both: [(usize, &[f32]); 2] = [(3, &[1.0; 3]), (4, &[1.0; 3])];
    assert_eq!(best([0.5, 0.75, 0.25], &both), (vec![4], 0.75));
    assert_eq!(best([0.5, 0.25, 0.75], &both), (vec![3, 4], 0.75));
    assert_eq!(best([0.5, 0.5, 0.5], &both), (vec![3], 0.5));
    assert_eq!(best([-0.5, -0.25, -0.25], &both), (vec![4], -0.25));
    // What the vector hasn't can't count.
    assert_eq!(best([0.5, 0.75, 0.875], &both[..1]), (vec![3], 0.5));
}

#[test]
fn vectors_of_another_model_are_refused() {
    let map = map(vec![pair(&[14], 11)]);
    let apply = |model: ModelInfo, check| {
        let direction = vec![1.0; model.hidden_size];
        let vector = vector_of(model, &[(14, &direction)]);
        map.apply(&vector, OffsetRule::Linear, check)
            .map_err(|error| error.to_string())
    };
    for check in [true, false] {
        assert_eq!(
            apply(model("other", 4, 30), check).unwrap_err(),
            "the vector lives in other with hidden_size 4, but the map's source small has hidden_size 3"
        );
        assert_eq!(
            apply(model("other", 3, 29), check).unwrap_err(),
            "the vector lives in other with num_layers 29, but the map's source small has num_layers 30"
        );
    }
    let other = model("other", 3, 30);
    let (found, expected) = (&other.fingerprint, &map_header().source.fingerprint);
    let message =
        format!("the vector lives in other with fingerprint {found}, but the map's source small has {expected}");
    assert_eq!(apply(other.clone(), true).unwrap_err(), message);
    apply(other, false).unwrap();
    // The name is for people: a renamed folder holds the same model.
    let mut renamed = map_header().source;
    renamed.model = "renamed".into();
    apply(renamed, true).unwrap();
}

#[test]
fn a_vector_that_no_pair_covers() {
    let map = map(vec![pair(&[14], 11), pair(&[13, 15], 12)]);
    let vector = vector(&[(3, &[1.0; 3]), (15, &[1.0; 3])]);
    assert_eq!(
        map.apply(&vector, OffsetRule::Linear, true).unwrap_err().to_string(),
        "the vector has the source layers 3, 15, and the map has the pairs 14->11, 13+15->12: no pair \
         has all its source layers in the vector"
    );
}

#[test]
fn directions_that_vanish_or_overflow() {
    let apply = |weight: &[f32], bias, offset, direction: &[f32]| {
        let map = map(vec![pair_with(&[14], 11, weight, bias)]);
        let mapped = map.apply(&vector(&[(14, direction)]), offset, true);
        mapped.map_err(|error| error.to_string())
    };
    let zero = "14->11: the mapped direction is zero: the map discards this vector";
    let blind = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0];
    let seen = [1.0, 1.0, 0.0];
    assert_eq!(apply(&blind, [1.0; 2], OffsetRule::Linear, &seen).unwrap_err(), zero);
    // The bias alone is a direction.
    apply(&blind, [1.0; 2], OffsetRule::Affine, &seen).unwrap();
    assert_eq!(apply(&blind, [0.0; 2], OffsetRule::Affine, &seen).unwrap_err(), zero);
    // Too small for f32.
    assert_eq!(
        apply(&[1e-30; 6], [0.0; 2], OffsetRule::Linear, &[1e-30; 3]).unwrap_err(),
        zero
    );
    assert_eq!(
        apply(
            &[1.0, 0.0, 0.0, -1e30, 0.0, 0.0],
            [0.0; 2],
            OffsetRule::Linear,
            &[1e30; 3]
        )
        .unwrap_err(),
        "14->11: the mapped direction is not finite (-inf at index 1)"
    );
}

#[test]
fn a_vector_file_in_the_targets_space() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mapped.toml");
    let map = map(vec![pair_with(&[14], 11, &WEIGHT, [10.0, -20.0]), pair(&[9, 3], 2)]);
    let vector = vector(&[(14, &[1.0, 10.0, 100.0]), (9, &[1.0; 3]), (3, &[1.0; 3])]);
    let mut made = provenance();
    made.command = "mapper apply".into();
    let sha256 = digest::sha256(b"map");
    let mapped = map.apply(&vector, OffsetRule::Linear, true).unwrap();
    let file = mapped
        .clone()
        .into_vector_file("small-to-large", &sha256, made.clone())
        .unwrap();
    file.save(&path).unwrap();
    assert_eq!(VectorFile::load(&path).unwrap(), file);

    let header = VectorHeader {
        concept: "happy".into(),
        method: "mean-difference, mapped (linear)".into(),
        token_position: TokenPosition::Mean,
        pairs: 64,
        model: map_header().target,
        numerics: Numerics {
            dtype: "f32".into(),
            quantization: None,
        },
        provenance: made,
    };
    assert_eq!(file.header(), &header);
    let origin = Mapped {
        map: "small-to-large".into(),
        map_sha256: sha256.clone(),
        source_model: "small".into(),
        source_fingerprint: map_header().source.fingerprint,
        offset: OffsetRule::Linear,
        source_layers: BTreeMap::from([(2, vec![9, 3]), (11, vec![14])]),
    };
    assert_eq!(file.mapped(), Some(&origin));
    let layers: Vec<_> = file.layers().iter().map(|layer| layer.layer).collect();
    assert_eq!(layers, [2, 11]);
    let layer = file.layer(11).unwrap();
    assert_eq!(layer.direction, [-279.0, 400.5]);
    assert_eq!((layer.mean_norm, layer.auroc), (310.25, None));

    // What the caller passes is checked, and what it has changed.
    assert!(mapped.clone().into_vector_file(" ", &sha256, provenance()).is_err());
    assert!(mapped.clone().into_vector_file("map", "ab", provenance()).is_err());
    let mut emptied = mapped;
    emptied.layers.clear();
    assert_eq!(
        emptied.into_vector_file("map", &sha256, provenance()),
        Err(Problem::NoLayers)
    );
}
