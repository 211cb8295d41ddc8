//! gzip and zstd, recognised by their first bytes.

use std::fmt::{self, Display, Formatter};
use std::io::{self, BufReader, Read};

use flate2::read::MultiGzDecoder;

/// The largest window of zstd data, as a power of two: 128 MiB, the default limit of the zstd tool.
const ZSTD_WINDOW_LOG: u32 = 27;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// One or several members of gzip.
    Gzip,
    /// One or several frames of zstd.
    Zstd,
}

impl Compression {
    /// The compression of a file that begins with `head`.
    pub fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            // A frame, or a skippable frame, which parallel tools write first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl Display for Compression {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// Reads compressed bytes unpacked.
pub struct Unpacked<R: Read>(Decoder<R>);

enum Decoder<R: Read> {
    None(R),
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(zstd::Decoder<'static, BufReader<R>>),
}

impl<R: Read> Unpacked<R> {
    /// Unpacks `stored`.
    ///
    /// # Errors
    ///
    /// There is no memory for the decoder.
    pub fn new(stored: R, compression: Option<Compression>) -> io::Result<Self> {
        Ok(Self(match compression {
            None => Decoder::None(stored),
            Some(Compression::Gzip) => Decoder::Gzip(Box::new(MultiGzDecoder::new(stored))),
            Some(Compression::Zstd) => {
                let mut decoder = zstd::Decoder::new(stored)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Decoder::Zstd(decoder)
            }
        }))
    }

    /// The rest of the compressed bytes, without what the decoder has read ahead.
    pub fn into_stored(self) -> R {
        match self.0 {
            Decoder::None(stored) => stored,
            Decoder::Gzip(decoder) => decoder.into_inner(),
            Decoder::Zstd(decoder) => decoder.finish().into_inner(),
        }
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (read, what) = match &mut self.0 {
            Decoder::None(stored) => return stored.read(buffer),
            Decoder::Gzip(decoder) => (decoder.read(buffer), Compression::Gzip),
            Decoder::Zstd(decoder) => (decoder.read(buffer), Compression::Zstd),
        };
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::new(
                error.kind(),
                format!("the {what} data ends too early: the file is cut off"),
            ),
            // The library's error for a window that is too large.
            kind if error.to_string().contains("too much memory") => io::Error::new(
                kind,
                "the zstd data needs more than 128 MiB to unpack: unpack it with zstd -d --long=31",
            ),
            kind => io::Error::new(kind, format!("the {what} data is damaged: {error}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn unpack(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Unpacked::new(bytes, Compression::of(bytes))?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn members_and_frames_are_one_text() {
        for pack in [gzip, zstd] {
            let parts = [pack(b"one "), pack(b""), pack(b"two")].concat();
            assert_eq!(unpack(&parts).unwrap(), b"one two");
        }
        // A frame to be skipped, of 4 bytes, before the text.
        let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4][..], &zstd(b"text")].concat();
        assert_eq!(unpack(&skipped).unwrap(), b"text");
        assert_eq!(unpack(b"as it is").unwrap(), b"as it is");
    }

    #[test]
    fn damaged_and_cut_off_files_have_different_errors() {
        let text: Vec<u8> = (0..5000u32)
            .flat_map(|i| i.wrapping_mul(2654435761).to_le_bytes())
            .collect();
        for (pack, name) in [(gzip as fn(&[u8]) -> Vec<u8>, "gzip"), (zstd, "zstd")] {
            let packed = pack(&text);
            for keep in [5, packed.len() / 2, packed.len() - 1] {
                let error = unpack(&packed[..keep]).unwrap_err().to_string();
                assert!(
                    error.contains(name) && error.contains("cut off"),
                    "{name}, {keep}: {error}"
                );
            }
            let mut broken = packed.clone();
            let last = broken.len() - 3;
            broken[last] ^= 0xff;
            // zstd's library writes no checksum unless asked to, so its data is broken in the header.
            broken[4] = 0xff;
            let error = unpack(&broken).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("damaged"), "{name}: {error}");
            let garbage = [packed.as_slice(), b"garbage"].concat();
            assert!(unpack(&garbage).is_err(), "{name}");
        }
    }

    #[test]
    fn a_window_that_is_too_large_is_refused() {
        // Magic, a descriptor without content size, a window of 2^31.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3, 0x01, 0x00, 0x00];
        let error = unpack(&frame).unwrap_err().to_string();
        assert!(error.contains("zstd -d --long=31"), "{error}");
    }

    #[test]
    fn the_rest_of_the_stored_bytes_can_be_had() {
        for bytes in [gzip(b"text"), zstd(b"text"), b"text".to_vec()] {
            let mut unpacked = Unpacked::new(bytes.as_slice(), Compression::of(&bytes)).unwrap();
            unpacked.read_to_end(&mut Vec::new()).unwrap();
            assert!(unpacked.into_stored().is_empty());
        }
    }
}
