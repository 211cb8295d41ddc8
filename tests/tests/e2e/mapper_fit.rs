//! `mapper fit`, `stats`, `merge`, `apply` and `inspect` through the real engine.

use std::sync::Arc;

use nalgebra::DMatrix;
use steermap_fit::stats::Split;
use steermap_mapper::align::TokenizedText;
use steermap_mapper::capture::StreamCapture;
use steermap_mapper::corpus::{Corpus, TextOptions};
use steermap_mapper::device::DeviceChoice;
use steermap_mapper::session::{ModelSource, Session};
use steermap_maps::{MapFile, OffsetRule, VectorFile};
use steermap_tests::fixture;
use steermap_tests::maps::{difference, mapper_pair, printed, write_corpus};
use steermap_tests::reference::{Reference, assert_close, assert_rows_close};
use steermap_tests::run::{error_of, run};
use steermap_tests::vectors::save_reference_vector;

async fn session(name: &str) -> Session {
    let source = ModelSource {
        dtype: mistralrs::ModelDType::F32,
        device: DeviceChoice::Cpu,
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

/// The whole path against another least-squares solver: all train rows as one matrix, solved by singular value
/// decomposition.
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
    for document in Corpus::open(&[corpus], &TextOptions::default()).unwrap().documents() {
        let document = document.unwrap();
        if Split::of(&document.hash) != Split::Train {
            continue;
        }
        // Both fixtures have the same byte tokenizer; only the last byte of a character ends at a character boundary.
        let tokens = TokenizedText::new(&source.tokenizer().unwrap(), &document.text).unwrap();
        let a = source.streams(&captures[0], &[&tokens.ids], || ()).await.unwrap();
        let b = target.streams(&captures[1], &[&tokens.ids], || ()).await.unwrap();
        for position in 1..tokens.ids.len() {
            if tokens.ends[position].is_some() {
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
    let fitted = pair.map.load().unwrap().to_affine();
    let (width, last) = (fitted.weight.ncols(), solution.ncols() - 1);
    assert_eq!(width, last);
    let scale = solution.columns(0, width).amax();
    for (i, j) in (0..fitted.weight.nrows()).flat_map(|i| (0..width).map(move |j| (i, j))) {
        let (found, expected) = (f64::from(fitted.weight[(i, j)]), solution[(i, j)]);
        assert!(
            (found - expected).abs() < 1e-4 * scale,
            "{i}, {j}: {found} against {expected}"
        );
    }
    for i in 0..fitted.bias.len() {
        let (found, expected) = (f64::from(fitted.bias[i]), solution[(i, last)]);
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
        let weight = pair.map.load().unwrap().to_affine().weight;
        let apart = (&weight - DMatrix::identity(weight.nrows(), weight.ncols())).amax();
        assert!(apart < 1e-3, "layer {}: {apart}", pair.target_layer);
        assert!(pair.fit.r2 > 1.0 - 1e-6 && pair.fit.cosine > 1.0 - 1e-6);
        assert!((pair.fit.r2_identity_baseline.unwrap() - 1.0).abs() < 1e-9);
        assert!(pair.fit.r2_mean_baseline < 0.01);
    }
    // The checkpoint is removed.
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
        // Merged in another order, and fitted from the sum or directly from the shards.
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
        assert!(twice.contains("also in another part"), "{twice}");
    }
}

#[test]
fn text_comes_from_standard_input_too() {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let dir = tempfile::tempdir().unwrap();
    let (corpus, out) = (write_corpus(dir.path(), 60), dir.path().join("map.toml"));
    let model = fixture("tiny-llama");
    let mut child = Command::new(steermap_examples::programs::binary("mapper").unwrap())
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
    // A text that starts with a character of several bytes has no pair at position 0, since only the last byte counts.
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
fn refused_fits_give_the_reason_and_leave_no_map() {
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
    assert!(nothing.contains("source: found nothing"), "{nothing}");
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
            let fitted = pair.map.load().unwrap().to_affine();
            let mut expected = fitted.weight * v;
            if rule == OffsetRule::Affine {
                expected += fitted.bias;
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

#[test]
fn finished_statistics_continue_for_more_tokens_or_a_longer_text() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = write_corpus(dir.path(), 300);
    let text = std::fs::read_to_string(&corpus).unwrap();
    let path = |name: &str| dir.path().join(name);
    let stats = |out: &str, more: &[&str]| mapper_pair("stats", "tiny-llama", "tiny-gemma2", &corpus, &path(out), more);
    let rows = |printed: &str| -> String {
        let line = printed.lines().find(|line| line.starts_with("rows: "));
        line.unwrap_or_else(|| panic!("{printed}")).to_string()
    };
    printed(&stats("some.stats", &["--tokens", "1000"]));
    let more = printed(&stats("some.stats", &["--tokens", "3000"]));
    let afresh = printed(&stats("afresh.stats", &["--tokens", "3000"]));
    assert_eq!(rows(&more), rows(&afresh));
    // A text that grew and whose last line was completed.
    let (last, others) = (text.lines().count() - 1, text.lines());
    let completed: String = others.take(last).map(|line| line.to_string() + "\n").collect();
    std::fs::write(
        &corpus,
        completed + "{\"text\": \"the end\"}\n{\"text\": \"and more\"}\n",
    )
    .unwrap();
    let grown = printed(&stats("some.stats", &[]));
    assert!(grown.contains("301 documents"), "{grown}");
    // A text with another beginning.
    std::fs::write(&corpus, format!("{{\"text\": \"something else\"}}\n{text}")).unwrap();
    let refused = error_of(&stats("some.stats", &[]));
    assert!(refused.contains("is the checkpoint of other text"), "{refused}");
    let shard = error_of(&stats("some.stats", &["--shard", "1/2"]));
    assert!(shard.contains("shard: found 0/1, expected 1/2"), "{shard}");
    let pairs = error_of(&stats("some.stats", &["--pairs", "0:0"]));
    assert!(pairs.contains("checkpoint of another job"), "{pairs}");
}

#[test]
fn some_pairs_of_statistics_are_fitted_and_missing_shards_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = write_corpus(dir.path(), 150);
    let path = |name: &str| dir.path().join(name);
    let text = |path: &std::path::Path| path.to_str().unwrap().to_string();
    let fit = |out: &str, stats: &[&str], more: &[&str]| {
        let out = text(&path(out));
        run(
            "mapper",
            &[&["fit", "--ridge", "0.01", "--out", &out, "--stats"], stats, more].concat(),
        )
    };
    let whole = path("whole.stats");
    printed(&mapper_pair(
        "stats",
        "tiny-llama",
        "tiny-gemma2",
        &corpus,
        &whole,
        &["--pairs", "all"],
    ));
    let whole = text(&whole);
    printed(&fit("some.toml", &[&whole], &["--pairs", "2:1,0:3"]));
    let some = MapFile::load(&path("some.toml")).unwrap();
    let direct = path("direct.toml");
    let more = ["--pairs", "2:1,0:3", "--ridge", "0.01"];
    printed(&mapper_pair(
        "fit",
        "tiny-llama",
        "tiny-gemma2",
        &corpus,
        &direct,
        &more,
    ));
    let apart = difference(&some, &MapFile::load(&direct).unwrap());
    assert!(some.pairs().len() == 2 && apart < 1e-6, "{apart:e}");
    let none = error_of(&fit("x.toml", &[&whole], &["--pairs", "0+1:3"]));
    assert!(
        none.contains("found 0+1:3, expected one of the pairs in the statistics"),
        "{none}"
    );
    for option in [
        ["--tokens", "5"],
        ["--window", "99"],
        ["--dtype", "f16"],
        ["--held-out-rows", "9"],
    ] {
        let refused = error_of(&fit("x.toml", &[&whole], &option));
        assert!(
            refused.contains(option[0]) && refused.contains("cannot be used with"),
            "{refused}"
        );
    }
    let one = path("one.stats");
    printed(&mapper_pair(
        "stats",
        "tiny-llama",
        "tiny-gemma2",
        &corpus,
        &one,
        &["--shard", "1/3"],
    ));
    let one = text(&one);
    let missing = error_of(&fit("x.toml", &[&one], &[]));
    assert!(missing.contains("shards 0/3, 2/3 of corpus.jsonl"), "{missing}");
    let sum = text(&path("sum.stats"));
    // The exit status distinguishes a shard that may still come from a permanent error.
    let later = run("mapper", &["merge", &one, "nowhere.stats", "--out", &sum]);
    assert_eq!(later.status.code(), Some(75), "{}", error_of(&later));
    let broken = path("broken.stats");
    std::fs::write(&broken, "no statistics").unwrap();
    let wrong = run("mapper", &["merge", &one, &text(&broken), "--out", &sum]);
    assert_eq!(wrong.status.code(), Some(1), "{}", error_of(&wrong));
    let missing = error_of(&run("mapper", &["merge", &one, "--out", &sum]));
    assert!(missing.contains("--partial"), "{missing}");
    assert!(!path("x.toml").exists() && !path("sum.stats").exists());
    printed(&run("mapper", &["merge", &one, "--partial", "--out", &sum]));
}

#[test]
fn a_plan_estimates_the_cost_and_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (corpus, out) = (write_corpus(dir.path(), 300), dir.path().join("map.toml"));
    let plan = printed(&mapper_pair(
        "fit",
        "tiny-llama",
        "tiny-gemma2",
        &corpus,
        &out,
        &["--plan"],
    ));
    assert!(plan.contains("plan: 4 layer pairs, about") && plan.contains("memory: ") && plan.contains("disk: "));
    assert!(!out.exists() && !dir.path().join("map.checkpoint.stats").exists());
    // The estimate, from the first windows, is near the result.
    let planned = plan
        .split("about ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .unwrap();
    let planned: f64 = planned.replace(',', "").parse().unwrap();
    printed(&mapper_pair("fit", "tiny-llama", "tiny-gemma2", &corpus, &out, &[]));
    let positions = MapFile::load(&out).unwrap().header().positions.clone().unwrap();
    let found = (positions.paired + positions.outliers) as f64;
    assert!((planned / found - 1.0).abs() < 0.1, "{planned} planned, {found} found");
}

/// The unit of work is a window: a document of any length is processed like its lines.
#[test]
fn one_long_line_counts_like_many_short_ones() {
    let dir = tempfile::tempdir().unwrap();
    let lines: Vec<String> = (0..400)
        .map(|i| format!("line {i} the cat sat on a mat and then ran to see"))
        .collect();
    let (long, short) = (dir.path().join("long.txt"), dir.path().join("short.txt"));
    std::fs::write(&long, lines.join(" ")).unwrap();
    std::fs::write(&short, lines.join("\n\n")).unwrap();
    let rows = |corpus: &std::path::Path, out: &str| -> f64 {
        let out = dir.path().join(out);
        let printed = printed(&mapper_pair(
            "stats",
            "tiny-llama",
            "tiny-llama",
            corpus,
            &out,
            // Within the tiny model's context; a token is a byte.
            &["--pairs", "0:0", "--window", "256"],
        ));
        let rows = printed
            .split(" rows")
            .next()
            .and_then(|before| before.rsplit(' ').next());
        rows.and_then(|rows| rows.parse().ok())
            .unwrap_or_else(|| panic!("{printed}"))
    };
    // Text beyond the context is cut, and this is reported.
    let out = dir.path().join("cut.stats");
    let cut = printed(&mapper_pair(
        "stats",
        "tiny-llama",
        "tiny-llama",
        &long,
        &out,
        &["--pairs", "0:0"],
    ));
    assert!(
        cut.contains("windows of text were longer than a model's context"),
        "{cut}"
    );
    let (long, short) = (rows(&long, "long.stats"), rows(&short, "short.stats"));
    // Each text's first position is left out, and the spaces between lines are read in the long one.
    assert!(short < long && long < short + 3.0 * 400.0, "{long}, {short}");
}

/// Maps of low rank and in half precision are written, applied and measured in that form.
#[test]
fn maps_of_low_rank_and_in_half_precision() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = write_corpus(dir.path(), 150);
    let text = |path: &std::path::Path| path.to_str().unwrap().to_string();
    let fit = |name: &str, more: &[&str]| {
        let out = dir.path().join(name);
        let more = [&["--pairs", "3:3", "--ridge", "0.01"], more].concat();
        let printed = printed(&mapper_pair("fit", "tiny-llama", "tiny-gemma2", &corpus, &out, &more));
        (MapFile::load(&out).unwrap(), printed, out)
    };
    let (full, _, _) = fit("full.toml", &[]);
    let rank = full.pairs()[0].map.rows().min(full.pairs()[0].map.columns());
    // Full rank gives the same map.
    let (all, _, _) = fit("all.toml", &["--rank", &rank.to_string()]);
    let state: Vec<f32> = (0..full.pairs()[0].map.columns()).map(|i| (i as f32).sin()).collect();
    let mapped = |map: &MapFile| map.pairs()[0].map.load().unwrap().linear(&state);
    assert_close(&mapped(&all), &mapped(&full), "all ranks");
    // A low rank gives a smaller and less accurate map, and the quality at each rank is reported.
    let (few, printed_few, out) = fit("few.toml", &["--rank", "2", "--map-dtype", "bf16"]);
    let (pair, whole) = (&few.pairs()[0], &full.pairs()[0]);
    assert!(pair.map.bytes() < whole.map.bytes() / 4);
    assert!(
        pair.fit.r2 < whole.fit.r2 && pair.fit.r2 > 0.0,
        "{} of {}",
        pair.fit.r2,
        whole.fit.r2
    );
    let by_rank = &pair.fit.r2_by_rank;
    let at = |rank: u64| by_rank.iter().find(|of| of.rank == rank).unwrap().r2;
    assert!(
        at(1) < at(2) && (at(rank as u64) - whole.fit.r2).abs() < 1e-6,
        "{by_rank:?}"
    );
    // R² is that of the weights as written.
    assert!((at(2) - pair.fit.r2).abs() < 0.02 && at(2) != pair.fit.r2);
    assert!(printed_few.contains("R2 on held-out text by rank"), "{printed_few}");
    let inspected = printed(&run("mapper", &["inspect", &text(&out)]));
    assert!(
        inspected.contains("low-rank") && inspected.contains("bf16"),
        "{inspected}"
    );
    let vector = save_reference_vector("tiny-llama", dir.path());
    let applied = dir.path().join("applied.toml");
    let (map, vector, to) = (text(&out), text(&vector), text(&applied));
    printed(&run(
        "mapper",
        &["apply", "--map", &map, "--vector", &vector, "--out", &to],
    ));
    let native = VectorFile::load(std::path::Path::new(&vector)).unwrap();
    let expected = pair.map.load().unwrap().linear(native.direction(3).unwrap());
    assert_close(
        VectorFile::load(&applied).unwrap().direction(3).unwrap(),
        &expected,
        "applied",
    );
    let (auto, _, _) = fit("auto.toml", &["--rank", "auto"]);
    assert!(auto.pairs()[0].fit.r2 > whole.fit.r2 - 0.05);
    let out = dir.path().join("none.toml");
    let more = ["--pairs", "3:3", "--rank", "9999"];
    let refused = error_of(&mapper_pair("fit", "tiny-llama", "tiny-gemma2", &corpus, &out, &more));
    assert!(refused.contains("rank: found 9999, expected 1 to"), "{refused}");
    assert!(!out.exists());
}

/// A map of shuffled pairings predicts nothing, and is a control for `mapper eval`.
#[test]
fn a_shuffled_control_is_fitted_beside_the_map() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = write_corpus(dir.path(), 300);
    let out = dir.path().join("map.toml");
    let more = ["--pairs", "1:1,2:2", "--shuffle-control"];
    let text = printed(&mapper_pair("fit", "tiny-llama", "tiny-gemma2", &corpus, &out, &more));
    let control = dir.path().join("map.shuffled.toml");
    assert!(text.contains("map.shuffled.toml"), "{text}");
    let [whole, shuffled] = [&out, &control].map(|path| MapFile::load(path).unwrap());
    assert_eq!(whole.pairs().len(), shuffled.pairs().len());
    for (whole, shuffled) in whole.pairs().iter().zip(shuffled.pairs()) {
        assert_eq!(whole.layers(), shuffled.layers());
        let (good, none) = (whole.fit.r2, shuffled.fit.r2);
        assert!(
            none < 0.05 && good > none + 0.1,
            "{}: {good} and {none}",
            whole.layers()
        );
    }
}
