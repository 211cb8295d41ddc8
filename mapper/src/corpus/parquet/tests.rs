//! Parquet files as this library, pyarrow, polars and DuckDB write them, and damaged ones.

use std::sync::Arc;

use parquet::basic::{Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::data_type::Int64Type;
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::super::tests::{error_with, files, options, texts};
use super::super::{Corpus, TextOptions};
use super::*;

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Written {
    /// None, snappy, gzip, zstd.
    pub codec: usize,
    /// Of pages.
    pub second_version: bool,
    /// Whether the column may have nulls.
    pub nullable: bool,
    /// Of a group.
    pub rows: usize,
    /// Dictionary, plain, delta.
    pub encoding: usize,
}

/// A file with an `id` and a `text`.
pub(in super::super) fn write(texts: &[Option<&str>], form: Written) -> Vec<u8> {
    let codec = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
    ][form.codec];
    let version = if form.second_version {
        WriterVersion::PARQUET_2_0
    } else {
        WriterVersion::PARQUET_1_0
    };
    let mut properties = WriterProperties::builder()
        .set_compression(codec)
        .set_writer_version(version);
    if form.encoding > 0 {
        let delta = if form.second_version {
            Encoding::DELTA_BYTE_ARRAY
        } else {
            Encoding::DELTA_LENGTH_BYTE_ARRAY
        };
        properties = properties
            .set_dictionary_enabled(false)
            .set_column_encoding("text".into(), [Encoding::PLAIN, delta][form.encoding - 1]);
    }
    let repetition = if form.nullable { "optional" } else { "required" };
    let message = format!("message m {{ required int64 id; {repetition} binary text (UTF8); }}");
    let schema = Arc::new(parse_message_type(&message).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build())).unwrap();
    for (number, texts) in texts.chunks(form.rows).enumerate() {
        let mut group = writer.next_row_group().unwrap();
        let mut ids = group.next_column().unwrap().unwrap();
        let numbers: Vec<i64> = (0..texts.len()).map(|i| (number * form.rows + i) as i64).collect();
        ids.typed::<Int64Type>().write_batch(&numbers, None, None).unwrap();
        ids.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> = texts.iter().flatten().map(|&text| text.into()).collect();
        let levels: Vec<i16> = texts.iter().map(|text| i16::from(text.is_some())).collect();
        let levels = form.nullable.then_some(levels.as_slice());
        column
            .typed::<ByteArrayType>()
            .write_batch(&values, levels, None)
            .unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

const PLAIN: Written = Written {
    codec: 0,
    second_version: false,
    nullable: true,
    rows: 10,
    encoding: 1,
};

fn error(content: &[u8], key: &str) -> String {
    error_with("a.parquet", content, &options(key, None))
}

/// What `fixtures/make.py` writes.
fn expected() -> Vec<String> {
    let mut texts = vec![
        "one\n\ntwo".to_string(),
        "three".into(),
        "r\u{e9}sum\u{e9} \u{1f600}".into(),
        "carriage\r\nreturn".into(),
        "x".repeat(300),
    ];
    texts.extend(std::iter::repeat_n("again".to_string(), 40));
    texts.extend(["again and more".to_string(), "the end".into()]);
    texts
}

#[test]
fn files_of_other_tools_are_read() {
    macro_rules! fixture {
        ($name:literal) => {
            (
                $name,
                &include_bytes!(concat!("../fixtures/", $name, ".parquet"))[..],
            )
        };
    }
    for (name, content) in [
        fixture!("pyarrow-snappy"),
        fixture!("pyarrow-zstd-v2"),
        fixture!("pyarrow-gzip-plain"),
        fixture!("pyarrow-none"),
        fixture!("pyarrow-delta"),
        fixture!("pyarrow-delta-length"),
        fixture!("pyarrow-required"),
        fixture!("pyarrow-categories"),
        fixture!("polars"),
        fixture!("duckdb"),
    ] {
        let (_folder, paths) = files(&[(&format!("{name}.PARQUET"), content)]);
        let corpus = Corpus::open(&paths, &TextOptions::default()).unwrap();
        assert_eq!(texts(&corpus), expected(), "{name}");
        assert!(
            corpus.describe()[0].ends_with("left out 2 records without text"),
            "{name}"
        );
        assert_eq!(texts(&corpus), expected(), "{name} once more");
    }
}

#[test]
fn other_columns_and_compressions_are_named() {
    let others = include_bytes!("../fixtures/pyarrow-others.parquet");
    let columns = "\"text (bytes)\", \"number (int64)\", \"list (nested)\", \"nested (nested)\"";
    for (key, words) in [
        (
            "text",
            "a.parquet: found column \"text\" of bytes, expected strings; the columns are ",
        ),
        (
            "number",
            "a.parquet: found column \"number\" of int64, expected strings",
        ),
        ("list", "a.parquet: found a nested column \"list\" of text among "),
        ("nested", "a.parquet: found a nested column \"nested\""),
        ("body", "a.parquet: found no column \"body\" of text among "),
    ] {
        let error = error(others, key);
        assert!(error.contains(words) && error.contains(columns), "{error}");
        assert!(error.contains("--text-key names another"), "{error}");
    }
    let error_ = error(include_bytes!("../fixtures/pyarrow-brotli.parquet"), "text");
    assert!(
        error_.contains("a.parquet, record 1: found the compression BROTLI"),
        "{error_}"
    );
    let error_ = error(include_bytes!("../fixtures/pyarrow-empty.parquet"), "text");
    assert!(error_.contains("a.parquet: found no document"), "{error_}");
}

#[test]
fn mistakes_name_the_record() {
    let content = write(&[Some("one"), None, Some("@@@@@@@@")], PLAIN);
    let place = content.windows(8).position(|window| window == b"@@@@@@@@").unwrap();
    let mut bad = content.clone();
    bad[place + 2] = 0xff;
    let error_ = error(&bad, "text");
    assert!(
        error_.contains("a.parquet, record 3: found bytes that are not UTF-8 at column 3"),
        "{error_}"
    );
    let error_ = error(b"no parquet at all", "text");
    assert!(error_.contains("a.parquet: found no valid Parquet"), "{error_}");
    let long = "x".repeat(super::super::MAX_DOCUMENT + 1);
    let error_ = error(&write(&[Some("one"), Some(&long)], PLAIN), "text");
    assert!(
        error_.contains("a.parquet, record 2: found a document of more than"),
        "{error_}"
    );
}

#[test]
fn nulls_are_left_out() {
    for encoding in 0..3 {
        for second_version in [false, true] {
            let form = Written {
                encoding,
                second_version,
                rows: 2,
                codec: 3,
                ..PLAIN
            };
            let content = write(&[Some("one"), None, None, None, Some("two"), None], form);
            let (_folder, paths) = files(&[("a.parquet", &content)]);
            let corpus = Corpus::open(&paths, &TextOptions::default()).unwrap();
            assert_eq!(texts(&corpus), ["one", "two"]);
            assert!(corpus.describe()[0].ends_with("left out 4 records without text"));
        }
    }
}

#[test]
fn every_single_byte_may_be_wrong() {
    for form in [
        Written { encoding: 0, ..PLAIN },
        Written {
            encoding: 2,
            second_version: true,
            codec: 1,
            ..PLAIN
        },
        Written {
            encoding: 2,
            codec: 2,
            ..PLAIN
        },
    ] {
        let content = write(&[Some("one"), None, Some("two"), Some("one")], form);
        for place in 0..content.len() {
            for byte in [0, 0x7f, 0xff, content[place] ^ 1, content[place].wrapping_add(1)] {
                let mut bad = content.clone();
                bad[place] = byte;
                let (_folder, paths) = files(&[("a.parquet", &bad)]);
                if let Ok(corpus) = Corpus::open(&paths, &TextOptions::default()) {
                    assert!(corpus.documents().all(|document| document.is_ok()));
                }
            }
        }
    }
}
