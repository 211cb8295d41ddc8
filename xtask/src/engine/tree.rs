//! Copies and hashes a folder of source.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as lower-case hex digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 over the sorted relative paths and contents of all files below `dir`. Cargo's own markers in an unpacked
/// crate are left out.
pub fn hash(dir: &Path) -> Result<String> {
    let mut hasher = Sha256::new();
    for file in files(dir)? {
        let bytes = fs::read(dir.join(&file)).with_context(|| format!("{}", file.display()))?;
        let name = file.to_string_lossy().replace('\\', "/");
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    Ok(hex(&hasher.finalize()))
}

/// Copies all files that [`hash`] counts from `from` to the new folder `to`.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    for file in files(from)? {
        let target = to.join(&file);
        let folder = target.parent().unwrap_or(to);
        fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        // Read and written instead of fs::copy, since the registry's files are read-only on some machines.
        let bytes = fs::read(from.join(&file)).with_context(|| format!("{}", file.display()))?;
        fs::write(&target, bytes).with_context(|| format!("{}", target.display()))?;
    }
    Ok(())
}

/// The relative paths of all files that [`hash`] counts, sorted.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("{}", folder.display()))? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if entry.file_name() != ".cargo-ok" && entry.file_name() != ".cargo-checksum.json" {
                found.push(path.strip_prefix(dir)?.to_path_buf());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_the_same_hash_and_a_change_another() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir_all(a.join("src")).unwrap();
        fs::write(a.join("src/lib.rs"), "x").unwrap();
        fs::write(a.join(".cargo-ok"), "marker").unwrap();
        copy(&a, &b).unwrap();
        assert!(!b.join(".cargo-ok").exists());
        assert_eq!(hash(&a).unwrap(), hash(&b).unwrap());
        fs::write(b.join("src/lib.rs"), "y").unwrap();
        assert_ne!(hash(&a).unwrap(), hash(&b).unwrap());
        fs::write(b.join("src/lib.rs"), "x").unwrap();
        fs::rename(b.join("src/lib.rs"), b.join("src/main.rs")).unwrap();
        assert_ne!(hash(&a).unwrap(), hash(&b).unwrap());
    }
}
