//! The state of one record.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use steermap_maps::VectorFile;

use crate::SteeringSpec;

/// The state of one record.
#[derive(Clone, Default)]
pub struct SavedState {
    /// The number of its record.
    pub number: u64,
    /// The record's file, for messages.
    pub path: PathBuf,
    /// When it was written, in RFC 3339 format.
    pub time: String,
    /// The uploaded vectors, by name.
    pub vectors: BTreeMap<String, Arc<VectorFile>>,
    /// The defaults that were set over HTTP, by model; an empty spec for none.
    pub defaults: BTreeMap<String, SteeringSpec>,
}
