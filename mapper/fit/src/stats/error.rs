//! Errors of statistics and their files.

use std::path::PathBuf;

use thiserror::Error;

use super::layout::LayoutError;

/// Rows that can't be added, or statistics that can't be merged. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum StatsError {
    /// The layout is invalid.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The sums don't fit in memory.
    #[error(
        "the sums of these pairs need {bytes} bytes, more than the available memory: fit fewer pairs at once, or \
         concatenate fewer layers"
    )]
    Memory {
        /// What the matrices take.
        bytes: u64,
    },
    /// A list of [`Rows`](super::Rows) has another length than the layout and the keys imply.
    #[error("{field}: found {found}, expected {expected}")]
    Length {
        /// `source`, `target[1]`, ...
        field: String,
        /// Its length.
        found: usize,
        /// The length it must have.
        expected: usize,
    },
    /// A state is not finite.
    #[error("{model} layer {layer}, row {row}, dimension {dimension}: found {found}, expected finite states")]
    NotFinite {
        /// `source` or `target`.
        model: &'static str,
        /// 0-based.
        layer: usize,
        /// Index in the rows given.
        row: usize,
        /// 0-based.
        dimension: usize,
        /// The value.
        found: f32,
    },
    /// Two statistics can't be merged.
    #[error("statistics to merge: {field}: found {found}, expected {expected}")]
    Differs {
        /// The field that differs.
        field: &'static str,
        /// In the statistics to be merged in.
        found: String,
        /// In those merged into.
        expected: String,
    },
    /// Rows are staged that the sums don't hold yet.
    #[error("{rows} train rows are staged but not summed: flush first")]
    Unflushed {
        /// How many.
        rows: usize,
    },
    /// Held-out rows can't be added to sums of a file of version 1.
    #[error(
        "statistics of an earlier version (steermap-stats/1): they can be fitted and merged with others of that version, \
         but not continued"
    )]
    Version1,
}

/// A statistics file could not be read or written, or its content is wrong. The message includes the cause.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StatsFileError {
    /// The operating system refused.
    #[error("{}: {message}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried, and the system's error.
        message: String,
    },
    /// The file's content is wrong, or the statistics can't be written.
    #[error("{}: {field}: found {found}, expected {expected}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        field: String,
        /// What was found there.
        found: String,
        /// What is expected there.
        expected: String,
    },
    /// The statistics can't be held or written as they are.
    #[error("{}: {error}", path.display())]
    Stats {
        /// The file.
        path: PathBuf,
        /// Why.
        error: StatsError,
    },
}
