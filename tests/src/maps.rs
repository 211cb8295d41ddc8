//! Text to fit on, `mapper fit`'s command line, and the comparison of two maps.

use std::path::{Path, PathBuf};
use std::process::Output;

use nalgebra::DMatrix;
use steermap_maps::MapFile;

use crate::fixture;
use crate::run::run;

/// Writes `count` seeded documents of words as JSON lines, some longer than one tiny window, some with odd characters.
pub fn write_corpus(folder: &Path, count: usize) -> PathBuf {
    const WORDS: [&str; 16] = [
        "the",
        "cat",
        "sat",
        "on",
        "a",
        "mat",
        "and",
        "then",
        "ran",
        "to",
        "see",
        "naïve",
        "café",
        "12€",
        "🙂",
        "日本語",
    ];
    let mut state = 7u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    let mut text = String::new();
    for _ in 0..count {
        let words: Vec<&str> = (0..4 + next(12)).map(|_| WORDS[next(WORDS.len())]).collect();
        text += &(serde_json::json!({"text": words.join(" ")}).to_string() + "\n");
    }
    let path = folder.join("corpus.jsonl");
    std::fs::write(&path, text).expect("the folder can be written");
    path
}

/// Runs `mapper COMMAND` on two models of tests/fixtures, in float32 on the CPU.
pub fn mapper_pair(command: &str, source: &str, target: &str, corpus: &Path, out: &Path, more: &[&str]) -> Output {
    let (source, target) = (fixture(source), fixture(target));
    let path = |path: &Path| path.to_str().expect("Unicode").to_string();
    let (source, target, corpus, out) = (path(&source), path(&target), path(corpus), path(out));
    let args = [
        command, "--source", &source, "--target", &target, "--corpus", &corpus, "--out", &out, "--dtype", "f32",
        "--cpu",
    ];
    run("mapper", &[&args, more].concat())
}

/// Asserts that a run succeeded; returns its output.
pub fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// Largest difference of two maps' weights and biases, relative to each tensor's largest value.
pub fn difference(a: &MapFile, b: &MapFile) -> f32 {
    assert_eq!(a.pairs().len(), b.pairs().len());
    let relative = |a: &DMatrix<f32>, b: &DMatrix<f32>| (a - b).amax() / b.amax();
    a.pairs()
        .iter()
        .zip(b.pairs())
        .map(|(a, b)| {
            assert_eq!((&a.source_layers, a.target_layer), (&b.source_layers, b.target_layer));
            let [a, b] = [a, b].map(|pair| pair.map.load().expect("the weights are there").to_affine());
            let column = |bias: &nalgebra::DVector<f32>| DMatrix::from_column_slice(bias.len(), 1, bias.as_slice());
            relative(&a.weight, &b.weight).max(relative(&column(&a.bias), &column(&b.bias)))
        })
        .fold(0.0, f32::max)
}
