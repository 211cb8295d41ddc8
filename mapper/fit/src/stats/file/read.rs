//! Reads a file from front to end, checking as it goes.

use std::fs::File;
use std::io::{self, BufReader, Read};

use safetensors::tensor::Metadata;
use sha2::{Digest, Sha256};
use steermap_maps::digest::hex;

use super::at::At;
use super::description::Description;
use super::table::{SumsPart, check_numbers, widths};
use crate::stats::error::StatsFileError;
use crate::stats::layout::LayoutPlan;
use crate::stats::moments::Moments;
use crate::stats::sample::{Sample, SampleRow};
use crate::stats::split::Split;

/// Bytes that are converted at a time.
pub(super) const PIECE: usize = 1 << 16;

/// Largest JSON header: many times that of the largest layout.
const MAX_HEADER_BYTES: u64 = 64 << 20;

/// A file being read from front to end.
pub(super) struct FileReader<'a> {
    pub at: At<'a>,
    file: BufReader<File>,
    /// Of the description, and of all tensors' hashes.
    hash: Sha256,
    /// Of the tensor that is being read; none in version 1, which hashes all bytes at once.
    tensor: Option<Sha256>,
    piece: Vec<u8>,
}

impl<'a> FileReader<'a> {
    /// At the file's start.
    pub fn new(at: At<'a>, file: File) -> Self {
        Self {
            at,
            file: BufReader::with_capacity(PIECE, file),
            hash: Sha256::new(),
            tensor: None,
            piece: Vec::new(),
        }
    }

    /// Begins the hash, with the description.
    pub fn begin(&mut self, description: &str, first_version: bool) {
        self.hash = Sha256::new_with_prefix(description);
        self.tensor = (!first_version).then(Sha256::new);
    }

    /// Ends a tensor.
    fn end_tensor(&mut self) {
        if let Some(tensor) = &mut self.tensor {
            self.hash.update(tensor.finalize_reset());
        }
    }

    /// The hash of all that was read since [`begin`](Self::begin).
    pub fn finish(self) -> String {
        hex(&self.hash.finalize())
    }

    /// Fills bytes, without hashing them.
    fn bytes(&mut self, field: &str, to: &mut [u8]) -> Result<(), StatsFileError> {
        self.file.read_exact(to).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                self.at
                    .invalid(field, "the end of the file", &format!("{} bytes", to.len()))
            }
            _ => self.at.io("can't be read", &error),
        })
    }

    /// Fills numbers, and hashes their bytes.
    pub fn numbers<T, const N: usize>(
        &mut self,
        field: &str,
        to: &mut [T],
        convert: fn([u8; N]) -> T,
    ) -> Result<(), StatsFileError> {
        for to in to.chunks_mut(PIECE / N) {
            let mut piece = std::mem::take(&mut self.piece);
            piece.resize(to.len() * N, 0);
            self.bytes(field, &mut piece)?;
            self.tensor.as_mut().unwrap_or(&mut self.hash).update(&piece);
            for (number, bytes) in to.iter_mut().zip(piece.as_chunks::<N>().0) {
                *number = convert(*bytes);
            }
            self.piece = piece;
        }
        Ok(())
    }
}

/// Reads the safetensors header and checks that it fits the file.
///
/// Not with `SafeTensors::deserialize`, which wants the whole file in memory and in 0.7.0 can overflow on a crafted
/// header (see `steermap_maps::tensors`); `Metadata` checks all that the header says of itself.
pub(super) fn read_head(reader: &mut FileReader<'_>, length: u64) -> Result<Metadata, StatsFileError> {
    let at = reader.at;
    let mut size = [0; 8];
    reader.bytes("the header's length", &mut size)?;
    let size = u64::from_le_bytes(size);
    let most = MAX_HEADER_BYTES.min(length.saturating_sub(8));
    if size > most {
        return Err(at.invalid("the header's length", size, &format!("at most {most}")));
    }
    let mut head = vec![0; size as usize];
    reader.bytes("the header", &mut head)?;
    let metadata: Metadata =
        serde_json::from_slice(&head).map_err(|error| at.invalid("the header", error, "that of a safetensors file"))?;
    let (data, expected) = (metadata.data_len() as u64, length.saturating_sub(8 + size));
    if data != expected {
        return Err(at.invalid("the tensors' bytes", expected, &data.to_string()));
    }
    Ok(metadata)
}

/// Reads the sums of one split.
pub(super) fn read_moments(
    reader: &mut FileReader<'_>,
    plan: &LayoutPlan,
    split: Split,
    rows: u64,
) -> Result<Moments, StatsFileError> {
    let at = reader.at;
    let mut moments = Moments::new(plan).ok_or_else(|| {
        let needed = format!("{} bytes for its sums", plan.layout.sums_bytes());
        at.invalid("memory", "too little", &needed)
    })?;
    moments.count = rows;
    for part in SumsPart::all(plan) {
        let name = part.name(split, plan);
        for slice in part.slices_mut(&mut moments) {
            reader.numbers(&name, slice, f64::from_le_bytes)?;
        }
        reader.end_tensor();
        check_numbers(at, &name, part, &moments)?;
    }
    Ok(moments)
}

/// Reads a sample, whose tensors' names begin with `name`; `place` is 0 for validation, 1 for test.
pub(super) fn read_sample(
    reader: &mut FileReader<'_>,
    plan: &LayoutPlan,
    name: &str,
    description: &Description,
    place: usize,
) -> Result<Sample, StatsFileError> {
    let at = reader.at;
    let rows = description.sampled()[place];
    let mut keys = vec![0; rows];
    reader.numbers(&format!("{name}.keys"), &mut keys, u64::from_le_bytes)?;
    reader.end_tensor();
    let [source, target] = widths(plan);
    let mut states = |name: &str, width: usize| -> Result<Vec<Box<[f32]>>, StatsFileError> {
        let mut all = Vec::with_capacity(rows);
        for row in 0..rows {
            let mut states = vec![0f32; width].into_boxed_slice();
            reader.numbers(name, &mut states, f32::from_le_bytes)?;
            if let Some(place) = states.iter().position(|value| !value.is_finite()) {
                let field = format!("tensor {name:?}, row {row}, index {place}");
                return Err(at.invalid(&field, states[place], "finite numbers"));
            }
            all.push(states);
        }
        reader.end_tensor();
        Ok(all)
    };
    let (source, target) = (
        states(&format!("{name}.source"), source)?,
        states(&format!("{name}.target"), target)?,
    );
    let mut sample = Sample::new(description.sample_capacity);
    for ((key, source), target) in keys.into_iter().zip(source).zip(target) {
        let row = SampleRow { key, source, target };
        if sample.rows().last().is_some_and(|last| last.order(&row).is_gt()) {
            return Err(at.invalid(
                &format!("tensor \"{name}.keys\""),
                format!("{key} after a larger key"),
                "ascending keys",
            ));
        }
        sample.add(row);
    }
    Ok(sample)
}
