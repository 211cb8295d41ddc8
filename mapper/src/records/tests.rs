//! Files of records in every form, and every way in which they can be wrong.

use std::io::Write;

use serde::Deserialize;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Point {
    x: i64,
    y: i64,
}

fn points(name: &str, content: &[u8]) -> Result<Vec<(i64, i64)>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let check = |point: &Point| {
        ensure!(point.x != point.y, "x and y are the same");
        Ok(())
    };
    Ok(read(&path, "{\"x\", \"y\"}", check)?
        .iter()
        .map(|point| (point.x, point.y))
        .collect())
}

fn error(name: &str, content: &[u8]) -> String {
    format!("{:#}", points(name, content).unwrap_err())
}

#[test]
fn lines_and_lists_are_the_same_records() {
    let lines = "{\"x\": 1, \"y\": 2}\n\n \r\n{\"x\": 3,\t\"y\": 4}";
    let list = "\n[{\"x\": 1, \"y\": 2},\n{\"x\": 3,\n\"y\": 4}]\n";
    for text in [lines, list, &format!("\u{feff}{lines}\n"), &format!("\u{feff}{list}")] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        for content in [
            text.as_bytes().to_vec(),
            text.replace('\n', "\r\n").into_bytes(),
            gzip.finish().unwrap(),
            zstd::encode_all(text.as_bytes(), 1).unwrap(),
        ] {
            // Whatever it is called.
            assert_eq!(points("points.txt", &content).unwrap(), [(1, 2), (3, 4)]);
        }
    }
    assert!(points("a.jsonl", b"").unwrap().is_empty());
    assert!(points("a.json", b"[]").unwrap().is_empty());
    assert!(points("a.json", b"\xef\xbb\xbf \n").unwrap().is_empty());
}

#[test]
fn mistakes_name_file_and_place() {
    let good = "{\"x\": 1, \"y\": 2}";
    for (line, words) in [
        ("not json", "expected ident at column 2; expected {\"x\", \"y\"}"),
        ("3", "invalid type: integer `3`, expected struct Point at column 1"),
        ("[[1]]", "invalid type: sequence, expected i64"),
        ("{\"x\": 1}", "missing field `y`"),
        ("{\"x\": 1, \"y\": 2, \"z\": 3}", "unknown field `z`"),
        ("{\"x\": 1, \"x\": 1, \"y\": 2}", "duplicate field `x`"),
        ("{\"x\": 1, \"y\": 1}", "x and y are the same"),
        (
            "{\"x\": 1, \"y\": 2} {\"x\": 1, \"y\": 2}",
            "trailing characters at column 18",
        ),
        ("{\"x\": 1, \"y\": \"\u{1}\"}", "control character"),
    ] {
        let lines = error("a.jsonl", format!("{good}\n\n{line}\n{good}").as_bytes());
        assert!(
            lines.contains("a.jsonl, line 3: ") && lines.contains(words),
            "{line}: {lines}"
        );
        let list = error("a.json", format!("[{good},\n\n{line},{good}]").as_bytes());
        assert!(
            list.contains("a.json, record 2, line 3: ") && list.contains(words),
            "{line}: {list}"
        );
    }
    // The line of the mistake, not of the element.
    let error_ = error("a.json", format!("[{good},\n{{\"x\": 1,\n\"z\": 2}}]").as_bytes());
    assert!(
        error_.contains("a.json, record 2, line 3: unknown field `z`"),
        "{error_}"
    );
    let error_ = error("a.jsonl", b"{\"x\": 1, \"y\": 2}\n{\"x\": 1, \"\xff\": 2}");
    assert!(
        error_.contains("a.jsonl, line 2: found bytes that are not UTF-8 at column 11"),
        "{error_}"
    );
    assert!(error("a.jsonl", b"PAR1\x15").contains("a.jsonl: found Parquet, expected JSON"));
    let folder = tempfile::tempdir().unwrap();
    let missing = format!("{:#}", Records::open(&folder.path().join("no.json")).unwrap_err());
    assert!(missing.contains("no.json: can't be read"), "{missing}");
}

#[test]
fn a_list_that_is_none_is_named() {
    let good = "{\"x\": 1, \"y\": 2}";
    for (text, words) in [
        (
            format!("[{good},\n{good}"),
            "record 2, line 2: found the file's end in the list",
        ),
        (
            format!("[{good},\n]"),
            "record 2, line 2: found ']', expected an element",
        ),
        (format!("[{good}]\n{good}"), "line 2: found '{' after the list"),
        // A brace is missing: what serde says of it, not that no end was found.
        (
            format!("[{good},\n{{\"x\": 1, \"y\": 2,\n{good},{good}]"),
            "record 2, line 3: key must be a string at column 1",
        ),
        ("[[1, 2]".into(), "record 1, line 1: "),
    ] {
        let error = error("a.json", text.as_bytes());
        assert!(error.contains("a.json, ") && error.contains(words), "{text}: {error}");
    }
}

#[test]
fn records_are_bounded() {
    let line = format!("{{\"x\": 1, \"y\": 2{}}}", " ".repeat(MAX_RECORD));
    let packed = zstd::encode_all(line.as_bytes(), 1).unwrap();
    assert!(error("a.jsonl.zst", &packed).contains("a.jsonl.zst, line 1: found a line of more than"));
    let packed = zstd::encode_all(format!("[{line}]").as_bytes(), 1).unwrap();
    assert!(error("a.json.zst", &packed).contains("a.json.zst, record 1, line 1: found a record of more than"));
}

#[test]
fn a_file_that_is_read_whole_is_bounded() {
    let line = format!("{{\"x\": 1, \"y\": 2{}}}\n", " ".repeat(MAX_WHOLE / 40));
    let packed = zstd::encode_all(line.repeat(41).as_bytes(), 1).unwrap();
    let error = error("a.jsonl.zst", &packed);
    assert!(error.contains("a.jsonl.zst, line 40: found more than"), "{error}");
}

#[test]
fn deep_nesting_is_an_error() {
    let deep = format!("{{\"x\": {}1{}, \"y\": 2}}", "[".repeat(100_000), "]".repeat(100_000));
    let error_ = error("a.jsonl", deep.as_bytes());
    assert!(error_.contains("a.jsonl, line 1: "), "{error_}");
    let error_ = error("a.json", format!("[{deep}]").as_bytes());
    assert!(error_.contains("a.json, record 1, line 1: "), "{error_}");
    // Never closed: looked into for a better message, without running out of stack.
    let error_ = error("a.json", format!("[{}", "[".repeat(1_000_000)).as_bytes());
    assert!(error_.contains("a.json, record 1, line 1: "), "{error_}");
}
