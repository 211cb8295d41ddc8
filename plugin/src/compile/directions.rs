//! The directions of a vector in one model's residual stream: those of its file, or mapped ones.

use std::sync::Arc;

use steermap_extract::find::proposed;
use steermap_maps::{MapFile, ModelInfo, OffsetRule, Reach, Spread, VectorFile};

use super::ranges::ranges;
use crate::directions::{Direction, DirectionCache, DirectionKey, LayerDirection};
use crate::library::{Named, not_found};
use crate::spec::VectorRef;
use crate::{Library, SteeringError, Target};

/// A vector, and the map that carries it to the target, if there is one.
pub(super) struct VectorAndMap<'a> {
    /// The vector, and its name in the spec.
    pub(super) vector: &'a Named<VectorFile>,
    pub(super) name: &'a str,
    pub(super) map: Option<&'a str>,
    pub(super) offset: OffsetRule,
}

/// The directions of a [`VectorAndMap`] in the target's stream, each computed when it is requested.
pub(super) struct TargetDirections<'a> {
    cache: &'a DirectionCache,
    vector: &'a Named<VectorFile>,
    through: Option<AppliedMap<'a>>,
    /// The vector and its map, for messages.
    described: String,
}

/// The map that carries the vector.
struct AppliedMap<'a> {
    map: &'a Named<MapFile>,
    reach: Reach<'a>,
    offset: OffsetRule,
    /// The path of the map's name, for messages.
    at: String,
}

impl<'a> VectorAndMap<'a> {
    /// Its directions in the stream of `target`. `at` is the path of the table that names the vector, for messages.
    pub(super) fn directions(
        &self,
        library: &'a Library,
        target: &Target,
        at: &str,
    ) -> Result<TargetDirections<'a>, SteeringError> {
        let vector = self.vector;
        let cache = library.directions();
        let Some(name) = self.map else {
            let field = format!("{at}.vector {:?}: model", self.name);
            check_model(vector.file.model(), target, &field, &vector.in_file())?;
            return Ok(TargetDirections {
                cache,
                vector,
                through: None,
                described: format!("{:?}", self.name),
            });
        };
        let Some(map) = library.named_map(name) else {
            return Err(not_found(format!("{at}.map"), name, "a map's name"));
        };
        let at = format!("{at}.map {name:?}");
        check_model(
            &map.file.header().target,
            target,
            &format!("{at}: target"),
            &map.in_file(),
        )?;
        let reach = map.file.reach(&vector.file, target.fingerprint.is_some());
        let reach = reach.map_err(|reason| SteeringError::Apply {
            field: at.clone(),
            reason,
        })?;
        Ok(TargetDirections {
            cache,
            vector,
            through: Some(AppliedMap {
                map,
                reach,
                offset: self.offset,
                at,
            }),
            described: format!("{:?} through {name:?}", self.name),
        })
    }
}

impl TargetDirections<'_> {
    /// The layers that have a direction, ascending; at least one.
    pub(super) fn layers(&self) -> Vec<usize> {
        match &self.through {
            Some(through) => through.reach.layers().collect(),
            None => self.vector.file.layers().iter().map(|layer| layer.layer).collect(),
        }
    }

    /// The layer that the vector's file proposes or, with a map, the layer that the map carries it to; of several, the
    /// one with the best fit.
    pub(super) fn proposed(&self) -> Option<usize> {
        let proposed = proposed(&self.vector.file)?;
        match &self.through {
            None => Some(proposed),
            Some(through) => through.reach.target_of(proposed),
        }
    }

    /// The direction at one layer; `field` is the path of the layer, for messages.
    pub(super) fn layer(&self, layer: usize, field: &str) -> Result<Arc<LayerDirection>, SteeringError> {
        let key = DirectionKey {
            vector: self.vector.id,
            map: self.through.as_ref().map(|through| (through.map.id, through.offset)),
            layer,
        };
        self.cache.get(key, || {
            self.make(layer)?.ok_or_else(|| {
                let expected = format!("layers of {}: {}", self.described, ranges(&self.layers()));
                SteeringError::value(field, layer.to_string(), expected)
            })
        })
    }

    fn make(&self, layer: usize) -> Result<Option<LayerDirection>, SteeringError> {
        let Some(through) = &self.through else {
            let mut layers = self.vector.file.layers().iter();
            let own = layers.find(|own| own.layer == layer);
            return Ok(own.map(|own| found(&own.direction, own.mean_norm, own.neutral)));
        };
        match through.reach.direction(layer, through.offset) {
            None => Ok(None),
            // The file's spread on neutral text is that of the source model's stream.
            Some(Ok(mapped)) => Ok(Some(found(&mapped.direction, mapped.mean_norm, None))),
            Some(Err(reason)) => Err(SteeringError::Apply {
                field: through.at.clone(),
                reason,
            }),
        }
    }
}

/// The unit direction of a test's or readout's vector at one layer, carried over by the map's linear part. `at` is the
/// path of the table that names the vector and the layer, for messages.
pub(super) fn unit_direction(
    vector: &VectorRef,
    map: Option<&str>,
    layer: usize,
    library: &Library,
    target: &Target,
    at: &str,
) -> Result<Arc<Direction>, SteeringError> {
    let named = library.resolve(vector, map, target, at)?;
    let used = VectorAndMap {
        vector: &named,
        name: vector.label(),
        map,
        offset: OffsetRule::default(),
    };
    let found = used
        .directions(library, target, at)?
        .layer(layer, &format!("{at}.layer"))?;
    Ok(found.direction.clone())
}

/// `vector`: `[hidden_size]`, finite, norm above 0.
fn found(vector: &[f32], mean_norm: f64, neutral: Option<Spread>) -> LayerDirection {
    let norm = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    LayerDirection {
        direction: Arc::new(Direction::new(
            vector.iter().map(|&x| (f64::from(x) / norm) as f32).collect(),
        )),
        norm,
        mean_norm,
        neutral,
    }
}

/// Checks that a vector's or map's model is the target. `in_file` says where it was read, for messages.
fn check_model(vector: &ModelInfo, target: &Target, field: &str, in_file: &str) -> Result<(), SteeringError> {
    for (what, found, expected) in [
        ("hidden_size", vector.hidden_size, target.hidden_size),
        ("num_layers", vector.num_layers, target.num_layers),
    ] {
        if found != expected {
            return Err(SteeringError::value(
                format!("{field}.{what}"),
                format!("{found} (made for {:?}){in_file}", vector.model),
                format!("{expected}, as {:?} has", target.model),
            ));
        }
    }
    match &target.fingerprint {
        Some(fingerprint) if *fingerprint != vector.fingerprint => Err(SteeringError::value(
            format!("{field}.fingerprint"),
            format!("{} (made for {:?}){in_file}", vector.fingerprint, vector.model),
            format!(
                "{fingerprint}, the fingerprint of the weights and the tokenizer of {:?}; --ignore-fingerprints skips this check",
                target.model
            ),
        )),
        _ => Ok(()),
    }
}
