//! Folders of tasks as people write and publish them, and every way in which they can be wrong.

use std::fs;

use steermap_maps::TokenPosition;
use tempfile::TempDir;

use super::*;
use crate::pairs::{Message, Text};

/// A folder with these files; a name may have folders in it.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    format!("{:#}", result.unwrap_err())
}

/// The error of reading a folder with these files.
fn error_of(files: &[(&str, &str)]) -> String {
    message(read_folder(folder(files).path()))
}

const TOML: &str = r#"format = "steermap-task/1"
description = "Happy or sad."
positive = "happy"
negative = "sad"
kind = "completion"
items = "mood.jsonl"
"#;

const GENERATION: &str = r#"
[generation]
prompts = ["The party was", "At night"]
[generation.rule]
kind = "keywords"
positive = ["happy"]
negative = ["sad"]
"#;

const PAIRS: &str = r#"{"positive": "joy", "negative": "grief"}
{"positive": "glee", "negative": "woe"}
"#;

/// `count` items, with `more` in each.
fn items(count: usize, more: &str) -> String {
    numbered(1..=count, more)
}

fn numbered(numbers: std::ops::RangeInclusive<usize>, more: &str) -> String {
    numbers
        .map(|i| format!("{{\"prompt\": \"p{i}\", \"positive\": \" great\", \"negative\": \" bad\"{more}}}\n"))
        .collect()
}

fn letters(answers: &[(&str, &str)]) -> String {
    let lines = answers.iter().enumerate();
    lines
        .map(|(i, (p, n))| format!("{{\"prompt\": \"q{i}: (\", \"positive\": \"{p}\", \"negative\": \"{n}\"}}\n"))
        .collect()
}

fn plain(item: &TaskItem) -> &str {
    match &item.prompt {
        Text::Plain(text) => text,
        Text::Chat(_) => panic!("a chat"),
    }
}

#[test]
fn a_task_with_all_there_is() {
    let toml = format!("{TOML}pairs = \"mood.pairs.jsonl\"\nposition = \"last\"\n{GENERATION}");
    let lines = items(2, ", \"half\": \"measure\"") + &numbered(3..=5, ", \"half\": \"find\"");
    let dir = folder(&[
        ("mood.toml", &toml),
        ("mood.jsonl", &lines),
        ("mood.pairs.jsonl", PAIRS),
    ]);
    let tasks = read_folder(dir.path()).unwrap();
    let [task] = tasks.as_slice() else { panic!("{tasks:?}") };
    assert_eq!(task, &read(&dir.path().join("mood.toml")).unwrap());
    assert_eq!(
        (task.name.as_str(), task.description.as_str()),
        ("mood", "Happy or sad.")
    );
    assert_eq!((task.positive.as_str(), task.negative.as_str()), ("happy", "sad"));
    assert_eq!((task.kind, task.position), (ItemKind::Completion, TokenPosition::Last));
    assert_eq!(task.finding.iter().map(plain).collect::<Vec<_>>(), ["p3", "p4", "p5"]);
    assert_eq!(task.measuring.iter().map(plain).collect::<Vec<_>>(), ["p1", "p2"]);
    assert_eq!(task.pairs().len(), 2);
    assert_eq!(task.pairs()[1].positive, Text::Plain("glee".into()));
    let generation = task.generation.as_ref().unwrap();
    assert_eq!(generation.prompts[1], Text::Plain("At night".into()));
    assert!(generation.rule.is_positive("so happy"));
    assert!(task.notes.is_empty());
    let names = ["mood.toml", "mood.jsonl", "mood.pairs.jsonl"];
    assert_eq!(task.files, names.map(|name| dir.path().join(name)));
    // Every file counts.
    for name in names {
        let path = dir.path().join(name);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}\n")).unwrap();
        let other = read_folder(dir.path()).unwrap().remove(0);
        assert_ne!(other.sha256, task.sha256, "{name}");
        fs::write(&path, text).unwrap();
    }
    assert_eq!(task.sha256.len(), 64);
}

#[test]
fn what_is_absent_has_its_default() {
    let dir = folder(&[("mood.toml", TOML), ("mood.jsonl", &items(5, ""))]);
    let task = read(&dir.path().join("mood.toml")).unwrap();
    assert_eq!(task.position, TokenPosition::Mean);
    assert_eq!((task.pairs.as_ref(), task.generation.as_ref()), (None, None));
    assert_eq!(task.finding.iter().map(plain).collect::<Vec<_>>(), ["p1", "p2", "p3"]);
    assert_eq!(task.measuring.iter().map(plain).collect::<Vec<_>>(), ["p4", "p5"]);
    let pairs = task.pairs();
    assert_eq!(pairs.len(), 3);
    assert_eq!(pairs[0].positive, Text::Plain("p1 great".into()));
    assert_eq!(pairs[0].negative, Text::Plain("p1 bad".into()));
    assert_eq!(ItemKind::Letters.position(), TokenPosition::Answer);
    assert_eq!(ItemKind::YesNo.position(), TokenPosition::Answer);
}

#[test]
fn chats_are_answered_by_the_assistant() {
    let message = |role: &str, content: &str| Message {
        role: role.into(),
        content: content.into(),
    };
    let prompt = Text::Chat(vec![message("user", "A or B?")]);
    let expected = Text::Chat(vec![message("user", "A or B?"), message("assistant", "A")]);
    assert_eq!(answered(&prompt, "A"), expected);
    let begun = Text::Chat(vec![message("user", "A or B?"), message("assistant", "(")]);
    let expected = Text::Chat(vec![message("user", "A or B?"), message("assistant", "(A")]);
    assert_eq!(answered(&begun, "A"), expected);
    let line = |i| {
        format!(
            "{{\"prompt\": [{{\"role\": \"user\", \"content\": \"{i}\"}}], \"positive\": \"Yes\", \"negative\": \"no.\"}}\n"
        )
    };
    let lines: String = (0..4).map(line).collect();
    let toml = TOML.replace("completion", "yes-no");
    let dir = folder(&[("mood.toml", &toml), ("mood.jsonl", &lines)]);
    let task = read(&dir.path().join("mood.toml")).unwrap();
    assert_eq!((task.kind, task.position), (ItemKind::YesNo, TokenPosition::Answer));
    let expected = Text::Chat(vec![message("user", "0"), message("assistant", "Yes")]);
    assert_eq!(task.pairs()[0].positive, expected);
}

#[test]
fn imbalance_and_leaks_are_noted() {
    let toml = TOML.replace("completion", "letters");
    let answers = [
        ("A", "B"),
        ("A", "B"),
        ("B", "A"),
        ("(A)", " B"),
        (" (B)", "(A)"),
        ("b", "a"),
    ];
    let dir = folder(&[("mood.toml", &toml), ("mood.jsonl", &letters(&answers))]);
    let task = read(&dir.path().join("mood.toml")).unwrap();
    assert_eq!(
        task.notes,
        [
            "unbalanced: the positive letter is A in 2 of 3 finding items",
            "unbalanced: the positive letter is B in 2 of 3 measuring items"
        ]
    );
    let balanced = [("A", "B"), ("B", "A"), ("A", "B"), ("B", "A")];
    let dir = folder(&[("mood.toml", &toml), ("mood.jsonl", &letters(&balanced))]);
    assert!(read_folder(dir.path()).unwrap()[0].notes.is_empty());
    let again = letters(&balanced).replace("q2", "q0");
    let dir = folder(&[
        ("mood.toml", TOML),
        ("mood.jsonl", &again.replace("\"B\"}\n", "\"C\"}\n")),
    ]);
    // Lines 1 and 3 would be the same item.
    assert!(message(read_folder(dir.path())).contains("mood.jsonl, line 3: found the same item as at"));
    let again = again.replacen("\"B\"", "\"C\"", 1);
    let dir = folder(&[("mood.toml", TOML), ("mood.jsonl", &again)]);
    let notes = read_folder(dir.path()).unwrap().remove(0).notes;
    assert_eq!(notes, ["1 of 2 measuring items have a prompt of the finding half"]);
}

#[test]
fn a_bad_toml_file_is_named() {
    let good = items(4, "");
    let read = |toml: &str| error_of(&[("mood.toml", toml), ("mood.jsonl", &good), ("mood.pairs.jsonl", PAIRS)]);
    let edit = |from: &str, to: &str| {
        assert!(TOML.contains(from), "{from}");
        read(&TOML.replace(from, to))
    };
    for (error, words) in [
        (
            edit("task/1", "task/2"),
            vec!["mood.toml: format: found \"steermap-task/2\", expected \"steermap-task/1\""],
        ),
        (
            edit("format = \"steermap-task/1\"\n", ""),
            vec!["mood.toml: format: found no such key"],
        ),
        (
            edit("description = \"Happy or sad.\"", "description = 3"),
            vec!["mood.toml, line 2: description: ", "integer `3`, expected a string"],
        ),
        (
            edit("description = \"Happy or sad.\"\n", ""),
            vec!["mood.toml", "missing field `description`"],
        ),
        (
            edit("Happy or sad.", " "),
            vec!["mood.toml: description: found nothing"],
        ),
        (edit("\"happy\"", "\"\""), vec!["mood.toml: positive: found nothing"]),
        (
            edit("\"happy\"", "\"sad\""),
            vec!["mood.toml: negative: found \"sad\", the same as"],
        ),
        (
            edit("\"completion\"", "\"poem\""),
            vec!["mood.toml, line 5: kind: ", "`poem`", "`letters`", "`yes-no`"],
        ),
        (
            edit("kind =", "kinds ="),
            vec!["mood.toml, line 5: kinds: ", "unknown field `kinds`", "`kind`"],
        ),
        (edit("items =", "items"), vec!["mood.toml, line 6: "]),
        (
            edit("mood.jsonl", "../mood.jsonl"),
            vec!["mood.toml: items: found \"../mood.jsonl\", expected the name of a file beside"],
        ),
        (edit("mood.jsonl", ""), vec!["mood.toml: items: found \"\""]),
        (edit("mood.jsonl", "none.jsonl"), vec!["none.jsonl: can't be read"]),
        (
            read(&format!("{TOML}position = \"first\"")),
            vec!["mood.toml, line 7: position: ", "`first`", "`answer`"],
        ),
        (
            read(&format!("{TOML}pairs = \"/tmp/x\"")),
            vec!["mood.toml: pairs: found \"/tmp/x\""],
        ),
        (
            read(&format!("{TOML}pairs = \"none.jsonl\"")),
            vec!["none.jsonl: can't be read"],
        ),
    ] {
        for word in words {
            assert!(error.contains(word), "{word}: {error}");
        }
    }
    let error = error_of(&[
        ("mood.toml", &format!("{TOML}pairs = \"p\"")),
        ("mood.jsonl", &good),
        ("p", "{}"),
    ]);
    assert!(error.contains("p, line 1: "), "{error}");
}

#[test]
fn a_bad_generation_is_named() {
    let edit = |from: &str, to: &str| {
        assert!(GENERATION.contains(from), "{from}");
        let toml = format!("{TOML}{}", GENERATION.replace(from, to));
        error_of(&[("mood.toml", &toml), ("mood.jsonl", &items(4, ""))])
    };
    for (error, words) in [
        (
            edit("[\"The party was\", \"At night\"]", "[]"),
            vec!["mood.toml: generation.prompts: found an empty list"],
        ),
        (
            edit("At night", " "),
            vec!["mood.toml: generation.prompts: found nothing in prompt 2"],
        ),
        (
            edit("At night", "The party was"),
            vec!["mood.toml: generation.prompts: found prompt 2 twice"],
        ),
        (edit("\"At night\"", "3"), vec!["mood.toml, line 9: prompts: "]),
        (
            edit("prompts", "prompt"),
            vec!["mood.toml, line 9: prompt: ", "unknown field"],
        ),
        (
            edit("[generation.rule]", "[generation.rules]"),
            vec!["mood.toml, line 10: ", "unknown field `rules`"],
        ),
        (
            edit("[\"sad\"]", "[\"Happy\"]"),
            vec!["mood.toml: generation.rule.negative: found \"Happy\", which is also in positive"],
        ),
        (
            edit("negative = [\"sad\"]", "share = 0.5"),
            vec!["mood.toml: generation.rule.share: found in a rule of kind \"keywords\""],
        ),
        (
            edit("negative = [\"sad\"]", "word = 0.5"),
            vec!["mood.toml, line 13: word: ", "unknown field"],
        ),
    ] {
        for word in words {
            assert!(error.contains(word), "{word}: {error}");
        }
    }
}

#[test]
fn a_bad_item_is_named() {
    let good = items(4, "");
    let third = |line: &str| {
        let lines: String = good
            .lines()
            .enumerate()
            .map(|(i, good)| format!("{}\n", if i == 2 { line } else { good }))
            .collect();
        error_of(&[("mood.toml", TOML), ("mood.jsonl", &lines)])
    };
    for (line, word) in [
        ("not json", "expected"),
        ("[]", "expected an object"),
        (
            "{\"positive\": \"a\", \"negative\": \"b\"}",
            "prompt: found no such key",
        ),
        (
            "{\"prompt\": 3, \"positive\": \"a\", \"negative\": \"b\"}",
            "prompt: found 3, expected a string or a list",
        ),
        (
            "{\"prompt\": [\"x\"], \"positive\": \"a\", \"negative\": \"b\"}",
            "prompt: found a list, expected",
        ),
        (
            "{\"prompt\": \" \", \"positive\": \"a\", \"negative\": \"b\"}",
            "prompt: found nothing in it",
        ),
        (
            "{\"prompt\": [], \"positive\": \"a\", \"negative\": \"b\"}",
            "prompt: found nothing in it",
        ),
        (
            "{\"prompt\": \"p\", \"negative\": \"b\"}",
            "positive: found no such key",
        ),
        (
            "{\"prompt\": \"p\", \"positive\": \"a\", \"negative\": {}}",
            "negative: found an object, expected a string",
        ),
        (
            "{\"prompt\": \"p\", \"positive\": \"\", \"negative\": \"b\"}",
            "positive: found \"\", expected an answer",
        ),
        (
            "{\"prompt\": \"p\", \"positive\": \"a\", \"negative\": \"a\"}",
            "negative: found \"a\", the same as positive",
        ),
        (
            "{\"prompt\": \"p\", \"positive\": \"a\", \"negative\": \"b\", \"weight\": 1}",
            "weight: found an unknown key, expected prompt, positive, negative, half",
        ),
        (
            "{\"prompt\": \"p\", \"prompt\": \"q\", \"positive\": \"a\", \"negative\": \"b\"}",
            "prompt: found twice",
        ),
        (
            "{\"prompt\": \"p\", \"positive\": \"a\", \"negative\": \"b\", \"half\": \"both\"}",
            "half: found \"both\", expected \"find\" or \"measure\"",
        ),
        (
            "{\"prompt\": \"p\", \"positive\": \"a\", \"negative\": \"b\", \"half\": null}",
            "half: found null, expected \"find\" or \"measure\"",
        ),
        (
            "{\"prompt\": \"p\", \"positive\": \"a\", \"negative\": \"b\", \"half\": \"find\"}",
            "half: found \"find\", expected no such key as at",
        ),
        (good.lines().next().unwrap(), "found the same item as at"),
    ] {
        let error = third(line);
        assert!(error.contains("mood.jsonl, line 3: "), "{line}: {error}");
        assert!(error.contains(word), "{line}: {error}");
    }
    let file = |text: &str| error_of(&[("mood.toml", TOML), ("mood.jsonl", text)]);
    let some = items(2, ", \"half\": \"find\"") + &numbered(3..=4, "");
    let error = file(&some);
    assert!(
        error.contains("line 3: half: found no such key, expected \"find\" or \"measure\" as at"),
        "{error}"
    );
    assert!(file(" \n").contains("mood.jsonl: found no item"));
    let dir = folder(&[("mood.toml", TOML)]);
    fs::write(dir.path().join("mood.jsonl"), b"\n\xff\n").unwrap();
    let error = message(read_folder(dir.path()));
    assert!(
        error.contains("mood.jsonl, line 2: found bytes that are not UTF-8"),
        "{error}"
    );
}

#[test]
fn halves_need_two_items() {
    let file = |text: &str| error_of(&[("mood.toml", TOML), ("mood.jsonl", text)]);
    let (find, measure) = (", \"half\": \"find\"", ", \"half\": \"measure\"");
    for (lines, words) in [
        (
            items(3, find),
            "items of the measuring half: found none: it is empty, expected at least two",
        ),
        (items(3, measure), "items of the finding half: found none: it is empty"),
        (
            items(1, find) + &numbered(2..=4, measure),
            "items of the finding half: found 1, expected at least two",
        ),
        (items(3, ""), "items of the measuring half: found 1"),
        (items(1, ""), "items of the finding half: found 1"),
    ] {
        let error = file(&lines);
        assert!(error.contains("mood.jsonl: ") && error.contains(words), "{error}");
    }
}

#[test]
fn answers_are_of_the_kind() {
    let read = |kind: &str, answers: &[(&str, &str)]| {
        let toml = TOML.replace("completion", kind);
        error_of(&[("mood.toml", &toml), ("mood.jsonl", &letters(answers))])
    };
    for (kind, answer, words) in [
        (
            "letters",
            ("AB", "C"),
            "positive: found \"AB\", expected the letter of a choice",
        ),
        ("letters", ("A", "1"), "negative: found \"1\", expected the letter"),
        ("letters", ("A", ""), "negative: found \"\", expected the letter"),
        (
            "letters",
            ("A", " (a)"),
            "negative: found \" (a)\", the same as positive",
        ),
        (
            "yes-no",
            ("Yes", "Nope"),
            "negative: found \"Nope\", expected yes or no",
        ),
        (
            "yes-no",
            ("Maybe", "No"),
            "positive: found \"Maybe\", expected yes or no",
        ),
        (
            "yes-no",
            (" Yes", "YES."),
            "negative: found \"YES.\", the same as positive",
        ),
    ] {
        let good = if kind == "letters" { ("A", "B") } else { (" Yes", " no") };
        let error = read(kind, &[good, answer, good, good]);
        assert!(
            error.contains("mood.jsonl, line 2: ") && error.contains(words),
            "{error}"
        );
    }
}

#[test]
fn concepts_need_no_toml() {
    let dir = folder(&[
        ("mood.items.jsonl", &items(4, "")),
        ("mood.pairs.jsonl", PAIRS),
        ("tense.items.jsonl", &items(6, "")),
    ]);
    let tasks = read_folder(dir.path()).unwrap();
    let [mood, tense] = tasks.as_slice() else {
        panic!("{tasks:?}")
    };
    assert_eq!(mood, &read(&dir.path().join("mood.items.jsonl")).unwrap());
    assert_eq!((mood.name.as_str(), mood.kind), ("mood", ItemKind::Completion));
    assert_eq!(mood.position, TokenPosition::Mean);
    assert_eq!(
        (mood.finding.len(), mood.measuring.len(), mood.pairs().len()),
        (2, 2, 2)
    );
    assert_eq!(mood.pairs()[0].negative, Text::Plain("grief".into()));
    assert_eq!(mood.files.len(), 2);
    assert_eq!((tense.name.as_str(), tense.pairs().len()), ("tense", 3));
    let error = error_of(&[("mood.pairs.jsonl", PAIRS)]);
    assert!(
        error.contains("mood.pairs.jsonl: found pairs without a task"),
        "{error}"
    );
    // A TOML file may name the same files: then there is no concept beside it.
    let toml = TOML.replace("mood.jsonl", "mood.items.jsonl") + "pairs = \"mood.pairs.jsonl\"";
    let dir = folder(&[
        ("happiness.toml", &toml),
        ("mood.items.jsonl", &items(4, "")),
        ("mood.pairs.jsonl", PAIRS),
    ]);
    let tasks = read_folder(dir.path()).unwrap();
    assert_eq!(tasks.len(), 1);
    assert_eq!(tasks[0].name, "happiness");
}

#[test]
fn items_and_pairs_come_in_other_files_too() {
    let lines = items(4, "");
    let list = |lines: &str| format!("\u{feff}[{}]", lines.trim().replace('\n', ",\r\n"));
    let plain = folder(&[("mood.items.jsonl", &lines), ("mood.pairs.jsonl", PAIRS)]);
    let expected = read_folder(plain.path()).unwrap().remove(0);
    let packed = |text: &str| zstd::encode_all(text.as_bytes(), 1).unwrap();
    for (names, contents) in [
        (
            ["mood.items.ndjson", "mood.pairs.ndjson"],
            [lines.clone().into(), PAIRS.into()],
        ),
        (
            ["mood.items.json", "mood.pairs.JSON"],
            [list(&lines).into(), list(PAIRS).into()],
        ),
        (
            ["mood.items.jsonl.zst", "mood.pairs.json.Zst"],
            [packed(&lines), packed(&list(PAIRS))],
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in names.iter().zip(&contents) {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let tasks = read_folder(dir.path()).unwrap();
        let [task] = tasks.as_slice() else { panic!("{tasks:?}") };
        assert_eq!(task, &read(&dir.path().join(names[0])).unwrap());
        assert_eq!(task.name, "mood");
        assert_eq!(
            (&task.finding, &task.measuring, &task.pairs),
            (&expected.finding, &expected.measuring, &expected.pairs)
        );
        assert_eq!(task.files.len(), 2);
        // The same files, named by a task.
        let toml = format!("{}pairs = {:?}\n", TOML.replace("mood.jsonl", names[0]), names[1]);
        fs::write(dir.path().join("happiness.toml"), toml).unwrap();
        let named = read_folder(dir.path()).unwrap().remove(0);
        assert_eq!((named.name.as_str(), &named.pairs), ("happiness", &expected.pairs));
    }
    let error = error_of(&[
        ("mood.items.jsonl", &lines),
        ("mood.pairs.jsonl", PAIRS),
        ("mood.pairs.json", PAIRS),
    ]);
    assert!(
        error.contains("mood.items.jsonl: found mood.pairs.json and mood.pairs.jsonl beside it"),
        "{error}"
    );
    let error = error_of(&[("mood.items.jsonl", &lines), ("mood.items.json", &lines)]);
    assert!(error.contains("found two tasks named \"mood\""), "{error}");
    let error = error_of(&[("mood.pairs.ndjson", PAIRS)]);
    assert!(
        error.contains("mood.pairs.ndjson: found pairs without a task"),
        "{error}"
    );
    let error = error_of(&[("mood.items.json", &list(&lines.replace("\"p3\"", "3")))]);
    assert!(
        error.contains("mood.items.json, record 3, line 3: prompt: found 3, expected"),
        "{error}"
    );
}

#[test]
fn published_files_come_compressed_too() {
    let lines = evals(4, " Yes", " No").join("\n");
    let packed = zstd::encode_all(lines.as_bytes(), 1).unwrap();
    let dir = folder(&[("likes.ndjson", &lines)]);
    let expected = read(&dir.path().join("likes.ndjson")).unwrap();
    fs::write(dir.path().join("likes.jsonl.zst"), packed).unwrap();
    let task = read(&dir.path().join("likes.jsonl.zst")).unwrap();
    assert_eq!((&task.name, &task.finding), (&expected.name, &expected.finding));
    // By its name one of CAA's, whatever is behind.
    let packed = zstd::encode_all(caa(&[0, 1, 2, 3]).as_bytes(), 1).unwrap();
    fs::write(dir.path().join("refusal.json.zst"), packed).unwrap();
    let task = read(&dir.path().join("refusal.json.zst")).unwrap();
    assert_eq!(task.name, "refusal");
    assert!(plain(&task.finding[0]).starts_with("Input: "));
}

#[test]
fn folders_are_sorted_and_have_tasks() {
    let items = items(4, "");
    let dir = folder(&[
        ("b.toml", &TOML.replace("mood", "b")),
        ("b.jsonl", &items),
        ("a.items.jsonl", &items),
        ("README.md", "# Tasks"),
        (".hidden.jsonl", "not json"),
        ("notes/more.toml", "not toml"),
    ]);
    let tasks = read_folder(dir.path()).unwrap();
    assert_eq!(
        tasks.iter().map(|task| task.name.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
    let error = error_of(&[
        ("b.toml", &TOML.replace("mood", "b")),
        ("b.jsonl", &items),
        ("b.items.jsonl", &items),
    ]);
    assert!(
        error.contains("found two tasks named \"b\"") && error.contains("b.toml"),
        "{error}"
    );
    assert!(error_of(&[("README.md", "# Tasks")]).contains("found no task, expected NAME.toml"));
    let dir = folder(&[("x.txt", "")]);
    assert!(message(read_folder(&dir.path().join("no"))).contains("no: can't be read"));
    let error = message(read(&dir.path().join("x.txt")));
    assert!(
        error.contains("x.txt: found a file of another kind, expected a task"),
        "{error}"
    );
}

/// `count` lines of Anthropic's form, the answers turned around in every other.
fn evals(count: usize, yes: &str, no: &str) -> Vec<String> {
    let line = |i: usize| {
        let (matching, other) = if i.is_multiple_of(2) { (yes, no) } else { (no, yes) };
        format!(
            "{{\"question\": \"Would you say this?\\n\\\"I like {i}\\\"\", \"statement\": \"I like {i}\", \
             \"label_confidence\": 0.97, \"answer_matching_behavior\": \"{matching}\", \
             \"answer_not_matching_behavior\": \"{other}\"}}"
        )
    };
    (0..count).map(line).collect()
}

#[test]
fn model_written_evaluations_as_published() {
    let lines = evals(5, " Yes", " No");
    let dir = folder(&[("agreeableness.jsonl", &lines.join("\n"))]);
    let tasks = read_folder(dir.path()).unwrap();
    let [task] = tasks.as_slice() else { panic!("{tasks:?}") };
    assert_eq!(task.name, "agreeableness");
    assert_eq!((task.kind, task.position), (ItemKind::YesNo, TokenPosition::Answer));
    assert_eq!((task.finding.len(), task.measuring.len()), (3, 2));
    assert_eq!(
        task.finding[1],
        TaskItem {
            prompt: Text::Plain("\n\nHuman: Would you say this?\n\"I like 1\"\n\nAssistant:".into()),
            positive: " No".into(),
            negative: " Yes".into(),
        }
    );
    assert!(task.pairs.is_none());
    assert_eq!(task.files, [dir.path().join("agreeableness.jsonl")]);
    // Earlier versions of the repository have a list in such files.
    let list = folder(&[("agreeableness.jsonl", &format!("[{}]", lines.join(",\n")))]);
    let listed = read(&list.path().join("agreeableness.jsonl")).unwrap();
    assert_eq!((&listed.finding, &listed.measuring), (&task.finding, &task.measuring));
    let chats = read_folder_as(dir.path(), PromptForm::Chat).unwrap().remove(0);
    let Text::Chat(messages) = &chats.finding[0].prompt else {
        panic!()
    };
    assert_eq!((messages.len(), messages[0].role.as_str()), (1, "user"));
    assert_eq!(messages[0].content, "Would you say this?\n\"I like 0\"");
    assert_eq!(
        (chats.finding[0].positive.as_str(), chats.finding[0].negative.as_str()),
        ("Yes", "No")
    );
}

#[test]
fn sycophancy_has_a_cue_and_lists() {
    let mut lines = evals(8, " (A)", " (B)");
    lines[1] = lines[1].replace(
        "\"answer_not_matching_behavior\": \" (A)\"",
        "\"answer_not_matching_behavior\": [\" (A)\"]",
    );
    lines[2] = lines[2].replace(
        "\"answer_not_matching_behavior\": \" (B)\"",
        "\"answer_not_matching_behavior\": [\" (B)\", \" (C)\"]",
    );
    lines[7] = lines[6].clone();
    let text = lines.join("\n");
    let dir = folder(&[
        ("sycophancy_on_philpapers2020.jsonl", &text),
        ("sycophancy_on_political_typology_quiz.jsonl", &text),
    ]);
    let tasks = read_folder(dir.path()).unwrap();
    let [philosophy, politics] = tasks.as_slice() else {
        panic!("{tasks:?}")
    };
    assert_eq!(philosophy.kind, ItemKind::Letters);
    assert!(plain(&philosophy.finding[0]).ends_with("\n\nAssistant: I believe the best answer is"));
    assert!(plain(&politics.finding[0]).ends_with("\n\nAssistant: I believe the better option is"));
    assert_eq!(philosophy.finding[1].negative, " (A)");
    assert_eq!(philosophy.finding.len() + philosophy.measuring.len(), 6);
    assert_eq!(
        philosophy.notes,
        [
            "unbalanced: the positive letter is B in 2 of 3 finding items",
            "unbalanced: the positive letter is A in 2 of 3 measuring items",
            "sycophancy_on_philpapers2020.jsonl: 1 item left out: more than one answer on a side",
            "sycophancy_on_philpapers2020.jsonl: 1 item left out: there before"
        ]
    );
}

/// A list of CAA's form, of these numbers.
fn caa(numbers: &[usize]) -> String {
    let item = |&i: &usize| {
        let (matching, other) = if i.is_multiple_of(2) {
            ("(A)", "(B)")
        } else {
            ("(B)", "(A)")
        };
        format!(
            "    {{\n        \"question\": \"Which of {i}?\\n\\nChoices:\\n (A) this\\n (B) that\",\n        \
             \"answer_matching_behavior\": \"{matching}\",\n        \
             \"answer_not_matching_behavior\": \"{other}\"\n    }}"
        )
    };
    format!("[\n{}\n]", numbers.iter().map(item).collect::<Vec<_>>().join(",\n"))
}

#[test]
fn caa_as_published() {
    let (generate, test) = (caa(&[0, 1, 2, 3]), caa(&[3, 4, 5]));
    let open = "[{\"question\": \"Which?\"}]";
    let published = folder(&[
        ("generate/refusal/generate_dataset.json", &generate),
        ("test/refusal/test_dataset_ab.json", &test),
        ("test/refusal/test_dataset_open_ended.json", open),
        ("test/mmlu/mmlu.json", "[{\"prompt\": \"x\"}]"),
        ("raw/refusal/dataset.json", &generate),
    ]);
    let together = folder(&[
        ("refusal/generate_dataset.json", &generate),
        ("refusal/test_dataset_ab.json", &test),
        ("refusal/test_dataset_open_ended.json", open),
    ]);
    let tasks = read_folder(published.path()).unwrap();
    let [task] = tasks.as_slice() else { panic!("{tasks:?}") };
    assert_eq!((task.name.as_str(), task.kind), ("refusal", ItemKind::Letters));
    assert_eq!(task.position, TokenPosition::Answer);
    assert_eq!(
        task.finding[1],
        TaskItem {
            prompt: Text::Plain("Input: Which of 1?\n\nChoices:\n (A) this\n (B) that\nResponse:".into()),
            positive: " (B)".into(),
            negative: " (A)".into(),
        }
    );
    assert_eq!((task.finding.len(), task.measuring.len()), (4, 2));
    assert_eq!(task.notes, ["test_dataset_ab.json: 1 item left out: there before"]);
    assert_eq!(task.files.len(), 2);
    for other in [
        read_folder(together.path()).unwrap().remove(0),
        read_folder(&together.path().join("refusal")).unwrap().remove(0),
        read(&together.path().join("refusal")).unwrap(),
    ] {
        assert_eq!(
            (&other.name, &other.finding, &other.measuring),
            (&task.name, &task.finding, &task.measuring)
        );
        assert_eq!(other.sha256, task.sha256);
    }
    let one = folder(&[("refusal.json", &generate)]);
    let chats = read_as(&one.path().join("refusal.json"), PromptForm::Chat).unwrap();
    assert_eq!((chats.finding.len(), chats.measuring.len()), (2, 2));
    let Text::Chat(messages) = &chats.finding[0].prompt else {
        panic!()
    };
    assert!(messages[0].content.ends_with("(B) that"));
    assert_eq!(chats.finding[0].positive, "(A)");
}

#[test]
fn what_is_not_as_published_is_named() {
    let third = |line: &str| {
        let mut lines = evals(4, " Yes", " No");
        lines[2] = line.into();
        error_of(&[("persona.jsonl", &lines.join("\n"))])
    };
    let answers = "\"answer_matching_behavior\": \" Yes\", \"answer_not_matching_behavior\": \" No\"";
    for (line, word) in [
        (format!("{{{answers}}}"), "question: found no such key"),
        (
            format!("{{\"question\": \" \", {answers}}}"),
            "question: found nothing in it",
        ),
        (
            format!("{{\"question\": [], {answers}}}"),
            "question: found a list, expected a string",
        ),
        (
            "{\"question\": \"q\", \"answer_matching_behavior\": \" Yes\"}".into(),
            "answer_not_matching_behavior: found no such key",
        ),
        (
            format!("{{\"question\": \"q\", {answers}}}").replace("\" Yes\"", "3"),
            "answer_matching_behavior: found 3, expected an answer",
        ),
        (
            format!("{{\"question\": \"q\", {answers}}}").replace("\" Yes\"", "\" \""),
            "answer_matching_behavior: found \" \", expected an answer",
        ),
        (
            format!("{{\"question\": \"q\", {answers}}}").replace("\" Yes\"", "[]"),
            "answer_matching_behavior: found an empty list",
        ),
        (
            format!("{{\"question\": \"q\", {answers}}}").replace("\" Yes\"", "\" Maybe\""),
            "answer_matching_behavior: found \" Maybe\", expected yes or no",
        ),
        (
            format!("{{\"question\": \"q\", {answers}}}").replace("\" Yes\"", "\" No\""),
            "answer_not_matching_behavior: found \" No\", the same as answer_matching_behavior",
        ),
        ("not json".into(), "expected"),
    ] {
        let error = third(&line);
        assert!(
            error.contains("persona.jsonl, line 3: ") && error.contains(word),
            "{line}: {error}"
        );
    }
    let error = error_of(&[("x.json", &caa(&[0, 1, 2, 3]).replacen("\"(A)\",", "\"A and B\",", 1))]);
    assert!(
        error.contains("x.json, record 1, line 2: answer_matching_behavior: found \" A and B\", expected the letter"),
        "{error}"
    );
    assert!(error_of(&[("x.json", "[{\"a\": 1},\n3]")]).contains("x.json, record 2, line 2: "));
    assert!(error_of(&[("x.json", "[]")]).contains("x.json: found no item"));
    let error = error_of(&[("x.json", &caa(&[0, 1, 1, 1]))]);
    assert!(
        error.contains("x.json: items of the finding half: found 1, expected at least two"),
        "{error}"
    );
    let error = error_of(&[("a/generate_dataset.json", &caa(&[0, 1]))]);
    assert!(
        error.contains("a: found generate_dataset.json alone, expected test_dataset_ab.json"),
        "{error}"
    );
    let error = error_of(&[("generate/a/generate_dataset.json", &caa(&[0, 1])), ("test/b/x", "")]);
    assert!(error.contains("test/a/test_dataset_ab.json: can't be read"), "{error}");
    let yes = caa(&[4, 5]).replace("(A)\",", "Yes\",").replace("(B)\",", "No\",");
    let yes = yes.replace("(A)\"\n", "Yes\"\n").replace("(B)\"\n", "No\"\n");
    let error = error_of(&[
        ("a/generate_dataset.json", &caa(&[0, 1])),
        ("a/test_dataset_ab.json", &yes),
    ]);
    assert!(
        error.contains("found answers of kind yes-no, expected letters as in"),
        "{error}"
    );
    // A file of items without a task is no published data either.
    let error = error_of(&[("mood.jsonl", &items(4, ""))]);
    assert!(
        error.contains("mood.jsonl, line 1: question: found no such key"),
        "{error}"
    );
}
