//! A file's unpacked bytes without its byte order mark, and the format that they suggest.

use std::fmt::{self, Debug, Display, Formatter};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read, Seek};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use super::compression::{Compression, Unpacked};
use super::name::FileName;

/// Bytes at a file's start that its format is recognised from.
const HEAD: u64 = 64 << 10;

/// The mark that some editors put at the start of a UTF-8 file; it is not part of the text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The format that a file's first bytes suggest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentFormat {
    /// It begins with an object, as JSON lines do.
    JsonLines,
    /// A list of objects or strings.
    JsonArray,
    /// Parquet's magic.
    Parquet,
}

impl ContentFormat {
    /// The format of content that begins with `head`, without compression and byte order mark. An object is recognised
    /// by its brace and what follows it, an array by how its first element begins: `[link]` and `[1]` are text.
    pub fn of(head: &[u8]) -> Option<Self> {
        if head.starts_with(b"PAR1") || head.starts_with(b"PARE") {
            return Some(Self::Parquet);
        }
        let (first, rest) = head.trim_ascii_start().split_first()?;
        let next = rest.trim_ascii_start().first();
        match (first, next) {
            // Single quotes are neither JSON nor prose; the JSON reader gives the better error.
            (b'{', Some(b'"' | b'\'' | b'}')) => Some(Self::JsonLines),
            (b'[', Some(b'{' | b'"')) => Some(Self::JsonArray),
            _ => None,
        }
    }
}

impl Display for ContentFormat {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::JsonLines => "JSON lines",
            Self::JsonArray => "a JSON array",
            Self::Parquet => "Parquet",
        })
    }
}

/// The bytes of a file, from its start on.
pub struct Input {
    reader: BufReader<Chain<Cursor<Vec<u8>>, Unpacked<Stored>>>,
    compression: Option<Compression>,
    content_format: Option<ContentFormat>,
    bracket: bool,
    empty: bool,
}

impl Debug for Input {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("compression", &self.compression)
            .field("content_format", &self.content_format)
            .finish_non_exhaustive()
    }
}

impl Input {
    /// Opens a file. Its compression is recognised by its first bytes; `file` names it in messages.
    ///
    /// # Errors
    ///
    /// Not a regular file, or it can't be read; its name states a compression that the content doesn't have; UTF-16.
    pub fn open(path: &Path, file: &str) -> Result<Self> {
        Self::new(path, file, None)
    }

    /// As [`open`](Self::open), and hashes the file for [`finish`](Self::finish).
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_hashed(path: &Path, file: &str) -> Result<Self> {
        Self::new(path, file, Some(Sha256::new()))
    }

    fn new(path: &Path, file: &str, hash: Option<Sha256>) -> Result<Self> {
        let unread = || format!("{file}: can't be read");
        // Checked before the file is opened, since opening a pipe would wait for a writer.
        let metadata = std::fs::metadata(path).with_context(unread)?;
        ensure!(
            metadata.is_file(),
            "{file}: found {}, expected a file",
            if metadata.is_dir() {
                "a folder"
            } else {
                "a pipe or a device"
            }
        );
        let mut stored = File::open(path).with_context(unread)?;
        let mut magic = Vec::new();
        (&mut stored).take(4).read_to_end(&mut magic).with_context(unread)?;
        stored.rewind().with_context(unread)?;
        let compression = Compression::of(&magic);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(named) = FileName::of(&name).compression
            && compression.is_none()
            && !magic.is_empty()
        {
            bail!("{file}: found content that is not {named}, expected {named} by the file's name");
        }
        let mut unpacked = Unpacked::new(Stored { file: stored, hash }, compression).with_context(unread)?;
        let mut head = Vec::new();
        (&mut unpacked).take(HEAD).read_to_end(&mut head).with_context(unread)?;
        if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
            bail!("{file}: found UTF-16, expected UTF-8");
        }
        let start = if head.starts_with(BYTE_ORDER_MARK) {
            BYTE_ORDER_MARK.len()
        } else {
            0
        };
        let content = &head[start..];
        let (content_format, empty) = (ContentFormat::of(content), content.is_empty());
        let bracket = content.trim_ascii_start().starts_with(b"[");
        let mut head = Cursor::new(head);
        head.set_position(start as u64);
        Ok(Self {
            reader: BufReader::with_capacity(1 << 16, head.chain(unpacked)),
            compression,
            content_format,
            bracket,
            empty,
        })
    }

    /// How the file is compressed.
    pub fn compression(&self) -> Option<Compression> {
        self.compression
    }

    /// The format that the content suggests; `None` for plain text.
    pub fn content_format(&self) -> Option<ContentFormat> {
        self.content_format
    }

    /// Whether the first character that is not white space is `[`.
    pub fn begins_with_bracket(&self) -> bool {
        self.bracket
    }

    /// Whether the content is empty.
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// Reads the file to its end and returns the SHA-256 of its stored bytes.
    ///
    /// # Errors
    ///
    /// The operating system's error.
    pub fn finish(self) -> io::Result<[u8; 32]> {
        let (_, unpacked) = self.reader.into_inner().into_inner();
        let mut stored = unpacked.into_stored();
        io::copy(&mut stored, &mut io::sink())?;
        Ok(stored.hash.unwrap_or_default().finalize().into())
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer)
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.reader.consume(amount);
    }
}

/// The stored bytes of a file, hashed as they are read.
struct Stored {
    file: File,
    hash: Option<Sha256>,
}

impl Read for Stored {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..count]);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        (folder, path)
    }

    #[test]
    fn formats_are_recognised_by_their_first_bytes() {
        for (head, expected) in [
            (&b"{\"text\": 1}"[..], Some(ContentFormat::JsonLines)),
            (b" \n{ \"a", Some(ContentFormat::JsonLines)),
            (b"{}", Some(ContentFormat::JsonLines)),
            (b"{'text': 'python'}", Some(ContentFormat::JsonLines)),
            (b"[{", Some(ContentFormat::JsonArray)),
            (b"[\n  {", Some(ContentFormat::JsonArray)),
            (b"[\"one\"", Some(ContentFormat::JsonArray)),
            (b"PAR1\x15\x04", Some(ContentFormat::Parquet)),
            (b"[link](there)", None),
            (b"[[File:wiki.png]]", None),
            (b"[1] Author: Title", None),
            (b"{{ template }}", None),
            (b"{ braces }", None),
            (b"{", None),
            (b"[", None),
            (b"text", None),
            (b" \n", None),
            (b"", None),
        ] {
            assert_eq!(ContentFormat::of(head), expected, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn the_byte_order_mark_is_skipped_and_the_hash_is_the_files() {
        let content = [BYTE_ORDER_MARK, b"text", &[b'x'; 100_000]].concat();
        let packed = zstd::encode_all(content.as_slice(), 1).unwrap();
        for (name, stored) in [("a.txt", &content), ("a.txt.zst", &packed)] {
            let (_folder, path) = file(name, stored);
            let mut input = Input::open_hashed(&path, name).unwrap();
            let mut start = [0; 4];
            input.read_exact(&mut start).unwrap();
            assert_eq!(&start, b"text");
            let digest: [u8; 32] = Sha256::digest(stored).into();
            assert_eq!(input.finish().unwrap(), digest, "{name}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_refused() {
        let error = |name: &str, content: &[u8]| {
            let (_folder, path) = file(name, content);
            format!("{:#}", Input::open(&path, name).unwrap_err())
        };
        assert!(error("a.jsonl.gz", b"{}").contains("a.jsonl.gz: found content that is not gzip"));
        assert!(error("a.ZST", b"text").contains("not zstd"));
        assert!(error("a.txt", b"\xff\xfet\0").contains("a.txt: found UTF-16, expected UTF-8"));
        assert!(error("a.gz", b"\x1f\x8b\x08").contains("cut off"));
        let folder = tempfile::tempdir().unwrap();
        let error = format!("{:#}", Input::open(folder.path(), "there").unwrap_err());
        assert!(error.contains("there: found a folder, expected a file"), "{error}");
        let error = format!("{:#}", Input::open(&folder.path().join("no"), "no").unwrap_err());
        assert!(error.contains("no: can't be read"), "{error}");
        let (_folder, path) = file("a.gz", b"");
        assert!(Input::open(&path, "a.gz").unwrap().is_empty());
    }
}
