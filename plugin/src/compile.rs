//! A spec and vectors, made into one offset per layer for one model.

use std::collections::BTreeMap;

use steermap_maps::{ModelInfo, digest};

use crate::{SteeringError, SteeringSpec, VectorLibrary};

/// The model that a spec is compiled for.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name, for messages.
    pub model: String,
    /// Width of its residual stream.
    pub hidden_size: usize,
    /// Number of its decoder blocks.
    pub num_layers: usize,
    /// What identifies its weights and tokenizer; `None` where that is not known or not to be compared.
    pub fingerprint: Option<String>,
}

/// What is added to the residual stream of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Offsets {
    /// By layer: the sum of all vectors' offsets there, `[hidden_size]`.
    pub layers: BTreeMap<usize, Vec<f32>>,
    /// SHA-256 over layers and values, in hex: two models' worth of steering is the same exactly if this is.
    pub fingerprint: String,
}

/// Compiles `spec`. `at` is the path of the spec, for messages.
///
/// # Errors
///
/// What [`SteeringSpec::validate`] finds, an unknown vector, or a vector that does not fit the model: other sizes,
/// other weights, or without a layer that is asked for.
pub fn compile(
    spec: &SteeringSpec,
    library: &VectorLibrary,
    target: &Target,
    at: &str,
) -> Result<Offsets, SteeringError> {
    spec.validate(at)?;
    let mut layers: BTreeMap<usize, Vec<f32>> = BTreeMap::new();
    for (index, used) in spec.vectors.iter().enumerate() {
        let field = |name: &str| format!("{at}vectors[{index}].{name}");
        let Some(vector) = library.get(&used.vector) else {
            return Err(SteeringError::value(
                field("vector"),
                format!("{:?}", used.vector),
                "a vector's name",
            ));
        };
        check_model(
            vector.model(),
            target,
            &format!("{} {:?}", field("vector"), used.vector),
        )?;
        let available: Vec<usize> = vector.layers().iter().map(|layer| layer.layer).collect();
        for &layer in used.layers.as_ref().unwrap_or(&available) {
            let Some(direction) = vector.direction(layer) else {
                let expected = format!("layers that {:?} has: {}", used.vector, ranges(&available));
                return Err(SteeringError::value(field("layers"), layer.to_string(), expected));
            };
            let factor = used.scale / if used.normalize { norm(direction) } else { 1.0 };
            let offset = layers.entry(layer).or_insert_with(|| vec![0.0; target.hidden_size]);
            for (sum, &x) in offset.iter_mut().zip(direction) {
                *sum += (f64::from(x) * factor) as f32;
            }
            if let Some(bad) = offset.iter().find(|x| !x.is_finite()) {
                let found = format!("{}, which makes an offset of {bad}", used.scale);
                return Err(SteeringError::value(field("scale"), found, "a finite 32-bit offset"));
            }
        }
    }
    let fingerprint = fingerprint(&layers);
    Ok(Offsets { layers, fingerprint })
}

fn check_model(vector: &ModelInfo, target: &Target, field: &str) -> Result<(), SteeringError> {
    for (what, found, expected) in [
        ("hidden_size", vector.hidden_size, target.hidden_size),
        ("num_layers", vector.num_layers, target.num_layers),
    ] {
        if found != expected {
            return Err(SteeringError::value(
                format!("{field}: model.{what}"),
                format!("{found} (made for {:?})", vector.model),
                format!("{expected}, as {:?} has", target.model),
            ));
        }
    }
    match &target.fingerprint {
        Some(fingerprint) if *fingerprint != vector.fingerprint => Err(SteeringError::value(
            format!("{field}: model.fingerprint"),
            format!("{} (made for {:?})", vector.fingerprint, vector.model),
            format!(
                "{fingerprint}, that of {:?}; --ignore-fingerprints uses it all the same",
                target.model
            ),
        )),
        _ => Ok(()),
    }
}

fn norm(v: &[f32]) -> f64 {
    v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

fn fingerprint(layers: &BTreeMap<usize, Vec<f32>>) -> String {
    let mut bytes = Vec::new();
    for (layer, values) in layers {
        bytes.extend((*layer as u64).to_le_bytes());
        bytes.extend((values.len() as u64).to_le_bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    digest::sha256(&bytes)
}

/// Ascending numbers, runs written as `3-7`.
pub(crate) fn ranges(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &n in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => parts.push((n, n)),
        }
    }
    let part = |&(a, b): &(usize, usize)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}
