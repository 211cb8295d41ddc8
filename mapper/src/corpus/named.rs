//! A corpus as files name it: by the names and hashes of its files.

use serde::{Deserialize, Serialize};

/// One file of a corpus, as files name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusFile {
    /// The file's name, without its folder; `-` for standard input.
    pub name: String,
    /// SHA-256 of its content as it is stored: of a compressed file, before it is unpacked.
    pub sha256: String,
}

/// One name and one hash for several files, for a file's provenance.
pub fn summary(files: &[CorpusFile]) -> (String, String) {
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let hashes: Vec<&str> = files.iter().map(|file| file.sha256.as_str()).collect();
    (names.join(" + "), steermap_maps::digest::sha256_of_all(&hashes))
}
