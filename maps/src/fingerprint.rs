//! Fingerprints of a model's weights and tokenizer: short texts that are quick to compute for models of any size.
//!
//! A vector or a map belongs to one model's weights. Its file states their fingerprint, which is compared with that of
//! the model at hand when the file is used.
//!
//! The fingerprint covers, for every weights file: its length; its header (for safetensors, names, dtypes, shapes and
//! metadata, up to 16 MiB; for GGUF, the first 1 MiB); and 64 blocks of 4 KiB, evenly spaced over the rest, including
//! the first and the last block. It covers the whole tokenizer. So training further, quantising, merging or swapping a
//! model changes the fingerprint; moving, copying or renaming the folder or its files doesn't.
//!
//! It does **not** cover:
//!
//! * a change that leaves the length, the header and all sampled blocks as they are, such as a few numbers edited by
//!   hand. It distinguishes models; it does not protect against deliberate forgery;
//! * `config.json` and other files in the folder, such as adapters and weights that mistral.rs doesn't load, since
//!   tools rewrite them without changing the model; sizes and dtypes are in the headers, but a changed RoPE scaling,
//!   for example, isn't seen;
//! * tokenizers other than a `tokenizer.json`, and the part of a GGUF file's own tokenizer after its first 1 MiB,
//!   except for the blocks sampled there.
//!
//! The same weights in another format, or split into other files, have another fingerprint.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{FileError, Problem};
use crate::{digest, read};

/// Names what is hashed and how; a change of either is a new version, here and in [`PREFIX`].
const DOMAIN: &[u8] = b"steermap model fingerprint, version 1";

/// The start of every fingerprint.
const PREFIX: &str = "sm1:";

/// How many hex digits of the SHA-256 a fingerprint keeps: 128 bits, enough for any number of models.
const DIGITS: usize = 32;

/// How many blocks of data are hashed per file. Reading them from a rotating disk takes about a second.
const BLOCKS: u64 = 64;

/// The size of a block in bytes: a page, the smallest unit that a disk reads.
const BLOCK_BYTES: u64 = 4096;

/// How many bytes of a safetensors header are hashed. Headers of large models have about 100 KB; the format allows 100
/// MB, which would take long.
const MAX_HEADER_BYTES: u64 = 16 << 20;

/// How many bytes at a GGUF file's start are hashed: they hold the model's name and sizes. The tokenizer follows and
/// may be longer.
const GGUF_START_BYTES: u64 = 1 << 20;

/// The fingerprint of a model in a folder as Hugging Face lays it out: of the `*.safetensors` files that mistral.rs
/// loads, and of its `tokenizer.json`, if it has one.
///
/// Gives `sm1:` and 32 hex digits. See the [module](self) for what it sees and what it doesn't.
///
/// # Errors
///
/// [`FileError::NoWeights`] if there are no such files, [`FileError::Invalid`] if one isn't safetensors (such as a
/// Git LFS pointer), and the error of a file or folder that can't be read.
pub fn fingerprint_folder(dir: &Path) -> Result<String, FileError> {
    let weights = weights_of_folder(dir)?;
    let weights = weights
        .iter()
        .map(|path| safetensors_digest(path))
        .collect::<Result<_, _>>()?;
    let tokenizer = match tokenizer_digest(&dir.join("tokenizer.json")) {
        Err(FileError::Missing { .. }) => None,
        digest => Some(digest?),
    };
    Ok(combine(b"safetensors", weights, tokenizer))
}

/// The files of weights in a model's folder: those whose names end as mistral.rs wants it (`model.safetensors`,
/// `model-00001-of-00002.safetensors`, `consolidated.safetensors`), but for adapters (`adapter_..`); where there are
/// none, all `*.safetensors`. Files in folders within it, or whose name starts with a dot, are left out. That there are
/// none is an error.
fn weights_of_folder(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut all = list(dir)?;
    all.retain(|path| name(path).ends_with(".safetensors") && !name(path).starts_with('.'));
    all.sort();
    if all.is_empty() {
        return Err(FileError::NoWeights { path: dir.to_owned() });
    }
    let loaded: Vec<PathBuf> = all.iter().filter(|path| is_loaded(&name(path))).cloned().collect();
    Ok(if loaded.is_empty() { all } else { loaded })
}

/// Whether mistral.rs loads a file of this name as weights of the model.
fn is_loaded(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".safetensors") else {
        return false;
    };
    if name.starts_with("adapter_") {
        return false;
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // `..model-1-of-2`
    let is_part = || {
        let (rest, of) = stem.rsplit_once("-of-")?;
        let (kind, part) = rest.rsplit_once('-')?;
        Some(kind.ends_with("model") && is_number(part) && is_number(of))
    };
    stem.ends_with("model") || stem.ends_with("consolidated") || is_part().unwrap_or(false)
}

/// The fingerprint of a model in GGUF files: one, or all parts of a split one, in any order. `tokenizer` is the
/// `tokenizer.json` used with it, if it isn't the GGUF file's own that is used.
///
/// Gives `sm1:` and 32 hex digits. See the [module](self) for what it sees and what it doesn't.
///
/// # Errors
///
/// [`FileError::NoWeights`] if no file is named, [`FileError::Invalid`] if one isn't GGUF, and whatever keeps a file
/// from being read.
pub fn fingerprint_gguf(files: &[&Path], tokenizer: Option<&Path>) -> Result<String, FileError> {
    if files.is_empty() {
        return Err(FileError::NoWeights { path: PathBuf::new() });
    }
    let weights = files.iter().map(|path| gguf_digest(path)).collect::<Result<_, _>>()?;
    let tokenizer = tokenizer.map(tokenizer_digest).transpose()?;
    Ok(combine(b"gguf", weights, tokenizer))
}

/// Combines the files' digests. They are sorted by digest, not by name, so that renaming files changes nothing.
fn combine(kind: &[u8], mut weights: Vec<[u8; 32]>, tokenizer: Option<[u8; 32]>) -> String {
    weights.sort_unstable();
    let mut hash = Sha256::new();
    for part in [DOMAIN, kind] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update((weights.len() as u64).to_le_bytes());
    weights.iter().for_each(|digest| hash.update(digest));
    hash.update([u8::from(tokenizer.is_some())]);
    hash.update(tokenizer.unwrap_or_default());
    format!("{PREFIX}{}", &digest::hex(&hash.finalize())[..DIGITS])
}

fn list(dir: &Path) -> Result<Vec<PathBuf>, FileError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => FileError::Missing {
            path: dir.to_owned(),
            role: "the model's folder",
        },
        _ => FileError::read(dir, error),
    };
    let entries = fs::read_dir(dir).map_err(failed)?;
    entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
        .collect()
}

fn tokenizer_digest(path: &Path) -> Result<[u8; 32], FileError> {
    let (mut file, _) = read::open(path, "the tokenizer")?;
    digest::hash_rest(&mut file).map_err(|error| FileError::read(path, error))
}

fn safetensors_digest(path: &Path) -> Result<[u8; 32], FileError> {
    let (mut file, length) = read::open(path, "a file of weights")?;
    let failed = |error| FileError::read(path, error);
    let mut header = [0; 8];
    // Of a file too short to have it, what is missing counts as 0; the check below refuses it.
    if length >= 8 {
        file.read_exact(&mut header).map_err(failed)?;
    }
    let header = u64::from_le_bytes(header);
    if length < 8 || header > length - 8 {
        let message = format!("a header of {header} bytes in a file of {length} bytes");
        return Err(Problem::Safetensors { message }.within(path));
    }
    sample(&mut file, length, 8 + header.min(MAX_HEADER_BYTES), 8 + header).map_err(failed)
}

fn gguf_digest(path: &Path) -> Result<[u8; 32], FileError> {
    let (mut file, length) = read::open(path, "a file of weights")?;
    let failed = |error| FileError::read(path, error);
    let mut start = Vec::new();
    (&mut file).take(4).read_to_end(&mut start).map_err(failed)?;
    if start != b"GGUF" {
        return Err(Problem::Gguf {
            found: start.escape_ascii().to_string(),
        }
        .within(path));
    }
    let start = length.min(GGUF_START_BYTES);
    sample(&mut file, length, start, start).map_err(failed)
}

/// Hashes a file's length, its first `start` bytes, and blocks of what begins at byte `data`.
fn sample(file: &mut File, length: u64, start: u64, data: u64) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    for number in [length, start, data] {
        hash.update(number.to_le_bytes());
    }
    let mut piece = Vec::new();
    let ranges = std::iter::once((0, start)).chain(blocks(data, length));
    for (offset, count) in ranges {
        piece.resize(count as usize, 0);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut piece)?;
        hash.update(&piece);
    }
    Ok(hash.finalize().into())
}

/// The blocks to hash between two offsets, as offset and length: evenly spaced, including the first and the last. A
/// stretch that is not larger than all blocks together is one block.
fn blocks(start: u64, end: u64) -> Vec<(u64, u64)> {
    let length = end - start;
    if length <= BLOCKS * BLOCK_BYTES {
        return vec![(start, length)];
    }
    let last = u128::from(length - BLOCK_BYTES);
    (0..BLOCKS)
        .map(|index| {
            // In 128 bits, as lengths are whatever a file system says; the result is `last` at most.
            let offset = last * u128::from(index) / u128::from(BLOCKS - 1);
            (start + offset as u64, BLOCK_BYTES)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"{\"a\":{\"dtype\":\"U8\"}}";

    /// Something that looks like safetensors, with this much data.
    fn weights(length: usize, seed: u8) -> Vec<u8> {
        let data = (0..length).map(|index| (index as u8).wrapping_mul(31).wrapping_add(seed));
        (HEADER.len() as u64)
            .to_le_bytes()
            .into_iter()
            .chain(HEADER.iter().copied())
            .chain(data)
            .collect()
    }

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    fn of(files: &[(&str, &[u8])]) -> String {
        fingerprint_folder(folder(files).path()).unwrap()
    }

    /// The expected values come from a second implementation, in Python.
    #[test]
    fn never_changes() {
        let (a, b) = (weights(1000, 0), weights(1_000_000, 1));
        let print = of(&[("a.safetensors", &a), ("b.safetensors", &b), ("tokenizer.json", b"{}")]);
        assert_eq!(print, "sm1:35bec522fc79b85f3a9a5c82bc757098");
        assert_eq!(of(&[("a.safetensors", &a)]), "sm1:9cc9b9c50ab2adb1bb273cfd44d13d09");
        let gguf = folder(&[("a.gguf", &[b"GGUF", &b[..]].concat())]);
        assert_eq!(
            fingerprint_gguf(&[&gguf.path().join("a.gguf")], None).unwrap(),
            "sm1:a58ea4786213982515423789a98346cd"
        );
    }

    #[test]
    fn folder_names_file_names_and_other_files_do_not_matter() {
        let (a, b) = (weights(300_000, 0), weights(300_000, 1));
        let print = of(&[("a.safetensors", &a), ("b.safetensors", &b), ("tokenizer.json", b"{}")]);
        assert_eq!(
            print,
            of(&[
                ("z.safetensors", &a),
                ("b.safetensors", &b),
                ("._b.safetensors", b"of a Mac"),
                ("tokenizer.json", b"{}"),
                ("config.json", b"{\"transformers_version\": \"9\"}"),
                ("model.safetensors.index.json", b"{}"),
            ])
        );
    }

    #[test]
    fn only_the_weights_that_are_loaded_matter() {
        let (a, b, stray) = (weights(3000, 0), weights(3000, 1), weights(3000, 2));
        let one = of(&[("model.safetensors", &a)]);
        let two = of(&[
            ("model-00001-of-00002.safetensors", &a),
            ("model-00002-of-00002.safetensors", &b),
        ]);
        for name in [
            "adapter_model.safetensors",
            "adapter_model-00001-of-00002.safetensors",
            "vae.safetensors",
            "model-of-2.safetensors",
        ] {
            assert_eq!(of(&[("model.safetensors", &a), (name, &stray)]), one, "{name}");
            // Nor is a stray file read that is not safetensors.
            assert_eq!(of(&[("model.safetensors", &a), (name, b"")]), one, "{name}");
            let with = [
                ("model-00001-of-00002.safetensors", a.as_slice()),
                ("model-00002-of-00002.safetensors", &b),
                (name, &stray),
            ];
            assert_eq!(of(&with), two, "{name}");
        }
        for name in [
            "consolidated.safetensors",
            "language_model.safetensors",
            "model-3-of-3.safetensors",
        ] {
            assert_ne!(of(&[("model.safetensors", &a), (name, &stray)]), one, "{name}");
        }
        let folder = folder(&[("b.safetensors", &a), ("a.safetensors", &b), ("x.bin", b"")]);
        let found = weights_of_folder(folder.path()).unwrap();
        assert_eq!(
            found,
            [folder.path().join("a.safetensors"), folder.path().join("b.safetensors")]
        );
    }

    #[test]
    fn weights_and_tokenizer_matter() {
        let plain = weights(1_000_000, 0);
        let length = plain.len();
        let data = length - 1_000_000;
        let edited = |index: usize| {
            let mut edited = plain.clone();
            edited[index] ^= 1;
            edited
        };
        let one = |content: &[u8]| of(&[("a.safetensors", content)]);
        let mut prints = vec![
            one(&plain),
            of(&[("a.safetensors", &plain), ("tokenizer.json", b"")]),
            of(&[("a.safetensors", &plain), ("tokenizer.json", b"{}")]),
            of(&[("a.safetensors", &plain), ("b.safetensors", &plain)]),
            one(&weights(1_000_000, 1)),
            one(&weights(1_000_001, 0)),
            one(&edited(10)),
            one(&edited(data)),
            one(&edited(data + 4095)),
            one(&edited(data + (1_000_000 - 4096) * 32 / 63 + 5)),
            one(&edited(length - 1)),
            one(&weights(0, 0)),
        ];
        let count = prints.len();
        prints.sort();
        prints.dedup();
        assert_eq!(prints.len(), count);
        // As the documentation says: between the blocks nothing is seen.
        assert_eq!(one(&edited(data + 4096)), one(&plain));
    }

    #[test]
    fn small_files_are_seen_whole() {
        let plain = weights((BLOCKS * BLOCK_BYTES) as usize, 0);
        let print = of(&[("a.safetensors", &plain)]);
        for index in (0..plain.len()).step_by(5003).filter(|index| !(1..8).contains(index)) {
            let mut edited = plain.clone();
            edited[index] ^= 1;
            let folder = folder(&[("a.safetensors", &edited)]);
            // A flip in the header's length may leave no such header.
            assert!(
                fingerprint_folder(folder.path()).map_or(true, |other| other != print),
                "{index}"
            );
        }
    }

    #[test]
    fn blocks_reach_from_end_to_end() {
        let whole = BLOCKS * BLOCK_BYTES;
        assert_eq!(blocks(10, 10), [(10, 0)]);
        assert_eq!(blocks(10, 10 + whole), [(10, whole)]);
        for end in [11 + whole, 100 << 30, i64::MAX as u64, u64::MAX] {
            let blocks = blocks(10, end);
            assert_eq!(blocks.len() as u64, BLOCKS);
            assert_eq!(blocks[0], (10, BLOCK_BYTES));
            assert_eq!(blocks[63], (end - BLOCK_BYTES, BLOCK_BYTES));
            assert!(blocks.is_sorted());
        }
    }

    #[test]
    fn a_large_file_is_no_effort() {
        let folder = folder(&[("a.safetensors", &weights(1, 0))]);
        // 1 TB, of no content on the disk.
        let file = fs::OpenOptions::new()
            .write(true)
            .open(folder.path().join("a.safetensors"))
            .unwrap();
        if file.set_len(1_000_000_000_000).is_ok() {
            fingerprint_folder(folder.path()).unwrap();
        }
    }

    #[test]
    fn gguf_files_in_any_order_with_and_without_tokenizer() {
        let (a, b) = (weights(3_000_000, 0), weights(2_000, 1));
        let folder = folder(&[
            ("a", &[b"GGUF", &a[..]].concat()),
            ("b", &[b"GGUF", &b[..]].concat()),
            ("t", b"{}"),
            ("bad", b"GGML...."),
            ("short", b"GG"),
        ]);
        let at = |name: &str| folder.path().join(name);
        let print = |files: &[&Path], tokenizer| fingerprint_gguf(files, tokenizer);
        let (a, b, t, no) = (at("a"), at("b"), at("t"), at("no"));
        assert_eq!(print(&[&a, &b], None).unwrap(), print(&[&b, &a], None).unwrap());
        assert_ne!(print(&[&a, &b], None).unwrap(), print(&[&a], None).unwrap());
        assert_ne!(print(&[&a], Some(&t)).unwrap(), print(&[&a], None).unwrap());
        assert!(matches!(print(&[], None), Err(FileError::NoWeights { .. })));
        assert!(matches!(print(&[&no], None), Err(FileError::Missing { .. })));
        assert!(matches!(print(&[&a], Some(&no)), Err(FileError::Missing { .. })));
        for (name, found) in [("bad", "GGML"), ("short", "GG")] {
            let error = print(&[&at(name)], None).unwrap_err();
            let expected = format!("found a file that starts with {found:?}, expected a GGUF file");
            assert!(error.to_string().contains(&expected), "{error}");
        }
    }

    #[test]
    fn what_is_no_model_is_an_error() {
        let print = |files: &[(&str, &[u8])]| fingerprint_folder(folder(files).path());
        assert!(matches!(
            print(&[("tokenizer.json", b"{}")]),
            Err(FileError::NoWeights { .. })
        ));
        assert!(matches!(
            fingerprint_folder(Path::new("/no/such/folder")),
            Err(FileError::Missing { .. })
        ));
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
        for content in [&b""[..], b"short", &[0xff; 100], pointer] {
            let error = print(&[("a.safetensors", content)]).unwrap_err();
            assert!(
                matches!(
                    error,
                    FileError::Invalid {
                        problem: Problem::Safetensors { .. },
                        ..
                    }
                ),
                "{error}"
            );
        }
        let folder = folder(&[]);
        fs::create_dir(folder.path().join("a.safetensors")).unwrap();
        assert!(matches!(
            fingerprint_folder(folder.path()),
            Err(FileError::NotAFile { .. })
        ));
    }
}
