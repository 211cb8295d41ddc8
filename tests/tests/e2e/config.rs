//! Wrong input to `mistralrs-steered`: one clear error each, naming file and field.

use std::path::Path;

use steermap_examples::server::Server;
use steermap_tests::run::{error_of, run};
use steermap_tests::vectors::save_reference_vector;
use steermap_tests::{copy_of, fixture};

/// A valid configuration: tiny-llama, steered at layer 1 with `test.toml` beside the file.
fn good() -> String {
    let model = fixture("tiny-llama");
    format!(
        "command = \"serve\"\n\
         [[models]]\nkind = \"text\"\nmodel_id = \"{}\"\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n\
         [steering.vectors]\ntest = \"test.toml\"\n\
         [[steering.defaults]]\n[[steering.defaults.vectors]]\nvector = \"test\"\nscale = 2.0\nlayers = [1]\n",
        model.display()
    )
}

fn check(folder: &Path, config: &str) -> std::process::Output {
    let path = folder.join("mistralrs.toml");
    std::fs::write(&path, config).unwrap();
    run("mistralrs-steered", &["check", "--config", path.to_str().unwrap()])
}

/// The error of `check` after `spoil` has changed the folder and the valid configuration.
fn error(spoil: impl FnOnce(&Path, String) -> String) -> String {
    let dir = tempfile::tempdir().unwrap();
    save_reference_vector("tiny-llama", dir.path());
    let config = spoil(dir.path(), good());
    error_of(&check(dir.path(), &config))
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from:?} in {text}");
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn tensors(folder: &Path) -> std::path::PathBuf {
    let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .find(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .expect("tensors beside the vector")
}

#[test]
fn a_valid_configuration_is_described() {
    let dir = tempfile::tempdir().unwrap();
    save_reference_vector("tiny-llama", dir.path());
    let output = check(dir.path(), &good());
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("steered by default with test at layers 1"), "{text}");
    assert!(text.contains("vector test"), "{text}");
}

#[test]
fn a_stray_adapter_is_not_part_of_the_model() {
    let dir = tempfile::tempdir().unwrap();
    save_reference_vector("tiny-llama", dir.path());
    let copy = copy_of(&fixture("tiny-llama"), dir.path());
    let config = good().replace(fixture("tiny-llama").to_str().unwrap(), copy.to_str().unwrap());
    let config = config.strip_prefix("command = \"serve\"\n").unwrap();
    // A different tensor with a name of the model's: loading it would change the answers.
    let adapter = copy.join("adapter_model.safetensors");
    let answer = || {
        let server = Server::start(dir.path(), config).unwrap();
        let model = copy.to_str().unwrap();
        server.complete(model, "Once upon a time", 8).unwrap()
    };
    let expected = answer();
    let weights = candle_core::safetensors::load(copy.join("model.safetensors"), &candle_core::Device::Cpu).unwrap();
    let twisted = weights
        .into_iter()
        .map(|(name, tensor)| (name, (tensor * -1.0).unwrap()));
    let twisted: std::collections::HashMap<_, _> = twisted.collect();
    candle_core::safetensors::save(&twisted, adapter).unwrap();
    assert_eq!(answer(), expected);
}

#[test]
fn a_wrong_fingerprint_is_refused_with_file_and_flag() {
    let dir = tempfile::tempdir().unwrap();
    let vector = save_reference_vector("tiny-llama", dir.path());
    let copy = copy_of(&fixture("tiny-llama"), dir.path());
    let weights = copy.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let config = good().replace(fixture("tiny-llama").to_str().unwrap(), copy.to_str().unwrap());
    let error = error_of(&check(dir.path(), &config));
    assert!(error.contains("model.fingerprint: found sm1:"), "{error}");
    assert!(error.contains(&format!("in {}", vector.display())), "{error}");
    assert!(
        error.contains(copy.to_str().unwrap()) && error.contains("--ignore-fingerprints"),
        "{error}"
    );
}

#[test]
fn wrong_files_are_named() {
    let missing = error(|dir, config| {
        std::fs::remove_file(dir.join("test.toml")).unwrap();
        config
    });
    assert!(
        missing.contains("test.toml") && missing.matches("vectors.test").count() == 1,
        "{missing}"
    );

    let no_tensors = error(|dir, config| {
        std::fs::remove_file(tensors(dir)).unwrap();
        config
    });
    assert!(no_tensors.contains(".safetensors"), "{no_tensors}");

    let truncated = error(|dir, config| {
        let path = tensors(dir);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 7]).unwrap();
        config
    });
    assert!(
        truncated.contains(".safetensors") && truncated.contains("sha256"),
        "{truncated}"
    );

    let hash = error(|dir, config| {
        let path = tensors(dir);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        config
    });
    assert!(hash.contains("sha256") && hash.contains("expected"), "{hash}");

    let config = run("mistralrs-steered", &["check", "--config", "nowhere.toml"]);
    assert!(error_of(&config).contains("nowhere.toml"));
}

/// Changes the tensors of the vector in `dir` and updates the hash in the TOML.
fn forge(dir: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let path = tensors(dir);
    let mut bytes = std::fs::read(&path).unwrap();
    let old = steermap_maps::digest::sha256(&bytes);
    change(&mut bytes);
    edit(&dir.join("test.toml"), &old, &steermap_maps::digest::sha256(&bytes));
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn wrong_vectors_are_named() {
    for (value, word) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let not_finite = error(|dir, config| {
            forge(dir, |bytes| {
                let end = bytes.len();
                bytes[end - 4..].copy_from_slice(&value.to_le_bytes());
            });
            config
        });
        assert!(
            not_finite.contains("layer.3") && not_finite.contains(word),
            "{not_finite}"
        );
    }
    let cut = error(|dir, config| {
        forge(dir, |bytes| bytes.truncate(40));
        config
    });
    assert!(cut.contains("safetensors"), "{cut}");

    let width = error(|dir, config| {
        edit(&dir.join("test.toml"), "hidden_size = 32", "hidden_size = 33");
        config
    });
    assert!(width.contains("[32]") && width.contains("[33]"), "{width}");

    let layer = error(|_, config| config.replace("layers = [1]", "layers = [1, 4]"));
    assert!(
        layer.contains("steering.defaults[0].vectors[0].layers: found 4"),
        "{layer}"
    );

    let key = error(|dir, config| {
        edit(&dir.join("test.toml"), "concept =", "koncept =");
        config
    });
    assert!(key.contains("test.toml") && key.contains("koncept"), "{key}");

    let weights = error(|dir, config| {
        edit(&dir.join("test.toml"), "fingerprint = \"sm1:", "fingerprint = \"sm1:00");
        config
    });
    assert!(
        weights.contains("fingerprint") && weights.contains("--ignore-fingerprints"),
        "{weights}"
    );
}

#[test]
fn a_vector_of_another_model_is_refused() {
    let other = error(|dir, config| {
        save_reference_vector("tiny-gemma3", dir);
        config
    });
    assert!(
        other.contains("num_layers: found 6 (made for \"tiny-gemma3\") in ") && other.contains("test.toml, expected 4"),
        "{other}"
    );
}

#[test]
fn a_vector_of_other_weights_needs_a_flag() {
    let dir = tempfile::tempdir().unwrap();
    // Same sizes, other weights.
    save_reference_vector("tiny-gemma2", dir.path());
    let refused = error_of(&check(dir.path(), &good()));
    assert!(refused.contains("fingerprint"), "{refused}");
    let path = dir.path().join("mistralrs.toml");
    let args = ["check", "--config", path.to_str().unwrap(), "--ignore-fingerprints"];
    assert!(run("mistralrs-steered", &args).status.success());
}

#[test]
fn wrong_configurations_are_named() {
    for (from, to, words) in [
        ("scale = 2.0", "scale = 2.0\nscael = 1", ["mistralrs.toml", "scael"]),
        (
            "scale = 2.0",
            "scale = inf",
            ["steering.defaults[0].vectors[0].scale", "inf"],
        ),
        (
            "scale = 2.0",
            "scale = 1e39",
            ["steering.defaults[0].vectors[0].scale", "32-bit"],
        ),
        (
            "vector = \"test\"",
            "vector = \"tset\"",
            ["steering.defaults[0].vectors[0].vector", "tset"],
        ),
        (
            "layers = [1]",
            "layers = []",
            ["steering.defaults[0].vectors[0].layers", "one layer"],
        ),
        (
            "[[steering.defaults]]",
            "[[steering.defaults]]\nmodel = \"nobody\"",
            ["steering.defaults[0].model", "nobody"],
        ),
        ("tiny-llama\"", "tiny-lama\"", ["models[0].model_id", "tiny-lama"]),
        ("kind = \"text\"", "kind = \"txet\"", ["mistralrs.toml", "txet"]),
        (
            "[steering.vectors]\n",
            "[steering.vectors]\n\"../x\" = \"test.toml\"\n",
            ["vectors", "../x"],
        ),
        (
            "dtype = \"f32\"",
            "tokenizer = \"none.json\"",
            ["models[0].tokenizer", "none.json"],
        ),
        (
            "dtype = \"f32\"",
            "quantization = { in_situ_quant = \"q99\" }",
            ["models[0].quantization.in_situ_quant", "q99"],
        ),
        ("command = \"serve\"", "command = \"run\"", ["command", "serve"]),
        ("[steering.vectors]", "[steering.vectors", ["mistralrs.toml", "line"]),
    ] {
        let found = error(|_, config| {
            assert!(config.contains(from), "{from}");
            config.replacen(from, to, 1)
        });
        assert!(words.iter().all(|word| found.contains(word)), "{to}: {found}");
    }
}

#[test]
fn the_server_finds_mistakes_before_it_loads_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mistralrs.toml");
    std::fs::write(&path, good()).unwrap();
    let output = run("mistralrs-steered", &["serve", "--config", path.to_str().unwrap()]);
    assert!(error_of(&output).contains("test.toml"));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("Loading"));
}
