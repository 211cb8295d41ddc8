//! Tasks in our own format.
//!
//! A task is `NAME.toml` and the files that it names, beside it:
//!
//! ```toml
//! format = "steermap-task/1"
//! description = "…"               # one sentence: what behaviour, and what the positive side is
//! positive = "happy"              # what the positive answer stands for, in a word or two
//! negative = "sad"
//! kind = "completion"             # or "letters" (of choices in the prompt), "yes-no"
//! items = "NAME.jsonl"
//! pairs = "NAME.pairs.jsonl"      # may be absent: the vector is then found from the finding half and its answers
//! position = "mean"               # may be absent: "last", "mean" or "answer"; see `ItemKind::position`
//!
//! [generation]                    # may be absent
//! prompts = ["…", "…"]            # what is continued: two at least for scores
//! instruction = "…"               # may be absent: asks for the positive side in a prompt, in place of examples
//! [generation.rule]               # classifies a text as positive or negative
//! kind = "keywords"               # whole words in any case: more of the one list than of the other
//! positive = ["happy", "smile"]
//! negative = ["sad", "cry"]
//! # or  kind = "capitals"  share = 0.5    more than that share of its letters are capital
//! # or  kind = "length"    words = 20     fewer words than that
//! ```
//!
//! Items are records, JSON lines or one JSON array, of `{"prompt": TEXT, "positive": "…", "negative": "…", "half":
//! "find"}`: TEXT is a string, or a list of `{"role", "content"}` that goes through the model's chat template; `half`
//! is `find` or `measure` in all lines, or in none, where the first half of the lines finds (of an odd number, one
//! more) and the rest measures.
//!
//! A concept is `NAME.items.jsonl`, such items, with `NAME.pairs.jsonl` beside it, and no TOML file: a task of kind
//! completion, found on the mean state. Either may be `.ndjson` or `.json` too, and compressed (`.gz`, `.zst`).
//!
//! Unknown keys are errors.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use steermap_maps::{TokenPosition, atomic};

use super::checks;
use super::fields::{self, Fields, shown};
use super::files::{digest, file_name, stem};
use super::rule::RuleTable;
use super::task::{ItemKind, Task, TaskItem, TextsToContinue};
use crate::pairs::{Text, read_pairs};
use crate::records::name::json_stem;

/// The `format` of a task's TOML file.
pub const FORMAT: &str = "steermap-task/1";

/// The TOML file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskTable {
    #[serde(rename = "format")]
    _format: String,
    description: String,
    positive: String,
    negative: String,
    kind: ItemKind,
    items: String,
    pairs: Option<String>,
    position: Option<TokenPosition>,
    generation: Option<GenerationTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GenerationTable {
    prompts: Vec<Text>,
    rule: RuleTable,
    instruction: Option<String>,
}

/// Reads a task's TOML file and the files that it names.
///
/// # Errors
///
/// A file that can't be read or is not as the format says: the message names the file, the line or the field, what was
/// found and what was expected.
pub fn read(path: &Path) -> Result<Task> {
    let at = path.display();
    let name = stem(path)?;
    let text = std::fs::read_to_string(path).with_context(|| format!("{at}: can't be read"))?;
    let table = parse(path, &text)?;
    for (field, text) in [
        ("description", &table.description),
        ("positive", &table.positive),
        ("negative", &table.negative),
    ] {
        ensure!(!text.trim().is_empty(), "{at}: {field}: found nothing, expected words");
    }
    ensure!(
        table.positive != table.negative,
        "{at}: negative: found {:?}, the same as positive; expected another word",
        table.negative
    );
    let items = beside(path, "items", &table.items)?;
    let (finding, measuring) = read_items(&items, table.kind)?;
    let mut files = vec![path.to_path_buf(), items];
    let mut pairs = None;
    if let Some(file) = &table.pairs {
        let file = beside(path, "pairs", file)?;
        pairs = Some(read_pairs(&file)?);
        files.push(file);
    }
    let generation = table.generation.map(|table| generation(path, table)).transpose()?;
    Ok(Task {
        sha256: digest(&files)?,
        notes: checks::notes(table.kind, &finding, &measuring),
        name,
        description: table.description,
        positive: table.positive,
        negative: table.negative,
        kind: table.kind,
        position: table.position.unwrap_or(table.kind.position()),
        finding,
        measuring,
        pairs,
        generation,
        files,
    })
}

/// Reads a concept, `NAME.items.jsonl` with or without `NAME.pairs.jsonl` beside it, or as other files of records.
///
/// # Errors
///
/// As [`read`]; two files of pairs.
pub fn read_concept(items: &Path) -> Result<Task> {
    let name = concept_of(file_name(items)).with_context(|| {
        format!(
            "{}: found a file of another name, expected NAME.items.jsonl",
            items.display()
        )
    })?;
    let (finding, measuring) = read_items(items, ItemKind::Completion)?;
    let mut files = vec![items.to_path_buf()];
    let mut pairs = None;
    if let Some(file) = pairs_beside(items, name)? {
        pairs = Some(read_pairs(&file)?);
        files.push(file);
    }
    Ok(Task {
        name: name.into(),
        description: format!("The concept {name}: what follows with it, against what follows without it."),
        positive: name.into(),
        negative: format!("not {name}"),
        kind: ItemKind::Completion,
        position: TokenPosition::Mean,
        notes: checks::notes(ItemKind::Completion, &finding, &measuring),
        sha256: digest(&files)?,
        finding,
        measuring,
        pairs,
        generation: None,
        files,
    })
}

/// `NAME` of `NAME.items.jsonl`, or of another file of records.
pub(super) fn concept_of(file: &str) -> Option<&str> {
    named(file, ".items")
}

/// `NAME` of `NAME.pairs.jsonl`, or of another file of records.
pub(super) fn pairs_of(file: &str) -> Option<&str> {
    named(file, ".pairs")
}

fn named<'a>(file: &'a str, role: &str) -> Option<&'a str> {
    json_stem(file)?
        .strip_suffix(role)
        .filter(|name| !name.trim().is_empty())
}

/// The file of pairs of a concept, if there is one.
fn pairs_beside(items: &Path, name: &str) -> Result<Option<PathBuf>> {
    let folder = atomic::folder_of(items);
    let unread = || format!("{}: can't be read, expected the folder of a concept", folder.display());
    let mut found: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(unread)? {
        let file = entry.with_context(unread)?.file_name();
        found.extend(
            file.to_str()
                .filter(|file| pairs_of(file) == Some(name))
                .map(String::from),
        );
    }
    found.sort();
    match found.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(items.with_file_name(only))),
        [first, second, ..] => bail!(
            "{}: found {first} and {second} beside it, expected one file of pairs",
            items.display()
        ),
    }
}

/// Reads the items of a task as its finding and its measuring half.
fn read_items(path: &Path, kind: ItemKind) -> Result<(Vec<TaskItem>, Vec<TaskItem>)> {
    let mut items = Vec::new();
    for mut record in fields::read(path)? {
        let item = TaskItem {
            prompt: record.text("prompt")?,
            positive: record.string("positive")?,
            negative: record.string("negative")?,
        };
        let half = half(&mut record)?;
        record.finish(&["prompt", "positive", "negative", "half"])?;
        checks::answers(&record.at, kind, &item, ["positive", "negative"])?;
        items.push((item, half, record.at));
    }
    checks::distinct(items.iter().map(|(item, _, at)| (item, at.as_str())))?;
    let (_, first, first_at) = &items[0];
    for (_, half, at) in &items {
        ensure!(
            half.is_some() == first.is_some(),
            "{at}: half: found {}, expected {} as at {first_at}: in all lines or in none",
            half.map_or("no such key", HalfName::as_str),
            first.map_or("no such key", |_| "\"find\" or \"measure\""),
        );
    }
    let first_half = items.len().div_ceil(2);
    let (mut finding, mut measuring) = (Vec::new(), Vec::new());
    for (index, (item, half, _)) in items.into_iter().enumerate() {
        match half {
            Some(HalfName::Find) => finding.push(item),
            Some(HalfName::Measure) => measuring.push(item),
            None if index < first_half => finding.push(item),
            None => measuring.push(item),
        }
    }
    checks::halves([(path, &finding), (path, &measuring)])?;
    Ok((finding, measuring))
}

/// Which half an item says that it is of.
#[derive(Clone, Copy)]
enum HalfName {
    Find,
    Measure,
}

impl HalfName {
    fn as_str(self) -> &'static str {
        match self {
            Self::Find => "\"find\"",
            Self::Measure => "\"measure\"",
        }
    }
}

fn half(record: &mut Fields) -> Result<Option<HalfName>> {
    match record.optional("half") {
        None => Ok(None),
        Some(Value::String(half)) if half == "find" => Ok(Some(HalfName::Find)),
        Some(Value::String(half)) if half == "measure" => Ok(Some(HalfName::Measure)),
        Some(other) => bail!(
            "{}: half: found {}, expected \"find\" or \"measure\"",
            record.at,
            shown(&other)
        ),
    }
}

fn parse(path: &Path, text: &str) -> Result<TaskTable> {
    let table: toml::Table = toml::from_str(text).map_err(|error| wrong(path, text, &error))?;
    match table.get("format") {
        Some(toml::Value::String(format)) if format == FORMAT => {}
        Some(other) => bail!("{}: format: found {other}, expected \"{FORMAT}\"", path.display()),
        None => bail!("{}: format: found no such key, expected \"{FORMAT}\"", path.display()),
    }
    toml::from_str(text).map_err(|error| wrong(path, text, &error))
}

/// The TOML parser's error, with the line, and the key if the line has one.
fn wrong(path: &Path, text: &str, error: &toml::de::Error) -> anyhow::Error {
    let at = path.display();
    // A key that is missing from the file as a whole has the whole file as its place.
    let part = error
        .span()
        .filter(|span| span.start > 0 || span.end < text.trim_end().len());
    let start = part.map(|span| span.start);
    let Some((before, after)) = start.and_then(|start| text.split_at_checked(start)) else {
        return anyhow!("{at}: {}", error.message());
    };
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let whole = format!("{}{}", &before[start..], after.lines().next().unwrap_or_default());
    let key = whole.split_once('=').map(|(key, _)| format!("{}: ", key.trim()));
    anyhow!("{at}, line {line}: {}{}", key.unwrap_or_default(), error.message())
}

/// The path of a file that a task names.
fn beside(task: &Path, field: &str, name: &str) -> Result<PathBuf> {
    let mut parts = Path::new(name).components();
    let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name);
    ensure!(
        plain,
        "{}: {field}: found {name:?}, expected the name of a file beside the task",
        task.display()
    );
    Ok(task.with_file_name(name))
}

fn generation(path: &Path, table: GenerationTable) -> Result<TextsToContinue> {
    let at = path.display();
    ensure!(
        !table.prompts.is_empty(),
        "{at}: generation.prompts: found an empty list, expected at least a text"
    );
    let mut seen = HashSet::new();
    for (index, prompt) in table.prompts.iter().enumerate() {
        let blank = match prompt {
            Text::Plain(text) => text.trim().is_empty(),
            Text::Chat(messages) => messages.is_empty(),
        };
        let number = index + 1;
        ensure!(
            !blank,
            "{at}: generation.prompts: found nothing in prompt {number}, expected a text"
        );
        ensure!(
            seen.insert(prompt),
            "{at}: generation.prompts: found prompt {number} twice, expected another"
        );
    }
    ensure!(
        table.instruction.as_ref().is_none_or(|text| !text.trim().is_empty()),
        "{at}: generation.instruction: found nothing, expected a text, or no such key"
    );
    let rule = table.rule.check();
    // One line, as all others are: the rule's messages begin with the field.
    let rule = rule.map_err(|error| anyhow!("{at}: generation.rule.{error:#}"))?;
    Ok(TextsToContinue {
        prompts: table.prompts,
        rule,
        instruction: table.instruction,
    })
}
