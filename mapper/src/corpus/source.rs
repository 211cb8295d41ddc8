//! One file of a corpus: checked from its first byte to its last, then read as often as wanted.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use tempfile::NamedTempFile;

use super::keyed::KeyedTexts;
use super::parquet::Column;
use super::plain::Blocks;
use super::texts::{Document, Documents, Texts};
use super::{CorpusFile, TextFormat, TextOptions, spool};
use crate::records::compression::Compression;
use crate::records::input::{ContentFormat, Input};
use crate::records::name::FileName;
use crate::records::{Records, Shape};

/// The name of standard input, on the command line and in records.
const STANDARD_INPUT: &str = "-";

/// A file whose documents have all been read once.
#[derive(Debug)]
pub(super) struct CheckedFile {
    /// How messages name it: `corpus: ` and the path as it was given.
    file: String,
    /// How files record it.
    name: String,
    key: String,
    pub read_as: ReadAs,
    pub compression: Option<Compression>,
    /// Where the content lies: the file, or a temporary one.
    content: PathBuf,
    /// Keeps a temporary file.
    _spool: Option<NamedTempFile>,
    sha256: String,
    /// How many documents there are, one at least.
    pub documents: u64,
    /// Bytes of their texts.
    pub bytes: u64,
    /// Records without text.
    pub left_out: u64,
    /// Over the documents' hashes.
    digest: [u8; 32],
}

/// What a file is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadAs {
    Plain,
    JsonLines,
    JsonArray,
    Parquet,
}

impl CheckedFile {
    /// Reads a file to its end.
    pub fn check(path: &Path, options: &TextOptions, progress: &mut dyn FnMut(u64) -> Result<()>) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = format!("corpus: {}", path.display());
        Self::new(path, None, name, file, options, progress)
    }

    /// Reads standard input to its end.
    pub fn standard_input(
        input: &mut dyn Read,
        options: &TextOptions,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Self> {
        let spool = spool::standard_input(input)?;
        let path = spool.path().to_path_buf();
        let file = "corpus: standard input".to_string();
        Self::new(&path, Some(spool), STANDARD_INPUT.into(), file, options, progress)
    }

    fn new(
        path: &Path,
        mut spool: Option<NamedTempFile>,
        name: String,
        file: String,
        options: &TextOptions,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Self> {
        let mut input = Input::open_hashed(path, &file)?;
        ensure!(!input.is_empty(), "{file}: found an empty file, expected text");
        let format = format_of(&file, FileName::of(&name), input.look(), options)?;
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
                Shape::Lines => ReadAs::JsonLines,
                Shape::List => ReadAs::JsonArray,
            },
        };
        let mut documents = Documents::new(texts);
        while documents.next_document()?.is_some() {
            progress(documents.documents)?;
        }
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
            bail!("{}: found no document, expected one at least", source.file);
        }
        if let Some(hash) = hash.or_else(|| documents.into_input().map(Input::finish)) {
            let hash = hash.with_context(|| format!("{}: can't be read", source.file))?;
            source.sha256 = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        }
        Ok(source)
    }

    /// The file, as files record it.
    pub fn record(&self) -> CorpusFile {
        CorpusFile {
            name: self.name.clone(),
            sha256: self.sha256.clone(),
        }
    }

    /// How messages name it, without `corpus: `.
    pub fn shown(&self) -> &str {
        self.file.strip_prefix("corpus: ").unwrap_or(&self.file)
    }

    /// The key or column of the texts; `None` of plain text.
    pub fn key(&self) -> Option<&str> {
        (self.read_as != ReadAs::Plain).then_some(&self.key)
    }

    /// Refuses a file whose documents are those of another: every text is to count once.
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

    /// The documents, once more.
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

/// The texts of a file that is read from its beginning to its end.
fn in_order(input: Input, format: TextFormat, file: &str, key: &str) -> Texts {
    match format {
        TextFormat::Json => Texts::Json(KeyedTexts::new(Records::new(input, file.into()), key)),
        _ => Texts::Plain(Blocks::new(input, file.into())),
    }
}

/// What a file is read as.
///
/// # Errors
///
/// A name of plain text, but the look of JSON or Parquet: fitting it as prose would go wrong without a word.
fn format_of(file: &str, name: FileName<'_>, look: Option<ContentFormat>, options: &TextOptions) -> Result<TextFormat> {
    if let Some(format) = options.format {
        return Ok(format);
    }
    if name.is_json() {
        return Ok(TextFormat::Json);
    }
    if name.has_extension(&["parquet"]) {
        return Ok(TextFormat::Parquet);
    }
    match look {
        Some(look) if name.has_extension(&["txt", "md"]) => bail!(
            "{file}: found what looks like {look}, expected plain text by the file's name: --text-format {} reads it as \
             that, --text-format plain as it is",
            TextFormat::of(look)
        ),
        Some(look) => Ok(TextFormat::of(look)),
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
        // More than before: the digest would say so too, but perhaps much later.
        let same = match &next {
            Some(_) => documents.documents <= source.documents,
            None => documents.digest() == source.digest,
        };
        ensure!(
            same,
            "{}: the file was changed while it was read: found other documents than at the start",
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
