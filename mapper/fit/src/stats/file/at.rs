//! Errors of one file.

use std::io;
use std::path::Path;

use crate::stats::error::StatsFileError;

/// The file that errors are about.
#[derive(Clone, Copy)]
pub(super) struct At<'a>(pub(super) &'a Path);

impl At<'_> {
    pub(super) fn invalid(self, field: &str, found: impl ToString, expected: &str) -> StatsFileError {
        StatsFileError::Invalid {
            path: self.0.to_owned(),
            field: field.to_owned(),
            found: found.to_string(),
            expected: expected.to_owned(),
        }
    }

    pub(super) fn io(self, what: &str, error: &io::Error) -> StatsFileError {
        StatsFileError::Io {
            path: self.0.to_owned(),
            message: format!("{what}: {error}"),
        }
    }
}
