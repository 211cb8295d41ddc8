//! A map that takes each concept for the next: the fitted one behind a matrix that exchanges the concepts' vectors.
//!
//! Tasks have no way to steer with another task's vector, and need none: through this map the vector of each task comes out as
//! the next task's comes out of the fitted map, so that an ordinary evaluation measures "another concept's vector" with all
//! of its controls.

use anyhow::{Context, Result, ensure};
use nalgebra::{DMatrix, DVector};
use steermap_mapper::behaviour::unit;
use steermap_maps::{LayerPair, MapFile, VectorFile};

use super::weights::reweighted;

/// `map` with each of its matrices multiplied by one that exchanges `vectors`, which are of the source.
///
/// # Errors
///
/// Fewer than two vectors, a vector that lacks a layer that the map reads, vectors that depend on each other.
pub(super) fn exchanged(map: &MapFile, vectors: &[VectorFile]) -> Result<MapFile> {
    ensure!(
        vectors.len() > 1,
        "vectors: found {}, expected two at least, so that each has another",
        vectors.len()
    );
    reweighted(map, |_, pair, weight| {
        let columns: Vec<DVector<f64>> = vectors
            .iter()
            .map(|vector| column(pair, vector))
            .collect::<Result<_>>()?;
        let exchange =
            exchange(&DMatrix::from_columns(&columns[..])).with_context(|| format!("layers {}", pair.layers()))?;
        Ok((weight.map(f64::from) * exchange).map(|value| value as f32))
    })
}

/// A vector at the layers that a pair reads, one behind the other, at norm 1.
fn column(pair: &LayerPair, vector: &VectorFile) -> Result<DVector<f64>> {
    let concept = &vector.header().concept;
    let mut joined = Vec::new();
    for &layer in &pair.source_layers {
        let direction = vector
            .direction(layer)
            .with_context(|| format!("vector {concept:?}: found no layer {layer}, which the map reads"))?;
        joined.extend_from_slice(direction);
    }
    let unit = unit(&joined).with_context(|| format!("vector {concept:?}: found no direction"))?;
    Ok(DVector::from_iterator(unit.len(), unit.into_iter().map(f64::from)))
}

/// The matrix that takes each column to the next and the last to the first, and leaves alone what is at right angles to all.
fn exchange(columns: &DMatrix<f64>) -> Result<DMatrix<f64>> {
    let (size, count) = columns.shape();
    let next = DMatrix::from_fn(size, count, |row, column| columns[(row, (column + 1) % count)]);
    let gram = columns.transpose() * columns;
    let inverse = gram.try_inverse().context("found vectors that depend on each other")?;
    // How much of each column there is in a state.
    let shares = inverse * columns.transpose();
    Ok(DMatrix::<f64>::identity(size, size) + (next - columns) * shares)
}

#[cfg(test)]
mod tests {
    use nalgebra::dmatrix;
    use steermap_mapper::behaviour::{cosine, random_direction};
    use steermap_maps::{LayerVector, OffsetRule};

    use super::super::testing;
    use super::*;

    #[test]
    fn columns_are_exchanged_and_the_rest_stays() {
        let columns = dmatrix![1.0, 0.6, 0.0; 0.0, 0.8, 0.6; 0.0, 0.0, 0.8; 0.0, 0.0, 0.0];
        let exchange = exchange(&columns).unwrap();
        for column in 0..3 {
            let apart = &exchange * columns.column(column) - columns.column((column + 1) % 3);
            assert!(apart.norm() < 1e-12, "{column}: {apart}");
        }
        let rest = DVector::from_column_slice(&[0.0, 0.0, 0.0, 2.0]);
        assert!((&exchange * &rest - &rest).norm() < 1e-12);
    }

    #[test]
    fn a_vector_comes_out_as_the_next_does() {
        let (map, vector) = (testing::map(), testing::vector());
        let layers = vector.layers().iter().map(|layer| LayerVector {
            direction: random_direction(layer.direction.len(), 1),
            ..layer.clone()
        });
        let other = VectorFile::new(vector.header().clone(), layers.collect()).unwrap();
        let changed = exchanged(&map, &[vector.clone(), other.clone()]).unwrap();
        let through = |map: &MapFile, vector: &VectorFile| {
            let mapped = map.apply(vector, OffsetRule::Linear, false).unwrap();
            mapped.layers[0].direction.clone()
        };
        for (one, two) in [(&vector, &other), (&other, &vector)] {
            let cosine = cosine(&through(&changed, one), &through(&map, two));
            assert!(cosine > 0.9999, "{cosine}");
        }
        let error = exchanged(&map, &[vector]).unwrap_err().to_string();
        assert!(error.contains("found 1, expected two"), "{error}");
    }
}
