//! The text that a map is fitted on: documents from files, one at a time.
//!
//! | file | read as |
//! | --- | --- |
//! | `.jsonl`, `.ndjson`, `.json` | JSON lines or one JSON array: a document per object, its text under [`TextOptions::key`] |
//! | `.txt`, `.md` | plain text: a document per block between blank lines |
//! | `.parquet` | a document per row, its text in the column of that name |
//! | anything else, standard input | the format that its first bytes suggest: Parquet, JSON or plain text |
//!
//! Extensions count whatever their case, and `.gz` or `.zst` may be behind them; that content is compressed is seen
//! from its first bytes. [`TextOptions::format`] reads every file as one format instead. A file that is named as plain
//! text and looks like JSON or Parquet is an error that says so. A byte order mark is skipped. In plain text a line may
//! end in a line feed or in a carriage return and a line feed: the document is the same. Documents that are blank are
//! left out; so are records whose text is null. Both are counted.
//!
//! | module | role |
//! | --- | --- |
//! | `options` | options for reading text |
//! | `plain`, `keyed`, `parquet` | the texts of a file, by its format |
//! | `texts` | the documents of a file of any format |
//! | `source` | one file: checked as a whole, then read as often as needed |
//! | `spool` | temporary files, for input that can be read only once |
//! | `length` | how long a document may be |
//! | `named` | a corpus as files name it |
//! | `describe` | a line per file that says how it was read |
//! | this one | all files |

mod describe;
mod keyed;
mod length;
mod named;
mod options;
mod parquet;
mod plain;
mod source;
mod spool;
mod texts;

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Result, ensure};

pub use self::length::MAX_DOCUMENT;
pub use self::named::{CorpusFile, summary};
pub use self::options::{TextFormat, TextOptions};
use self::source::CheckedFile;
pub use self::texts::Document;

/// Text files that have been read once as a whole and are valid.
#[derive(Debug)]
pub struct Corpus {
    files: Vec<CheckedFile>,
}

impl Corpus {
    /// Reads all files to their ends, so that every error in them is found here. `-` is standard input, which is kept
    /// in a temporary file.
    ///
    /// # Errors
    ///
    /// A file that can't be read, is invalid, or has no document, with the line or the record; two files of the same
    /// content; standard input given twice.
    pub fn open(paths: &[PathBuf], options: &TextOptions) -> Result<Self> {
        Self::open_from(paths, options, &mut std::io::stdin().lock())
    }

    fn open_from(paths: &[PathBuf], options: &TextOptions, standard_input: &mut dyn Read) -> Result<Self> {
        ensure!(
            !paths.is_empty(),
            "corpus: found no file, expected at least one, or - for standard input"
        );
        let is_input = |path: &&PathBuf| path.as_os_str() == "-";
        ensure!(
            paths.iter().filter(is_input).count() <= 1,
            "corpus: found - twice, expected it once: there is only one standard input"
        );
        let mut files: Vec<CheckedFile> = Vec::new();
        for path in paths {
            let file = if is_input(&path) {
                CheckedFile::standard_input(standard_input, options)?
            } else {
                CheckedFile::check(path, options)?
            };
            for other in &files {
                file.differs_from(other)?;
            }
            files.push(file);
        }
        Ok(Self { files })
    }

    /// Bytes of text of all documents, in UTF-8: the sum of [`Document::bytes`].
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The files' entries in files that name their corpus.
    pub fn record(&self) -> Vec<CorpusFile> {
        self.files.iter().map(CheckedFile::record).collect()
    }

    /// How each file was read: a line per file, without a line end.
    pub fn describe(&self) -> Vec<String> {
        self.files.iter().map(describe::describe_file).collect()
    }

    /// All documents, in order. A file that was changed since it was opened is an error, at its end at the latest.
    pub fn documents(&self) -> impl Iterator<Item = Result<Document>> + Send + '_ {
        self.files.iter().flat_map(CheckedFile::read)
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
