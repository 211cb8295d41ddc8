//! `mapper eval` with wrong input, and interrupted.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};
use steermap_fit::stats::Split;
use steermap_report::result::Evaluation;
use steermap_tests::eval::{EvalReference, MAP, eval, report, write_task, write_text};
use steermap_tests::maps::printed;
use steermap_tests::project;
use steermap_tests::run::{error_of, interrupted};

/// A folder with the task mood and a little text.
fn prepare(folder: &Path) {
    write_task(&folder.join("tasks"), "mood", "");
    write_text(&folder.join("text.jsonl"), &EvalReference::load().documents[..2]);
}

fn quick(folder: &Path, more: &[&str]) -> Command {
    let map = project(MAP).canonicalize().unwrap();
    let mut few = vec!["--unseen-text", "--alphas", "relative:-0.1:0.1:0.1", "--random", "2"];
    few.extend(["--control-draws", "5", "--control-items", "4", "--half-samples", "2"]);
    if !more.contains(&"--layers") {
        few.extend(["--layers", "7"]);
    }
    eval(folder, &map, "stories-260k", "stories-3m", &[&few, more].concat())
}

/// The error of a run that must fail and write no report.
fn refused(folder: &Path, command: &mut Command) -> String {
    let error = error_of(&command.output().unwrap());
    assert!(report(folder).is_none(), "{error}");
    error
}

/// Rewrites the items of the task mood, line by line.
fn edit(folder: &Path, change: impl Fn(usize, Value) -> String) {
    let path = folder.join("tasks/mood.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let line = |(index, line): (usize, &str)| change(index, serde_json::from_str(line).unwrap()) + "\n";
    std::fs::write(&path, text.lines().enumerate().map(line).collect::<String>()).unwrap();
}

fn assert_contains(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text:?}");
    }
}

#[test]
fn wrong_input_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();

    prepare(folder);
    edit(folder, |index, line| {
        if index == 2 {
            "{\"prompt\": 3".into()
        } else {
            line.to_string()
        }
    });
    assert_contains(&refused(folder, &mut quick(folder, &[])), &["mood.jsonl, line 3"]);

    prepare(folder);
    edit(folder, |index, mut line| {
        if index == 4 {
            line.as_object_mut().unwrap().insert("positve".into(), " great".into());
        }
        line.to_string()
    });
    assert_contains(
        &refused(folder, &mut quick(folder, &[])),
        &["mood.jsonl, line 5", "positve"],
    );

    // A half without items: by its lines, and by their number.
    for half in ["find", "measure"] {
        prepare(folder);
        edit(folder, |_, mut line| {
            line.as_object_mut().unwrap().insert("half".into(), half.into());
            line.to_string()
        });
        let other = if half == "find" { "measuring" } else { "finding" };
        assert_contains(&refused(folder, &mut quick(folder, &[])), &["mood.jsonl", other]);
    }
    prepare(folder);
    edit(folder, |index, mut line| {
        if index == 0 {
            line.as_object_mut().unwrap().insert("half".into(), "find".into());
        }
        line.to_string()
    });
    assert_contains(&refused(folder, &mut quick(folder, &[])), &["mood.jsonl", "half"]);

    prepare(folder);
    std::fs::write(folder.join("tasks/mood.jsonl"), "").unwrap();
    assert_contains(&refused(folder, &mut quick(folder, &[])), &["mood.jsonl"]);

    prepare(folder);
    std::fs::remove_file(folder.join("tasks/mood.jsonl")).unwrap();
    assert_contains(&refused(folder, &mut quick(folder, &[])), &["mood.jsonl"]);

    prepare(folder);
    let toml = folder.join("tasks/mood.toml");
    let text = std::fs::read_to_string(&toml).unwrap();
    std::fs::write(&toml, text.clone() + "colour = \"red\"\n").unwrap();
    assert_contains(&refused(folder, &mut quick(folder, &[])), &["mood.toml", "colour"]);
    std::fs::write(&toml, text.replace("steermap-task/1", "steermap-task/9")).unwrap();
    assert_contains(
        &refused(folder, &mut quick(folder, &[])),
        &["mood.toml", "steermap-task/9"],
    );

    std::fs::remove_dir_all(folder.join("tasks")).unwrap();
    std::fs::create_dir(folder.join("tasks")).unwrap();
    assert_contains(&refused(folder, &mut quick(folder, &[])), &["tasks"]);
}

#[test]
fn answers_that_tokenize_alike_are_never_measured_silently() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    let alike = |mut line: Value| {
        line["negative"] = line["positive"].clone();
        line.to_string()
    };
    // An item of the measuring half.
    prepare(folder);
    edit(
        folder,
        |index, line| if index == 40 { alike(line) } else { line.to_string() },
    );
    let output = quick(folder, &[]).output().unwrap();
    if output.status.success() {
        let found = report(folder).unwrap();
        assert_eq!((found.tasks[0].finding, found.tasks[0].measuring), (30, 29));
        assert!(
            found
                .notes
                .iter()
                .any(|note| note.contains("mood") && note.contains("token")),
            "{:?}",
            found.notes
        );
        std::fs::remove_dir_all(folder.join("report")).unwrap();
    } else {
        assert_contains(&error_of(&output), &["41"]);
    }
    // All items: nothing is left to measure in a run of one task; beside another task it may be skipped.
    prepare(folder);
    edit(folder, |_, line| alike(line));
    assert_contains(&refused(folder, &mut quick(folder, &[])), &["mood"]);
    write_task(&folder.join("tasks"), "tense", "");
    let output = quick(folder, &[]).output().unwrap();
    if output.status.success() {
        let found = report(folder).unwrap();
        let names: Vec<&str> = found.tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["tense"]);
        assert!(
            found.failed.iter().any(|failed| failed.name == "mood"),
            "{:?}",
            found.failed
        );
    } else {
        assert_contains(&error_of(&output), &["mood"]);
    }
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    prepare(folder);
    assert_contains(
        &refused(folder, &mut quick(folder, &["--layers", "99"])),
        &["layers", "99"],
    );
    // A layer that the model has but the map does not reach.
    assert_contains(
        &refused(folder, &mut quick(folder, &["--layers", "5"])),
        &["layers", "5"],
    );

    let map = project(MAP).canonicalize().unwrap();
    let other =
        |source: &str, target: &str| refused(folder, &mut eval(folder, &map, source, target, &["--unseen-text"]));
    assert_contains(&other("stories-260k", "stories-800k"), &["target", "stories-3m"]);
    assert_contains(&other("stories-800k", "stories-3m"), &["source", "stories-260k"]);
    assert_contains(&other("stories-3m", "stories-260k"), &["stories-260k"]);

    // A grid that never ends, or no grid: neither a panic nor a default.
    for alphas in ["relative:0.2:-0.2:0.1", "-20:20:0", "relative:-0.1:0.1:x", "1:nan:1"] {
        assert_contains(&refused(folder, &mut quick_alphas(folder, alphas)), &["alphas"]);
    }
    let nowhere = folder.join("nowhere.toml");
    let error = refused(folder, &mut eval(folder, &nowhere, "stories-260k", "stories-3m", &[]));
    assert_contains(&error, &["nowhere.toml"]);
    std::fs::remove_file(folder.join("text.jsonl")).unwrap();
    assert_contains(&refused(folder, &mut quick(folder, &[])), &["text.jsonl"]);
}

fn quick_alphas(folder: &Path, alphas: &str) -> Command {
    let map = project(MAP).canonicalize().unwrap();
    let argument = format!("--alphas={alphas}");
    eval(
        folder,
        &map,
        "stories-260k",
        "stories-3m",
        &[&argument, "--random", "2", "--layers", "7", "--unseen-text"],
    )
}

/// Asserts that values are equal up to rounding (batches are formed by chance, so sums are taken in another order).
/// Dates and durations are left out.
fn alike(a: &Value, b: &Value, at: &str) {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= 1e-3 * a.abs().max(1.0), "{at}: {a} against {b}");
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len(), "{at}");
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                alike(a, b, &format!("{at}[{i}]"));
            }
        }
        (Value::Object(a), Value::Object(b)) => {
            assert!(a.keys().eq(b.keys()), "{at}");
            for (key, value) in a {
                if !(at == "run" && ["date", "seconds"].contains(&key.as_str())) {
                    let at = if at.is_empty() {
                        key.clone()
                    } else {
                        format!("{at}.{key}")
                    };
                    alike(value, &b[key], &at);
                }
            }
        }
        // Numbers in sentences are rounded.
        (Value::String(a), Value::String(b)) => {
            let words = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
            assert_eq!(words(a), words(b), "{at}");
        }
        (a, b) => assert_eq!(a, b, "{at}"),
    }
}

fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<String> = entries.map(name).collect();
    names.sort();
    names
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_measurements_and_the_same_command_continues() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, stopped) = (dir.path().join("whole"), dir.path().join("stopped"));
    for folder in [&whole, &stopped] {
        for name in ["mood", "tense", "gender"] {
            write_task(&folder.join("tasks"), name, "");
        }
        write_text(&folder.join("text.jsonl"), &EvalReference::load().documents);
    }
    // The same arguments in both folders, so that the reports name the same command.
    let command = |folder: &Path| {
        let map = project(MAP).canonicalize().unwrap();
        let more = ["--layers", "7", "--unseen-text", "--alphas", "relative:-0.2:0.2:0.02"];
        eval(folder, &map, "stories-260k", "stories-3m", &more)
    };
    printed(&command(&whole).output().unwrap());

    let child = command(&stopped)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // When the first unit of work is in the journal, after its header, the second of three tasks has not begun.
    let journal = stopped.join("report/eval.journal");
    let deadline = Instant::now() + Duration::from_secs(300);
    let units = || std::fs::read_to_string(&journal).map_or(0, |text| text.matches('\n').count().saturating_sub(1));
    while units() == 0 {
        assert!(Instant::now() < deadline, "nothing was measured");
        std::thread::yield_now();
    }
    let text = interrupted(child);
    assert!(text.contains("run the same command to continue"), "{text}");
    assert!(report(&stopped).is_none());

    printed(&command(&stopped).output().unwrap());
    let found: [Evaluation; 2] = [&whole, &stopped].map(|folder| report(folder).unwrap());
    let [a, b] = found.map(|report| serde_json::to_value(report).unwrap());
    alike(&a, &b, "");
    // Nothing is left of the interrupted run.
    assert_eq!(files(&whole.join("report")), files(&stopped.join("report")));
}

/// A failing task does not fail the others.
#[test]
fn a_failing_task_is_reported_and_the_others_continue() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    prepare(folder);
    write_task(&folder.join("tasks"), "tense", "");
    // The sides are exchanged between pairs, so there is no direction.
    let pair =
        |positive: &str, negative: &str| format!("{{\"positive\": \"{positive}\", \"negative\": \"{negative}\"}}\n");
    let pairs = pair("a cat", "a dog") + &pair("a dog", "a cat");
    std::fs::write(folder.join("tasks/tense.pairs.jsonl"), pairs).unwrap();
    let text = printed(&quick(folder, &[]).output().unwrap());
    assert!(text.contains("tense"), "{text}");
    let found = report(folder).unwrap();
    let names: Vec<&str> = found.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["mood"]);
    assert_eq!(found.failed.len(), 1);
    assert_contains(&found.failed[0].reason, &["does not separate the sides"]);
    let page = std::fs::read_to_string(folder.join("report/report.html")).unwrap();
    assert_contains(&page, &["tense", "does not separate the sides"]);

    // The report is drawn again from its numbers.
    std::fs::remove_file(folder.join("report/report.html")).unwrap();
    let out = folder.join("report");
    printed(&steermap_tests::run::run("mapper", &["report", out.to_str().unwrap()]));
    assert_eq!(
        std::fs::read_to_string(folder.join("report/report.html")).unwrap(),
        page
    );
    std::fs::write(folder.join("report/report.json"), "{\"format\": \"steermap-eval/9\"}").unwrap();
    let error = error_of(&steermap_tests::run::run("mapper", &["report", out.to_str().unwrap()]));
    assert_contains(&error, &["report.json", "steermap-eval/9", "steermap-eval/2"]);
}

#[test]
fn the_default_layers_are_the_middle_of_the_target() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    prepare(folder);
    // The map reaches layer 7 of 8.
    let error = refused(folder, &mut quick(folder, &["--layers", "band"]));
    assert_contains(&error, &["layers", "7", "2 to 5", "--layers all"]);
    // Text without any document that the fit would have held out.
    let documents = (0..).map(|number| format!("This is document {number}."));
    let seen: Vec<String> = documents
        .filter(|text| Split::of(&Sha256::digest(text.as_bytes()).into()) != Split::Test)
        .take(3)
        .collect();
    write_text(&folder.join("text.jsonl"), &seen);
    let map = project(MAP).canonicalize().unwrap();
    let mut command = eval(folder, &map, "stories-260k", "stories-3m", &["--layers", "7"]);
    assert_contains(&refused(folder, &mut command), &["text.jsonl", "--unseen-text"]);
}
