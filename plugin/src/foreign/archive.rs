//! Untrusted zip files: `.npz`, and those of `torch.save`.

use std::io::{Cursor, Read};

use zip::ZipArchive;

use super::error::{ForeignError, shown};

/// The most bytes that are extracted from a small archive. A compressed archive of a few bytes can hold any number.
const MIN_BUDGET: u64 = 256 << 20;

/// The most entries.
const MAX_ENTRIES: usize = 1 << 16;

/// The first bytes of every zip file.
pub(crate) const MAGIC: &[u8; 4] = b"PK\x03\x04";

/// An archive in memory.
pub(crate) struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// How many bytes may still be extracted.
    budget: u64,
}

impl<'a> Archive<'a> {
    /// Reads the list of entries.
    ///
    /// # Errors
    ///
    /// The bytes are not a zip file.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, ForeignError> {
        if !bytes.starts_with(MAGIC) {
            let found = String::from_utf8_lossy(bytes.get(..4).unwrap_or(bytes)).into_owned();
            return Err(ForeignError::Magic {
                found,
                expected: "PK\u{3}\u{4}",
            });
        }
        let zip = ZipArchive::new(Cursor::new(bytes))
            .map_err(|error| ForeignError::value("archive", error, "a complete zip file"))?;
        if zip.len() > MAX_ENTRIES {
            let found = format!("{} entries", zip.len());
            return Err(ForeignError::value("archive", found, format!("at most {MAX_ENTRIES}")));
        }
        let budget = MIN_BUDGET.max(bytes.len() as u64);
        Ok(Self { zip, budget })
    }

    /// The names of the entries.
    pub(crate) fn names(&self) -> Vec<String> {
        self.zip.file_names().map(String::from).collect()
    }

    /// The bytes of an entry. Checks their checksum.
    ///
    /// # Errors
    ///
    /// There is no such entry, it is broken, encrypted or compressed by another method than Deflate, or it exceeds the
    /// bytes that may be extracted from this archive.
    pub(crate) fn read(&mut self, name: &str) -> Result<Vec<u8>, ForeignError> {
        let broken = |found: String| ForeignError::value(shown(name), found, "a complete entry of the archive");
        let entry = self.zip.by_name(name).map_err(|error| broken(error.to_string()))?;
        let mut bytes = Vec::new();
        // Counts the bytes that were read, not those that the entry states.
        let mut limited = entry.take(self.budget + 1);
        limited
            .read_to_end(&mut bytes)
            .map_err(|error| broken(error.to_string()))?;
        match self.budget.checked_sub(bytes.len() as u64) {
            Some(left) => self.budget = left,
            None => {
                let found = format!("more than {} bytes", self.budget);
                return Err(ForeignError::value(
                    shown(name),
                    found,
                    "at most as many for an archive of this size",
                ));
            }
        }
        Ok(bytes)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;

    /// A zip file with these entries.
    pub(crate) fn zip(entries: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in entries {
            let options = SimpleFileOptions::default().compression_method(method);
            writer.start_file(*name, options).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn entries_are_read_up_to_the_budget() {
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let bytes = zip(&[("a", &[7; 100]), ("b", b"x")], method);
            let mut archive = Archive::open(&bytes).unwrap();
            assert_eq!(archive.read("a").unwrap(), [7; 100]);
            assert!(archive.read("c").unwrap_err().to_string().starts_with("\"c\": found"));
            archive.budget = 99;
            let error = archive.read("a").unwrap_err().to_string();
            assert!(error.contains("more than 99 bytes"), "{error}");
            assert_eq!(archive.read("b").unwrap(), b"x");
        }
    }

    #[test]
    fn a_broken_archive_is_refused() {
        let bytes = zip(&[("a", b"some bytes")], CompressionMethod::Stored);
        for end in 0..bytes.len() {
            let read = Archive::open(&bytes[..end]).and_then(|mut archive| archive.read("a"));
            assert!(read.is_err(), "{end} bytes");
        }
        let mut flipped = bytes.clone();
        let at = bytes.windows(4).position(|window| window == b"some").unwrap();
        flipped[at] ^= 1;
        let error = Archive::open(&flipped).unwrap().read("a").unwrap_err().to_string();
        assert!(error.contains("checksum"), "{error}");
        for at in 0..bytes.len() {
            for value in [0, 1, 127, 255] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _ = Archive::open(&changed).and_then(|mut archive| archive.read("a"));
            }
        }
    }
}
