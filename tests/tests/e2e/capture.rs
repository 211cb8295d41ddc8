//! `mapper capture`, and maps from its activations: the same as from the models themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use steermap_examples::programs::binary;
use steermap_maps::MapFile;
use steermap_maps::activations::{Activations, INDEX};
use steermap_tests::maps::{difference, mapper_pair, printed, write_corpus};
use steermap_tests::run::{error_of, interrupted, run};
use steermap_tests::{change_json, copy_of, fixture, project};

use crate::clients::python;

const SOURCE: &str = "tiny-llama";
const TARGET: &str = "tiny-gemma2";

fn command(model: &str, corpus: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(binary("mapper").unwrap());
    command
        .args(["capture", "--cpu", "--dtype", "f32", "--model"])
        .arg(fixture(model))
        .arg("--corpus")
        .arg(corpus)
        .arg("--out")
        .arg(out)
        .args(more);
    command
}

fn capture(model: &str, corpus: &Path, out: &Path, more: &[&str]) -> Output {
    command(model, corpus, out, more).output().unwrap()
}

/// Fits with these options instead of models.
fn fit(out: &Path, more: &[&str]) -> MapFile {
    let out_text = out.to_str().unwrap();
    printed(&run(
        "mapper",
        &[&["fit", "--cpu", "--dtype", "f32", "--out", out_text], more].concat(),
    ));
    MapFile::load(out).unwrap()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_string()
}

/// The contents of a folder's files.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| (path.file_name().unwrap().into(), std::fs::read(&path).unwrap()))
        .collect()
}

#[test]
fn maps_from_disk_are_those_of_one_pass() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = write_corpus(dir.path(), 150);
    let path = |name: &str| dir.path().join(name);
    let out = path("whole.toml");
    let more = ["--pairs", "all", "--ridge", "0.01"];
    printed(&mapper_pair("fit", SOURCE, TARGET, &corpus, &out, &more));
    let whole = MapFile::load(&out).unwrap();
    let same = |found: &MapFile, tolerance: f32| {
        let apart = difference(found, &whole);
        assert!(apart < tolerance, "{apart:e}");
        assert_eq!(found.header().positions, whole.header().positions);
        assert_eq!(found.header().source.fingerprint, whole.header().source.fingerprint);
    };

    // Both sides captured completely; shards of one or two windows.
    let (a, b) = (path("a"), path("b"));
    let printed_text = printed(&capture(SOURCE, &corpus, &a, &["--states", "f32", "--shard-mib", "1"]));
    assert!(
        printed_text.contains("windows") && printed_text.contains("tokens"),
        "{printed_text}"
    );
    printed(&capture(TARGET, &corpus, &b, &["--states", "f32"]));
    let (a_text, b_text) = (text(&a), text(&b));
    let from = |source: &[&str], target: &[&str], name: &str| {
        let args = [&more[..], source, target].concat();
        fit(&path(name), &args)
    };
    let both = from(
        &["--source-activations", &a_text],
        &["--target-activations", &b_text],
        "both.toml",
    );
    same(&both, 1e-6);

    // One side captured, the other run.
    let (source, target) = (text(&fixture(SOURCE)), text(&fixture(TARGET)));
    let corpus_text = text(&corpus);
    let running = ["--target", &target, "--corpus", &corpus_text];
    same(
        &from(&["--source-activations", &a_text], &running, "running.toml"),
        1e-6,
    );
    let running = ["--source", &source, "--corpus", &corpus_text];
    same(
        &from(&running, &["--target-activations", &b_text], "running-2.toml"),
        1e-6,
    );

    // Three shards.
    let parts: Vec<String> = (0..3)
        .map(|index| {
            let (out, shard) = (path(&format!("part-{index}")), format!("{index}/3"));
            printed(&capture(SOURCE, &corpus, &out, &["--states", "f32", "--shard", &shard]));
            text(&out)
        })
        .collect();
    let parts: Vec<&str> = ["--source-activations"]
        .into_iter()
        .chain(parts.iter().map(String::as_str))
        .collect();
    same(&from(&parts, &["--target-activations", &b_text], "parts.toml"), 1e-6);

    // Half precision gives nearly the same map.
    for (dtype, tolerance) in [("f16", 5e-3), ("bf16", 4e-2)] {
        let out = path(dtype);
        printed(&capture(SOURCE, &corpus, &out, &["--states", dtype]));
        same(
            &from(
                &["--source-activations", &text(&out)],
                &["--target-activations", &b_text],
                "half.toml",
            ),
            tolerance,
        );
    }

    // Written from Python, in another layout.
    let written = path("python");
    let output = Command::new(python())
        .arg(project("tests/clients/activations.py"))
        .args([&a, &written])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let inspected = printed(&run("mapper", &["inspect", &text(&written)]));
    assert!(
        inspected.contains("activations of") && inspected.contains("150 windows"),
        "{inspected}"
    );
    same(
        &from(
            &["--source-activations", &text(&written)],
            &["--target-activations", &b_text],
            "python.toml",
        ),
        1e-6,
    );
}

#[test]
fn killed_twenty_times_a_capture_ends_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = write_corpus(dir.path(), 2500);
    // Small windows and small shards, so that there are many. One text at a time, since the last bits depend on the
    // texts that share a pass, which depends on timing.
    let more = ["--states", "f32", "--window", "64", "--shard-mib", "1", "--batch", "1"];
    let start = |out: &Path| -> Child {
        let mut command = command(SOURCE, &corpus, out, &more);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    let began = Instant::now();
    assert!(start(&whole).wait().unwrap().success());
    let length = began.elapsed();
    let shards = Activations::open(&whole).unwrap().index().shards.len();
    assert!(shards >= 10, "{shards}");
    let mut state = 5u64;
    for _ in 0..20 {
        let mut child = start(&killed);
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let moment = length.mul_f64((state >> 33) as f64 / (1u64 << 31) as f64 * 0.6);
        let deadline = Instant::now() + moment;
        while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        child.kill().ok();
        child.wait().unwrap();
        // All files that exist are complete.
        if killed.join(INDEX).exists() {
            Activations::open(&killed).unwrap().verify(|_| ()).unwrap();
        }
    }
    assert!(start(&killed).wait().unwrap().success());
    let temporary = |name: &Path| name.extension().is_some_and(|extension| extension == "tmp");
    let mut found = contents(&killed);
    found.retain(|name, _| !temporary(name));
    let expected = contents(&whole);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, bytes) in &expected {
        // The index differs, since it has the command line, which names the folder.
        if name != Path::new(INDEX) {
            assert!(found[name] == *bytes, "{}", name.display());
        }
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_was_captured() {
    let dir = tempfile::tempdir().unwrap();
    let (corpus, out) = (write_corpus(dir.path(), 4000), dir.path().join("acts"));
    let more = ["--window", "64", "--shard-mib", "1"];
    let child = command(SOURCE, &corpus, &out, &more)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    let begun = || std::fs::read_to_string(out.join(INDEX)).is_ok_and(|index| index.contains("[[shard]]"));
    while !begun() {
        assert!(Instant::now() < deadline, "no shard came");
        std::thread::yield_now();
    }
    let errors = interrupted(child);
    assert!(errors.contains("run the same command to continue"), "{errors}");
    let kept = Activations::open(&out).unwrap();
    assert!(!kept.index().complete && !kept.windows().is_empty());
    // Unfinished activations are refused by a fit.
    let fit = [
        "fit",
        "--source-activations",
        &text(&out),
        "--target-activations",
        &text(&out),
        "--out",
    ];
    let map = text(&dir.path().join("map.toml"));
    let refused = error_of(&run("mapper", &[&fit[..], &[&map]].concat()));
    assert!(refused.contains("an unfinished capture"), "{refused}");
    let whole = printed(&capture(SOURCE, &corpus, &out, &more));
    let windows = Activations::open(&out).unwrap().windows().len();
    assert!(windows > kept.windows().len() && whole.contains("windows"), "{whole}");
    // Each document is there once.
    let mut ids: Vec<_> = Activations::open(&out)
        .unwrap()
        .windows()
        .iter()
        .map(|window| (window.document, window.start))
        .collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    let unique = std::fs::read_to_string(&corpus).unwrap();
    let unique: std::collections::BTreeSet<&str> = unique.lines().collect();
    assert!(all - ids.len() <= 4000 - unique.len(), "{all}, {}", ids.len());
}

#[test]
fn invalid_input_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = write_corpus(dir.path(), 30);
    let path = |name: &str| dir.path().join(name);
    let out = path("acts");
    printed(&capture(SOURCE, &corpus, &out, &["--layers", "1,3"]));
    let out_text = text(&out);
    let fit = |more: &[&str]| {
        let map = text(&path("map.toml"));
        let error = error_of(&run("mapper", &[&["fit", "--out", &map], more].concat()));
        assert!(!path("map.toml").exists());
        error
    };
    let both = ["--source-activations", &out_text, "--target-activations", &out_text];
    let layer = fit(&[&both[..], &["--pairs", "1:2"]].concat());
    assert!(
        layer.contains("found target layer 2") && layer.contains("1, 3"),
        "{layer}"
    );
    let window = fit(&[&both[..], &["--pairs", "1:3", "--window", "512"]].concat());
    assert!(window.contains("window_bytes: found 1024, expected 512"), "{window}");
    let missing = fit(&["--source-activations", "nowhere", "--target-activations", &out_text]);
    assert!(missing.contains("nowhere"), "{missing}");
    let alone = fit(&["--source-activations", &out_text]);
    assert!(alone.contains("--target-activations"), "{alone}");
    let twice = fit(&[
        "--source-activations",
        &out_text,
        &out_text,
        "--target-activations",
        &out_text,
    ]);
    assert!(twice.contains("part 0/1 of the corpus"), "{twice}");

    let other = error_of(&capture(SOURCE, &corpus, &out, &["--layers", "1"]));
    assert!(other.contains("capture.layers: found [1, 3], expected [1]"), "{other}");
    let other = error_of(&capture(TARGET, &corpus, &out, &["--layers", "1,3"]));
    assert!(other.contains("model.fingerprint"), "{other}");
    let text_file = path("other.jsonl");
    std::fs::write(&text_file, "{\"text\": \"another text\"}\n").unwrap();
    let other = error_of(&capture(SOURCE, &text_file, &out, &["--layers", "1,3"]));
    assert!(other.contains("other text"), "{other}");
    let layers = error_of(&capture(SOURCE, &corpus, &path("more"), &["--layers", "9"]));
    assert!(layers.contains("layers: found 9, expected 0 to 3"), "{layers}");
    let shard = path("acts/shard-00000.safetensors");
    let mut bytes = std::fs::read(&shard).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    let inspected = error_of(&run("mapper", &["inspect", &out_text]));
    assert!(inspected.contains("shard-00000.safetensors"), "{inspected}");
}

/// A tokenizer with a token that has no row in the model: the engine fails at that token.
#[test]
fn states_captured_before_the_engine_failed_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let model = copy_of(&fixture(SOURCE), dir.path());
    change_json(&model.join("tokenizer.json"), |tokenizer| {
        let added = tokenizer["added_tokens"].as_array_mut().unwrap();
        let id = 261;
        added.push(
            serde_json::json!({"id": id, "content": "<unknown-row>", "single_word": false, "lstrip": false,
                                      "rstrip": false, "normalized": false, "special": false}),
        );
    });
    let corpus = dir.path().join("corpus.jsonl");
    // There is more than one group of windows before it.
    let line = |text: &str| serde_json::json!({"text": text}).to_string() + "\n";
    let before = line(&"the cat sat on the mat. ".repeat(20)).repeat(120);
    std::fs::write(&corpus, before.clone() + &line("a <unknown-row> here")).unwrap();
    let out = dir.path().join("acts");
    let run = |corpus: &Path| {
        let mut command = Command::new(binary("mapper").unwrap());
        let model = ["capture", "--cpu", "--dtype", "f32", "--layers", "1", "--model"];
        command.args(model).arg(dir.path().join("copy"));
        command.arg("--corpus").arg(corpus).arg("--out").arg(&out);
        command.output().unwrap()
    };
    let error = error_of(&run(&corpus));
    assert!(!error.contains("panicked"), "{error}");
    let kept = Activations::open(&out).unwrap();
    let windows = kept.windows().len();
    assert!(windows > 0 && !kept.index().complete, "{windows} windows: {error}");
    // With the text corrected, the same command continues.
    std::fs::write(&corpus, before + &line("a cat here")).unwrap();
    printed(&run(&corpus));
    let whole = Activations::open(&out).unwrap();
    assert!(whole.index().complete && whole.windows().len() > windows);
}
