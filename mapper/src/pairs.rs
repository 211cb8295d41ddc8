//! Contrastive pairs: records of `{"positive": .., "negative": ..}`, as JSON lines or one JSON array, compressed or
//! not.

use std::path::Path;

use anyhow::{Result, ensure};
pub use steermap_extract::{Message, Pair, Text};

use crate::records;

/// Reads all pairs of a file; blank lines are skipped.
///
/// # Errors
///
/// A file that can't be read or has fewer than two pairs, a record that is not a pair, a blank text, two texts that are
/// the same: each names the file and the line.
pub fn read_pairs(path: &Path) -> Result<Vec<Pair>> {
    let expected =
        "{\"positive\": TEXT, \"negative\": TEXT}, where TEXT is a string or a list of {\"role\", \"content\"}";
    let pairs: Vec<Pair> = records::read(path, expected, |pair: &Pair| Ok(pair.check()?))?;
    ensure!(
        pairs.len() >= 2,
        "{}: found {} pairs, expected at least two",
        path.display(),
        pairs.len()
    );
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<Pair>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pairs.jsonl");
        std::fs::write(&path, text).unwrap();
        read_pairs(&path)
    }

    #[test]
    fn plain_texts_and_chats() {
        let text = br#"{"positive": "a", "negative": "b"}

{"positive": [{"role": "user", "content": "c"}], "negative": [{"role": "user", "content": "d"}]}"#;
        let pairs = read(text).unwrap();
        assert_eq!(pairs.len(), 2);
        assert_eq!(pairs[0].positive, Text::Plain("a".into()));
        assert!(matches!(&pairs[1].negative, Text::Chat(m) if m[0].content == "d"));
    }

    #[test]
    fn lists_and_compressed_files_are_pairs_too() {
        let lines = "{\"positive\": \"a\", \"negative\": \"b\"}\r\n{\"positive\": \"c\", \"negative\": \"d\"}\r\n";
        let list = format!("\u{feff}[{}]", lines.trim().replace("\r\n", ",\n"));
        let expected = read(lines.as_bytes()).unwrap();
        assert_eq!(expected.len(), 2);
        for text in [lines, &list] {
            let packed = zstd::encode_all(text.as_bytes(), 1).unwrap();
            assert_eq!(read(text.as_bytes()).unwrap(), expected);
            assert_eq!(read(&packed).unwrap(), expected);
        }
        let bad = list.replace("\"d\"", "\"c\"");
        let error = format!("{:#}", read(bad.as_bytes()).unwrap_err());
        assert!(
            error.contains("pairs.jsonl, record 2, line 2: positive and negative are the same"),
            "{error}"
        );
    }

    #[test]
    fn a_bad_line_is_named() {
        let good = "{\"positive\": \"a\", \"negative\": \"b\"}\n";
        for (line, word) in [
            ("{\"positive\": \"a\"}", "negative"),
            ("{\"positive\": \"a\", \"negative\": 3}", "expected"),
            (
                "{\"positive\": \"a\", \"negative\": \"b\", \"neutral\": \"c\"}",
                "neutral",
            ),
            ("{\"positive\": \"a\", \"negative\": \"a\"}", "same"),
            ("{\"positive\": \" \", \"negative\": \"a\"}", "positive"),
            ("{\"positive\": [], \"negative\": \"a\"}", "positive"),
            ("not json", "expected"),
        ] {
            let error = format!("{:#}", read(format!("{good}{line}\n").as_bytes()).unwrap_err());
            assert!(
                error.contains("pairs.jsonl, line 2") && error.contains(word),
                "{line}: {error}"
            );
        }
        assert!(read(good.as_bytes()).unwrap_err().to_string().contains("found 1 pairs"));
        assert!(read(b"").is_err());
        assert!(read(b"\xff\xfe\n").is_err());
        assert!(
            read_pairs(Path::new("nowhere.jsonl"))
                .unwrap_err()
                .to_string()
                .contains("nowhere.jsonl")
        );
    }
}
