//! A map that exchanges concepts: the fitted map after a matrix that permutes the concepts' vectors.
//!
//! A task cannot steer with another task's vector. Through this map the vector of each task becomes what the fitted map
//! makes of the next task's vector, so an ordinary evaluation measures "another concept's vector" with all controls.

use anyhow::{Context, Result, ensure};
use nalgebra::{DMatrix, DVector};
use steermap_mapper::behaviour::unit;
use steermap_maps::{LayerPair, MapFile, VectorFile};

use super::weights::reweighted;

/// `map` with each matrix multiplied by one that permutes `vectors`, which are the source's.
///
/// # Errors
///
/// If there are fewer than two vectors, a vector lacks a layer that the map reads, or the vectors are linearly
/// dependent.
pub(super) fn exchanged(map: &MapFile, vectors: &[VectorFile]) -> Result<MapFile> {
    ensure!(
        vectors.len() > 1,
        "vectors: found {}, expected at least two, so that each can be exchanged with another",
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

/// A vector at the layers that a pair reads, concatenated and scaled to norm 1.
fn column(pair: &LayerPair, vector: &VectorFile) -> Result<DVector<f64>> {
    let concept = &vector.header().concept;
    let mut joined = Vec::new();
    for &layer in &pair.source_layers {
        let direction = vector
            .direction(layer)
            .with_context(|| format!("vector {concept:?}: found no layer {layer}, which the map reads"))?;
        joined.extend_from_slice(direction);
    }
    let unit =
        unit(&joined).with_context(|| format!("vector {concept:?}: found a direction of zeros, expected another"))?;
    Ok(DVector::from_iterator(unit.len(), unit.into_iter().map(f64::from)))
}

/// The matrix that takes each column to the next and the last to the first, and is the identity on the orthogonal
/// complement.
fn exchange(columns: &DMatrix<f64>) -> Result<DMatrix<f64>> {
    let (size, count) = columns.shape();
    let next = DMatrix::from_fn(size, count, |row, column| columns[(row, (column + 1) % count)]);
    let gram = columns.transpose() * columns;
    let inverse = gram
        .try_inverse()
        .context("vectors: found linearly dependent ones, expected independent ones")?;
    // Coefficients of a state in terms of the columns.
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
    fn columns_are_exchanged_and_the_complement_is_unchanged() {
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
    fn a_vector_is_mapped_as_the_next_one_was() {
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
        assert!(error.contains("found 1, expected at least two"), "{error}");
    }
}
