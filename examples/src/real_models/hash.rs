//! SHA-256 of files, and of data while it is copied to a file.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use steermap_maps::digest::hex;

/// Bytes read at once: enough that the cost of system calls does not matter.
const CHUNK: usize = 1 << 20;

/// The size and the SHA-256 of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashed {
    /// The number of bytes.
    pub bytes: u64,
    /// Their SHA-256, in lower-case hex.
    pub sha256: String,
}

/// Hashes a file.
pub fn hash_file(path: &Path) -> Result<Hashed> {
    let hash = || copy_hashed(&mut [File::open(path)?], &mut io::sink());
    hash().with_context(|| format!("cannot read {}", path.display()))
}

/// Copies all of `sources` to `to` one after the other, and hashes the bytes.
pub fn copy_hashed<R: Read>(sources: &mut [R], to: &mut impl Write) -> io::Result<Hashed> {
    let mut hasher = Sha256::new();
    let mut bytes = 0u64;
    let mut chunk = vec![0u8; CHUNK];
    for source in sources {
        loop {
            let n = match source.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hasher.update(&chunk[..n]);
            to.write_all(&chunk[..n])?;
            bytes += n as u64;
        }
    }
    Ok(Hashed {
        bytes,
        sha256: hex(&hasher.finalize()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_sha256_of_all_parts_in_order() {
        let mut copy = Vec::new();
        let hashed = copy_hashed(&mut [&b"ab"[..], &b"c"[..]], &mut copy).expect("in memory");
        assert_eq!(copy, b"abc");
        assert_eq!(hashed.bytes, 3);
        // The test vector of FIPS 180-2 for "abc".
        assert_eq!(
            hashed.sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
