//! A line per file that says how it was read.

use super::source::{CheckedFile, ReadAs};
use crate::progress::grouped;

/// A line about a file: `corpus: a.jsonl.gz read as JSON lines (gzip), key "text": 12,034 documents, 31.2 MB of text`.
pub(super) fn describe_file(file: &CheckedFile) -> String {
    let format = match file.read_as {
        ReadAs::Plain => "plain text",
        ReadAs::JsonLines => "JSON lines",
        ReadAs::JsonArray => "a JSON array",
        ReadAs::Parquet => "Parquet",
    };
    let mut line = format!("corpus: {} read as {format}", file.shown());
    if let Some(compression) = file.compression {
        line += &format!(" ({compression})");
    }
    if let Some(key) = file.key() {
        let what = if file.read_as == ReadAs::Parquet {
            "column"
        } else {
            "key"
        };
        line += &format!(", {what} {key:?}");
    }
    let documents = counted(file.documents, "document");
    line += &format!(": {documents}, {} of text", size(file.bytes));
    if file.left_out > 0 {
        line += &format!("; left out {} without text", counted(file.left_out, "record"));
    }
    line
}

/// A number and its noun: `1 record`, `12,034 records`.
fn counted(number: u64, noun: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{} {noun}{end}", grouped(number))
}

/// A number of bytes, in units of a thousand.
fn size(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, "bytes");
    for larger in ["kB", "MB", "GB", "TB"] {
        // Up to the values that round to 1000.0.
        if value < 999.95 {
            break;
        }
        (value, unit) = (value / 1000.0, larger);
    }
    match unit {
        "bytes" => format!("{bytes} bytes"),
        unit => format!("{value:.1} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units_and_separators() {
        assert_eq!(counted(0, "document"), "0 documents");
        assert_eq!(counted(1, "document"), "1 document");
        assert_eq!(counted(12_034, "document"), "12,034 documents");
        assert_eq!(counted(1_234_567, "record"), "1,234,567 records");
        for (bytes, text) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (31_240_000, "31.2 MB"),
            (5_000_000_000_000_000, "5000.0 TB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
