//! `mapper fit`, `stats`, `merge`, `apply` and `inspect` through the real engine.

use std::sync::Arc;

use nalgebra::DMatrix;
use steermap_mapper::align::TokenizedText;
use steermap_mapper::capture::StreamCapture;
use steermap_mapper::corpus::Corpus;
use steermap_mapper::session::{ModelSource, Session};
use steermap_mapper::stats::Split;
use steermap_maps::{MapFile, OffsetRule, VectorFile};
use steermap_tests::fixture;
use steermap_tests::maps::{difference, mapper_pair, printed, write_corpus};
use steermap_tests::reference::{Reference, assert_close, assert_rows_close};
use steermap_tests::run::{error_of, run};
use steermap_tests::vectors::save_reference_vector;

async fn session(name: &str) -> Session {
    let source = ModelSource {
        dtype: mistralrs::ModelDType::F32,
        cpu: true,
        ..ModelSource::new(fixture(name).to_str().unwrap())
    };
    Session::load(source).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_streams_are_those_of_transformers() {
    for model in ["tiny-llama", "tiny-gemma2", "tiny-gemma3"] {
        let reference = Reference::load(model);
        let session = session(model).await;
        let layers: Vec<usize> = (0..reference.num_layers()).collect();
        let prompts = reference.prompts();
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let capture = Arc::new(StreamCapture::new(layers.clone()));
        let streams = session.streams(&capture, &prompts, || ()).await.unwrap();
        for (i, stream) in streams.iter().enumerate() {
            for &layer in &layers {
                let found: Vec<Vec<f32>> = (0..prompts[i].len()).map(|t| stream[layer].at(t).to_vec()).collect();
                let expected = reference.rows(&format!("p{i}.h.{layer}"));
                assert_rows_close(&found, &expected, &format!("{model}, prompt {i}, layer {layer}"));
            }
        }
        assert!(!session.slot().is_installed());
    }
}

/// The whole way, against least squares by another route: all train rows as one matrix, solved by its singular values.
#[tokio::test(flavor = "multi_thread")]
async fn the_map_is_the_least_squares_solution_of_the_engines_own_states() {
    let dir = tempfile::tempdir().unwrap();
    let (corpus, out) = (write_corpus(dir.path(), 80), dir.path().join("map.toml"));
    let more = ["--pairs", "1:2", "--ridge", "0", "--outliers", "off"];
    printed(&mapper_pair("fit", "tiny-llama", "tiny-gemma3", &corpus, &out, &more));
    let map = MapFile::load(&out).unwrap();

    let (source, target) = (session("tiny-llama").await, session("tiny-gemma3").await);
    let captures = [1, 2].map(|layer| Arc::new(StreamCapture::new(vec![layer])));
    let (mut x, mut y) = (Vec::new(), Vec::new());
    let mut rows = 0;
    for document in Corpus::open(&[corpus]).unwrap().documents() {
        let document = document.unwrap();
        if Split::of(&document.hash) != Split::Train {
            continue;
        }
        // Both fixtures have the same tokenizer: bytes, one to one, the last of a character's bytes counts.
        let tokens = TokenizedText::new(&source.tokenizer().unwrap(), &document.text).unwrap();
        let a = source.streams(&captures[0], &[&tokens.ids], || ()).await.unwrap();
        let b = target.streams(&captures[1], &[&tokens.ids], || ()).await.unwrap();
        for position in 1..tokens.ids.len() {
            if tokens.ends.get(position + 1) != Some(&tokens.ends[position]) {
                x.push(
                    a[0][0]
                        .at(position)
                        .iter()
                        .copied()
                        .chain([1.0])
                        .map(f64::from)
                        .collect::<Vec<_>>(),
                );
                y.push(b[0][0].at(position).iter().copied().map(f64::from).collect::<Vec<_>>());
                rows += 1;
            }
        }
    }
    let matrix = |rows: &[Vec<f64>]| DMatrix::from_row_slice(rows.len(), rows[0].len(), &rows.concat());
    let solution = matrix(&x)
        .svd(true, true)
        .solve(&matrix(&y), 1e-12)
        .unwrap()
        .transpose();
    let pair = &map.pairs()[0];
    assert_eq!(pair.fit.rows, rows);
    let (width, last) = (pair.map.weight.ncols(), solution.ncols() - 1);
    assert_eq!(width, last);
    let scale = solution.columns(0, width).amax();
    for (i, j) in (0..pair.map.weight.nrows()).flat_map(|i| (0..width).map(move |j| (i, j))) {
        let (found, expected) = (f64::from(pair.map.weight[(i, j)]), solution[(i, j)]);
        assert!(
            (found - expected).abs() < 1e-4 * scale,
            "{i}, {j}: {found} against {expected}"
        );
    }
    for i in 0..pair.map.bias.len() {
        let (found, expected) = (f64::from(pair.map.bias[i]), solution[(i, last)]);
        assert!(
            (found - expected).abs() < 1e-4 * solution.column(last).amax(),
            "{i}: {found} against {expected}"
        );
    }
}

#[test]
fn a_model_maps_onto_itself_by_the_identity() {
    let dir = tempfile::tempdir().unwrap();
    let (corpus, out) = (write_corpus(dir.path(), 120), dir.path().join("map.toml"));
    let text = printed(&mapper_pair(
        "fit",
        "tiny-llama",
        "tiny-llama",
        &corpus,
        &out,
        &["--ridge", "0"],
    ));
    assert!(text.contains("3->3") && text.contains("wrote"), "{text}");
    let map = MapFile::load(&out).unwrap();
    assert_eq!(map.pairs().len(), 4);
    let positions = map.header().positions.as_ref().unwrap();
    assert_eq!(positions.documents, 120);
    assert!(positions.paired > 1000 && positions.special == 0, "{positions:?}");
    for pair in map.pairs() {
        assert_eq!(pair.source_layers, [pair.target_layer]);
        let weight = &pair.map.weight;
        let apart = (weight - DMatrix::identity(weight.nrows(), weight.ncols())).amax();
        assert!(apart < 1e-3, "layer {}: {apart}", pair.target_layer);
        assert!(pair.fit.r2 > 1.0 - 1e-6 && pair.fit.cosine > 1.0 - 1e-6);
        assert!((pair.fit.r2_identity_baseline.unwrap() - 1.0).abs() < 1e-9);
        assert!(pair.fit.r2_mean_baseline < 0.01);
    }
    // The checkpoint has done its work.
    assert!(!dir.path().join("map.checkpoint.stats").exists());
}

#[test]
fn any_split_and_any_batch_give_the_same_map() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = write_corpus(dir.path(), 150);
    let path = |name: &str| dir.path().join(name);
    let fit = |name: &str, more: &[&str]| {
        let out = path(name);
        printed(&mapper_pair("fit", "tiny-llama", "tiny-gemma2", &corpus, &out, more));
        MapFile::load(&out).unwrap()
    };
    let whole = fit("whole.toml", &["--ridge", "0.01"]);
    let single = fit("single.toml", &["--ridge", "0.01", "--batch", "1"]);
    assert!(difference(&single, &whole) < 1e-6, "{}", difference(&single, &whole));

    for shards in [2, 5] {
        let names: Vec<String> = (0..shards)
            .map(|index| {
                let out = path(&format!("{index}-{shards}.stats"));
                let shard = format!("{index}/{shards}");
                let more = ["--shard", shard.as_str()];
                printed(&mapper_pair("stats", "tiny-llama", "tiny-gemma2", &corpus, &out, &more));
                out.to_str().unwrap().to_string()
            })
            .collect();
        // Merged in another order, and fitted from the sum or straight from the shards.
        let sum = path("sum.stats");
        let merge: Vec<&str> = ["merge"]
            .into_iter()
            .chain(names.iter().rev().map(String::as_str))
            .chain(["--out", sum.to_str().unwrap()])
            .collect();
        let text = printed(&run("mapper", &merge));
        assert!(text.contains(&format!("shard {}/{shards}", shards - 1)), "{text}");
        let out = path("merged.toml");
        let fit = ["fit", "--ridge", "0.01", "--out", out.to_str().unwrap(), "--stats"];
        printed(&run("mapper", &[&fit[..], &[sum.to_str().unwrap()]].concat()));
        let merged = MapFile::load(&out).unwrap();
        assert!(difference(&merged, &whole) < 1e-6, "{}", difference(&merged, &whole));
        assert_eq!(merged.header().positions, whole.header().positions);
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        printed(&run("mapper", &[&fit[..], &all].concat()));
        assert!(difference(&MapFile::load(&out).unwrap(), &whole) < 1e-6);

        let twice = error_of(&run(
            "mapper",
            &["merge", all[0], all[0], "--out", sum.to_str().unwrap()],
        ));
        assert!(twice.contains("another part has too"), "{twice}");
    }
}

#[test]
fn text_comes_from_standard_input_too() {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let dir = tempfile::tempdir().unwrap();
    let (corpus, out) = (write_corpus(dir.path(), 60), dir.path().join("map.toml"));
    let model = fixture("tiny-llama");
    let mut child = Command::new(steermap_examples::server::binary("mapper").unwrap())
        .args([
            "fit", "--cpu", "--dtype", "f32", "--pairs", "1:1", "--corpus", "-", "--source",
        ])
        .arg(&model)
        .arg("--target")
        .arg(&model)
        .arg("--out")
        .arg(&out)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&std::fs::read(corpus).unwrap())
        .unwrap();
    assert!(child.wait().unwrap().success());
    let map = MapFile::load(&out).unwrap();
    assert_eq!(map.header().provenance.corpus, "-");
    assert_eq!(map.header().positions.as_ref().unwrap().documents, 60);
}

#[test]
fn a_limit_and_the_first_positions() {
    let dir = tempfile::tempdir().unwrap();
    let (corpus, out) = (write_corpus(dir.path(), 150), dir.path().join("map.toml"));
    let positions = |more: &[&str]| {
        printed(&mapper_pair("fit", "tiny-llama", "tiny-llama", &corpus, &out, more));
        MapFile::load(&out).unwrap().header().positions.clone().unwrap()
    };
    let all = positions(&["--pairs", "0:0"]);
    let some = positions(&["--pairs", "0:0", "--tokens", "3000"]);
    assert!(some.documents < all.documents && some.paired < 3300, "{some:?}");
    // A text that starts with a character of several bytes has no pair at position 0: only the last byte counts.
    let text = std::fs::read_to_string(&corpus).unwrap();
    let begins = |line: &&str| {
        line.trim_start_matches("{\"text\":\"")
            .starts_with(|c: char| c.is_ascii())
    };
    assert_eq!(all.first, text.lines().filter(begins).count() as u64);
    let none = positions(&["--pairs", "0:0", "--skip-first", "0", "--outliers", "off"]);
    assert_eq!(
        (none.first, none.outliers, none.paired),
        (0, 0, all.paired + all.first + all.outliers)
    );
    assert!(none.rule.contains("no first position"), "{}", none.rule);
}

#[test]
fn mistakes_are_told_and_leave_no_map() {
    let dir = tempfile::tempdir().unwrap();
    let (corpus, out) = (write_corpus(dir.path(), 60), dir.path().join("map.toml"));
    let fit = |corpus: &std::path::Path, more: &[&str]| {
        let error = error_of(&mapper_pair("fit", "tiny-llama", "tiny-gemma2", corpus, &out, more));
        assert!(!out.exists());
        error
    };
    let layer = fit(&corpus, &["--pairs", "1:4"]);
    assert!(
        layer.contains("pairs: found target layer 4, expected 0 to 3"),
        "{layer}"
    );
    assert!(fit(&corpus, &["--pairs", "few"]).contains("few"));
    assert!(fit(&corpus, &["--ridge", "-1"]).contains("ridge"));
    assert!(fit(&corpus, &["--outliers", "0"]).contains("outliers"));
    assert!(fit(&corpus, &["--window", "1"]).contains("window"));
    assert!(fit(&dir.path().join("nowhere.jsonl"), &[]).contains("nowhere.jsonl"));
    let bad = dir.path().join("bad.jsonl");
    std::fs::write(&bad, "{\"text\": \"one two\"}\n{\"txt\": \"two\"}\n").unwrap();
    assert!(fit(&bad, &[]).contains("bad.jsonl, line 2"));
    std::fs::remove_file(dir.path().join("map.checkpoint.stats")).ok();
    std::fs::write(&bad, "{\"text\": \"one two three\"}\n").unwrap();
    let few = fit(&bad, &[]);
    assert!(few.contains("documents"), "{few}");
    std::fs::remove_file(dir.path().join("map.checkpoint.stats")).unwrap();

    let name = error_of(&mapper_pair(
        "fit",
        "tiny-llama",
        "tiny-llama",
        &corpus,
        &dir.path().join("map.bin"),
        &[],
    ));
    assert!(name.contains(".toml"), "{name}");
    let nothing = error_of(&run("mapper", &["fit", "--out", out.to_str().unwrap()]));
    assert!(nothing.contains("source or target"), "{nothing}");
    let stats = dir.path().join("broken.stats");
    std::fs::write(&stats, b"no statistics at all").unwrap();
    for command in [
        vec![
            "fit",
            "--out",
            out.to_str().unwrap(),
            "--stats",
            stats.to_str().unwrap(),
        ],
        vec!["inspect", stats.to_str().unwrap()],
    ] {
        let error = error_of(&run("mapper", &command));
        assert!(error.contains("broken.stats"), "{error}");
    }
    let checkpoint = dir.path().join("map.checkpoint.stats");
    std::fs::write(&checkpoint, b"half a checkp").unwrap();
    let error = fit(&corpus, &[]);
    assert!(error.contains("map.checkpoint.stats"), "{error}");
}

#[test]
fn a_mapped_vector_is_an_ordinary_vector_file() {
    let dir = tempfile::tempdir().unwrap();
    let (corpus, map) = (write_corpus(dir.path(), 80), dir.path().join("map.toml"));
    printed(&mapper_pair(
        "fit",
        "tiny-llama",
        "tiny-gemma2",
        &corpus,
        &map,
        &["--pairs", "1:2,3:3"],
    ));
    let vector = save_reference_vector("tiny-llama", dir.path());
    let out = dir.path().join("mapped.toml");
    let path = |path: &std::path::Path| path.to_str().unwrap().to_string();
    let apply = |more: &[&str]| {
        let (map, vector, out) = (path(&map), path(&vector), path(&out));
        run(
            "mapper",
            &[&["apply", "--map", &map, "--vector", &vector, "--out", &out], more].concat(),
        )
    };
    let file = MapFile::load(&map).unwrap();
    let native = VectorFile::load(&vector).unwrap();
    for (rule, more) in [
        (OffsetRule::Linear, &[][..]),
        (OffsetRule::Affine, &["--offset", "affine"][..]),
    ] {
        let text = printed(&apply(more));
        assert!(text.contains(&format!("layer 2 from 1 ({rule}")), "{text}");
        let mapped = VectorFile::load(&out).unwrap();
        assert_eq!(mapped.model().model, "tiny-gemma2");
        for (pair, layer) in file.pairs().iter().zip([2, 3]) {
            let v = nalgebra::DVector::from_column_slice(native.direction(pair.source_layers[0]).unwrap());
            let mut expected = &pair.map.weight * v;
            if rule == OffsetRule::Affine {
                expected += &pair.map.bias;
            }
            assert_close(mapped.direction(layer).unwrap(), expected.as_slice(), "mapped");
        }
        let text = printed(&run("mapper", &["inspect", out.to_str().unwrap()]));
        assert!(text.contains("tiny-gemma2") && text.contains(rule.as_str()), "{text}");
    }
    assert!(printed(&run("mapper", &["inspect", map.to_str().unwrap()])).contains("1->2"));
    let other = save_reference_vector("tiny-gemma3", dir.path());
    assert!(error_of(&apply(&[])).contains("tiny-gemma3"));
    assert_eq!(other, vector);
}
