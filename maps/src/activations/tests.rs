use std::fs;

use super::*;
use crate::dtype::FloatDtype;
use crate::model::{ModelInfo, Numerics};

fn header(dtype: FloatDtype) -> ActivationsHeader {
    ActivationsHeader {
        model: ModelInfo {
            model: "small".into(),
            fingerprint: "sm1:a".into(),
            hidden_size: 2,
            num_layers: 4,
        },
        numerics: Numerics {
            dtype: "f32".into(),
            quantization: None,
        },
        layers: vec![1, 3],
        dtype,
        window_bytes: Some(64),
        part: (0, 1),
        corpus: vec![("text.txt".into(), "0".repeat(64))],
        command: None,
    }
}

/// A window whose numbers fit in every dtype.
fn window(seed: u8, tokens: usize) -> CapturedWindow {
    let states = |layer: u32| {
        (0..2 * tokens as u32)
            .map(|i| f32::from(seed) + (layer * 8 + i) as f32)
            .collect()
    };
    CapturedWindow {
        document: [seed; 32],
        start: 10,
        tokens: (0..tokens as u32).map(|i| i + u32::from(seed)).collect(),
        ends: (0..tokens as u64).map(|i| (i % 3 > 0).then_some(10 + i)).collect(),
        // The first has no text, the last of four no certain end.
        special: (0..tokens).map(|i| i == 0).collect(),
        states: vec![states(1), states(3)],
    }
}

fn written(folder: &Path, dtype: FloatDtype) -> ActivationsWriter {
    let mut writer = ActivationsWriter::open(folder, header(dtype)).unwrap();
    for windows in [&[window(1, 4), window(2, 1)][..], &[window(3, 2)]] {
        let mut shard = ShardBuilder::new(header(dtype));
        windows.iter().for_each(|window| shard.push(window).unwrap());
        writer.push(shard).unwrap();
    }
    writer
}

#[test]
fn what_is_written_is_read() {
    for dtype in [FloatDtype::F32, FloatDtype::F16, FloatDtype::Bf16] {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = written(folder.path(), dtype);
        assert!(!Activations::open(folder.path()).unwrap().index().complete);
        writer.finish().unwrap();
        let read = Activations::open(folder.path()).unwrap();
        assert!(read.index().complete);
        assert_eq!(read.index().header, header(dtype));
        assert_eq!(read.windows().len(), 3);
        for (entry, expected) in read.windows().iter().zip([window(1, 4), window(2, 1), window(3, 2)]) {
            assert_eq!(read.read(entry, &[1, 3]).unwrap(), expected);
            let mut last = expected.clone();
            last.states.remove(0);
            assert_eq!(read.read(entry, &[3]).unwrap(), last);
        }
        read.verify(|_| ()).unwrap();
    }
}

#[test]
fn a_folder_is_gone_on_with_by_its_own_job_alone() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), FloatDtype::F32);
    // A shard that the index does not list: a crash between the two.
    fs::write(folder.path().join("shard-00002.safetensors"), b"half").unwrap();
    let mut again = ActivationsWriter::open(folder.path(), header(FloatDtype::F32)).unwrap();
    assert_eq!(again.windows(), 3);
    let mut shard = ShardBuilder::new(header(FloatDtype::F32));
    shard.push(&window(4, 1)).unwrap();
    again.push(shard).unwrap();
    assert_eq!(Activations::open(folder.path()).unwrap().windows().len(), 4);
    let refused = |change: &dyn Fn(&mut ActivationsHeader)| {
        let mut other = header(FloatDtype::F32);
        change(&mut other);
        ActivationsWriter::open(folder.path(), other).unwrap_err().to_string()
    };
    for (message, field) in [
        (
            refused(&|h| h.layers = vec![1]),
            "capture.layers: found [1, 3], expected [1]",
        ),
        (refused(&|h| h.dtype = FloatDtype::F16), "capture.dtype: found f32"),
        (refused(&|h| h.window_bytes = None), "capture.window_bytes: found 64"),
        (refused(&|h| h.part = (1, 2)), "capture.part: found 0/1, expected 1/2"),
        (refused(&|h| h.model.fingerprint = "sm1:b".into()), "model.fingerprint"),
    ] {
        assert!(
            message.contains(field) && message.contains("activations.toml"),
            "{message}"
        );
    }
    // The name and the text behind what was read may change.
    let mut other = header(FloatDtype::F32);
    other.model.model = "elsewhere".into();
    other.corpus.clear();
    assert!(ActivationsWriter::open(folder.path(), other).is_ok());
    let dtype = again.set_stream_dtype("bf16").unwrap_err().to_string();
    assert!(dtype.contains("model.dtype: found bf16, expected f32"), "{dtype}");
}

#[test]
fn states_that_can_not_be_written_are_named() {
    let refused = |dtype: FloatDtype, value: f32| {
        let mut window = window(7, 2);
        window.states[1][3] = value;
        ShardBuilder::new(header(dtype)).push(&window).unwrap_err().to_string()
    };
    let message = refused(FloatDtype::F32, f32::NAN);
    let place = "small, layer 3, document 07070707…, token 1, dimension 1: found NaN, expected finite states";
    assert!(message.starts_with(place) && message.ends_with("f32"), "{message}");
    let large = refused(FloatDtype::F16, 70_000.0);
    assert!(
        large.contains("found 70000, expected a number that f16 can hold"),
        "{large}"
    );
    assert!(ShardBuilder::new(header(FloatDtype::Bf16)).push(&window(7, 2)).is_ok());
    let mut short = window(7, 2);
    short.ends.pop();
    assert!(ShardBuilder::new(header(FloatDtype::F32)).push(&short).is_err());
}

#[test]
fn indices_and_shards_that_lie_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    written(folder.path(), FloatDtype::F32);
    let index = folder.path().join(INDEX);
    let good = fs::read_to_string(&index).unwrap();
    let said = |from: &str, to: &str, word: &str| {
        assert!(good.contains(from), "{good}");
        fs::write(&index, good.replacen(from, to, 1)).unwrap();
        let message = Activations::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains(word), "{to}: {message}");
    };
    said("activations/1", "activations/9", "expected \"steermap-activations/1\"");
    said("windows = 2", "windows = 3", "found shape [2, 32], expected [3, 32]");
    said("tokens = 5", "tokens = 6", "expected [6");
    said(
        "layers = [1, 3]",
        "layers = [1, 2]",
        "\"layer.2\": found no such tensor",
    );
    said(
        "layers = [1, 3]",
        "layers = [1]",
        "\"layer.3\": found in this file, but not expected",
    );
    said("layers = [1, 3]", "layers = [3, 1]", "ascending layers");
    said("layers = [1, 3]", "layers = [1, 4]", "expected less than 4");
    said("hidden_size = 2", "hidden_size = 3", "shape");
    said(
        "dtype = \"f32\"\nwindow",
        "dtype = \"f16\"\nwindow",
        "dtype: found F32, expected F16",
    );
    said("shard-00000.safetensors", "../shard-00000.safetensors", "shard.0.file");
    said("shard-00001.safetensors", "shard-00009.safetensors", "does not exist");
    said("complete = false", "complete = false\nmore = 1", "more");
    fs::write(&index, &good).unwrap();

    let shard = folder.path().join("shard-00000.safetensors");
    let bytes = fs::read(&shard).unwrap();
    for length in 0..bytes.len() {
        fs::write(&shard, &bytes[..length]).unwrap();
        let error = Activations::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("shard-00000"), "{length}: {error}");
    }
    // One byte of the states: the layout is right, the hash is not.
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    fs::write(&shard, &other).unwrap();
    let opened = Activations::open(folder.path()).unwrap();
    assert!(matches!(
        opened.verify(|_| ()),
        Err(FileError::Invalid {
            problem: Problem::Sha256 { .. },
            ..
        })
    ));
}
