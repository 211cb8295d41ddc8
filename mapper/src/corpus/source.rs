//! One file of a corpus: checked as a whole, then read as often as needed.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tempfile::NamedTempFile;

use super::keyed::KeyedTexts;
use super::named::CorpusFile;
use super::options::{TextFormat, TextOptions};
use super::parquet::Column;
use super::plain::Blocks;
use super::spool;
use super::texts::{Document, Documents, Texts};
use crate::records::compression::Compression;
use crate::records::input::{ContentFormat, Input};
use crate::records::name::FileName;
use crate::records::{Records, RecordsShape};

/// The name of standard input, on the command line and in records.
const STANDARD_INPUT: &str = "-";

/// A file whose documents have all been read once.
#[derive(Debug)]
pub(super) struct CheckedFile {
    /// The name in messages: `corpus: ` and the path as given.
    file: String,
    /// The name in files.
    name: String,
    key: String,
    pub read_as: ReadAs,
    pub compression: Option<Compression>,
    /// The file with the content: the given file, or a temporary one.
    content: PathBuf,
    /// Keeps the temporary file alive.
    _spool: Option<NamedTempFile>,
    sha256: String,
    /// Number of documents, at least one.
    pub documents: u64,
    /// Bytes of their texts.
    pub bytes: u64,
    /// Records without text.
    pub left_out: u64,
    /// SHA-256 over the documents' hashes.
    digest: [u8; 32],
}

/// The format that a file is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadAs {
    Plain,
    JsonLines,
    JsonArray,
    Parquet,
}

impl CheckedFile {
    /// Reads a file to its end.
    pub fn check(path: &Path, options: &TextOptions) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = format!("corpus: {}", path.display());
        Self::new(path, None, name, file, options)
    }

    /// Reads standard input to its end.
    pub fn standard_input(input: &mut dyn Read, options: &TextOptions) -> Result<Self> {
        let spool = spool::standard_input(input)?;
        let path = spool.path().to_path_buf();
        let file = "corpus: standard input".to_string();
        Self::new(&path, Some(spool), STANDARD_INPUT.into(), file, options)
    }

    fn new(
        path: &Path,
        mut spool: Option<NamedTempFile>,
        name: String,
        file: String,
        options: &TextOptions,
    ) -> Result<Self> {
        let mut input = Input::open_hashed(path, &file)?;
        ensure!(!input.is_empty(), "{file}: found an empty file, expected text");
        let format = format_of(&file, FileName::of(&name), input.content_format(), options)?;
        let compression = input.compression();
        let mut content = path.to_path_buf();
        let mut hash = None;
        let texts = if format == TextFormat::Parquet {
            if compression.is_some() {
                let unpacked = spool::unpacked(&mut input, &file)?;
                content = unpacked.path().to_path_buf();
                spool = Some(unpacked);
            }
            hash = Some(input.finish());
            Texts::Parquet(Box::new(Column::open(&content, &file, &options.key)?))
        } else {
            in_order(input, format, &file, &options.key)
        };
        let read_as = match &texts {
            Texts::Plain(_) => ReadAs::Plain,
            Texts::Parquet(_) => ReadAs::Parquet,
            Texts::Json(keyed) => match keyed.records().shape() {
                RecordsShape::Lines => ReadAs::JsonLines,
                RecordsShape::List => ReadAs::JsonArray,
            },
        };
        let mut documents = Documents::new(texts);
        while documents.next_document()?.is_some() {}
        let mut source = Self {
            documents: documents.documents,
            bytes: documents.bytes,
            left_out: documents.left_out,
            digest: documents.digest(),
            sha256: String::new(),
            file,
            name,
            key: options.key.clone(),
            read_as,
            compression,
            content,
            _spool: spool,
        };
        if source.documents == 0 {
            bail!("{}: found no document, expected at least one", source.file);
        }
        if let Some(hash) = hash.or_else(|| documents.into_input().map(Input::finish)) {
            let hash = hash.with_context(|| format!("{}: can't be read", source.file))?;
            source.sha256 = steermap_maps::digest::hex(&hash);
        }
        Ok(source)
    }

    /// The file's entry in files that name their corpus.
    pub fn record(&self) -> CorpusFile {
        CorpusFile {
            name: self.name.clone(),
            sha256: self.sha256.clone(),
        }
    }

    /// The name in messages, without `corpus: `.
    pub fn shown(&self) -> &str {
        self.file.strip_prefix("corpus: ").unwrap_or(&self.file)
    }

    /// The key or column of the texts; `None` for plain text.
    pub fn key(&self) -> Option<&str> {
        (self.read_as != ReadAs::Plain).then_some(&self.key)
    }

    /// Refuses a file with the same documents as another, since every text must count once.
    pub fn differs_from(&self, other: &Self) -> Result<()> {
        let both = format!("{} and {}", other.shown(), self.shown());
        ensure!(
            self.sha256 != other.sha256,
            "corpus: found the same content in {both} (SHA-256 {}..), expected every text once",
            &self.sha256[..8]
        );
        ensure!(
            self.digest != other.digest,
            "corpus: found the same {} documents in {both}, expected every text once",
            self.documents
        );
        Ok(())
    }

    /// Reads the documents again.
    pub fn read(&self) -> DocumentReader<'_> {
        DocumentReader {
            source: self,
            documents: None,
            done: false,
        }
    }

    fn open(&self) -> Result<Documents> {
        let format = match self.read_as {
            ReadAs::Plain => TextFormat::Plain,
            ReadAs::JsonLines | ReadAs::JsonArray => TextFormat::Json,
            ReadAs::Parquet => {
                let column = Column::open(&self.content, &self.file, &self.key)?;
                return Ok(Documents::new(Texts::Parquet(Box::new(column))));
            }
        };
        let input = Input::open(&self.content, &self.file)?;
        Ok(Documents::new(in_order(input, format, &self.file, &self.key)))
    }
}

/// The texts of a file that is read sequentially.
fn in_order(input: Input, format: TextFormat, file: &str, key: &str) -> Texts {
    match format {
        TextFormat::Json => Texts::Json(KeyedTexts::new(Records::new(input, file.into()), key)),
        _ => Texts::Plain(Blocks::new(input, file.into())),
    }
}

/// The format that a file is read as.
///
/// # Errors
///
/// The name is that of plain text, but the content looks like JSON or Parquet. Fitting it as prose would fail silently.
fn format_of(
    file: &str,
    name: FileName<'_>,
    content: Option<ContentFormat>,
    options: &TextOptions,
) -> Result<TextFormat> {
    if let Some(format) = options.format {
        return Ok(format);
    }
    if name.is_json() {
        return Ok(TextFormat::Json);
    }
    if name.has_extension(&["parquet"]) {
        return Ok(TextFormat::Parquet);
    }
    match content {
        Some(content) if name.has_extension(&["txt", "md"]) => bail!(
            "{file}: found what looks like {content}, expected plain text by the file's name: give --text-format {} to read \
             it so, or --text-format plain to read it as plain text",
            TextFormat::of(content)
        ),
        Some(content) => Ok(TextFormat::of(content)),
        None => Ok(TextFormat::Plain),
    }
}

/// The documents of a file that has been checked.
pub(super) struct DocumentReader<'a> {
    source: &'a CheckedFile,
    documents: Option<Documents>,
    done: bool,
}

impl DocumentReader<'_> {
    fn next_document(&mut self) -> Result<Option<Document>> {
        let source = self.source;
        let documents = match &mut self.documents {
            Some(documents) => documents,
            none => none.insert(source.open()?),
        };
        let next = documents.next_document()?;
        // More documents than before would fail the digest too, but perhaps much later.
        let same = match &next {
            Some(_) => documents.documents <= source.documents,
            None => documents.digest() == source.digest,
        };
        ensure!(
            same,
            "{}: found other documents than on the first reading: the file was changed in between",
            source.file
        );
        Ok(next)
    }
}

impl Iterator for DocumentReader<'_> {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_document().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}
