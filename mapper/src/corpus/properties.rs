//! The same documents in every format, compression, line end and byte order mark read back equal, and no damage makes more
//! than an error of it.

use std::io::Write;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::parquet::tests::{Written, write};
use super::tests::{files, texts};
use super::*;

/// Documents that every format can hold: lines that aren't blank, and nothing at the start that looks like JSON.
fn some_documents() -> impl Strategy<Value = Vec<String>> {
    let line = "\\PC{1,20}".prop_filter("blank", |line| !line.trim().is_empty());
    let document = vec(line, 1..4).prop_map(|lines| lines.join("\n"));
    vec(document, 1..8).prop_filter("looks like JSON", |documents| {
        !documents[0].trim_start().starts_with(['{', '['])
    })
}

/// How a file is written.
#[derive(Clone, Copy, Debug)]
enum Form {
    Plain(&'static str),
    Lines(&'static str),
    Array { indented: bool },
    Parquet,
}

const FORMS: [Form; 8] = [
    Form::Plain("txt"),
    Form::Plain("MD"),
    Form::Lines("jsonl"),
    Form::Lines("NdJson"),
    Form::Lines("json"),
    Form::Array { indented: false },
    Form::Array { indented: true },
    Form::Parquet,
];

impl Form {
    fn extension(self) -> &'static str {
        match self {
            Self::Plain(extension) | Self::Lines(extension) => extension,
            Self::Array { .. } => "Json",
            Self::Parquet => "parquet",
        }
    }

    /// The file, and whether line ends and a byte order mark mean nothing in it.
    fn content(self, documents: &[String], parquet: Written) -> (Vec<u8>, bool) {
        let objects = || {
            documents
                .iter()
                .map(|text| serde_json::json!({"id": [1, {"text": "no"}], "text": text}))
        };
        match self {
            Self::Plain(_) => (documents.join("\n\n").into_bytes(), true),
            Self::Lines(_) => {
                let lines: String = objects().map(|object| format!("{object}\n")).collect();
                (lines.into_bytes(), true)
            }
            Self::Array { indented } => {
                let array: Vec<serde_json::Value> = objects().collect();
                let text = if indented {
                    serde_json::to_string_pretty(&array)
                } else {
                    serde_json::to_string(&array)
                };
                (text.unwrap().into_bytes(), true)
            }
            Self::Parquet => {
                let values: Vec<Option<&str>> = documents.iter().map(|text| Some(text.as_str())).collect();
                (write(&values, parquet), false)
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Pack {
    None,
    Gzip,
    Zstd,
}

impl Pack {
    /// Compresses a file, or two parts of it one after the other.
    fn pack(self, content: &[u8], parts: bool) -> (Vec<u8>, &'static str) {
        let (a, b) = content.split_at(content.len() / 2);
        let parts = if parts { vec![a, b] } else { vec![content] };
        let gzip = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        match self {
            Self::None => (content.to_vec(), ""),
            Self::Gzip => (parts.into_iter().flat_map(gzip).collect(), ".gz"),
            Self::Zstd => (parts.into_iter().flat_map(zstd).collect(), ".Zst"),
        }
    }
}

fn any_parquet() -> impl Strategy<Value = Written> {
    (0..4usize, any::<bool>(), any::<bool>(), 1..4usize, 0..3usize).prop_map(
        |(codec, second_version, nullable, rows, encoding)| Written {
            codec,
            second_version,
            nullable,
            rows,
            encoding,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(15), failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn every_form_reads_back_equal(
        documents in some_documents(),
        mark in any::<bool>(),
        returns in any::<bool>(),
        parts in any::<bool>(),
        parquet in any_parquet(),
    ) {
        for form in FORMS {
            let (mut content, marks) = form.content(&documents, parquet);
            if marks && returns {
                content = String::from_utf8(content).unwrap().replace('\n', "\r\n").into_bytes();
            }
            if marks && mark {
                content.splice(0..0, *b"\xef\xbb\xbf");
            }
            for pack in [Pack::None, Pack::Gzip, Pack::Zstd] {
                let (stored, extension) = pack.pack(&content, parts);
                let name = format!("a.{}{extension}", form.extension());
                let (_folder, paths) = files(&[(&name, &stored)]);
                let corpus = Corpus::open(&paths, &TextOptions::default()).unwrap();
                prop_assert_eq!(&texts(&corpus), &documents, "{}", name);
                let found: Vec<Document> = corpus.documents().map(Result::unwrap).collect();
                prop_assert_eq!(found.iter().map(|document| document.bytes).sum::<u64>(), corpus.total_bytes());
                prop_assert_eq!(&corpus.record()[0].sha256, &steermap_maps::digest::sha256(&stored));
                // As standard input, which has no name.
                let looked_at = Corpus::open_from(
                    &["-".into()], &TextOptions::default(), &mut stored.as_slice(),
                ).unwrap();
                prop_assert_eq!(&texts(&looked_at), &documents, "{} as standard input", name);
            }
        }
    }

    #[test]
    fn json_and_parquet_hold_any_text(documents in vec("\\PC{0,9}[\\s\\S]{1,30}", 1..6), parquet in any_parquet()) {
        let kept: Vec<String> = documents.iter().filter(|text| !text.trim().is_empty()).cloned().collect();
        prop_assume!(!kept.is_empty());
        for form in &FORMS[2..] {
            let (content, _) = form.content(&documents, parquet);
            let (_folder, paths) = files(&[(&format!("a.{}", form.extension()), &content)]);
            let corpus = Corpus::open(&paths, &TextOptions::default()).unwrap();
            prop_assert_eq!(&texts(&corpus), &kept, "{:?}", form);
        }
    }

    #[test]
    fn what_is_cut_off_is_an_error(documents in some_documents(), parquet in any_parquet(), at in 0.0..1.0f64) {
        for form in FORMS {
            let (content, _) = form.content(&documents, parquet);
            for pack in [Pack::None, Pack::Gzip, Pack::Zstd] {
                // Text and lines that are cut off between two are whole files.
                if matches!((pack, form), (Pack::None, Form::Plain(_) | Form::Lines(_))) {
                    continue;
                }
                let (stored, extension) = pack.pack(&content, false);
                let keep = ((stored.len() - 1) as f64 * at) as usize;
                let (_folder, paths) = files(&[(&format!("a.{}{extension}", form.extension()), &stored[..keep])]);
                prop_assert!(Corpus::open(&paths, &TextOptions::default()).is_err(), "{:?} {:?} {}", form, pack, keep);
            }
        }
    }

    #[test]
    fn no_damage_is_a_panic(
        documents in some_documents(),
        parquet in any_parquet(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        for form in FORMS {
            for pack in [Pack::None, Pack::Gzip, Pack::Zstd] {
                let (content, _) = form.content(&documents, parquet);
                let (mut stored, extension) = pack.pack(&content, false);
                for (place, byte) in &damage {
                    let place = place.index(stored.len());
                    stored[place] = *byte;
                }
                let (_folder, paths) = files(&[(&format!("a.{}{extension}", form.extension()), &stored)]);
                if let Ok(corpus) = Corpus::open(&paths, &TextOptions::default()) {
                    prop_assert!(corpus.documents().all(|document| document.is_ok()));
                }
            }
        }
    }
}
