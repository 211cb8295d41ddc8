//! Opening and reading files with the checks that come before the first byte.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::{FileError, Problem};

/// Opens a regular file and gives its length in bytes. `role` says what the file is for, in error messages.
///
/// Anything but a regular file is refused before it is opened, since opening a pipe would wait for a writer.
pub(crate) fn open(path: &Path, role: &'static str) -> Result<(File, u64), FileError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => FileError::Missing {
            path: path.to_owned(),
            role,
        },
        _ => FileError::read(path, error),
    };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile {
            path: path.to_owned(),
            role,
        });
    }
    Ok((File::open(path).map_err(failed)?, metadata.len()))
}

/// Reads a whole file of `limit` bytes at most. `role` says what the file is for, in error messages.
///
/// # Errors
///
/// [`FileError::Missing`], [`FileError::NotAFile`] and [`FileError::TooLarge`], found out before anything is read;
/// [`FileError::Read`] if the operating system refuses.
pub fn whole(path: &Path, role: &'static str, limit: u64) -> Result<Vec<u8>, FileError> {
    let (file, length) = open(path, role)?;
    check_length(path, length, limit)?;
    let mut bytes = Vec::new();
    // One byte more than the limit, should the file be growing: so that the second check can see it.
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| FileError::read(path, error))?;
    check_length(path, bytes.len() as u64, limit)?;
    Ok(bytes)
}

/// As [`check_length`], of bytes that come from no file.
pub(crate) fn check_bytes(bytes: &[u8], limit: u64) -> Result<(), Problem> {
    let found = bytes.len() as u64;
    if found > limit {
        return Err(Problem::TooLarge { found, limit });
    }
    Ok(())
}

/// Checks a length in bytes against the most that a file may have.
pub(crate) fn check_length(path: &Path, found: u64, limit: u64) -> Result<(), FileError> {
    if found > limit {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
            found,
            limit,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limit_is_inclusive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("four");
        std::fs::write(&path, "four").unwrap();
        assert_eq!(whole(&path, "it", 4).unwrap(), b"four");
        let error = whole(&path, "it", 3).unwrap_err();
        assert!(
            matches!(error, FileError::TooLarge { found: 4, limit: 3, .. }),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(whole(folder.path(), "it", 9), Err(FileError::NotAFile { .. })));
        assert!(matches!(
            whole(&folder.path().join("no"), "it", 9),
            Err(FileError::Missing { .. })
        ));
    }
}
