//! Options for reading text.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use anyhow::{Result, bail};

use crate::records::input::ContentFormat;

/// How text is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextOptions {
    /// The key of JSON objects, or the column of Parquet files, that holds the text (`--text-key`).
    pub key: String,
    /// The format that every file is read as, whatever its name and content suggest (`--text-format`).
    pub format: Option<TextFormat>,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self {
            key: "text".into(),
            format: None,
        }
    }
}

/// The format of a text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// Documents between blank lines.
    Plain,
    /// JSON lines, or one JSON array.
    Json,
    /// Parquet.
    Parquet,
}

impl TextFormat {
    /// The text format for the format that a file's content suggests.
    pub fn of(content: ContentFormat) -> Self {
        match content {
            ContentFormat::JsonLines | ContentFormat::JsonArray => Self::Json,
            ContentFormat::Parquet => Self::Parquet,
        }
    }
}

impl FromStr for TextFormat {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "plain" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            "parquet" => Ok(Self::Parquet),
            _ => bail!("found {text:?}, expected plain, json or parquet"),
        }
    }
}

impl Display for TextFormat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Json => "json",
            Self::Parquet => "parquet",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_as_they_are_spelt() {
        for format in [TextFormat::Plain, TextFormat::Json, TextFormat::Parquet] {
            assert_eq!(format.to_string().parse::<TextFormat>().unwrap(), format);
        }
        let error = "jsonl".parse::<TextFormat>().unwrap_err().to_string();
        assert_eq!(error, "found \"jsonl\", expected plain, json or parquet");
    }
}
