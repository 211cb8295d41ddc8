//! Maps with other weights than the fitted ones. Everything else is unchanged, including the quality that the file
//! states.

use anyhow::{Result, ensure};
use nalgebra::DMatrix;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use steermap_mapper::behaviour::random_direction;
use steermap_maps::{AffineMap, LayerPair, MapFile};

/// `map` with each pair's matrix replaced by the result of `change`, which gets the matrix, the pair and its number.
pub(super) fn reweighted(
    map: &MapFile,
    change: impl Fn(usize, &LayerPair, &DMatrix<f32>) -> Result<DMatrix<f32>>,
) -> Result<MapFile> {
    let mut pairs = Vec::with_capacity(map.pairs().len());
    for (number, pair) in map.pairs().iter().enumerate() {
        let AffineMap { weight, bias } = pair.map.load()?.to_affine();
        let weight = change(number, pair, &weight)?;
        pairs.push(LayerPair {
            map: AffineMap { weight, bias }.into(),
            ..pair.clone()
        });
    }
    Ok(MapFile::new(map.header().clone(), pairs)?)
}

/// Permutes the rows of each matrix, each in an order of its own.
pub(super) fn with_permuted_rows(map: &MapFile, seed: u64) -> Result<MapFile> {
    reweighted(map, |number, _, weight| {
        let mut order: Vec<usize> = (0..weight.nrows()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed + number as u64));
        Ok(DMatrix::from_fn(weight.nrows(), weight.ncols(), |row, column| {
            weight[(order[row], column)]
        }))
    })
}

/// Replaces each matrix by Gaussian numbers of the same Frobenius norm.
pub(super) fn with_random_weights(map: &MapFile, seed: u64) -> Result<MapFile> {
    reweighted(map, |number, _, weight| {
        let numbers = random_direction(weight.len(), seed + number as u64);
        Ok(DMatrix::from_column_slice(weight.nrows(), weight.ncols(), &numbers) * weight.norm())
    })
}

/// Gives each pair the weights and bias of the pair half the file further on.
///
/// # Errors
///
/// If a pair would get weights of the same source layers, or of a different number of them.
pub(super) fn with_other_layers(map: &MapFile) -> Result<MapFile> {
    let fitted = map.pairs();
    let mut pairs = Vec::with_capacity(fitted.len());
    for (number, pair) in fitted.iter().enumerate() {
        let other = &fitted[(number + fitted.len() / 2) % fitted.len()];
        ensure!(
            other.source_layers != pair.source_layers && other.map.columns() == pair.map.columns(),
            "pair {number}: found {} half of the file further on from {}, expected a pair that reads as many layers of the \
             source, but others",
            other.layers(),
            pair.layers()
        );
        pairs.push(LayerPair {
            map: other.map.clone(),
            ..pair.clone()
        });
    }
    Ok(MapFile::new(map.header().clone(), pairs)?)
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn weight(map: &MapFile, pair: usize) -> DMatrix<f32> {
        map.pairs()[pair].map.load().unwrap().to_affine().weight
    }

    #[test]
    fn rows_are_permuted() {
        let map = testing::map();
        let rows = |map: &MapFile| -> Vec<Vec<u32>> {
            let weight = weight(map, 0);
            let bits = |row: usize| -> Vec<u32> { weight.row(row).iter().map(|value| value.to_bits()).collect() };
            (0..weight.nrows()).map(bits).collect()
        };
        let changed = with_permuted_rows(&map, 1).unwrap();
        let (mut before, mut after) = (rows(&map), rows(&changed));
        assert_ne!(before, after);
        before.sort();
        after.sort();
        assert_eq!(before, after);
        let bias = |map: &MapFile| map.pairs()[0].map.load().unwrap().bias().to_vec();
        assert_eq!(bias(&map), bias(&changed));
    }

    #[test]
    fn random_weights_keep_the_norm() {
        let map = testing::map();
        let changed = with_random_weights(&map, 1).unwrap();
        let (before, after) = (weight(&map, 0), weight(&changed, 0));
        assert!((after.norm() / before.norm() - 1.0).abs() < 1e-3);
        assert!(before.dot(&after).abs() < 0.1 * before.norm_squared());
    }

    #[test]
    fn layers_exchange_their_weights() {
        let map = testing::map();
        let error = with_other_layers(&map).unwrap_err().to_string();
        assert!(error.contains("pair 0") && error.contains("2->4"), "{error}");
        let other = LayerPair {
            source_layers: vec![0],
            ..with_random_weights(&map, 1).unwrap().pairs()[0].clone()
        };
        let two = MapFile::new(map.header().clone(), vec![map.pairs()[0].clone(), other]).unwrap();
        let changed = with_other_layers(&two).unwrap();
        assert_eq!(changed.pairs()[0].source_layers, [2]);
        for (here, there) in [(0, 1), (1, 0)] {
            assert_eq!(weight(&changed, here), weight(&two, there));
        }
    }
}
