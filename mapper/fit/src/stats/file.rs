//! Statistics on disk: one safetensors file, `.stats`.
//!
//! `__metadata__` has two texts: `steermap`, JSON that says what is in the file (`Description`), and `sha256`, of that
//! text followed by the SHA-256 of each tensor's bytes. The tensors, in this order:
//!
//! | tensor | dtype, shape | |
//! | --- | --- | --- |
//! | `train.source.LAYER.mean` | F64 `[source_hidden]` | per unique source layer |
//! | `train.target.LAYER.mean`, `.squares` | F64 `[target_hidden]` | per unique target layer |
//! | `train.input.I.gram` | F64 `[d (d + 1) / 2]` | per input: the lower triangle, column by column |
//! | `train.pair.I.cross` | F64 `[target_hidden, d]` | per pair: transposed |
//! | `train.source_norms`, `.target_norms` | F64 `[layers]` | sums of norms |
//! | `SPLIT.keys`, `.source`, `.target` | U64 `[k]`, F32 `[k, all layers * hidden]` | the sample of `validation` and of `test` |
//!
//! Version 1 had sums of all three splits, one sample (`sample.keys`, ..), of the test rows, and a hash over all bytes
//! at once. Its files are read, and written again as they were.
//!
//! Files are written and read in pieces, since a file may be as large as the memory.

mod read;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rayon::prelude::*;
use safetensors::tensor::TensorInfo;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use steermap_maps::digest::hex;

use self::read::{Reader, read_head, read_moments, read_sample};
use self::table::{Content, check_numbers, check_table, contents, table};
use super::error::StatsFileError;
use super::held_out::HeldOut;
use super::layout::{Layout, Plan};
use super::moments::Moments;
use super::sample::MAX_SAMPLE_ROWS;
use super::split::Split;
use super::statistics::{Precision, Statistics};

/// The value of `format`.
pub const FORMAT: &str = "steermap-stats/2";
/// The value of `format` in version 1.
pub const FORMAT_1: &str = "steermap-stats/1";
/// Maximum number of rows of a file: f64 is exact up to here.
const MAX_ROWS: u64 = 1 << 53;
/// Bytes that are converted at a time.
const PIECE: usize = 1 << 16;

/// The description of a file in its metadata.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: String,
    precision: Precision,
    layout: Layout,
    /// Rows of train, validation and test.
    rows: [u64; 3],
    /// Most rows of each sample. In version 1 of that of the test rows.
    sample_capacity: usize,
    /// Rows of the samples of validation and test. In version 1 of the latter alone, a number.
    sample_rows: SampleRows,
    /// The caller's own.
    header: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum SampleRows {
    OfTest(usize),
    OfBoth([usize; 2]),
}

impl Description {
    fn first_version(&self) -> bool {
        self.format == FORMAT_1
    }

    /// Rows of the samples of validation and test.
    fn sampled(&self) -> [usize; 2] {
        match self.sample_rows {
            SampleRows::OfTest(rows) => [0, rows],
            SampleRows::OfBoth(rows) => rows,
        }
    }
}

impl Statistics {
    /// Writes a file atomically: to a temporary name, synced, renamed. `header` is stored for the caller: models,
    /// corpus, seed.
    ///
    /// # Errors
    ///
    /// Staged rows, sums that overflowed, a header that isn't JSON, or the operating system's error.
    pub fn save(&self, path: &Path, header: &impl Serialize) -> Result<(), StatsFileError> {
        let at = At(path);
        self.check_flushed().map_err(|error| StatsFileError::Stats {
            path: path.to_owned(),
            error,
        })?;
        let contents = contents(&self.plan, self.first_version());
        for content in &contents {
            if let Content::Sums(split, part) = *content {
                check_numbers(at, &content.name(&self.plan), part, self.sums(split))?;
            }
        }
        let json = |error: serde_json::Error| at.invalid("header", error, "a value that JSON can hold");
        let sampled = self.held_out.each_ref().map(|held_out| held_out.sample.rows().len());
        let (format, sample_rows) = if self.first_version() {
            (FORMAT_1, SampleRows::OfTest(sampled[1]))
        } else {
            (FORMAT, SampleRows::OfBoth(sampled))
        };
        let description = Description {
            format: format.to_owned(),
            precision: self.precision,
            layout: self.plan.layout.clone(),
            rows: Split::ALL.map(|split| self.rows(split)),
            sample_capacity: self.test().sample.capacity(),
            sample_rows,
            header: serde_json::to_value(header).map_err(json)?,
        };
        let text = serde_json::to_string(&description).map_err(json)?;
        let hash = self.hash(&text, &contents);
        let hash = hash.map_err(|error| at.io("can't be hashed", &error))?;
        let head = Head {
            metadata: BTreeMap::from([("sha256", hash), ("steermap", text)]),
            tensors: table(&self.plan, &contents, sampled).into_iter().collect(),
        };
        let mut head = serde_json::to_vec(&head).map_err(json)?;
        // safetensors aligns the tensors' start to 8 bytes, with spaces.
        head.resize(head.len().next_multiple_of(8), b' ');
        steermap_maps::atomic::write(path, |file| {
            file.write_all(&(head.len() as u64).to_le_bytes())?;
            file.write_all(&head)?;
            let mut contents = contents.iter();
            contents.try_for_each(|&content| self.stream(content, &mut |bytes| file.write_all(bytes)))
        })
        .map_err(|error| at.io("can't be written", &error))
    }

    /// Reads a file: the statistics, and the header given when they were saved. Everything is checked: the layout, the
    /// tensors' names, types and shapes, the hash, that numbers are finite and that sums of squares are not negative.
    ///
    /// # Errors
    ///
    /// See [`StatsFileError`].
    pub fn load(path: &Path) -> Result<(Self, Value), StatsFileError> {
        let at = At(path);
        let file = File::open(path).map_err(|error| at.io("can't be opened", &error))?;
        let length = file.metadata().map_err(|error| at.io("can't be read", &error))?.len();
        let mut reader = Reader::new(at, file);
        let metadata = read_head(&mut reader, length)?;
        let texts = metadata.metadata().clone().unwrap_or_default();
        let text = |name: &str| {
            let text = texts.get(name);
            text.ok_or_else(|| at.invalid(&format!("__metadata__.{name}"), "nothing", "a text"))
        };
        let description: Description = serde_json::from_str(text("steermap")?)
            .map_err(|error| at.invalid("__metadata__.steermap", error, "a description of statistics"))?;
        let plan = check_description(at, &description)?;
        let contents = contents(&plan, description.first_version());
        check_table(at, &metadata, &table(&plan, &contents, description.sampled()))?;
        reader.begin(text("steermap")?, description.first_version());

        // The table's bytes are in the file, so what is allocated from here on is at most about twice its size.
        let train = read_moments(&mut reader, &plan, Split::Train, description.rows[0])?;
        let mut held_out = [Split::Validation, Split::Test].map(|split| {
            let mut held_out = HeldOut::new(description.sample_capacity);
            held_out.count = description.rows[split.index()];
            held_out
        });
        if description.first_version() {
            for (held_out, split) in held_out.iter_mut().zip([Split::Validation, Split::Test]) {
                held_out.sums = Some(read_moments(&mut reader, &plan, split, held_out.count)?);
            }
            held_out[1].sample = read_sample(&mut reader, &plan, "sample", &description, 1)?;
        } else {
            for (place, split) in [Split::Validation, Split::Test].into_iter().enumerate() {
                held_out[place].sample = read_sample(&mut reader, &plan, split.name(), &description, place)?;
            }
        }
        let found = reader.finish();
        if &found != text("sha256")? {
            return Err(at.invalid(
                "__metadata__.sha256",
                text("sha256")?,
                &format!("{found}, that of the content"),
            ));
        }
        let statistics = Self::from_parts(plan, description.precision, train, held_out);
        Ok((statistics, description.header))
    }

    /// Whether these were read from a file of version 1.
    fn first_version(&self) -> bool {
        self.test().sums.is_some()
    }

    /// The sums of a split that has some.
    fn sums(&self, split: Split) -> &Moments {
        let held_out = match split {
            Split::Train => return &self.train,
            Split::Validation => self.validation(),
            Split::Test => self.test(),
        };
        held_out.sums.as_ref().unwrap_or(&self.train)
    }

    /// The hash of a description and all tensors, which are hashed side by side.
    fn hash(&self, description: &str, contents: &[Content]) -> io::Result<String> {
        let mut hash = Sha256::new_with_prefix(description);
        if self.first_version() {
            for &content in contents {
                self.stream(content, &mut |bytes| {
                    hash.update(bytes);
                    Ok(())
                })?;
            }
        } else {
            let one = |&content: &Content| {
                let mut hash = Sha256::new();
                self.stream(content, &mut |bytes| {
                    hash.update(bytes);
                    Ok(())
                })?;
                Ok(hash.finalize())
            };
            let hashes: io::Result<Vec<_>> = contents.par_iter().map(one).collect();
            hashes?.iter().for_each(|tensor| hash.update(tensor));
        }
        Ok(hex(&hash.finalize()))
    }

    /// Hands out the bytes of one tensor.
    fn stream(&self, content: Content, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let rows = |place: usize| self.held_out[place].sample.rows();
        match content {
            Content::Sums(split, part) => {
                let mut slices = part.slices(self.sums(split)).into_iter();
                slices.try_for_each(|slice| put(sink, slice, |number| number.to_le_bytes()))
            }
            Content::Keys(place) => rows(place).iter().try_for_each(|row| sink(&row.key.to_le_bytes())),
            Content::Source(place) => {
                let mut rows = rows(place).iter();
                rows.try_for_each(|row| put(sink, &row.source, |number| number.to_le_bytes()))
            }
            Content::Target(place) => {
                let mut rows = rows(place).iter();
                rows.try_for_each(|row| put(sink, &row.target, |number| number.to_le_bytes()))
            }
        }
    }
}

/// The safetensors header, its keys sorted so that the same statistics give the same bytes.
#[derive(Serialize)]
struct Head {
    #[serde(rename = "__metadata__")]
    metadata: BTreeMap<&'static str, String>,
    #[serde(flatten)]
    tensors: BTreeMap<String, TensorInfo>,
}

/// Checks the description, except the numbers.
fn check_description(at: At<'_>, description: &Description) -> Result<Plan, StatsFileError> {
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
    let plan = Plan::new(description.layout.clone())
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

/// Hands numbers to a sink as bytes, in pieces.
fn put<T: Copy, const N: usize>(
    sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    numbers: &[T],
    convert: fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(PIECE.min(numbers.len() * N));
    for numbers in numbers.chunks(PIECE / N) {
        bytes.clear();
        bytes.extend(numbers.iter().flat_map(|&number| convert(number)));
        sink(&bytes)?;
    }
    Ok(())
}

/// The file that errors are about.
#[derive(Clone, Copy)]
struct At<'a>(&'a Path);

impl At<'_> {
    fn invalid(self, field: &str, found: impl ToString, expected: &str) -> StatsFileError {
        StatsFileError::Invalid {
            path: self.0.to_owned(),
            field: field.to_owned(),
            found: found.to_string(),
            expected: expected.to_owned(),
        }
    }

    fn io(self, what: &str, error: &io::Error) -> StatsFileError {
        StatsFileError::Io {
            path: self.0.to_owned(),
            message: format!("{what}: {error}"),
        }
    }
}
