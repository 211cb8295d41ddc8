//! Files of text as people have them, and what is wrong with them.

use std::fs;

use super::*;

pub(super) fn options(key: &str, format: Option<TextFormat>) -> TextOptions {
    TextOptions {
        key: key.into(),
        format,
    }
}

/// A folder of files, and their paths in the same order.
pub(super) fn files(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let paths = files.iter().map(|(name, content)| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    });
    let paths = paths.collect();
    (folder, paths)
}

pub(super) fn texts(corpus: &Corpus) -> Vec<String> {
    corpus.documents().map(|document| document.unwrap().text).collect()
}

fn read(name: &str, content: &[u8]) -> Result<Vec<String>> {
    let (_folder, paths) = files(&[(name, content)]);
    Corpus::open(&paths, &TextOptions::default()).map(|corpus| texts(&corpus))
}

pub(super) fn error_with(name: &str, content: &[u8], options: &TextOptions) -> String {
    let (_folder, paths) = files(&[(name, content)]);
    format!("{:#}", Corpus::open(&paths, options).unwrap_err())
}

fn error(name: &str, content: &[u8]) -> String {
    error_with(name, content, &TextOptions::default())
}

#[test]
fn blank_lines_separate_plain_documents() {
    let text = b"\n\none\n two\r\n\n \nthree";
    for name in ["a.txt", "a.md", "a.TXT", "a.log", "a"] {
        assert_eq!(read(name, text).unwrap(), ["one\n two", "three"], "{name}");
    }
}

#[test]
fn json_lines_are_documents() {
    let text = b"{\"text\": \"one\\n\\ntwo\", \"id\": 3}\n\n{\"text\": \" \"}\n{\"text\": null}\n{\"text\": \"three\"}";
    for name in ["a.jsonl", "a.ndjson", "a.json", "a.JSONL", "a.log", "a"] {
        assert_eq!(read(name, text).unwrap(), ["one\n\ntwo", "three"], "{name}");
    }
}

#[test]
fn one_array_is_documents() {
    let text = b"\xef\xbb\xbf[\n  {\"text\": \"one\", \"meta\": {\"text\": [\"no\"]}},\n  {\"a\": [[]], \"text\": \"two\"}\n]\n";
    for name in ["a.json", "a.jsonl", "a"] {
        assert_eq!(read(name, text).unwrap(), ["one", "two"], "{name}");
    }
}

#[test]
fn mistakes_name_file_and_line() {
    let good = "{\"text\": \"one\"}";
    for (line, words) in [
        (
            "{\"txt\": \"two\", \"id\": 1}",
            "found no key \"text\" among \"txt\", \"id\", expected a text under it; --text-key names another",
        ),
        ("{}", "found no key \"text\" among none"),
        ("not json", "expected ident"),
        (
            "{\"text\": 3}",
            "integer `3`, expected a string under \"text\" at column 10",
        ),
        ("{\"text\": [\"a\"]}", "sequence, expected a string under \"text\""),
        ("{\"text\": \"a\", \"text\": null}", "text: found twice"),
        (
            "\"one\"",
            "string \"one\", expected an object with a text under \"text\"",
        ),
        ("[[1]]", "sequence, expected an object"),
        ("3", "integer `3`, expected an object"),
        ("{\"text\": \"one\"", "EOF while parsing an object"),
        ("{\"text\": \"\\ud800\"}", "unexpected end of hex escape"),
    ] {
        let found = error("a.jsonl", format!("{good}\n{line}\n{good}\n").as_bytes());
        assert!(
            found.contains("a.jsonl, line 2: ") && found.contains(words),
            "{line}: {found}"
        );
        let found = error("a.json", format!("[{good},\n{line}\n,{good}]").as_bytes());
        assert!(found.contains("a.json, record 2, line "), "{line}: {found}");
    }
    let found = error("a.txt", b"one\n\xff\n");
    assert!(
        found.contains("a.txt, line 2: found bytes that are not UTF-8 at column 1"),
        "{found}"
    );
    let found = error("a.jsonl", b"{\"text\": \"\xc3\"}");
    assert!(
        found.contains("a.jsonl, line 1: found bytes that are not UTF-8 at column 11"),
        "{found}"
    );
    let missing = Corpus::open(&["nowhere.txt".into()], &TextOptions::default()).unwrap_err();
    assert!(
        format!("{missing:#}").contains("corpus: nowhere.txt: can't be read"),
        "{missing:#}"
    );
    let none = Corpus::open(&[], &TextOptions::default()).unwrap_err().to_string();
    assert!(none.contains("found no file"), "{none}");
    let keys: String = (0..100).map(|i| format!("\"k{i}\": {i},")).collect();
    let found = error("a.jsonl", format!("{{{}\"k\": 1}}", keys).as_bytes());
    assert!(
        found.contains("\"k19\", .., expected") && !found.contains("k20"),
        "{found}"
    );
}

#[test]
fn a_file_without_a_document_is_an_error() {
    for name in ["a.txt", "a.json", "a.jsonl.gz", "a.parquet", "a"] {
        let found = error(name, b"");
        assert!(found.contains(&format!("{name}: found an empty file")), "{found}");
    }
    assert!(error("a.txt", b"\xef\xbb\xbf").contains("found an empty file"));
    assert!(error("a.txt.zst", &zstd::encode_all(&b""[..], 1).unwrap()).contains("found an empty file"));
    for (name, content) in [
        ("a.txt", &b" \n\n"[..]),
        ("a.json", b"[]"),
        ("a.json", b"\n"),
        ("a.jsonl", b"{\"text\": null}\n{\"text\": \"\"}"),
    ] {
        let found = error(name, content);
        assert!(found.contains(&format!("{name}: found no document")), "{found}");
    }
}

#[test]
fn json_is_not_fitted_as_prose() {
    for (content, look) in [
        (&b"{\"text\": \"one\"}\n{\"text\": \"two\"}\n"[..], "JSON lines"),
        (b"\xef\xbb\xbf [\n{\"text\": \"one\"}]", "a JSON array"),
        (b"PAR1", "Parquet"),
    ] {
        let found = error("a.Txt", content);
        assert!(
            found.contains(&format!("a.Txt: found what looks like {look}")),
            "{found}"
        );
        let format = if look == "Parquet" { "parquet" } else { "json" };
        assert!(
            found.contains(&format!("give --text-format {format} to read it so")),
            "{found}"
        );
    }
    // Behind compression too.
    let packed = zstd::encode_all(&b"{\"text\": \"one\"}"[..], 1).unwrap();
    assert!(error("a.md.zst", &packed).contains("looks like JSON lines"));
    let lines = b"{\"body\": \"one\"}\n";
    let (_folder, paths) = files(&[("a.txt", lines)]);
    let corpus = Corpus::open(&paths, &options("body", Some(TextFormat::Json))).unwrap();
    assert_eq!(texts(&corpus), ["one"]);
    let corpus = Corpus::open(&paths, &options("body", Some(TextFormat::Plain))).unwrap();
    assert_eq!(texts(&corpus), ["{\"body\": \"one\"}"]);
    // What only begins like it is text.
    for text in ["[1] A note.", "[link](there)", "{{template}}"] {
        assert_eq!(read("a.md", text.as_bytes()).unwrap(), [text]);
    }
}

#[test]
fn line_ends_and_the_byte_order_mark_are_no_part_of_a_text() {
    let (_folder, paths) = files(&[
        ("a.txt", b"one\ntwo\n\nthree\n"),
        ("b.txt", b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree\r\n\r\nfour"),
    ]);
    let corpus = Corpus::open(&paths, &TextOptions::default()).unwrap();
    let documents: Vec<Document> = corpus.documents().map(Result::unwrap).collect();
    assert_eq!(documents[..2], documents[2..4]);
    assert_eq!(documents[0].text, "one\ntwo");
    // Within a JSON text they are what the text says.
    assert_eq!(read("a.json", b"{\"text\": \"a\\r\\nb\"}\r\n").unwrap(), ["a\r\nb"]);
}

#[test]
fn documents_are_bounded() {
    let long = "x".repeat(MAX_DOCUMENT);
    let line = |text: &str| format!("{{\"text\": \"{text}\"}}");
    assert_eq!(
        read("a.txt", format!("{long}\r\n").as_bytes()).unwrap(),
        [long.as_str()]
    );
    assert_eq!(read("a.jsonl", line(&long).as_bytes()).unwrap(), [long.as_str()]);
    let found = error("a.txt", format!("one\n\n{long}x").as_bytes());
    assert!(
        found.contains("a.txt, line 3: found a line of more than 16777216 bytes"),
        "{found}"
    );
    let found = error("a.txt", format!("one\n{long}").as_bytes());
    assert!(
        found.contains("a.txt, line 2; blank lines separate documents: "),
        "{found}"
    );
    let found = error("a.jsonl", line(&(long.clone() + "x")).as_bytes());
    assert!(
        found.contains("a.jsonl, line 1: found a document of more than"),
        "{found}"
    );
    let found = error("a.json", format!("[{}]", line(&(long + "x"))).as_bytes());
    assert!(
        found.contains("a.json, record 1, line 1: found a document of more than"),
        "{found}"
    );
}

#[test]
fn what_is_wrong_late_is_found_at_the_start() {
    let mut lines = "{\"text\": \"one\"}\n".repeat(3000);
    lines += "{\"txt\": \"two\"}\n";
    assert!(error("a.jsonl", lines.as_bytes()).contains("line 3001"));
    let packed = zstd::encode_all(lines.as_bytes(), 1).unwrap();
    assert!(error("a.jsonl.zst", &packed).contains("line 3001"));
}

#[test]
fn the_hash_is_the_texts_alone() {
    let (_folder, paths) = files(&[("a.txt", b"one\n\ntwo\n\n\n"), ("b.jsonl", b"{\"text\": \"two\"}\n")]);
    let corpus = Corpus::open(&paths, &TextOptions::default()).unwrap();
    let documents: Vec<Document> = corpus.documents().map(Result::unwrap).collect();
    assert_eq!(documents[1].hash, documents[2].hash);
    assert_ne!(documents[0].hash, documents[1].hash);
    assert_eq!(documents.iter().map(|d| d.bytes).sum::<u64>(), corpus.total_bytes());
    assert_eq!((corpus.total_bytes(), documents.len()), (9, 3));
    assert_eq!(summary(&corpus.record()).0, "a.txt + b.jsonl");
    let sha256 = steermap_maps::digest::sha256(b"one\n\ntwo\n\n\n");
    assert_eq!(corpus.record()[0].sha256, sha256);
    assert_eq!(summary(&corpus.record()[..1]), ("a.txt".into(), sha256));
}

#[test]
fn the_same_text_twice_is_refused() {
    let lines = b"{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
    let opened = |others: &[(&str, &[u8])]| {
        let (_folder, paths) = files(others);
        Corpus::open(&paths, &TextOptions::default()).map_err(|error| format!("{error:#}"))
    };
    let same = opened(&[("a.jsonl", lines), ("b.txt", b"one"), ("c.jsonl", lines)]).unwrap_err();
    assert!(
        same.contains("found the same content in ") && same.contains("a.jsonl and "),
        "{same}"
    );
    assert!(same.contains("c.jsonl (SHA-256 "), "{same}");
    // The same documents, as other bytes.
    let same = opened(&[("a.jsonl", lines), ("b.txt", b"one\n\ntwo")]).unwrap_err();
    assert!(
        same.contains("found the same 2 documents in ") && same.contains("b.txt"),
        "{same}"
    );
    assert!(opened(&[("a.jsonl", lines), ("b.txt", b"two\n\none")]).is_ok());
}

#[test]
fn standard_input_is_looked_at() {
    let open = |content: &[u8], options: &TextOptions| {
        let corpus = Corpus::open_from(&["-".into()], options, &mut &*content)?;
        assert_eq!(texts(&corpus), texts(&corpus));
        anyhow::Ok((texts(&corpus), corpus.describe().remove(0), corpus.record().remove(0)))
    };
    let plain = TextOptions::default();
    let lines = b"{\"text\": \"one\"}\n{\"text\": \"two\"}\n";
    let gzip = gzipped(lines);
    for (content, read_as) in [
        (&lines[..], "JSON lines, key \"text\""),
        (
            b"\n[{\"text\": \"one\"},{\"text\": \"two\"}]",
            "a JSON array, key \"text\"",
        ),
        (b"one\n\ntwo", "plain text"),
        (&gzip, "JSON lines (gzip), key \"text\""),
        (&zstd::encode_all(&b"one\n\ntwo"[..], 1).unwrap(), "plain text (zstd)"),
    ] {
        let (texts, line, record) = open(content, &plain).unwrap();
        assert_eq!(texts, ["one", "two"]);
        assert_eq!(
            line,
            format!("corpus: standard input read as {read_as}: 2 documents, 6 bytes of text")
        );
        assert_eq!(record.name, "-");
        assert_eq!(record.sha256, steermap_maps::digest::sha256(content));
    }
    let parquet = include_bytes!("fixtures/pyarrow-snappy.parquet");
    let (texts, line, _) = open(parquet, &plain).unwrap();
    assert_eq!(texts.len(), 47);
    assert!(
        line.starts_with("corpus: standard input read as Parquet, column \"text\": 47 documents, "),
        "{line}"
    );
    assert!(line.ends_with("; left out 2 records without text"), "{line}");
    let error = format!("{:#}", open(b"{\"txt\": 1}", &plain).unwrap_err());
    assert!(error.contains("corpus: standard input, line 1: "), "{error}");
    let twice = Corpus::open_from(&["-".into(), "-".into()], &plain, &mut &b"one"[..]);
    assert!(twice.unwrap_err().to_string().contains("found - twice"));
}

fn gzipped(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn what_was_read_as_what_is_said() {
    let many: String = (0..1234).map(|i| format!("{{\"body\": \"text {i}\"}}\n")).collect();
    let packed = zstd::encode_all(many.as_bytes(), 1).unwrap();
    let (folder, paths) = files(&[("a.jsonl.zst", &packed), ("b.txt", b"one")]);
    let corpus = Corpus::open(&paths, &options("body", None)).unwrap();
    let at = folder.path().display();
    assert_eq!(
        corpus.describe(),
        [
            format!(
                "corpus: {at}/a.jsonl.zst read as JSON lines (zstd), key \"body\": 1,234 documents, 10.0 kB of text"
            ),
            format!("corpus: {at}/b.txt read as plain text: 1 document, 3 bytes of text"),
        ]
    );
}

#[test]
fn a_file_that_changes_is_noticed() {
    for changed in [&b"one\n\nthree"[..], b"one", b"one\n\ntwo\n\nthree", b"one\n\n\xff"] {
        let (_folder, paths) = files(&[("a.txt", b"one\n\ntwo"), ("b.txt", b"last")]);
        let corpus = Corpus::open(&paths, &TextOptions::default()).unwrap();
        fs::write(&paths[0], changed).unwrap();
        let all: Vec<Result<Document>> = corpus.documents().take_while(|document| document.is_ok()).collect();
        assert!(all.len() <= 2, "{}", all.len());
        let errors: Vec<String> = corpus
            .documents()
            .filter_map(Result::err)
            .map(|error| format!("{error:#}"))
            .collect();
        let [error] = errors.as_slice() else {
            panic!("{errors:?}")
        };
        assert!(
            error.contains("a.txt: found other documents than on the first reading")
                || error.contains("a.txt, line 3: "),
            "{error}"
        );
    }
}

#[test]
fn an_error_ends_the_documents_of_its_file() {
    let (_folder, paths) = files(&[("a.jsonl", b"{\"text\": \"one\"}\n")]);
    let corpus = Corpus::open(&paths, &TextOptions::default()).unwrap();
    fs::write(&paths[0], "bad\n{\"text\": \"one\"}\n").unwrap();
    let all: Vec<_> = corpus.documents().collect();
    assert!(all.len() == 1 && all[0].is_err());
}

#[test]
fn documents_may_go_to_another_thread() {
    let (_folder, paths) = files(&[("a.txt", b"one\n\ntwo")]);
    let corpus = Corpus::open(&paths, &TextOptions::default()).unwrap();
    let count = std::thread::scope(|scope| {
        let documents = corpus.documents();
        scope.spawn(move || documents.count()).join().unwrap()
    });
    assert_eq!(count, 2);
}

#[test]
fn records_of_files_are_as_before() {
    let file: CorpusFile = serde_json::from_str("{\"name\": \"a\", \"sha256\": \"b\"}").unwrap();
    assert_eq!(
        serde_json::to_string(&file).unwrap(),
        "{\"name\":\"a\",\"sha256\":\"b\"}"
    );
    assert!(serde_json::from_str::<CorpusFile>("{\"name\": \"a\", \"sha256\": \"b\", \"c\": 1}").is_err());
}
