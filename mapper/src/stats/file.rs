//! Statistics on disk: one safetensors file, `.stats`.
//!
//! `__metadata__` has two texts: `steermap`, JSON that says what is in the file (`Description`), and `sha256`, of that
//! text followed by all tensors' bytes. The tensors, for each split (`train`, `validation`, `test`), in this order:
//!
//! | tensor | dtype, shape | |
//! | --- | --- | --- |
//! | `SPLIT.source.LAYER.mean` | F64 `[source_hidden]` | per unique source layer |
//! | `SPLIT.target.LAYER.mean`, `.squares` | F64 `[target_hidden]` | per unique target layer |
//! | `SPLIT.input.I.gram` | F64 `[d (d + 1) / 2]` | per input: the lower triangle, column by column |
//! | `SPLIT.pair.I.cross` | F64 `[target_hidden, d]` | per pair: transposed |
//! | `SPLIT.source_norms`, `.target_norms` | F64 `[layers]` | sums of norms |
//! | `sample.keys`, `.source`, `.target` | U64 `[k]`, F32 `[k, all layers * hidden]` | once |
//!
//! Written and read in pieces, since a file may be as large as the memory: the bytes never exist in one place.

mod read;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use safetensors::tensor::TensorInfo;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use self::read::{Reader, read_head, read_moments, read_sample};
use self::table::{Part, check_numbers, check_table, table};
use super::error::StatsFileError;
use super::layout::{Layout, Plan};
use super::moments::Moments;
use super::sample::MAX_SAMPLE_ROWS;
use super::split::Split;
use super::statistics::{Precision, Statistics};

/// What the files say of themselves.
pub const FORMAT: &str = "steermap-stats/1";
/// Most rows that a file can tell of: f64 counts exactly up to here.
const MAX_ROWS: u64 = 1 << 53;
/// Bytes that are converted at a time.
const PIECE: usize = 1 << 16;

/// What a file holds, as its metadata says it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: String,
    precision: Precision,
    layout: Layout,
    /// Rows of train, validation and test.
    rows: [u64; 3],
    sample_capacity: usize,
    sample_rows: usize,
    /// The caller's own.
    header: Value,
}

impl Statistics {
    /// Writes a file, whole or not at all: to a temporary name, synced, renamed. `header` is what the caller wants to
    /// read back: models, corpus, seed.
    ///
    /// # Errors
    ///
    /// Staged rows, sums that overflowed, a header that isn't JSON, or what the operating system says.
    pub fn save(&self, path: &Path, header: &impl Serialize) -> Result<(), StatsFileError> {
        let at = At(path);
        self.check_flushed().map_err(|error| StatsFileError::Stats {
            path: path.to_owned(),
            error,
        })?;
        for split in Split::ALL {
            for part in Part::all(&self.plan) {
                check_numbers(at, &part.name(split, &self.plan), part, self.moments(split))?;
            }
        }
        let json = |error: serde_json::Error| at.invalid("header", error, "what JSON can say");
        let description = Description {
            format: FORMAT.to_owned(),
            precision: self.precision,
            layout: self.plan.layout.clone(),
            rows: Split::ALL.map(|split| self.rows(split)),
            sample_capacity: self.sample.capacity(),
            sample_rows: self.sample.rows().len(),
            header: serde_json::to_value(header).map_err(json)?,
        };
        let text = serde_json::to_string(&description).map_err(json)?;
        let mut hash = Sha256::new_with_prefix(&text);
        let hashed = self.stream(&mut |bytes| {
            hash.update(bytes);
            Ok(())
        });
        hashed.map_err(|error| at.io("can't be hashed", &error))?;
        let head = Head {
            metadata: BTreeMap::from([("sha256", hex(&hash.finalize())), ("steermap", text)]),
            tensors: table(&self.plan, self.sample.rows().len()).into_iter().collect(),
        };
        let mut head = serde_json::to_vec(&head).map_err(json)?;
        // safetensors aligns the tensors' start to 8 bytes, with spaces.
        head.resize(head.len().next_multiple_of(8), b' ');
        steermap_maps::atomic::write(path, |file| {
            file.write_all(&(head.len() as u64).to_le_bytes())?;
            file.write_all(&head)?;
            self.stream(&mut |bytes| file.write_all(bytes))
        })
        .map_err(|error| at.io("can't be written", &error))
    }

    /// Reads a file: the statistics, and the header that was given when they were saved. All is checked: the layout, the
    /// tensors' names, types and shapes, the hash, that numbers are finite and sums of squares not negative.
    ///
    /// # Errors
    ///
    /// See [`StatsFileError`].
    pub fn load(path: &Path) -> Result<(Self, Value), StatsFileError> {
        let at = At(path);
        let file = File::open(path).map_err(|error| at.io("can't be opened", &error))?;
        let length = file
            .metadata()
            .map_err(|error| at.io("can't be looked at", &error))?
            .len();
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
        check_table(at, &metadata, &table(&plan, description.sample_rows))?;
        reader.hash.update(text("steermap")?);

        // The table's bytes are in the file, so what is allocated from here on is at most about twice its size.
        let mut moments = Vec::with_capacity(3);
        for split in Split::ALL {
            moments.push(read_moments(
                &mut reader,
                &plan,
                split,
                description.rows[split.index()],
            )?);
        }
        let sample = read_sample(&mut reader, &plan, &description)?;
        let found = hex(&reader.hash.finalize());
        if &found != text("sha256")? {
            return Err(at.invalid(
                "__metadata__.sha256",
                text("sha256")?,
                &format!("{found}, that of the content"),
            ));
        }
        let moments: [Moments; 3] = moments
            .try_into()
            .map_err(|_| at.invalid("splits", "another number", "three"))?;
        let statistics = Self::from_parts(plan, description.precision, moments, sample);
        Ok((statistics, description.header))
    }

    /// Hands out the bytes of all tensors, in the table's order.
    fn stream(&self, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        for split in Split::ALL {
            for part in Part::all(&self.plan) {
                for slice in part.slices(self.moments(split)) {
                    put(sink, slice, |number| number.to_le_bytes())?;
                }
            }
        }
        let rows = self.sample.rows();
        for row in rows {
            sink(&row.key.to_le_bytes())?;
        }
        for states in rows
            .iter()
            .map(|row| &row.source)
            .chain(rows.iter().map(|row| &row.target))
        {
            put(sink, states, |number| number.to_le_bytes())?;
        }
        Ok(())
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

/// Checks all that the description says but for the numbers.
fn check_description(at: At<'_>, description: &Description) -> Result<Plan, StatsFileError> {
    if description.format != FORMAT {
        return Err(at.invalid("format", &description.format, FORMAT));
    }
    let plan = Plan::new(description.layout.clone())
        .map_err(|error| at.invalid(&format!("layout.{}", error.field), error.found, &error.expected))?;
    for (rows, split) in description.rows.iter().zip(Split::ALL) {
        if *rows > MAX_ROWS {
            return Err(at.invalid(&format!("rows of {split}"), rows, "2^53 at most"));
        }
    }
    if description.sample_capacity > MAX_SAMPLE_ROWS {
        let expected = format!("{MAX_SAMPLE_ROWS} at most");
        return Err(at.invalid("sample_capacity", description.sample_capacity, &expected));
    }
    let expected = (description.sample_capacity as u64).min(description.rows[Split::Test.index()]);
    if description.sample_rows as u64 != expected {
        let expected = format!("{expected}, from sample_capacity and the test rows");
        return Err(at.invalid("sample_rows", description.sample_rows, &expected));
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
