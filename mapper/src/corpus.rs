//! The text that a map is fitted on: documents, read one at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use steermap_maps::digest::sha256_file;

/// The most bytes that one document may have: more is a wrong file rather than a text.
const MAX_DOCUMENT: usize = 16 << 20;

/// One file of a corpus, as files record it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusFile {
    /// The file's name, without its folder; `-` for standard input.
    pub name: String,
    /// SHA-256 of its content.
    pub sha256: String,
}

/// A text that belongs together: it's in the part that a map is fitted on, or in the part held out, as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The text.
    pub text: String,
    /// SHA-256 of the text: what decides, the same in every shard and on every machine, which part it belongs to.
    pub hash: [u8; 32],
    /// Bytes of its file that end with it.
    pub bytes: u64,
}

/// Files of text. `*.jsonl`: a document per line, `{"text": ".."}`, other keys ignored; anything else: plain text, a
/// document per block between blank lines.
#[derive(Debug)]
pub struct Corpus {
    files: Vec<Source>,
    total_bytes: u64,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    /// For messages and for the record.
    name: String,
    lines: bool,
    sha256: String,
    /// Standard input's content, kept so that it can be hashed and read again.
    _spool: Option<tempfile::NamedTempFile>,
}

#[derive(Deserialize)]
struct Line {
    text: String,
}

impl Corpus {
    /// Opens files; `-` is standard input, which is JSON lines if its first character is a brace.
    ///
    /// # Errors
    ///
    /// A file that can't be read, or is empty; standard input named twice.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        ensure!(
            !paths.is_empty(),
            "corpus: found no file, expected one at least, or - for standard input"
        );
        let mut files: Vec<Source> = Vec::new();
        for path in paths {
            let source = if path.as_os_str() == "-" {
                ensure!(
                    files.iter().all(|file| file.name != "-"),
                    "corpus: found - twice, but there is one standard input"
                );
                spool()?
            } else {
                Source {
                    name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                    lines: path.extension().is_some_and(|extension| extension == "jsonl"),
                    sha256: sha256_file(path).context("corpus")?,
                    path: path.clone(),
                    _spool: None,
                }
            };
            files.push(source);
        }
        let mut total_bytes = 0;
        for file in &files {
            let bytes = std::fs::metadata(&file.path)?.len();
            ensure!(bytes > 0, "corpus: {}: found an empty file, expected text", file.name);
            total_bytes += bytes;
        }
        Ok(Self { files, total_bytes })
    }

    /// Bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The files, as files record them.
    pub fn record(&self) -> Vec<CorpusFile> {
        let record = |file: &Source| CorpusFile {
            name: file.name.clone(),
            sha256: file.sha256.clone(),
        };
        self.files.iter().map(record).collect()
    }

    /// All documents, in order.
    pub fn documents(&self) -> impl Iterator<Item = Result<Document>> + '_ {
        self.files.iter().flat_map(|file| match Reader::open(file) {
            Ok(reader) => Box::new(reader) as Box<dyn Iterator<Item = Result<Document>>>,
            Err(error) => Box::new(std::iter::once(Err(error))),
        })
    }
}

/// Copies standard input to a temporary file.
fn spool() -> Result<Source> {
    let mut file = tempfile::NamedTempFile::new().context("a temporary file for standard input")?;
    let (mut input, mut hash) = (std::io::stdin().lock(), Sha256::new());
    let (mut buffer, mut first) = (vec![0; 1 << 16], None);
    loop {
        let count = input.read(&mut buffer).context("standard input")?;
        if count == 0 {
            break;
        }
        let bytes = &buffer[..count];
        first = first.or_else(|| bytes.iter().copied().find(|byte| !byte.is_ascii_whitespace()));
        hash.update(bytes);
        file.write_all(bytes).context("a temporary file for standard input")?;
    }
    Ok(Source {
        path: file.path().to_path_buf(),
        name: "-".to_string(),
        lines: first == Some(b'{'),
        sha256: hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        _spool: Some(file),
    })
}

struct Reader<'a> {
    file: &'a Source,
    input: BufReader<File>,
    line: usize,
    failed: bool,
}

impl<'a> Reader<'a> {
    fn open(file: &'a Source) -> Result<Self> {
        let input = File::open(&file.path).with_context(|| format!("corpus: {}", file.path.display()))?;
        Ok(Self {
            file,
            input: BufReader::new(input),
            line: 0,
            failed: false,
        })
    }

    /// The next line without its end; `None` at the file's end.
    fn read_line(&mut self) -> Result<Option<(String, u64)>> {
        self.line += 1;
        let mut bytes = Vec::new();
        let count = (&mut self.input)
            .take(MAX_DOCUMENT as u64 + 1)
            .read_until(b'\n', &mut bytes)
            .with_context(|| self.at())?;
        ensure!(
            bytes.len() <= MAX_DOCUMENT,
            "{}: a line of more than {MAX_DOCUMENT} bytes",
            self.at()
        );
        if count == 0 {
            return Ok(None);
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            anyhow::anyhow!(
                "{}: found a byte that is no UTF-8 at column {}, expected text",
                self.at(),
                error.utf8_error().valid_up_to() + 1
            )
        })?;
        let text = text.trim_end_matches('\n').trim_end_matches('\r').to_string();
        Ok(Some((text, count as u64)))
    }

    fn at(&self) -> String {
        format!("corpus: {}, line {}", self.file.name, self.line)
    }

    fn next_document(&mut self) -> Result<Option<Document>> {
        let mut bytes = 0;
        let mut text = String::new();
        while let Some((line, count)) = self.read_line()? {
            bytes += count;
            if self.file.lines {
                if line.trim().is_empty() {
                    continue;
                }
                let Line { text } = match serde_json::from_str(&line) {
                    Ok(line) => line,
                    Err(error) => bail!("{}: {error}; expected {{\"text\": \"..\"}}", self.at()),
                };
                if !text.trim().is_empty() {
                    return Ok(Some(document(text, bytes)));
                }
            } else if !line.trim().is_empty() {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&line);
                ensure!(
                    text.len() <= MAX_DOCUMENT,
                    "{}: a document of more than {MAX_DOCUMENT} bytes; blank lines separate documents",
                    self.at()
                );
            } else if !text.is_empty() {
                return Ok(Some(document(text, bytes)));
            }
        }
        Ok((!text.is_empty()).then(|| document(text, bytes)))
    }
}

fn document(text: String, bytes: u64) -> Document {
    Document {
        hash: Sha256::digest(&text).into(),
        text,
        bytes,
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_document().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// One name and one hash for several files, as a file's provenance has them.
pub fn summary(files: &[CorpusFile]) -> (String, String) {
    match files {
        [only] => (only.name.clone(), only.sha256.clone()),
        files => {
            let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
            let hashes: Vec<&str> = files.iter().map(|file| file.sha256.as_str()).collect();
            (
                names.join(" + "),
                steermap_maps::digest::sha256(hashes.join("\n").as_bytes()),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn open_one(path: &Path) -> Result<Corpus> {
        Corpus::open(&[path.to_path_buf()])
    }

    fn read(name: &str, content: &[u8]) -> Result<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let corpus = open_one(&path)?;
        corpus
            .documents()
            .map(|document| document.map(|document| document.text))
            .collect()
    }

    #[test]
    fn blank_lines_separate_plain_documents() {
        let text = b"\n\none\ntwo\r\n\n \nthree";
        assert_eq!(read("a.txt", text).unwrap(), ["one\ntwo", "three"]);
    }

    #[test]
    fn json_lines_are_documents() {
        let text = b"{\"text\": \"one\\n\\ntwo\", \"id\": 3}\n\n{\"text\": \" \"}\n{\"text\": \"three\"}";
        assert_eq!(read("a.jsonl", text).unwrap(), ["one\n\ntwo", "three"]);
    }

    #[test]
    fn mistakes_name_file_and_line() {
        for (name, text, word) in [
            (
                "a.jsonl",
                &b"{\"text\": \"one\"}\n{\"txt\": \"two\"}\n"[..],
                "a.jsonl, line 2",
            ),
            ("a.jsonl", b"{\"text\": \"one\"}\nnot json\n", "a.jsonl, line 2"),
            ("a.jsonl", b"{\"text\": 3}\n", "a.jsonl, line 1"),
            ("a.txt", b"one\n\xff\n", "a.txt, line 2"),
            ("a.txt", b"", "empty"),
        ] {
            let error = format!("{:#}", read(name, text).unwrap_err());
            assert!(error.contains(word), "{error}");
        }
        let missing = format!("{:#}", open_one(Path::new("nowhere.txt")).unwrap_err());
        assert!(missing.contains("nowhere.txt"), "{missing}");
        assert!(Corpus::open(&[]).is_err());
    }

    #[test]
    fn an_error_ends_the_documents() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, "bad\n{\"text\": \"one\"}\n").unwrap();
        let corpus = open_one(&path).unwrap();
        let all: Vec<_> = corpus.documents().collect();
        assert!(all.len() == 1 && all[0].is_err());
    }

    #[test]
    fn the_hash_is_the_texts_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a.txt"), folder.path().join("b.jsonl"));
        std::fs::write(&a, "one\n\ntwo\n").unwrap();
        std::fs::write(&b, "{\"text\": \"two\"}\n").unwrap();
        let corpus = Corpus::open(&[a, b]).unwrap();
        let documents: Vec<Document> = corpus.documents().map(Result::unwrap).collect();
        assert_eq!(documents[1].hash, documents[2].hash);
        assert_ne!(documents[0].hash, documents[1].hash);
        assert_eq!(documents.iter().map(|d| d.bytes).sum::<u64>(), corpus.total_bytes());
        assert_eq!(summary(&corpus.record()).0, "a.txt + b.jsonl");
    }
}
