//! `mapper vector` against states computed by transformers.

use std::path::Path;

use serde_json::json;
use steermap_maps::{TokenPosition, VectorFile};
use steermap_tests::fixture;
use steermap_tests::maps::printed;
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
            // Prompt 0 is in both pairs; every prompt's first token is left out.
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
fn the_centred_component_at_the_answer() {
    let reference = Reference::load("tiny-llama");
    let dir = tempfile::tempdir().unwrap();
    let (pairs, out) = (dir.path().join("pairs.jsonl"), dir.path().join("test.toml"));
    write_pairs(&pairs);
    let more = [
        "--dtype",
        "f32",
        "--cpu",
        "--method",
        "pca-centred",
        "--position",
        "answer",
    ];
    let output = mapper("tiny-llama", &pairs, &out, &more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let vector = VectorFile::load(&out).unwrap();
    assert_eq!(vector.header().method, "pca-centred");
    assert_eq!(vector.header().token_position, TokenPosition::Answer);
    assert_eq!(vector.header().provenance.seed, None);
    for layer in vector.layers() {
        // The prompts differ from their first tokens on.
        let first = |i: usize| reference.rows(&format!("p{i}.h.{}", layer.layer)).remove(0);
        let difference = |a: usize, b: usize| -> Vec<f64> {
            let pairs = first(a).into_iter().zip(first(b));
            pairs.map(|(a, b)| f64::from(a) - f64::from(b)).collect()
        };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (a, b) = (difference(0, 1), difference(2, 0));
        // The larger axis of a 2 x 2 Gram matrix, in closed form.
        let angle = (2.0 * dot(&a, &b)).atan2(dot(&a, &a) - dot(&b, &b)) / 2.0;
        let line: Vec<f64> = a
            .iter()
            .zip(&b)
            .map(|(a, b)| angle.cos() * a + angle.sin() * b)
            .collect();
        let mean: Vec<f64> = a.iter().zip(&b).map(|(a, b)| (a + b) / 2.0).collect();
        let factor = dot(&line, &mean) / dot(&line, &line);
        let expected: Vec<f64> = line.iter().map(|value| factor * value).collect();
        let found: Vec<f64> = layer.direction.iter().map(|&value| f64::from(value)).collect();
        let norms = (dot(&found, &found).sqrt(), dot(&expected, &expected).sqrt());
        let cosine = dot(&found, &expected) / norms.0 / norms.1;
        assert!(cosine > 0.9999, "layer {}: cosine {cosine}", layer.layer);
        assert!(
            (norms.0 / norms.1 - 1.0).abs() < 0.01,
            "layer {}: {norms:?}",
            layer.layer
        );
    }
}

#[test]
fn every_method_makes_a_vector_and_vectors_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let (pairs, out) = (dir.path().join("pairs.jsonl"), dir.path().join("test.toml"));
    let words = [("fine", "poor"), ("good", "bad."), ("warm", "cold"), ("kind", "rude")];
    let line = |(p, n): (&str, &str)| json!({"positive": p, "negative": n}).to_string();
    std::fs::write(&pairs, words.map(line).join("\n")).unwrap();
    for method in ["mean-difference", "pca-difference", "pca-centred", "logistic", "lat"] {
        let more = ["--layers", "1,3", "--method", method, "--seed", "7"];
        let output = mapper("tiny-llama", &pairs, &out, &more);
        assert!(
            output.status.success(),
            "{method}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let vector = VectorFile::load(&out).unwrap();
        assert_eq!(vector.header().method, method);
        assert_eq!(
            vector.header().provenance.seed,
            (method == "lat").then_some(7),
            "{method}"
        );
    }
    let sum = dir.path().join("sum.toml");
    let terms = [2, -3].map(|factor| format!("{factor}*{}", out.display()));
    let combined = run(
        "mapper",
        &["combine", &terms[0], &terms[1], "--out", sum.to_str().unwrap()],
    );
    assert!(
        combined.status.success(),
        "{}",
        String::from_utf8_lossy(&combined.stderr)
    );
    let (one, sum) = (VectorFile::load(&out).unwrap(), VectorFile::load(&sum).unwrap());
    assert_eq!(sum.header().method, "2*test - 3*test (of lat)");
    for layer in one.layers() {
        let expected: Vec<f32> = layer.direction.iter().map(|value| -value).collect();
        assert_close(sum.direction(layer.layer).unwrap(), &expected, "the sum");
    }
}

/// Pairs of meaningless words as JSON lines, which no direction separates.
fn noise(pairs: usize) -> String {
    let word = |index: usize| -> String {
        let mut state = index as u64 + 1;
        let letters = (0..8).map(|_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            char::from(b'a' + ((state >> 33) % 26) as u8)
        });
        letters.collect()
    };
    let line = |index: usize| json!({"positive": word(2 * index), "negative": word(2 * index + 1)}).to_string() + "\n";
    (0..pairs).map(line).collect()
}

#[test]
fn repeats_count_once_and_few_pairs_have_no_area() {
    let dir = tempfile::tempdir().unwrap();
    let (pairs, out) = (dir.path().join("pairs.jsonl"), dir.path().join("test.toml"));
    let vector = |text: &str| {
        std::fs::write(&pairs, text).unwrap();
        let table = printed(&mapper("tiny-llama", &pairs, &out, &["--dtype", "f32", "--cpu"]));
        (table, VectorFile::load(&out).unwrap())
    };
    let (once, twelve) = vector(&noise(12));
    assert!(
        once.starts_with("12 distinct pairs\n") && once.contains("95% interval"),
        "{once}"
    );
    let (often, same) = vector(&noise(12).repeat(10));
    assert!(often.starts_with("12 distinct pairs (108 repeats"), "{often}");
    assert_eq!(same.header().pairs, 12);
    assert_eq!(same.layers(), twelve.layers());
    // The tables are equal between the first line and the file's name.
    assert_eq!(often.split_once('\n').unwrap().1, once.split_once('\n').unwrap().1);
    for layer in same.layers() {
        let area = layer.auroc.unwrap();
        assert!((0.05..0.95).contains(&area), "layer {}: {area}", layer.layer);
    }

    let (few, vector_of_few) = vector(&noise(6).repeat(10));
    assert!(few.contains("AUROC not measured: distinct pairs: found 6"), "{few}");
    assert!(vector_of_few.layers().iter().all(|layer| layer.auroc.is_none()));
    let shared: String = noise(20)
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            json!({"positive": line["positive"], "negative": "no"}).to_string() + "\n"
        })
        .collect();
    let (shared, _) = vector(&shared);
    assert!(
        shared.contains("all linked by texts that they share") && shared.contains("AUROC not measured: groups"),
        "{shared}"
    );
    std::fs::write(&pairs, noise(1).repeat(5)).unwrap();
    let same = error_of(&mapper("tiny-llama", &pairs, &out, &[]));
    assert!(same.contains("found 5 pairs that are all the same"), "{same}");
}

#[test]
fn the_sign_by_vote_is_for_principal_components() {
    let dir = tempfile::tempdir().unwrap();
    let (pairs, out) = (dir.path().join("pairs.jsonl"), dir.path().join("test.toml"));
    std::fs::write(&pairs, noise(12)).unwrap();
    let vector = |sign: &str| {
        let more = ["--method", "pca-centred", "--dtype", "f32", "--cpu", "--sign", sign];
        printed(&mapper("tiny-llama", &pairs, &out, &more));
        VectorFile::load(&out).unwrap()
    };
    let (mean, vote) = (vector("mean"), vector("vote"));
    assert_eq!(mean.header().method, "pca-centred");
    assert_eq!(vote.header().method, "pca-centred, sign by vote");
    for (mean, vote) in mean.layers().iter().zip(vote.layers()) {
        // The same axis, with either sign.
        let turned: Vec<f32> = vote.direction.iter().map(|value| -value).collect();
        assert!(
            mean.direction == vote.direction || mean.direction == turned,
            "layer {}",
            mean.layer
        );
    }
    let refused = error_of(&mapper("tiny-llama", &pairs, &out, &["--sign", "vote"]));
    assert!(
        refused.contains("sign: found vote with the method mean-difference"),
        "{refused}"
    );
}

#[test]
fn missing_models_and_models_that_cannot_run_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (pairs, out) = (dir.path().join("pairs.jsonl"), dir.path().join("test.toml"));
    write_pairs(&pairs);
    let run_with = |model: &str, more: &[&str]| {
        let (pairs, out) = (pairs.to_str().unwrap(), out.to_str().unwrap());
        let args = [
            "vector",
            "--model",
            model,
            "--pairs",
            pairs,
            "--concept",
            "a test",
            "--out",
            out,
        ];
        let error = error_of(&run("mapper", &[&args, more].concat()));
        // One line: no warnings of a download, no backtrace.
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    };
    // Tests run in the folder of their crate, which has a folder `fixtures`.
    let mistyped = run_with("fixtures/tiny-lama", &[]);
    assert!(mistyped.contains("no such folder in fixtures"), "{mistyped}");
    let folder = dir.path().to_str().unwrap();
    let empty = run_with(folder, &[]);
    assert!(empty.contains("without a config.json"), "{empty}");
    let gguf = run_with(folder, &["--gguf", "no.gguf"]);
    assert!(gguf.contains("gguf: found no file \"no.gguf\""), "{gguf}");
    let file = fixture("tiny-llama.gguf");
    let file = run_with(file.to_str().unwrap(), &[]);
    assert!(file.contains("which is a file"), "{file}");
    let model = fixture("tiny-llama");
    let bf16 = run_with(model.to_str().unwrap(), &["--dtype", "bf16", "--cpu"]);
    assert!(bf16.starts_with("error: dtype: found bf16"), "{bf16}");
    assert!(!out.exists());
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
fn refused_runs_give_the_reason_and_leave_no_file() {
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
    // In bytes, "a" is the beginning of "ab".
    let begins = [
        json!({"positive": "b", "negative": "c"}),
        json!({"positive": "ab", "negative": "a"}),
    ];
    std::fs::write(&pairs, begins.map(|line| line.to_string()).join("\n")).unwrap();
    let answer = error_of(&mapper("tiny-llama", &pairs, &out, &["--position", "answer"]));
    assert!(
        answer.contains("pair 2") && answer.contains("a prefix of the other's"),
        "{answer}"
    );
    // Texts that the model cannot distinguish give no direction: here both end in the same tokens at position 0.
    let same = json!({"positive": "a", "negative": [{"role": "user", "content": ""}]}).to_string();
    std::fs::write(&pairs, format!("{same}\n")).unwrap();
    assert!(error_of(&mapper("tiny-llama", &pairs, &out, &[])).contains("found 1 pairs"));
    assert!(!out.exists());
}
