//! The directions that a vector has in one model's residual stream: its file's own, or mapped ones.

use std::sync::Arc;

use steermap_extract::find::proposed;
use steermap_maps::{MapFile, ModelInfo, OffsetRule, Reach, Spread, VectorFile};

use super::{Target, ranges};
use crate::directions::{Direction, DirectionCache, Found, Key};
use crate::library::{Named, not_found};
use crate::spec::VectorRef;
use crate::{Library, SteeringError};

/// A vector and how it comes to the target.
pub(super) struct Source<'a> {
    /// The vector, and what the spec calls it.
    pub(super) vector: &'a Named<VectorFile>,
    pub(super) name: &'a str,
    pub(super) map: Option<&'a str>,
    pub(super) offset: OffsetRule,
}

/// The directions that a [`Source`] has in the target's stream, each made when it is asked for.
pub(super) struct Directions<'a> {
    cache: &'a DirectionCache,
    vector: &'a Named<VectorFile>,
    through: Option<Through<'a>>,
    /// Whose they are, for messages.
    whose: String,
}

/// A map on a vector's way.
struct Through<'a> {
    map: &'a Named<MapFile>,
    reach: Reach<'a>,
    offset: OffsetRule,
    /// Where the map is named, for messages.
    at: String,
}

impl<'a> Source<'a> {
    /// Where the directions are found. `at` is the path of the table that names the vector, for messages.
    pub(super) fn directions(
        &self,
        library: &'a Library,
        target: &Target,
        at: &str,
    ) -> Result<Directions<'a>, SteeringError> {
        let vector = self.vector;
        let cache = library.directions();
        let Some(name) = self.map else {
            let field = format!("{at}.vector {:?}: model", self.name);
            check_model(vector.file.model(), target, &field, &vector.in_file())?;
            return Ok(Directions {
                cache,
                vector,
                through: None,
                whose: format!("{:?}", self.name),
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
        Ok(Directions {
            cache,
            vector,
            through: Some(Through {
                map,
                reach,
                offset: self.offset,
                at,
            }),
            whose: format!("{:?} through {name:?}", self.name),
        })
    }
}

impl Directions<'_> {
    /// The layers that there are directions at, ascending; one at least.
    pub(super) fn layers(&self) -> Vec<usize> {
        match &self.through {
            Some(through) => through.reach.layers().collect(),
            None => self.vector.file.layers().iter().map(|layer| layer.layer).collect(),
        }
    }

    /// The layer that the vector's file proposes or, through a map, the layer that the map carries that one to; of several the
    /// one that it fits best.
    pub(super) fn proposed(&self) -> Option<usize> {
        let proposed = proposed(&self.vector.file)?;
        match &self.through {
            None => Some(proposed),
            Some(through) => through.reach.target_of(proposed),
        }
    }

    /// The direction at one layer; `field` is what asks for it, for messages.
    pub(super) fn layer(&self, layer: usize, field: &str) -> Result<Arc<Found>, SteeringError> {
        let key = Key {
            vector: self.vector.id,
            map: self.through.as_ref().map(|through| (through.map.id, through.offset)),
            layer,
        };
        self.cache.get(key, || {
            self.make(layer)?.ok_or_else(|| {
                let expected = format!("layers that {} has: {}", self.whose, ranges(&self.layers()));
                SteeringError::value(field, layer.to_string(), expected)
            })
        })
    }

    fn make(&self, layer: usize) -> Result<Option<Found>, SteeringError> {
        let Some(through) = &self.through else {
            let mut layers = self.vector.file.layers().iter();
            let own = layers.find(|own| own.layer == layer);
            return Ok(own.map(|own| found(&own.direction, own.mean_norm, own.neutral)));
        };
        match through.reach.direction(layer, through.offset) {
            None => Ok(None),
            // What is known is of the other model's stream.
            Some(Ok(mapped)) => Ok(Some(found(&mapped.direction, mapped.mean_norm, None))),
            Some(Err(reason)) => Err(SteeringError::Apply {
                field: through.at.clone(),
                reason,
            }),
        }
    }
}

/// The unit direction of a vector that is looked along at one layer, carried over by the map's linear part. `at` is the path of the
/// table that names the vector and the layer, for messages.
pub(super) fn looked_along(
    vector: &VectorRef,
    map: Option<&str>,
    layer: usize,
    library: &Library,
    target: &Target,
    at: &str,
) -> Result<Arc<Direction>, SteeringError> {
    let named = library.resolve(vector, map, target, at)?;
    let source = Source {
        vector: &named,
        name: vector.label(),
        map,
        offset: OffsetRule::default(),
    };
    let found = source
        .directions(library, target, at)?
        .layer(layer, &format!("{at}.layer"))?;
    Ok(found.direction.clone())
}

/// `vector`: `[hidden_size]`, finite, norm above 0.
fn found(vector: &[f32], mean_norm: f64, neutral: Option<Spread>) -> Found {
    let norm = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    Found {
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
                "{fingerprint}, that of the weights and the tokenizer of {:?}; --ignore-fingerprints uses it all the same",
                target.model
            ),
        )),
        _ => Ok(()),
    }
}
