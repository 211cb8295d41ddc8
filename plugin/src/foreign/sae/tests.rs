use super::super::archive::tests::zip;
use super::super::tests::{expected, fixture, model, numbers};
use super::*;

fn feature(index: usize, layer: Option<usize>) -> Feature {
    Feature {
        index,
        layer,
        concept: None,
    }
}

fn load_fixture(path: &str, index: usize, layer: Option<usize>) -> Result<SaeVector, String> {
    load(&fixture(path), &feature(index, layer), model()).map_err(|error| error.to_string())
}

const GEMMA: &str = "gemma-scope-tiny-pt-res/layer_2/width_16k/average_l0_71";

#[test]
fn the_row_of_the_feature_is_the_vector() {
    let decoder = expected()["decoder"].as_array().unwrap().clone();
    for (index, row) in decoder.iter().enumerate() {
        // Before block 2 in cfg.json; after block 2 in the path.
        for (path, layer) in [("saelens", 1), ("saelens/sae_weights.safetensors", 1), (GEMMA, 2)] {
            let read = load_fixture(path, index, None).unwrap();
            assert_eq!(read.vector.layers().len(), 1);
            assert_eq!(read.vector.direction(layer), Some(&numbers(row)[..]), "{path}");
            assert_eq!(read.vector.header().concept, format!("feature {index}"));
            assert_eq!(
                read.vector.header().provenance.corpus_sha256,
                sha256_file(&read.weights).unwrap()
            );
        }
    }
    let notes = load_fixture("saelens", 0, None).unwrap().notes;
    assert!(
        notes[0].starts_with("normalize_activations is \"expected_average_only_in\""),
        "{notes:?}"
    );
    assert_eq!(load_fixture(GEMMA, 0, None).unwrap().notes, [""; 0]);
}

#[test]
fn mistakes_are_refused() {
    let error = |path: &str, index, layer| load_fixture(path, index, layer).unwrap_err();
    assert!(error("saelens", 6, None).contains("feature: found 6, expected one of the 6, from 0"));
    assert!(error(GEMMA, 6, None).contains("feature: found 6"));
    assert!(error("saelens", usize::MAX, None).contains("feature: found"));
    assert!(error("saelens", 0, Some(2)).contains("layer: found 2, expected 1, as in the autoencoder's files"));
    assert!(load_fixture("saelens", 0, Some(1)).is_ok());
    assert!(error("nowhere.npz", 0, Some(1)).contains("nowhere.npz: can't be read"));
    assert!(error("nowhere", 0, Some(1)).contains("file: found another ending"));
    assert!(error("", 0, None).contains("file: found a folder with neither"));
    assert!(error("by_layer.npz", 0, Some(0)).contains("expected W_dec, the decoder, among them"));
    assert!(error("own_names.safetensors", 0, Some(0)).contains("expected W_dec"));
    assert!(error("own_names.safetensors", 0, None).contains("layer: found nothing"));
    let mut narrow = model();
    narrow.hidden_size = 3;
    for path in ["saelens", GEMMA] {
        let error = load(&fixture(path), &feature(0, None), narrow.clone())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("W_dec: found shape [6, 4], expected [features, 3]"),
            "{error}"
        );
    }
    let mut shallow = model();
    shallow.num_layers = 1;
    let error = load(&fixture("saelens"), &feature(0, None), shallow)
        .unwrap_err()
        .to_string();
    assert!(error.contains("found block 1, expected one of the 1 blocks"), "{error}");
}

#[test]
fn the_configuration_says_the_point() {
    let read = |text: &str| config(text.as_bytes(), &model()).map_err(|error| error.to_string());
    for (text, block) in [
        (r#"{"hook_name": "blocks.2.hook_resid_post", "hook_layer": 2}"#, Some(2)),
        (r#"{"hook_point": "blocks.2.hook_resid_pre"}"#, Some(1)),
        (r#"{"metadata": {"hook_name": "model.layers.1"}}"#, Some(1)),
        (
            r#"{"metadata": {"hook_name": "blocks.1.hook_resid_post", "hook_name_out": null}}"#,
            Some(1),
        ),
        (r#"{"d_in": 4}"#, None),
        (r#"[]"#, None),
        (r#"{"hook_name": 7, "metadata": 8}"#, None),
    ] {
        assert_eq!(read(text).unwrap().0, block, "{text}");
    }
    for (text, message) in [
        (
            r#"{"hook_name": "blocks.1.hook_mlp_out"}"#,
            "hook_name: found \"blocks.1.hook_mlp_out\", expected blocks.N.hook_resid_post",
        ),
        (r#"{"hook_name": "blocks.1.attn.hook_z"}"#, "hook_name: found"),
        (r#"{"hook_name": "blocks.1.hook_resid_mid"}"#, "hook_name: found"),
        (r#"{"hook_name": "somewhere"}"#, "hook_name: found"),
        (
            r#"{"hook_name": "blocks.0.hook_resid_pre"}"#,
            "nothing is added before the first one",
        ),
        (
            r#"{"metadata": {"hook_name": "blocks.1.hook_resid_post", "hook_name_out": "blocks.1.hook_mlp_out"}}"#,
            "hook_name_out: found",
        ),
        ("{", "cfg.json: found"),
    ] {
        let found = read(text).unwrap_err();
        assert!(found.starts_with(message) || found.contains(message), "{text}: {found}");
    }
    let notes = read(r#"{"model_name": "a/Other", "normalize_activations": "none"}"#)
        .unwrap()
        .1;
    assert_eq!(
        notes,
        ["the autoencoder was trained on \"a/Other\", and is used for \"tiny\""]
    );
    assert_eq!(read(r#"{"model_name": "a/Tiny"}"#).unwrap().1, [""; 0]);
}

#[test]
fn the_path_says_the_point() {
    let block = |path: &str| place_of_path(Path::new(path)).map_err(|error| error.to_string());
    assert_eq!(
        block("/c/models--google--gemma-scope-2b-pt-res/snapshots/1/layer_20/width_16k/a/params.npz"),
        Ok(Some(20))
    );
    assert_eq!(block("/c/params.npz"), Ok(None));
    for path in [
        "/c/gemma-scope-2b-pt-mlp/layer_20/params.npz",
        "/c/models--google--gemma-scope-2b-pt-att/layer_20/params.npz",
        "/c/gemma-scope-2b-pt-transcoders/layer_20/params.npz",
        "/c/gemma-scope-2b-pt-res/embedding/width_4k/params.npz",
    ] {
        assert!(block(path).unwrap_err().starts_with("path: found"), "{path}");
    }
}

/// Whatever a broken file says, it must come back.
#[test]
fn broken_files_do_no_harm() {
    let npz = format!("{GEMMA}/params.npz");
    for file in ["saelens/sae_weights.safetensors", &npz] {
        let good = std::fs::read(fixture(file)).unwrap();
        let read = |bytes: &[u8]| match Format::of(Path::new(file)) {
            Some(Format::Npz) => row_of_npz(io::Cursor::new(bytes), 5, &model()),
            _ => row_of_safetensors(io::Cursor::new(bytes), 5, &model()),
        };
        assert!(read(&good).is_ok());
        for end in 0..good.len() {
            assert!(read(&good[..end]).is_err(), "{file}: {end} bytes");
        }
        for at in 0..good.len() {
            for value in [0, 127, 255, good[at] ^ 1] {
                let mut bytes = good.clone();
                bytes[at] = value;
                let _ = read(&bytes);
            }
        }
    }
}

/// A decoder that is compressed is gone through, not kept.
#[test]
fn a_compressed_decoder_is_read() {
    let good = std::fs::read(fixture(&format!("{GEMMA}/params.npz"))).unwrap();
    let mut archive = super::super::archive::Archive::open(&good).unwrap();
    let decoder = archive.read("W_dec.npy").unwrap();
    let row = |entry: &[u8]| {
        let bytes = zip(&[("W_dec.npy", entry)], zip::CompressionMethod::Deflated);
        row_of_npz(io::Cursor::new(bytes), 5, &model())
    };
    let expected = expected();
    assert_eq!(row(&decoder).unwrap(), numbers(&expected["decoder"][5]));
    let error = row(&decoder[..decoder.len() - 1]).unwrap_err().to_string();
    assert_eq!(error, "W_dec: found 15 bytes left, expected 16");
    let error = row(&decoder[..decoder.len() - 20]).unwrap_err().to_string();
    assert_eq!(error, "W_dec: found 76 bytes left, expected 80");
}
