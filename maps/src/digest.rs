//! SHA-256 in the spelling of the files: 64 lower-case hex digits.

use std::fs::File;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{FileError, Problem};
use crate::read;

/// The SHA-256 of some bytes, as 64 lower-case hex digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-256 of a file's content, as 64 lower-case hex digits. Reads the file in pieces, whatever its size.
///
/// # Errors
///
/// [`FileError::Missing`], [`FileError::NotAFile`] or [`FileError::Read`].
pub fn sha256_file(path: &Path) -> Result<String, FileError> {
    let (mut file, _) = read::open(path, "the file to hash")?;
    hash_rest(&mut file)
        .map(|digest| hex(&digest))
        .map_err(|error| FileError::read(path, error))
}

/// One SHA-256 for several files: the only one as it is, otherwise that of all, one per line.
pub fn sha256_of_all(hashes: &[impl AsRef<str>]) -> String {
    match hashes {
        [only] => only.as_ref().to_owned(),
        all => {
            let lines: Vec<&str> = all.iter().map(AsRef::as_ref).collect();
            sha256(lines.join("\n").as_bytes())
        }
    }
}

/// Hashes a file from its current position to its end.
pub(crate) fn hash_rest(file: &mut File) -> std::io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    std::io::copy(file, &mut hash)?;
    Ok(hash.finalize().into())
}

/// Bytes as lower-case hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks that a text is spelled as a SHA-256.
pub(crate) fn check(field: &str, text: &str) -> Result<(), Problem> {
    if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(());
    }
    Err(Problem::value(field, format!("{text:?}"), "64 lower-case hex digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, example B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn bytes_and_files_hash_alike() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        assert_eq!(sha256(b"abc"), ABC);
        assert_eq!(sha256_file(&path).unwrap(), ABC);
        assert!(matches!(
            sha256_file(&folder.path().join("no")),
            Err(FileError::Missing { .. })
        ));
    }

    #[test]
    fn only_64_lower_case_digits_pass() {
        assert!(check("f", ABC).is_ok());
        for bad in ["", "abc", &ABC.to_uppercase(), &ABC[1..], &ABC.replace('b', "g")] {
            assert!(check("f", bad).is_err(), "{bad}");
        }
    }
}
