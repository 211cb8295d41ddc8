//! `mapper vector` against the states that transformers computed.

use std::path::Path;

use serde_json::json;
use steermap_maps::VectorFile;
use steermap_tests::fixture;
use steermap_tests::reference::{Reference, assert_close};
use steermap_tests::run::{error_of, run};

/// Pairs of the reference's prompts: 0 against 1, 2 against 0.
fn write_pairs(path: &Path) {
    let text = std::fs::read_to_string(fixture("references/prompts.json")).unwrap();
    let prompts: serde_json::Value = serde_json::from_str(&text).unwrap();
    let text = |i: usize| prompts[i]["text"].as_str().expect("prompts.json has texts").to_string();
    let lines = [
        json!({"positive": text(0), "negative": text(1)}),
        json!({"positive": text(2), "negative": text(0)}),
    ];
    std::fs::write(path, lines.map(|line| line.to_string()).join("\n")).unwrap();
}

fn mapper(model: &str, pairs: &Path, out: &Path, more: &[&str]) -> std::process::Output {
    let (model, pairs, out) = (fixture(model), pairs.to_str().unwrap(), out.to_str().unwrap());
    let args = [
        "vector",
        "--model",
        model.to_str().unwrap(),
        "--pairs",
        pairs,
        "--concept",
        "a test",
        "--out",
        out,
    ];
    run("mapper", &[&args, more].concat())
}

#[test]
fn the_mean_difference_at_the_last_token() {
    for model in ["tiny-llama", "tiny-gemma2", "tiny-gemma3"] {
        let reference = Reference::load(model);
        let dir = tempfile::tempdir().unwrap();
        let (pairs, out) = (dir.path().join("pairs.jsonl"), dir.path().join("test.toml"));
        write_pairs(&pairs);
        let output = mapper(model, &pairs, &out, &["--dtype", "f32", "--cpu"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("held-out AUROC"));

        let vector = VectorFile::load(&out).unwrap();
        assert_eq!(vector.header().pairs, 2);
        assert_eq!(vector.header().numerics.dtype, "f32");
        assert_eq!(vector.model().model, model);
        assert_eq!(vector.layers().len(), reference.num_layers());
        for layer in vector.layers() {
            let states: Vec<_> = (0..3)
                .map(|i| reference.rows(&format!("p{i}.h.{}", layer.layer)))
                .collect();
            let last = |i: usize| states[i].last().unwrap();
            let expected: Vec<f32> = (0..last(0).len())
                .map(|d| (last(0)[d] - last(1)[d] + last(2)[d] - last(0)[d]) / 2.0)
                .collect();
            assert_close(&layer.direction, &expected, &format!("{model}, layer {}", layer.layer));
            // Prompt 0 stands in both pairs; every prompt's first token is left out.
            let norms: Vec<f64> = [0, 1, 2, 0]
                .iter()
                .flat_map(|&i: &usize| &states[i][1..])
                .map(|h| h.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt())
                .collect();
            let mean = norms.iter().sum::<f64>() / norms.len() as f64;
            assert!(
                (layer.mean_norm / mean - 1.0).abs() < 1e-4,
                "{} against {mean}",
                layer.mean_norm
            );
        }
    }
}

#[test]
fn chosen_layers_and_chats() {
    let dir = tempfile::tempdir().unwrap();
    let (pairs, out) = (dir.path().join("pairs.jsonl"), dir.path().join("test.toml"));
    let chat = |answer: &str| json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": answer}]);
    let line = json!({"positive": chat("good"), "negative": chat("bad.")}).to_string();
    let other = json!({"positive": "fine", "negative": "poor"}).to_string();
    std::fs::write(&pairs, format!("{line}\n{other}\n")).unwrap();
    let output = mapper("tiny-llama", &pairs, &out, &["--layers", "3,0-1", "--batch", "1"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let vector = VectorFile::load(&out).unwrap();
    assert_eq!(vector.layers().iter().map(|l| l.layer).collect::<Vec<_>>(), [0, 1, 3]);
}

#[test]
fn mistakes_are_told_and_leave_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (pairs, out) = (dir.path().join("pairs.jsonl"), dir.path().join("test.toml"));
    write_pairs(&pairs);
    let layer = error_of(&mapper("tiny-llama", &pairs, &out, &["--layers", "2,4"]));
    assert!(layer.contains("layers: found 4, expected 0 to 3"), "{layer}");
    let words = error_of(&mapper("tiny-llama", &pairs, &out, &["--layers", "few"]));
    assert!(words.contains("few"), "{words}");
    let isq = error_of(&mapper("tiny-llama", &pairs, &out, &["--isq", "q99"]));
    assert!(isq.contains("isq"), "{isq}");
    let model = error_of(&mapper("no/such/model", &pairs, &out, &[]));
    assert!(model.contains("no/such/model"), "{model}");
    let name = error_of(&mapper("tiny-llama", &pairs, &dir.path().join("test.bin"), &[]));
    assert!(name.contains(".toml"), "{name}");
    let folder = error_of(&mapper("tiny-llama", &pairs, &dir.path().join("no/test.toml"), &[]));
    assert!(folder.contains("does not exist"), "{folder}");
    std::fs::write(&pairs, "{\"positive\": \"a\"}\n").unwrap();
    let line = error_of(&mapper("tiny-llama", &pairs, &out, &[]));
    assert!(line.contains("pairs.jsonl, line 1"), "{line}");
    // Texts that the model can't tell apart make no direction: here both end in the same tokens at position 0.
    let same = json!({"positive": "a", "negative": [{"role": "user", "content": ""}]}).to_string();
    std::fs::write(&pairs, format!("{same}\n")).unwrap();
    assert!(error_of(&mapper("tiny-llama", &pairs, &out, &[])).contains("found 1 pairs"));
    assert!(!out.exists());
}
