//! What can go wrong between a configuration file and a steered model.

use std::path::PathBuf;

use residual_hooks::InstallError;
use steermap_extract::ExtractError;
use steermap_maps::{ApplyError, FileError};
use thiserror::Error;

use crate::foreign::ForeignError;

/// An error of steering. Every variant names the place of the error. Its message contains the cause, so there is no
/// [`source`](std::error::Error::source), which would be printed a second time.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SteeringError {
    /// The configuration file can't be read.
    #[error("{}: can't be read: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// The configuration file is malformed.
    #[error("{}: {message}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// The parser's message, with line and column.
        message: String,
    },
    /// mistral.rs's own reader refuses the configuration file.
    #[error("{}: {message}", path.display())]
    Engine {
        /// The file.
        path: PathBuf,
        /// Its message.
        message: String,
    },
    /// A value is invalid.
    #[error("{field}: found {found}, expected {expected}")]
    Value {
        /// The field, as a path from the top of the spec or of the file.
        field: String,
        /// What was found.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// An error in the file at `path`.
    #[error("{}: {reason}", path.display())]
    In {
        /// The file.
        path: PathBuf,
        /// The error.
        reason: Box<SteeringError>,
    },
    /// A vector or map file is invalid.
    #[error("{field}: {reason}")]
    File {
        /// The field that names the file.
        field: String,
        /// What is wrong.
        reason: FileError,
    },
    /// A control vector is invalid, or not for its model.
    #[error("{field}: {}: {reason}", path.display())]
    ControlVector {
        /// The field that names the file.
        field: String,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: Box<ForeignError>,
    },
    /// A map can't carry a vector over.
    #[error("{field}: {reason}")]
    Apply {
        /// The field that names the map.
        field: String,
        /// Why.
        reason: ApplyError,
    },
    /// A model's files can't be read.
    #[error(transparent)]
    ModelFiles(#[from] FileError),
    /// The model can't be steered, or not at one of the layers.
    #[error("model {model:?}: {reason}")]
    Install {
        /// The model.
        model: String,
        /// Why.
        reason: InstallError,
    },
    /// Nothing has this name.
    #[error("{field}: found {found}, expected {expected}")]
    NotFound {
        /// The field that names it.
        field: String,
        /// The name.
        found: String,
        /// The known names.
        expected: String,
    },
    /// The request conflicts with the present state.
    #[error("{field}: found {found}, expected {expected}")]
    Conflict {
        /// The field.
        field: String,
        /// The present state.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// The operator doesn't allow it.
    #[error("{field}: found {found}, expected {expected}")]
    Forbidden {
        /// The field.
        field: String,
        /// What the request has.
        found: String,
        /// What is allowed.
        expected: String,
    },
    /// The state folder can't be used, or a change can't be written to it.
    #[error("{}: {message}", path.display())]
    State {
        /// The folder, or the file in it.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// No vector was found.
    #[error("{field}: {reason}")]
    Find {
        /// The field with the pairs.
        field: String,
        /// Why.
        reason: ExtractError,
    },
    /// Too many vectors are already waiting to be found.
    #[error("{field}: found no room in the queue, expected a request {seconds} seconds later")]
    Busy {
        /// The field with the pairs.
        field: String,
        /// When there may be room, in seconds.
        seconds: u64,
    },
    /// The engine has no such model, or lost it.
    #[error("model {model:?}: {message}")]
    NoModel {
        /// The model.
        model: String,
        /// The engine's message.
        message: String,
    },
}

impl SteeringError {
    /// An invalid value.
    pub(crate) fn value(field: impl Into<String>, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Value {
            field: field.into(),
            found: found.into(),
            expected: expected.into(),
        }
    }

    /// An error of finding a vector, with the field that has the pairs.
    pub(crate) fn find(field: impl Into<String>, reason: ExtractError) -> Self {
        Self::Find {
            field: field.into(),
            reason,
        }
    }

    /// The same for a reason that begins with the name of its field, `field`, below `at`.
    pub(crate) fn find_at(at: &str, field: &str, reason: ExtractError) -> Self {
        let text = reason.to_string();
        let reason = match text.strip_prefix(field).and_then(|rest| rest.strip_prefix(": ")) {
            Some(rest) => ExtractError::Input(rest.to_string()),
            None => reason,
        };
        Self::find(format!("{at}{field}"), reason)
    }

    /// Adds the file that the error is in.
    pub(crate) fn within(self, path: impl Into<PathBuf>) -> Self {
        Self::In {
            path: path.into(),
            reason: Box::new(self),
        }
    }
}
