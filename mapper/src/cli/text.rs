//! Arguments that say how text files are read.

use steermap_mapper::corpus::{TextFormat, TextOptions};

/// Arguments of every command that reads text.
#[derive(clap::Args)]
pub struct TextArgs {
    /// The key of JSON objects, or the column of Parquet files, that holds the text
    #[arg(long, value_name = "KEY", default_value_t = TextOptions::default().key)]
    text_key: String,
    /// Read every text file as `plain`, `json` or `parquet`, whatever its name and content suggest
    #[arg(long, value_name = "FORMAT")]
    text_format: Option<TextFormat>,
}

impl TextArgs {
    /// These arguments as options of the corpus reader.
    pub fn options(self) -> TextOptions {
        TextOptions {
            key: self.text_key,
            format: self.text_format,
        }
    }
}
