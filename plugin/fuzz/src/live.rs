//! What the spec's sources ask of the plugin's module of this name, which has the engine: errors that name their field.

use steermap_extract::ExtractError;

use crate::SteeringError;

pub(crate) mod config {
    use super::*;

    /// What is wrong with pairs, with the field that has them.
    pub(crate) fn find_error(field: impl Into<String>, reason: ExtractError) -> SteeringError {
        SteeringError::Find {
            field: field.into(),
            reason,
        }
    }
}

/// A reason that begins with the name of its field, `field`.
pub(crate) fn named(at: &str, field: &str, reason: ExtractError) -> SteeringError {
    let text = reason.to_string();
    let rest = text.strip_prefix(field).and_then(|rest| rest.strip_prefix(": "));
    let reason = rest.map_or(reason, |rest| ExtractError::Input(rest.to_string()));
    config::find_error(format!("{at}{field}"), reason)
}
