//! A spec and vectors, made into one offset per layer for one model.

use std::borrow::Cow;
use std::collections::BTreeMap;

use steermap_maps::{ModelInfo, VectorFile, digest};

use crate::{Library, SteeringError, SteeringSpec, VectorUse};

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
/// What [`SteeringSpec::validate`] finds, an unknown vector or map, or a vector that does not fit the model, itself or
/// through its map: other sizes, other weights, or without a layer that is asked for.
pub fn compile(spec: &SteeringSpec, library: &Library, target: &Target, at: &str) -> Result<Offsets, SteeringError> {
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
        let (directions, whose) = directions(used, vector, library, target, &field)?;
        let available: Vec<usize> = directions.keys().copied().collect();
        for &layer in used.layers.as_ref().unwrap_or(&available) {
            let Some(direction) = directions.get(&layer) else {
                let expected = format!("layers that {whose} has: {}", ranges(&available));
                return Err(SteeringError::value(field("layers"), layer.to_string(), expected));
            };
            let factor = used.scale / if used.normalize { norm(direction) } else { 1.0 };
            let offset = layers.entry(layer).or_insert_with(|| vec![0.0; target.hidden_size]);
            for (sum, &x) in offset.iter_mut().zip(direction.iter()) {
                *sum += (f64::from(x) * factor) as f32;
            }
            if let Some(bad) = offset.iter().find(|x| !x.is_finite()) {
                let found = format!("{}, which makes an offset of {bad}", used.scale);
                return Err(SteeringError::value(field("scale"), found, "a finite 32-bit offset"));
            }
        }
    }
    Ok(Offsets::new(layers))
}

impl Offsets {
    /// These offsets, `[hidden_size]` each, by layer.
    pub fn new(layers: BTreeMap<usize, Vec<f32>>) -> Self {
        let fingerprint = fingerprint(&layers);
        Self { layers, fingerprint }
    }
}

/// Directions by layer, `[hidden_size]` each: a file's own, or mapped ones.
type Directions<'a> = BTreeMap<usize, Cow<'a, [f32]>>;

/// The directions that a vector gives in the target's stream, by layer, and in words whose they are.
fn directions<'a>(
    used: &VectorUse,
    vector: &'a VectorFile,
    library: &Library,
    target: &Target,
    field: &impl Fn(&str) -> String,
) -> Result<(Directions<'a>, String), SteeringError> {
    let Some(name) = &used.map else {
        check_model(
            vector.model(),
            target,
            &format!("{} {:?}: model", field("vector"), used.vector),
        )?;
        let layers = vector.layers().iter();
        let directions = layers.map(|layer| (layer.layer, Cow::Borrowed(layer.direction.as_slice())));
        return Ok((directions.collect(), format!("{:?}", used.vector)));
    };
    let Some(map) = library.map(name) else {
        return Err(SteeringError::value(field("map"), format!("{name:?}"), "a map's name"));
    };
    let at = format!("{} {name:?}", field("map"));
    check_model(&map.header().target, target, &format!("{at}: target"))?;
    let rule = used.offset.unwrap_or_default();
    let mapped = map
        .apply(vector, rule, target.fingerprint.is_some())
        .map_err(|source| SteeringError::Apply { field: at, source })?;
    let layers = mapped.layers.into_iter();
    let directions = layers.map(|layer| (layer.target_layer, Cow::Owned(layer.direction)));
    Ok((directions.collect(), format!("{:?} through {name:?}", used.vector)))
}

fn check_model(vector: &ModelInfo, target: &Target, field: &str) -> Result<(), SteeringError> {
    for (what, found, expected) in [
        ("hidden_size", vector.hidden_size, target.hidden_size),
        ("num_layers", vector.num_layers, target.num_layers),
    ] {
        if found != expected {
            return Err(SteeringError::value(
                format!("{field}.{what}"),
                format!("{found} (made for {:?})", vector.model),
                format!("{expected}, as {:?} has", target.model),
            ));
        }
    }
    match &target.fingerprint {
        Some(fingerprint) if *fingerprint != vector.fingerprint => Err(SteeringError::value(
            format!("{field}.fingerprint"),
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
