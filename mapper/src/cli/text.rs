//! What text is read as, on the command line.

use steermap_mapper::corpus::{TextFormat, TextOptions};

/// Arguments of every command that reads text.
#[derive(clap::Args)]
pub struct TextArgs {
    /// The key of JSON objects, or the column of Parquet, that has the text
    #[arg(long, value_name = "KEY", default_value_t = TextOptions::default().key)]
    text_key: String,
    /// Read every file of text as `plain`, `json` or `parquet`, whatever its name and its look
    #[arg(long, value_name = "FORMAT")]
    text_format: Option<TextFormat>,
}

impl TextArgs {
    /// What they say.
    pub fn options(self) -> TextOptions {
        TextOptions {
            key: self.text_key,
            format: self.text_format,
        }
    }
}
