//! The format and compression that a file's name states: `NAME.jsonl.gz`, in any case.

use super::compression::Compression;

/// The parts of a file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileName<'a> {
    /// The part in front of the extensions.
    pub stem: &'a str,
    /// The extension in front of the compression's, with its case, without its dot; empty if there is none.
    pub extension: &'a str,
    /// The compression that the last extension names.
    pub compression: Option<Compression>,
}

impl<'a> FileName<'a> {
    /// Splits a file's name, given without its folder.
    pub fn of(name: &'a str) -> Self {
        let (name, compression) = match split(name) {
            (stem, extension) if extension.eq_ignore_ascii_case("gz") => (stem, Some(Compression::Gzip)),
            (stem, extension) if extension.eq_ignore_ascii_case("zst") => (stem, Some(Compression::Zstd)),
            _ => (name, None),
        };
        let (stem, extension) = split(name);
        Self {
            stem,
            extension,
            compression,
        }
    }

    /// Whether the extension is one of these, whatever its case.
    pub fn has_extension(&self, extensions: &[&str]) -> bool {
        extensions
            .iter()
            .any(|other| self.extension.eq_ignore_ascii_case(other))
    }

    /// Whether the name is that of JSON records: `.jsonl`, `.ndjson` or `.json`.
    pub fn is_json(&self) -> bool {
        self.has_extension(&["jsonl", "ndjson", "json"])
    }
}

/// `NAME` of a file of JSON records: of `NAME.jsonl`, `NAME.json.gz` and so on.
pub fn json_stem(file: &str) -> Option<&str> {
    let name = FileName::of(file);
    name.is_json().then_some(name.stem)
}

/// A name and its extension. A dot at the start makes a hidden file, not an extension.
fn split(name: &str) -> (&str, &str) {
    match name.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() => (stem, extension),
        _ => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart() {
        let parts = |name| {
            let FileName {
                stem,
                extension,
                compression,
            } = FileName::of(name);
            (stem, extension, compression)
        };
        assert_eq!(parts("a.jsonl"), ("a", "jsonl", None));
        assert_eq!(parts("a.b.JSON.Gz"), ("a.b", "JSON", Some(Compression::Gzip)));
        assert_eq!(parts("a.txt.ZST"), ("a", "txt", Some(Compression::Zstd)));
        assert_eq!(parts("a.gz"), ("a", "", Some(Compression::Gzip)));
        assert_eq!(parts("a"), ("a", "", None));
        assert_eq!(parts(".jsonl"), (".jsonl", "", None));
        assert_eq!(parts(".gz"), (".gz", "", None));
        assert_eq!(parts(""), ("", "", None));
    }

    #[test]
    fn json_is_known_by_three_extensions() {
        assert_eq!(json_stem("mood.items.NDJSON.zst"), Some("mood.items"));
        assert_eq!(json_stem("mood.json"), Some("mood"));
        assert_eq!(json_stem("mood.txt"), None);
        assert_eq!(json_stem("mood.gz"), None);
    }
}
