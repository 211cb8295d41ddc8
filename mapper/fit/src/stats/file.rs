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

mod at;
mod description;
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
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use steermap_maps::digest::hex;

use self::at::At;
use self::description::{Description, SampleRows, check_description};
pub use self::description::{FORMAT, FORMAT_1};
use self::read::{FileReader, PIECE, read_head, read_moments, read_sample};
use self::table::{StoredTensor, check_numbers, check_table, contents, table};
use super::error::StatsFileError;
use super::held_out::HeldOut;
use super::moments::Moments;
use super::split::Split;
use super::statistics::Statistics;

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
            if let StoredTensor::Sums(split, part) = *content {
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
        let mut reader = FileReader::new(at, file);
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
    fn hash(&self, description: &str, contents: &[StoredTensor]) -> io::Result<String> {
        let mut hash = Sha256::new_with_prefix(description);
        if self.first_version() {
            for &content in contents {
                self.stream(content, &mut |bytes| {
                    hash.update(bytes);
                    Ok(())
                })?;
            }
        } else {
            let one = |&content: &StoredTensor| {
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
    fn stream(&self, content: StoredTensor, sink: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let rows = |place: usize| self.held_out[place].sample.rows();
        match content {
            StoredTensor::Sums(split, part) => {
                let mut slices = part.slices(self.sums(split)).into_iter();
                slices.try_for_each(|slice| put(sink, slice, |number| number.to_le_bytes()))
            }
            StoredTensor::Keys(place) => rows(place).iter().try_for_each(|row| sink(&row.key.to_le_bytes())),
            StoredTensor::Source(place) => {
                let mut rows = rows(place).iter();
                rows.try_for_each(|row| put(sink, &row.source, |number| number.to_le_bytes()))
            }
            StoredTensor::Target(place) => {
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
