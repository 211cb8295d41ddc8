//! GGUF control vectors: `mapper convert` against the gguf package, and against repeng if it is installed; what it
//! refuses; and control vectors in the configuration.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use steermap_examples::programs::binary;
use steermap_examples::server::{Server, serve_config};
use steermap_examples::traffic::client::Client;
use steermap_maps::VectorFile;
use steermap_tests::maps::printed;
use steermap_tests::run::{error_of, run};
use steermap_tests::vectors::save_reference_vector;
use steermap_tests::{fixture, project};

use crate::clients::python;

/// Runs `mapper convert` on files of `folder`.
fn convert(folder: &Path, from: &str, to: &str, more: &[&str]) -> std::process::Output {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_string();
    let (from, to) = (path(from), path(to));
    run("mapper", &[&["convert", from.as_str(), to.as_str()], more].concat())
}

#[test]
fn gguf_and_repeng_read_and_write_the_same_vectors() {
    let python = python();
    for model in ["tiny-llama", "tiny-gemma3"] {
        let dir = tempfile::tempdir().unwrap();
        let vector = save_reference_vector(model, dir.path());
        let output = Command::new(&python)
            .arg(project("tests/clients/gguf_interop.py"))
            .args([&binary("mapper").unwrap(), &fixture(model), &vector])
            .arg(dir.path())
            .output()
            .unwrap();
        let (text, errors) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success() && text.starts_with("ok"),
            "{model}: {text}{errors}"
        );
        eprintln!("{model}: {}", text.trim());
    }
}

#[test]
fn a_vector_survives_a_round_trip_through_gguf() {
    let dir = tempfile::tempdir().unwrap();
    let model = fixture("tiny-gemma3");
    let model = ["--model", model.to_str().unwrap()];
    let vector = VectorFile::load(&save_reference_vector("tiny-gemma3", dir.path())).unwrap();
    let text = printed(&convert(dir.path(), "test.toml", "a.gguf", &model));
    assert!(
        text.contains("for gemma3") && text.contains("left out: layer 0"),
        "{text}"
    );
    printed(&convert(dir.path(), "a.gguf", "back.toml", &model));
    let back = VectorFile::load(&dir.path().join("back.toml")).unwrap();
    assert_eq!(back.model(), vector.model());
    assert_eq!(back.header().concept, "a");
    let provenance = &back.header().provenance;
    assert!(
        provenance.tool.starts_with("mapper ") && provenance.corpus == "a.gguf",
        "{provenance:?}"
    );
    assert_eq!(back.layers().len(), vector.layers().len() - 1);
    for layer in back.layers() {
        assert_eq!(vector.direction(layer.layer), Some(&layer.direction[..]));
    }
}

#[test]
fn a_control_vector_of_the_configuration_steers_as_the_vector_file_does() {
    let dir = tempfile::tempdir().unwrap();
    let model = fixture("tiny-llama").display().to_string();
    save_reference_vector("tiny-llama", dir.path());
    printed(&convert(dir.path(), "test.toml", "test.gguf", &["--hint", "llama"]));
    let config = |used: &str| {
        format!(
            "[[models]]\nkind = \"text\"\nmodel_id = \"{model}\"\ndtype = \"f32\"\ndevice = {{ cpu = true }}\n\
             [steering.vectors]\nfile = \"test.toml\"\ncontrol = \"test.gguf\"\nagain = {{ file = \"test.gguf\", \
             model = \"{model}\" }}\n[steering.admin]\nopen_on_loopback = true\nuploads = true\n[[steering.defaults]]\nvectors = [{{ vector = \"control\", {used} }}]\n"
        )
    };
    let server = Server::start(dir.path(), &config("scale = 9.0, layers = [1]")).unwrap();
    let ask = |steering: Value| {
        let mut body = json!({"model": model, "prompt": "Once upon a time", "max_tokens": 12, "temperature": 0.0});
        if !steering.is_null() {
            body["steering"] = steering;
        }
        let (status, text) = server.post("/v1/completions", &body).unwrap();
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        let at = |pointer: &str| answer.pointer(pointer).cloned().unwrap_or_default();
        (at("/choices/0/text"), at("/usage/steering/fingerprint"))
    };
    let with = |name: &str| ask(json!({"vectors": [{"vector": name, "scale": 9.0, "layers": [1]}]}));
    let by_file = with("file");
    assert!(
        by_file.1.is_string() && by_file.0 != ask(json!({"mode": "off"})).0,
        "{by_file:?}"
    );
    for reloaded in [false, true] {
        assert_eq!(ask(Value::Null), by_file, "the default, reloaded: {reloaded}");
        assert_eq!(with("control"), by_file, "reloaded: {reloaded}");
        assert_eq!(with("again"), by_file, "reloaded: {reloaded}");
        assert_eq!(server.post("/v1/steering/reload", &json!({})).unwrap().0, 200);
    }

    // What is odd in an uploaded file is in the answer.
    printed(&convert(dir.path(), "test.toml", "other.gguf", &["--hint", "qwen2"]));
    let client = Client::new(server.url());
    for (file, noted) in [("test.gguf", false), ("other.gguf", true)] {
        let gguf = std::fs::read(dir.path().join(file)).unwrap();
        let reply = client
            .post_form("/v1/steering/vectors", &[("name", b"up"), ("gguf", &gguf)])
            .unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
        let notes = reply.json().unwrap()["notes"].clone();
        assert_eq!(
            notes[0].as_str().is_some_and(|note| note.contains("qwen2")),
            noted,
            "{notes}"
        );
    }

    for (content, used, expected) in [
        (&b"GGUX"[..], "scale = 9.0", "magic: found \"GGUX\""),
        (b"GGUF", "scale = 9.0", "version: found 0 bytes left"),
        (
            &std::fs::read(dir.path().join("test.gguf")).unwrap(),
            "relative_scale = 0.1",
            "relative_scale",
        ),
    ] {
        std::fs::write(dir.path().join("test.gguf"), content).unwrap();
        let path = dir.path().join("wrong.toml");
        std::fs::write(&path, serve_config(&config(used), 1)).unwrap();
        let error = error_of(&run(
            "mistralrs-steered",
            &["check", "--config", path.to_str().unwrap()],
        ));
        assert!(error.contains(expected), "{error}");
        assert_eq!(error.matches("wrong.toml").count(), 1, "reported once: {error}");
    }
}

#[test]
fn refused_conversions_change_nothing_and_give_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = (fixture("tiny-llama"), fixture("tiny-gemma3"));
    let (own, other) = (["--model", own.to_str().unwrap()], ["--model", other.to_str().unwrap()]);
    save_reference_vector("tiny-llama", dir.path());
    printed(&convert(dir.path(), "test.toml", "good.gguf", &["--hint", "llama"]));
    std::fs::write(dir.path().join("bad.gguf"), "GGUF").unwrap();
    std::fs::write(dir.path().join("old.toml"), "old").unwrap();
    std::fs::write(dir.path().join("old.gguf"), "old").unwrap();
    let error = |from: &str, to: &str, more: &[&str]| error_of(&convert(dir.path(), from, to, more));
    for (from, to, more, expected) in [
        ("test.toml", "new.toml", &[][..], "expected .toml to .gguf"),
        ("good.gguf", "new.gguf", &[], "expected .toml to .gguf"),
        ("test.toml", "old.gguf", &[], "hint: found nothing"),
        ("test.toml", "old.gguf", &other, "model: found the fingerprint"),
        (
            "test.toml",
            "old.gguf",
            &["--model", "nowhere"],
            "model: found \"nowhere\"",
        ),
        (
            "test.toml",
            "old.gguf",
            &["--hint", "llama", "--scale", "0"],
            "scale: found 0",
        ),
        (
            "test.toml",
            "old.gguf",
            &["--hint", "llama", "--concept", "x"],
            "concept: found --concept",
        ),
        ("missing.toml", "old.gguf", &["--hint", "llama"], "missing.toml"),
        ("test.toml", "no/new.gguf", &["--hint", "llama"], "does not exist"),
        ("good.gguf", "old.toml", &[], "model: found nothing"),
        (
            "good.gguf",
            "old.toml",
            &["--model", own[1], "--scale", "2"],
            "scale: found --scale",
        ),
        (
            "good.gguf",
            "old.toml",
            &["--model", own[1], "--normalize"],
            "normalize: found --normalize",
        ),
        (
            "good.gguf",
            "old.toml",
            &["--model", own[1], "--concept", " "],
            "concept",
        ),
        ("bad.gguf", "old.toml", &own, "bad.gguf: version: found 0 bytes left"),
        ("missing.gguf", "old.toml", &own, "the vector to convert does not exist"),
    ] {
        let found = error(from, to, more);
        assert!(found.contains(expected), "{from} {to} {more:?}: {found}");
    }
    let old = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(
        (old("old.toml"), old("old.gguf")),
        ("old".to_string(), "old".to_string())
    );
    // The vector and its tensors, a control vector, a broken one, two old ones.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 6);
}
