//! Atomic writes of one file.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// Writes a file atomically: at any moment, `path` holds all of the old content or all of the new.
///
/// `fill` writes the content to a temporary file (`.steermap-*.tmp`) in the same folder. That file is synced to the
/// disk and renamed to `path`, which replaces an existing file or link. Then the folder is synced, so that a later
/// write can't reach the disk before this one. The new file gets the default permissions of new files. A crash can
/// leave a temporary file behind; nothing reads it, and it may be deleted.
///
/// ```
/// use std::io::Write;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("greeting.txt");
/// steermap_maps::atomic::write(&path, |file| file.write_all(b"hello"))?;
/// assert_eq!(std::fs::read(&path)?, b"hello");
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
///
/// The error of `fill` or of the operating system. Then `path` is unchanged, and the temporary file is removed. If the
/// folder can't be synced after the rename, that is not an error: some file systems can't do it, and the new content is
/// in place.
pub fn write(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut temporary = stage(path)?;
    fill(temporary.as_file_mut())?;
    commit(temporary, path)
}

/// As [`write()`] with content from memory.
///
/// # Errors
///
/// As [`write()`].
pub fn write_bytes(path: &Path, content: &[u8]) -> io::Result<()> {
    write(path, |file| file.write_all(content))
}

/// As [`write()`], for code that writes to a path: `fill` gets that of the temporary file.
///
/// # Errors
///
/// As [`write()`].
pub(crate) fn write_at(path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let temporary = stage(path)?;
    fill(temporary.path())?;
    commit(temporary, path)
}

/// A temporary file `.steermap-*.tmp` in the folder of `path`; removed when dropped.
pub(crate) fn stage(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".steermap-").suffix(".tmp");
    // The default is for secrets: only the owner can read the file. The process's umask is applied to this mode.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder_of(path))
}

/// Syncs a temporary file and gives it its name.
pub(crate) fn commit(temporary: NamedTempFile, path: &Path) -> io::Result<()> {
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    sync_folder(folder_of(path));
    Ok(())
}

/// The folder of `path`; the current one for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes renames in a folder durable, as far as the file system can.
fn sync_folder(folder: &Path) {
    // Only Unix opens folders as files.
    if cfg!(unix) {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn makes_and_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for content in ["one", "two, longer", "3"] {
            write(&path, |file| file.write_all(content.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn failed_fill_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "old").unwrap();
        let error = write(&path, |file| {
            file.write_all(b"half of the n")?;
            Err(io::Error::other("disk full"))
        });
        assert_eq!(error.unwrap_err().to_string(), "disk full");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn failed_rename_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::create_dir(&path).unwrap();
        write(&path, |file| file.write_all(b"new")).unwrap_err();
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn folder_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        write(&folder.path().join("no/a"), |_| Ok(())).unwrap_err();
        fs::write(folder.path().join("file"), "").unwrap();
        write(&folder.path().join("file/a"), |_| Ok(())).unwrap_err();
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_a_fresh_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write(&ours, |_| Ok(())).unwrap();
        fs::write(&plain, "").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }
}
