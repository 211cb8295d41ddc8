//! Contrastive pairs: records of `{"positive": .., "negative": ..}`, as JSON lines or one JSON array, compressed or not.

use std::fmt::{self, Display, Formatter};
use std::path::Path;

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::records;

/// A text to run through a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(untagged)]
pub enum Text {
    /// As it is.
    Plain(String),
    /// Through the model's chat template.
    Chat(Vec<Message>),
}

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// `system`, `user` or `assistant`, as far as the model's template knows them.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// Two texts that differ in one concept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// With the concept.
    pub positive: Text,
    /// Without it, or with its opposite.
    pub negative: Text,
}

/// For people: of a chat, `role: text` lines.
impl Display for Text {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Chat(messages) => {
                let lines = messages
                    .iter()
                    .map(|message| format!("{}: {}", message.role, message.content));
                f.write_str(&lines.collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

impl Text {
    fn is_blank(&self) -> bool {
        match self {
            Self::Plain(text) => text.trim().is_empty(),
            Self::Chat(messages) => messages.is_empty(),
        }
    }
}

/// Reads all pairs of a file; blank lines are skipped.
///
/// # Errors
///
/// A file that can't be read or has fewer than two pairs, a record that is not a pair, a blank text, two texts that are
/// the same: each names the file and the line.
pub fn read_pairs(path: &Path) -> Result<Vec<Pair>> {
    let expected =
        "{\"positive\": TEXT, \"negative\": TEXT}, where TEXT is a string or a list of {\"role\", \"content\"}";
    let pairs: Vec<Pair> = records::read(path, expected, |pair: &Pair| {
        for (side, text) in [("positive", &pair.positive), ("negative", &pair.negative)] {
            ensure!(!text.is_blank(), "{side}: found nothing, expected a text");
        }
        ensure!(
            pair.positive != pair.negative,
            "positive and negative are the same text"
        );
        Ok(())
    })?;
    ensure!(
        pairs.len() >= 2,
        "{}: found {} pairs, expected two at least",
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
