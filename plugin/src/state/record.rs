//! The file of one record of the state.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use steermap_maps::VectorFile;

use super::files::{VECTORS, failed, read_text};
use super::saved::SavedState;
use crate::name::check_name;
use crate::{SteeringError, SteeringSpec};

/// The value of `format` in a record.
const FORMAT: &str = "steermap-state/1";

/// The state after one change.
#[derive(Clone, Debug, PartialEq)]
pub struct StateRecord {
    /// Its number, counted from 1.
    pub number: u64,
    /// When it was written, in RFC 3339 format.
    pub time: String,
    /// A description of the change.
    pub change: String,
    /// Who made it.
    pub caller: String,
    /// The files of the uploaded vectors, by name.
    pub vectors: BTreeMap<String, String>,
    /// The defaults that were set over HTTP.
    pub defaults: Vec<ModelRecord>,
}

/// The default of one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecord {
    /// The model's name in the engine.
    pub model: String,
    /// Its default; an empty spec for none.
    pub spec: SteeringSpec,
}

/// A record as it is written in TOML.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordTable {
    format: String,
    number: u64,
    time: String,
    change: String,
    caller: String,
    #[serde(default)]
    vectors: BTreeMap<String, String>,
    #[serde(default)]
    defaults: Vec<ModelRecord>,
}

impl StateRecord {
    /// Reads the record in `file`, whose name has `number`.
    ///
    /// # Errors
    ///
    /// The file can't be read or is not a record.
    pub(super) fn read(file: &Path, number: u64) -> Result<Self, SteeringError> {
        let text = read_text(file)?;
        let table: RecordTable = toml::from_str(&text).map_err(|error| failed(file, error))?;
        let wrong = |field: &str, found: String, expected: String| {
            Err(SteeringError::value(field, found, expected).within(file))
        };
        if table.format != FORMAT {
            return wrong("format", format!("{:?}", table.format), format!("{FORMAT:?}"));
        }
        if table.number != number {
            return wrong(
                "number",
                table.number.to_string(),
                format!("{number}, as the file's name says"),
            );
        }
        for (name, vector) in &table.vectors {
            check_name("vectors", name).map_err(|error| error.within(file))?;
            // Only a file name within the folder of vectors.
            if Path::new(vector).file_name().is_none_or(|last| last != vector.as_str()) {
                return wrong(
                    &format!("vectors.{name}"),
                    format!("{vector:?}"),
                    "the name of a file".to_string(),
                );
            }
        }
        for (index, default) in table.defaults.iter().enumerate() {
            let at = format!("defaults[{index}].spec.");
            default.spec.validate(&at).map_err(|error| error.within(file))?;
        }
        Ok(Self {
            number,
            time: table.time,
            change: table.change,
            caller: table.caller,
            vectors: table.vectors,
            defaults: table.defaults,
        })
    }

    /// The record's text.
    ///
    /// # Errors
    ///
    /// TOML can't hold a number.
    pub(super) fn write(&self) -> Result<String, String> {
        let table = RecordTable {
            format: FORMAT.to_string(),
            number: self.number,
            time: self.time.clone(),
            change: self.change.clone(),
            caller: self.caller.clone(),
            vectors: self.vectors.clone(),
            defaults: self.defaults.clone(),
        };
        toml::to_string(&table).map_err(|error| error.to_string())
    }

    /// Reads from `folder` the vectors that the record in `file` names.
    pub(super) fn load(&self, folder: &Path, file: &Path) -> Result<SavedState, SteeringError> {
        let mut vectors = BTreeMap::new();
        for (name, vector) in &self.vectors {
            let vector = VectorFile::load(&folder.join(VECTORS).join(vector)).map_err(|reason| {
                let field = format!("vectors.{name}");
                SteeringError::File { field, reason }.within(file)
            })?;
            vectors.insert(name.clone(), Arc::new(vector));
        }
        let defaults = self
            .defaults
            .iter()
            .map(|default| (default.model.clone(), default.spec.clone()));
        Ok(SavedState {
            number: self.number,
            path: file.to_path_buf(),
            time: self.time.clone(),
            vectors,
            defaults: defaults.collect(),
        })
    }
}
