//! Files of JSON records: JSON lines or one JSON array, optionally compressed with gzip or zstd.
//!
//! | module | role |
//! | --- | --- |
//! | [`name`] | the format and compression that a file's name states |
//! | [`compression`] | gzip and zstd |
//! | [`input`] | a file's unpacked bytes without its byte order mark, and the format that they suggest |
//! | [`lines`] | lines of bounded length |
//! | [`list`] | the elements of a JSON array, one at a time |
//! | this one | the records of a file, each with its place |
//!
//! Contrastive pairs, the items of tasks and the documents of a corpus in JSON are read here. No file is in memory as a
//! whole, only one record of at most [`MAX_RECORD`] bytes.

pub mod compression;
pub mod input;
pub mod lines;
pub mod list;
pub mod name;

use std::fmt::{self, Display, Formatter};
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny};

use self::input::{ContentFormat, Input};
use self::lines::{Lines, utf8};
use self::list::{ArrayReader, Element};

/// Maximum number of bytes of a record in its file. A text of 16 MiB with every second character escaped fits.
pub const MAX_RECORD: usize = 64 << 20;

/// Maximum number of bytes of all records of a file that is read whole ([`read`], [`for_each`]), so that a small
/// compressed file can't fill the memory.
pub const MAX_WHOLE: usize = 256 << 20;

/// Where a record stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line, from 1.
    Line(u64),
    /// An element of a list, from 1, and the line that it begins in.
    Element {
        /// From 1.
        record: u64,
        /// From 1.
        line: u64,
    },
}

impl Place {
    /// The place `lines` lines further down in the same record, for an error inside it.
    fn down(self, lines: u64) -> Self {
        match self {
            Self::Line(line) => Self::Line(line + lines),
            Self::Element { record, line } => Self::Element {
                record,
                line: line + lines,
            },
        }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Element { record, line } => write!(f, "record {record}, line {line}"),
        }
    }
}

/// One record of a file.
pub struct Record<'a> {
    /// The record as it is in the file.
    pub json: &'a str,
    file: &'a str,
    place: Place,
}

impl Record<'_> {
    /// File and place, for messages.
    pub fn at(&self) -> String {
        format!("{}, {}", self.file, self.place)
    }

    /// Reads the record as a value.
    ///
    /// # Errors
    ///
    /// serde's error, with the file and the place.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(self.json).map_err(|error| self.wrong(&error))
    }

    /// [`parse`](Self::parse) with a seed, for values whose form is known only at run time.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse).
    pub fn parse_seed<'de, S: DeserializeSeed<'de>>(&'de self, seed: S) -> Result<S::Value> {
        let mut json = serde_json::Deserializer::from_str(self.json);
        let value = seed.deserialize(&mut json).map_err(|error| self.wrong(&error))?;
        json.end().map_err(|error| self.wrong(&error))?;
        Ok(value)
    }

    fn wrong(&self, error: &serde_json::Error) -> anyhow::Error {
        wrong(self.file, self.place, error)
    }
}

/// serde's error, with the place in the file instead of the place in the record.
fn wrong(file: &str, place: Place, error: &serde_json::Error) -> anyhow::Error {
    let text = error.to_string();
    let message = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(message, _)| message);
    // serde counts from 1; 0 is an error without a place.
    let place = place.down(error.line().saturating_sub(1) as u64);
    match error.column() {
        0 => anyhow!("{file}, {place}: {message}"),
        column => anyhow!("{file}, {place}: {message} at column {column}"),
    }
}

/// How the records of a file are separated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordsShape {
    /// One a line, blank lines between them.
    Lines,
    /// The elements of one JSON array.
    List,
}

/// The records of a file, one at a time.
#[derive(Debug)]
pub struct Records {
    file: String,
    source: RecordReader,
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum RecordReader {
    Lines(Lines<Input>),
    List(ArrayReader<Input>),
}

impl Records {
    /// Opens a file of records, whatever its name: a JSON array if its first character is `[`, JSON lines otherwise.
    ///
    /// # Errors
    ///
    /// A file that can't be read, or is Parquet.
    pub fn open(path: &Path) -> Result<Self> {
        let file = path.display().to_string();
        let input = Input::open(path, &file)?;
        ensure!(
            input.content_format() != Some(ContentFormat::Parquet),
            "{file}: found Parquet, expected JSON lines or a JSON array"
        );
        Ok(Self::new(input, file))
    }

    /// The records of an input. `file` names it in messages.
    pub fn new(input: Input, file: String) -> Self {
        let source = if input.begins_with_bracket() {
            RecordReader::List(ArrayReader::new(input))
        } else {
            RecordReader::Lines(Lines::new(input))
        };
        Self {
            file,
            source,
            buffer: Vec::new(),
        }
    }

    /// How the records are written.
    pub fn shape(&self) -> RecordsShape {
        match self.source {
            RecordReader::Lines(_) => RecordsShape::Lines,
            RecordReader::List(_) => RecordsShape::List,
        }
    }

    /// The next record; `None` at the file's end.
    ///
    /// # Errors
    ///
    /// Compressed data that is damaged or ends too early, bytes that are not UTF-8, a record of more than
    /// [`MAX_RECORD`] bytes, something other than an array: the message names the file and the place. [`Record::parse`]
    /// checks that the record is JSON.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>> {
        let file = self.file.as_str();
        let place = match &mut self.source {
            RecordReader::Lines(lines) => loop {
                let place = Place::Line(lines.number() + 1);
                let at = || format!("{file}, {place}");
                if !lines.read(&mut self.buffer, MAX_RECORD).with_context(at)? {
                    return Ok(None);
                }
                if !self.buffer.trim_ascii().is_empty() {
                    break place;
                }
            },
            RecordReader::List(list) => {
                let element = list.read(&mut self.buffer, MAX_RECORD);
                let place = Place::Element {
                    record: list.number(),
                    line: list.line(),
                };
                match element.with_context(|| format!("{file}, {place}"))? {
                    Element::Whole => place,
                    Element::End => return Ok(None),
                    // An error inside the element says more than that its end is missing.
                    Element::Unfinished(why) => {
                        return Err(match serde_json::from_slice::<IgnoredAny>(&self.buffer) {
                            Err(error) if !error.is_eof() => wrong(file, place, &error),
                            _ => anyhow!("{file}, {place}: {why}"),
                        });
                    }
                }
            }
        };
        let json = utf8(&self.buffer).with_context(|| format!("{file}, {place}"))?;
        Ok(Some(Record { json, file, place }))
    }

    /// The rest of the input.
    pub fn into_input(self) -> Input {
        match self.source {
            RecordReader::Lines(lines) => lines.into_input(),
            RecordReader::List(list) => list.into_input(),
        }
    }
}

/// Calls `take` with each record of a file, in order.
///
/// # Errors
///
/// A file that can't be read, or has more than [`MAX_WHOLE`] bytes of records; a record that `take` refuses.
pub fn for_each(path: &Path, mut take: impl FnMut(&Record<'_>) -> Result<()>) -> Result<()> {
    let mut records = Records::open(path)?;
    let mut bytes = 0;
    while let Some(record) = records.next_record()? {
        bytes += record.json.len();
        if bytes > MAX_WHOLE {
            bail!(
                "{}: found more than {MAX_WHOLE} bytes of records, expected fewer",
                record.at()
            );
        }
        take(&record)?;
    }
    Ok(())
}

/// Reads all records of a file as values. `expected` describes a record, for messages; `check` refuses wrong values.
///
/// # Errors
///
/// As [`for_each`]; a record that is not such a value or fails `check`: the message names the file and the place.
pub fn read<T: DeserializeOwned>(path: &Path, expected: &str, check: impl Fn(&T) -> Result<()>) -> Result<Vec<T>> {
    let mut values = Vec::new();
    for_each(path, |record| {
        let value = match record.parse::<T>() {
            Ok(value) => value,
            Err(error) => bail!("{error}; expected {expected}"),
        };
        check(&value).with_context(|| record.at())?;
        values.push(value);
        Ok(())
    })?;
    Ok(values)
}

#[cfg(test)]
mod tests;
