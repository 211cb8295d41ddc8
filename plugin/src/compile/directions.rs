//! The directions that a vector has in one model's residual stream: its file's own, or mapped ones.

use std::borrow::Cow;
use std::collections::BTreeMap;

use steermap_maps::{ModelInfo, OffsetRule};

use super::{Target, ranges};
use crate::library::quoted;
use crate::{Library, SteeringError};

/// A vector and how it comes to the target.
pub(super) struct Source<'a> {
    pub(super) vector: &'a str,
    pub(super) map: Option<&'a str>,
    pub(super) offset: OffsetRule,
}

/// The directions that a [`Source`] has in the target's stream.
pub(super) struct Directions<'a> {
    /// By layer, one at least.
    pub(super) layers: BTreeMap<usize, Direction<'a>>,
    /// Whose they are, for messages.
    whose: String,
}

pub(super) struct Direction<'a> {
    /// As it was found or mapped, not normalised: `[hidden_size]`, finite, norm above 0.
    pub(super) values: Cow<'a, [f32]>,
    /// Mean L2 norm of the target's stream at this layer; 0: not known.
    pub(super) mean_norm: f64,
}

impl Source<'_> {
    /// The directions by layer. `at` is the path of the table that names the vector, for messages.
    pub(super) fn directions<'a>(
        &self,
        library: &'a Library,
        target: &Target,
        at: &str,
    ) -> Result<Directions<'a>, SteeringError> {
        let Some(vector) = library.get(self.vector) else {
            return Err(not_found(format!("{at}.vector"), self.vector, "a vector's name"));
        };
        let Some(name) = self.map else {
            check_model(vector.model(), target, &format!("{at}.vector {:?}: model", self.vector))?;
            let layers = vector.layers().iter().map(|layer| {
                let values = Cow::Borrowed(layer.direction.as_slice());
                let mean_norm = layer.mean_norm;
                (layer.layer, Direction { values, mean_norm })
            });
            return Ok(Directions {
                layers: layers.collect(),
                whose: format!("{:?}", self.vector),
            });
        };
        let Some(map) = library.map(name) else {
            return Err(not_found(format!("{at}.map"), name, "a map's name"));
        };
        let at = format!("{at}.map {name:?}");
        check_model(&map.header().target, target, &format!("{at}: target"))?;
        let mapped = map
            .apply(vector, self.offset, target.fingerprint.is_some())
            .map_err(|reason| SteeringError::Apply { field: at, reason })?;
        let layers = mapped.layers.into_iter().map(|layer| {
            let values = Cow::Owned(layer.direction);
            let mean_norm = layer.mean_norm;
            (layer.target_layer, Direction { values, mean_norm })
        });
        Ok(Directions {
            layers: layers.collect(),
            whose: format!("{:?} through {name:?}", self.vector),
        })
    }
}

fn not_found(field: String, name: &str, expected: &str) -> SteeringError {
    SteeringError::NotFound {
        field,
        found: quoted(name),
        expected: expected.to_string(),
    }
}

impl Directions<'_> {
    /// That of one layer; `field` is what asks for it, for messages.
    pub(super) fn layer(&self, layer: usize, field: &str) -> Result<&Direction<'_>, SteeringError> {
        self.layers.get(&layer).ok_or_else(|| {
            let available: Vec<usize> = self.layers.keys().copied().collect();
            let expected = format!("layers that {} has: {}", self.whose, ranges(&available));
            SteeringError::value(field, layer.to_string(), expected)
        })
    }
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

pub(super) fn norm(v: &[f32]) -> f64 {
    v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}
