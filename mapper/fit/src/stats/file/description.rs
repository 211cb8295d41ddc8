//! What a file says of itself, beside its tensors.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::at::At;
use crate::stats::error::StatsFileError;
use crate::stats::layout::{Layout, LayoutPlan};
use crate::stats::sample::MAX_SAMPLE_ROWS;
use crate::stats::split::Split;
use crate::stats::statistics::Precision;

/// The value of `format`.
pub const FORMAT: &str = "steermap-stats/2";
/// The value of `format` in version 1.
pub const FORMAT_1: &str = "steermap-stats/1";
/// Maximum number of rows of a file: f64 is exact up to here.
const MAX_ROWS: u64 = 1 << 53;

/// The description of a file in its metadata.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    pub(super) format: String,
    pub(super) precision: Precision,
    pub(super) layout: Layout,
    /// Rows of train, validation and test.
    pub(super) rows: [u64; 3],
    /// Most rows of each sample. In version 1 of that of the test rows.
    pub(super) sample_capacity: usize,
    /// Rows of the samples of validation and test. In version 1 of the latter alone, a number.
    pub(super) sample_rows: SampleRows,
    /// The caller's own.
    pub(super) header: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum SampleRows {
    OfTest(usize),
    OfBoth([usize; 2]),
}

impl Description {
    /// Whether the file is of version 1.
    pub(super) fn first_version(&self) -> bool {
        self.format == FORMAT_1
    }

    /// Rows of the samples of validation and test.
    pub(super) fn sampled(&self) -> [usize; 2] {
        match self.sample_rows {
            SampleRows::OfTest(rows) => [0, rows],
            SampleRows::OfBoth(rows) => rows,
        }
    }
}

/// Checks the description, except the numbers.
pub(super) fn check_description(at: At<'_>, description: &Description) -> Result<LayoutPlan, StatsFileError> {
    let matches = match description.sample_rows {
        SampleRows::OfTest(_) => FORMAT_1,
        SampleRows::OfBoth(_) => FORMAT,
    };
    if description.format != FORMAT && description.format != FORMAT_1 {
        return Err(at.invalid("format", &description.format, &format!("{FORMAT} or {FORMAT_1}")));
    }
    if description.format != matches {
        return Err(at.invalid(
            "sample_rows",
            "those of another version",
            &format!("those of {}", description.format),
        ));
    }
    let plan = LayoutPlan::new(description.layout.clone())
        .map_err(|error| at.invalid(&format!("layout.{}", error.field), error.found, &error.expected))?;
    for (rows, split) in description.rows.iter().zip(Split::ALL) {
        if *rows > MAX_ROWS {
            return Err(at.invalid(&format!("rows of {split}"), rows, "at most 2^53"));
        }
    }
    if description.sample_capacity > MAX_SAMPLE_ROWS {
        let expected = format!("at most {MAX_SAMPLE_ROWS}");
        return Err(at.invalid("sample_capacity", description.sample_capacity, &expected));
    }
    for (found, split) in description.sampled().into_iter().zip([Split::Validation, Split::Test]) {
        if split == Split::Validation && description.first_version() {
            continue;
        }
        let expected = (description.sample_capacity as u64).min(description.rows[split.index()]);
        if found as u64 != expected {
            let expected = format!("{expected}, from sample_capacity and the rows");
            return Err(at.invalid(&format!("sample_rows of {split}"), found, &expected));
        }
    }
    Ok(plan)
}
