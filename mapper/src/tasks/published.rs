//! Behaviour data sets as others published them: Anthropic's model-written evaluations, and those of CAA.
//!
//! Anthropic (Perez et al. 2022, "Discovering Language Model Behaviors with Model-Written Evaluations"; repository
//! `anthropics/evals`): JSON lines, or one list, of
//!
//! ```json
//! {"question": "…", "answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"}
//! ```
//!
//! with ` (A)` and ` (B)` for letters, and other keys (`statement`, `label_confidence`). A question ends without a cue
//! to answer it. The publishers ran `<EOT>\n\nHuman: {question}\n\nAssistant:` and compared the answers behind it, and
//! on the sets of sycophancy `Assistant: I believe the best answer is` (politics: `the better option is`), as their
//! READMEs say. [`PromptForm::Plain`] is that text without `<EOT>`, a token of their model. The first half of the lines
//! finds, the rest measures. PhilPapers lists several answers on one side: an item with more than one is left out.
//!
//! CAA (Rimsky et al. 2024, "Steering Llama 2 via Contrastive Activation Addition"; repository `nrimsky/CAA`): a JSON
//! list of the same objects with `(A)` and `(B)`, `generate_dataset.json` to find the vector, `test_dataset_ab.json` to
//! measure it: in one folder, or as published, in `generate/NAME` and `test/NAME`. The publishers run a chat model on
//! the question and the answer through its template, a base model on `Input: {question}\nResponse: (A)`
//! (`utils/tokenize.py`), and compare `A` with `B` behind the `(`. [`PromptForm::Plain`] is the latter; what answers
//! share, ` (`, goes to the prompt when items are tokenized.
//!
//! Either may be compressed (`.gz`, `.zst`), but for CAA's two files of fixed names.
//!
//! Items that are there twice are kept once, which the task's notes say: the published sets have some.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use steermap_extract::text::quoted;

use super::checks;
use super::fields::{self, Fields, shown};
use super::files::{digest, file_name};
use super::task::{ItemKind, Task, TaskItem};
use crate::pairs::{Message, Text};
use crate::records::name::{FileName, json_stem};

/// The file of CAA that finds.
pub(super) const GENERATE: &str = "generate_dataset.json";
/// The file of CAA that measures.
pub(super) const TEST: &str = "test_dataset_ab.json";
/// The file of CAA without choices, which is not read.
pub(super) const OPEN_ENDED: &str = "test_dataset_open_ended.json";

const MATCHING: &str = "answer_matching_behavior";
const NOT_MATCHING: &str = "answer_not_matching_behavior";

/// How a published question becomes a prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PromptForm {
    /// A plain text, as the publishers write it for models without a chat template: any model reads it.
    #[default]
    Plain,
    /// A message of the user, the answer the assistant's: for two models that have a chat template.
    Chat,
}

/// Who published a file.
#[derive(Clone, Copy)]
enum Publisher {
    Anthropic,
    Caa,
}

impl Publisher {
    /// Files named as JSON lines are Anthropic's, those named as JSON are CAA's.
    fn of(path: &Path) -> Self {
        if FileName::of(file_name(path)).has_extension(&["json"]) {
            return Self::Caa;
        }
        Self::Anthropic
    }

    fn says(self) -> &'static str {
        match self {
            Self::Anthropic => "Anthropic's model-written evaluations",
            Self::Caa => "the data sets of Contrastive Activation Addition",
        }
    }

    fn prompt(self, form: PromptForm, name: &str, question: &str) -> Text {
        match (form, self) {
            (PromptForm::Chat, _) => Text::Chat(vec![Message {
                role: "user".into(),
                content: question.trim().into(),
            }]),
            (PromptForm::Plain, Self::Caa) => Text::Plain(format!("Input: {}\nResponse:", question.trim())),
            (PromptForm::Plain, Self::Anthropic) => {
                let cue = if name.starts_with("sycophancy_on_political") {
                    " I believe the better option is"
                } else if name.starts_with("sycophancy_on_") {
                    " I believe the best answer is"
                } else {
                    ""
                };
                Text::Plain(format!("\n\nHuman: {question}\n\nAssistant:{cue}"))
            }
        }
    }
}

/// Reads a file as one task: its first half finds (of an odd number, one more), the rest measures.
///
/// # Errors
///
/// A file that can't be read or is not of the published form: the message names the file, the line or item, and the
/// field.
pub fn read(path: &Path, form: PromptForm) -> Result<Task> {
    let name = json_stem(file_name(path)).filter(|name| !name.trim().is_empty());
    let name = name.with_context(|| {
        format!(
            "{}: found a file of another name, expected NAME.jsonl or NAME.json",
            path.display()
        )
    })?;
    let mut half = Items::read(path, name, form)?;
    half.leave_out_known(&mut HashSet::new());
    let measuring = half.items.split_off(half.items.len().div_ceil(2));
    let halves = [(path, half.items.as_slice()), (path, &measuring)];
    let mut task = task(name, Publisher::of(path), half.kind, halves)?;
    task.notes.extend(half.notes());
    Ok(task)
}

/// Reads CAA's two files as one task of the folder's name: `generate_dataset.json` of the folder `finding`,
/// `test_dataset_ab.json` of the folder `measuring`. Items of the former are left out of the latter.
///
/// # Errors
///
/// As [`read`].
pub fn read_pair(finding: &Path, measuring: &Path, form: PromptForm) -> Result<Task> {
    let folder = std::path::absolute(finding).with_context(|| format!("{}: no path", finding.display()))?;
    let name = folder.file_name().and_then(|name| name.to_str());
    let name = name.with_context(|| format!("{}: found no name, expected a folder with one", finding.display()))?;
    let (generate, test) = (finding.join(GENERATE), measuring.join(TEST));
    let mut known = HashSet::new();
    let (mut find, mut measure) = (Items::read(&generate, name, form)?, Items::read(&test, name, form)?);
    find.leave_out_known(&mut known);
    measure.leave_out_known(&mut known);
    ensure!(
        find.kind == measure.kind,
        "{}: found answers of kind {}, expected {} as in {}",
        test.display(),
        measure.kind,
        find.kind,
        generate.display()
    );
    let halves = [(generate.as_path(), find.items.as_slice()), (&test, &measure.items)];
    let mut task = task(name, Publisher::Caa, find.kind, halves)?;
    task.notes.extend(find.notes());
    task.notes.extend(measure.notes());
    Ok(task)
}

/// The items of one file, and what was left out of it.
struct Items {
    file: String,
    items: Vec<TaskItem>,
    kind: ItemKind,
    several: usize,
    twice: usize,
}

impl Items {
    fn read(path: &Path, name: &str, form: PromptForm) -> Result<Self> {
        let publisher = Publisher::of(path);
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (mut items, mut several) = (Vec::new(), 0);
        for mut record in fields::read(path)? {
            let question = record.string("question")?;
            ensure!(
                !question.trim().is_empty(),
                "{}: question: found nothing in it, expected a question",
                record.at
            );
            let answers = (answer(&mut record, MATCHING)?, answer(&mut record, NOT_MATCHING)?);
            let (Some(positive), Some(negative)) = answers else {
                several += 1;
                continue;
            };
            // Behind a plain prompt, an answer is a word; in a message it is all there is.
            let answer = |answer: String| match form {
                PromptForm::Plain => format!(" {}", answer.trim()),
                PromptForm::Chat => answer.trim().to_string(),
            };
            let item = TaskItem {
                prompt: publisher.prompt(form, name, &question),
                positive: answer(positive),
                negative: answer(negative),
            };
            items.push((item, record.at));
        }
        let kind = checks::kind(items.iter().map(|(item, _)| item));
        for (item, at) in &items {
            checks::answers(at, kind, item, [MATCHING, NOT_MATCHING])?;
        }
        Ok(Self {
            file,
            items: items.into_iter().map(|(item, _)| item).collect(),
            kind,
            several,
            twice: 0,
        })
    }

    fn leave_out_known(&mut self, known: &mut HashSet<TaskItem>) {
        let before = self.items.len();
        self.items.retain(|item| known.insert(item.clone()));
        self.twice += before - self.items.len();
    }

    fn notes(&self) -> Vec<String> {
        let note = |count: usize, why: &str| {
            let items = if count == 1 { "item" } else { "items" };
            (count > 0).then(|| format!("{}: {count} {items} left out: {why}", self.file))
        };
        let notes = [
            note(self.several, "more than one answer on a side"),
            note(self.twice, "there before"),
        ];
        notes.into_iter().flatten().collect()
    }
}

/// The only answer of one side; `None` if there are several.
fn answer(record: &mut Fields, field: &str) -> Result<Option<String>> {
    let expected = "an answer, or a list of answers";
    let texts = match record.optional(field) {
        None => bail!("{}: {field}: found no such key, expected {expected}", record.at),
        Some(Value::Array(list)) => list,
        Some(one) => vec![one],
    };
    let mut answers = Vec::new();
    for text in texts {
        match text {
            Value::String(text) if !text.trim().is_empty() => answers.push(text),
            Value::String(text) => bail!("{}: {field}: found {}, expected {expected}", record.at, quoted(&text)),
            other => bail!("{}: {field}: found {}, expected {expected}", record.at, shown(&other)),
        }
    }
    ensure!(
        !answers.is_empty(),
        "{}: {field}: found an empty list, expected {expected}",
        record.at
    );
    Ok(answers.pop().filter(|_| answers.is_empty()))
}

/// Makes a task of its two halves, each with the file that it comes from.
fn task(name: &str, publisher: Publisher, kind: ItemKind, halves: [(&Path, &[TaskItem]); 2]) -> Result<Task> {
    checks::halves(halves)?;
    let [(found_in, finding), (measured_in, measuring)] = halves;
    let mut files: Vec<PathBuf> = vec![found_in.into(), measured_in.into()];
    files.dedup();
    Ok(Task {
        name: name.into(),
        description: format!(
            "{name}, of {}: positive is the answer that matches the behaviour.",
            publisher.says()
        ),
        positive: name.into(),
        negative: format!("not {name}"),
        kind,
        position: kind.position(),
        finding: finding.to_vec(),
        measuring: measuring.to_vec(),
        pairs: None,
        generation: None,
        sha256: digest(&files)?,
        files,
        notes: checks::notes(kind, finding, measuring),
    })
}
