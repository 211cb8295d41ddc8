//! A column's pages, unpacked and of bounded size.
//!
//! The library unpacks pages to any size and trusts the numbers of values in their headers. So here it reads pages as
//! if they were not compressed, and the sizes that it allocates by are checked first.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use anyhow::ensure;
use flate2::read::MultiGzDecoder;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::serialized_reader::SerializedPageReader;

use super::delta;

/// Maximum number of bytes of an unpacked page. Writers aim at 1 MiB, but some check the size only every thousand
/// values, which may be documents of a megabyte.
const MAX_PAGE: usize = 1 << 30;

/// Maximum number of values of a page: 64 million.
const MAX_VALUES: u32 = 1 << 26;

/// The pages of one column in one group of rows.
pub struct Pages {
    stored: SerializedPageReader<File>,
    compression: Compression,
    nullable: bool,
    dictionary: bool,
    most: usize,
}

impl Pages {
    /// The pages of `chunk`.
    ///
    /// # Errors
    ///
    /// A compression that is not supported; a chunk that lies outside of the file.
    pub fn new(file: Arc<File>, chunk: &ColumnChunkMetaData) -> anyhow::Result<Self> {
        let compression = chunk.compression();
        ensure!(
            matches!(
                compression,
                Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) | Compression::ZSTD(_)
            ),
            "found the compression {compression}, expected none, snappy, gzip or zstd"
        );
        let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        let end = start.checked_add(chunk.compressed_size());
        let length = file.metadata()?.len();
        ensure!(
            start >= 0 && chunk.compressed_size() >= 0 && end.is_some_and(|end| end as u64 <= length),
            "found a column outside of the file: it is damaged"
        );
        let stored = chunk
            .clone()
            .into_builder()
            .set_compression(Compression::UNCOMPRESSED)
            .build()?;
        Ok(Self {
            stored: SerializedPageReader::new(file, &stored, 0, None)?,
            compression,
            nullable: chunk.column_descr().max_def_level() > 0,
            dictionary: false,
            most: MAX_PAGE,
        })
    }

    /// Unpacks a page, and checks what the library doesn't.
    fn open(&mut self, page: Page) -> anyhow::Result<Page> {
        ensure!(
            page.num_values() <= MAX_VALUES,
            "found a page of {} values, expected at most {MAX_VALUES}",
            page.num_values()
        );
        let mut page = page;
        match &mut page {
            Page::DictionaryPage { buf, num_values, .. } => {
                let bytes = unpack(self.compression, &[], buf, self.most)?;
                // Each value has its length before it.
                ensure!(
                    *num_values as usize <= bytes.len() / 4,
                    "found a dictionary of {num_values} values in {} bytes: the file is damaged",
                    bytes.len()
                );
                *buf = bytes.into();
                self.dictionary = true;
            }
            Page::DataPage {
                buf,
                num_values,
                encoding,
                def_level_encoding,
                ..
            } => {
                *buf = unpack(self.compression, &[], buf, self.most)?.into();
                let mut levels = 0;
                if self.nullable {
                    ensure!(
                        *def_level_encoding == Encoding::RLE,
                        "found levels of encoding {def_level_encoding}, expected RLE"
                    );
                    // Their length, then the levels.
                    let length = buf.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                    levels = 4 + length as usize;
                }
                let values = buf.get(levels..);
                check_values(*encoding, values, *num_values, self.dictionary)?;
            }
            Page::DataPageV2 {
                buf,
                num_values,
                encoding,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                ..
            } => {
                let levels = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
                let compression = if *is_compressed {
                    self.compression
                } else {
                    Compression::UNCOMPRESSED
                };
                // Levels are not compressed.
                if let Some((levels, values)) = buf.split_at_checked(levels) {
                    *buf = unpack(compression, levels, values, self.most)?.into();
                }
                let values = buf.get(levels..);
                check_values(*encoding, values, *num_values, self.dictionary)?;
            }
        }
        Ok(page)
    }
}

/// Checks the values of a page, which follow its levels: on wrong ones the library would panic or allocate too much.
fn check_values(encoding: Encoding, values: Option<&[u8]>, count: u32, dictionary: bool) -> anyhow::Result<()> {
    let Some(values) = values else {
        anyhow::bail!("found a page that is shorter than its levels: the file is damaged");
    };
    match encoding {
        Encoding::PLAIN => {}
        Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY => {
            ensure!(
                dictionary,
                "found a page that needs a dictionary before one: the file is damaged"
            );
        }
        Encoding::DELTA_LENGTH_BYTE_ARRAY => {
            delta::check(values, count)?;
        }
        Encoding::DELTA_BYTE_ARRAY => {
            let suffixes = delta::check(values, count)?;
            delta::check(suffixes, count)?;
        }
        other => anyhow::bail!("found strings of encoding {other}, expected plain, dictionary or delta"),
    }
    Ok(())
}

/// `before` followed by the unpacked `packed`: at most `most` bytes.
fn unpack(compression: Compression, before: &[u8], packed: &[u8], most: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = before.to_vec();
    // A page of nulls alone may have nothing, not even an empty compressed stream.
    if !packed.is_empty() {
        let limit = most as u64 + 1;
        match compression {
            Compression::SNAPPY => {
                let length = snap::raw::decompress_len(packed)?;
                if length <= most {
                    bytes.resize(before.len() + length, 0);
                    let written = snap::raw::Decoder::new().decompress(packed, &mut bytes[before.len()..])?;
                    bytes.truncate(before.len() + written);
                } else {
                    bytes.clear();
                    return Err(too_large(most));
                }
            }
            Compression::GZIP(_) => {
                MultiGzDecoder::new(packed).take(limit).read_to_end(&mut bytes)?;
            }
            Compression::ZSTD(_) => {
                zstd::Decoder::with_buffer(packed)?
                    .take(limit)
                    .read_to_end(&mut bytes)?;
            }
            _ => {
                packed.take(limit).read_to_end(&mut bytes)?;
            }
        }
    }
    if bytes.len() > most {
        return Err(too_large(most));
    }
    Ok(bytes)
}

fn too_large(most: usize) -> anyhow::Error {
    anyhow::anyhow!("found a page of more than {most} bytes, expected smaller pages")
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        match self.stored.get_next_page()? {
            Some(page) => match self.open(page) {
                Ok(page) => Ok(Some(page)),
                Err(error) => Err(ParquetError::General(format!("{error:#}"))),
            },
            None => Ok(None),
        }
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.stored.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.stored.skip_next_page()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Text in every compression.
    fn packed(text: &[u8]) -> [(Compression, Vec<u8>); 4] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).unwrap();
        [
            (Compression::UNCOMPRESSED, text.to_vec()),
            (
                Compression::SNAPPY,
                snap::raw::Encoder::new().compress_vec(text).unwrap(),
            ),
            (Compression::GZIP(Default::default()), gzip.finish().unwrap()),
            (
                Compression::ZSTD(Default::default()),
                zstd::encode_all(text, 1).unwrap(),
            ),
        ]
    }

    #[test]
    fn pages_are_bounded() {
        let text = [b'x'; 100_000];
        for (compression, packed) in packed(&text) {
            let whole = unpack(compression, b"levels", &packed, text.len() + 6).unwrap();
            assert_eq!(whole, [b"levels", &text[..]].concat(), "{compression}");
            let error = unpack(compression, b"levels", &packed, text.len() + 5)
                .unwrap_err()
                .to_string();
            assert!(error.contains("more than 100005 bytes"), "{compression}: {error}");
            // Nulls alone.
            assert_eq!(unpack(compression, b"levels", b"", 6).unwrap(), b"levels");
        }
        // The stated length isn't allocated.
        let mut snappy = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
        snappy.extend([0; 9]);
        let error = unpack(Compression::SNAPPY, &[], &snappy, 9).unwrap_err().to_string();
        assert!(error.contains("more than 9 bytes"), "{error}");
    }

    #[test]
    fn damage_is_an_error() {
        for (compression, packed) in &packed(&[b'x'; 100])[1..] {
            assert!(
                unpack(*compression, &[], &packed[..packed.len() - 1], 1000).is_err(),
                "{compression}"
            );
            assert!(
                unpack(*compression, &[], b"\xff\xff\xff", 1000).is_err(),
                "{compression}"
            );
        }
    }

    #[test]
    fn values_are_checked_before_they_are_read() {
        let error =
            |encoding, values, dictionary| check_values(encoding, values, 3, dictionary).unwrap_err().to_string();
        assert!(error(Encoding::PLAIN, None, false).contains("shorter than its levels"));
        assert!(error(Encoding::RLE_DICTIONARY, Some(b"x"), false).contains("needs a dictionary"));
        assert!(check_values(Encoding::RLE_DICTIONARY, Some(b"x"), 3, true).is_ok());
        assert!(error(Encoding::BYTE_STREAM_SPLIT, Some(b"x"), true).contains("BYTE_STREAM_SPLIT"));
        let lengths: &[u8] = &[0x80, 0x01, 0x04, 0x04, 0x00, 0x00, 0, 0, 0, 0];
        for encoding in [Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY] {
            assert!(error(encoding, Some(lengths), false).contains("4 lengths in a page of 3 values"));
        }
        // Prefixes, then suffixes.
        let two = [lengths, lengths].concat();
        assert!(check_values(Encoding::DELTA_BYTE_ARRAY, Some(&two), 4, false).is_ok());
        assert!(check_values(Encoding::DELTA_BYTE_ARRAY, Some(lengths), 4, false).is_err());
    }
}
