//! Behaviour tasks: two-choice items that find a vector, others that measure its steering, and texts to continue.
//!
//! | what | is read as |
//! | --- | --- |
//! | `NAME.toml` and the JSON lines that it names | a task in our own format ([`own`]) |
//! | `NAME.items.jsonl`, `NAME.pairs.jsonl` beside it | a concept: a task without a TOML file ([`own`]) |
//! | any other `NAME.jsonl` | one of Anthropic's model-written evaluations ([`published`]) |
//! | any other `NAME.json`; the folders of `generate_dataset.json` and `test_dataset_ab.json` | CAA ([`published`]) |
//!
//! `.ndjson` is read like `.jsonl`, and each may be compressed (`.gz`, `.zst`); the first character decides whether a
//! file has JSON lines or one JSON array ([`records`](crate::records)).
//!
//! [`rule`] classifies continued texts as positive or negative, and [`tokenized`] tokenizes items for one model.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use steermap_maps::TokenPosition;
use steermap_maps::digest::{sha256_file, sha256_of_all};

use crate::pairs::{Message, Pair, Text};
use crate::records::name::json_stem;

pub use folder::{read_folder, read_folder_as};
pub use published::Form;
pub use rule::Rule;
pub(crate) use steermap_extract::text::quoted;
pub use tokenized::{Choice, Skipped, choices, choices_async};

mod checks;
mod fields;
mod folder;
pub mod own;
pub mod published;
pub mod rule;
pub mod tokenized;

/// One behaviour, and the items that find and measure it.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// Its file's name, without the extensions.
    pub name: String,
    /// One sentence: what behaviour, and what the positive side is.
    pub description: String,
    /// What the positive answer stands for, in a word or two.
    pub positive: String,
    /// What the negative answer stands for.
    pub negative: String,
    /// What the answers are.
    pub kind: ItemKind,
    /// Which states the vector is found on.
    pub position: TokenPosition,
    /// The half of the items that finds the vector: at least two.
    pub finding: Vec<TaskItem>,
    /// The half that measures it: at least two, none of them in the other half.
    pub measuring: Vec<TaskItem>,
    /// The pairs that the vector is found from instead of the finding half; at least two.
    pub pairs: Option<Vec<Pair>>,
    /// Texts to continue.
    pub generation: Option<Generation>,
    /// All files that the task was read from: the TOML file, the items, the pairs.
    pub files: Vec<PathBuf>,
    /// SHA-256 over the files: of the only one, or of all their SHA-256s, a line each. 64 lower-case hex digits.
    pub sha256: String,
    /// Notes for the report, a sentence each: unbalanced answers, published items left out.
    pub notes: Vec<String>,
}

/// The kind of a task's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemKind {
    /// Letters of choices in the prompt.
    Letters,
    /// Yes and no.
    YesNo,
    /// Anything else that could follow the prompt.
    Completion,
}

impl ItemKind {
    /// The name in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Letters => "letters",
            Self::YesNo => "yes-no",
            Self::Completion => "completion",
        }
    }

    /// The default token position for finding a vector: the mean for completions, the answer's token for the others.
    pub fn position(self) -> TokenPosition {
        match self {
            Self::Letters | Self::YesNo => TokenPosition::Answer,
            Self::Completion => TokenPosition::Mean,
        }
    }
}

impl Display for ItemKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A prompt and two answers to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskItem {
    /// What the model reads.
    pub prompt: Text,
    /// The answer that shows the behaviour.
    pub positive: String,
    /// The answer without the behaviour, or with its opposite.
    pub negative: String,
}

impl TaskItem {
    /// The prompt with either answer.
    pub fn pair(&self) -> Pair {
        Pair {
            positive: answered(&self.prompt, &self.positive),
            negative: answered(&self.prompt, &self.negative),
        }
    }
}

/// `prompt` followed by `answer`: in a chat, as the assistant's message, or as the rest of an assistant's message at
/// its end.
pub fn answered(prompt: &Text, answer: &str) -> Text {
    match prompt {
        Text::Plain(prompt) => Text::Plain(format!("{prompt}{answer}")),
        Text::Chat(messages) => {
            let mut messages = messages.clone();
            match messages.last_mut() {
                Some(last) if last.role == "assistant" => last.content.push_str(answer),
                _ => messages.push(Message {
                    role: "assistant".into(),
                    content: answer.into(),
                }),
            }
            Text::Chat(messages)
        }
    }
}

/// Prompts to continue, and the rule that classifies the continuations.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The prompts; at least one.
    pub prompts: Vec<Text>,
    /// The rule that classifies a continuation as positive or negative.
    pub rule: Rule,
    /// The instruction that asks for the positive side in a prompt; without it, examples are used.
    pub instruction: Option<String>,
}

impl Task {
    /// The pairs that the vector is found from: those of the file of pairs if there is one, otherwise the finding half
    /// with its answers.
    pub fn pairs(&self) -> Vec<Pair> {
        match &self.pairs {
            Some(pairs) => pairs.clone(),
            None => self.finding.iter().map(TaskItem::pair).collect(),
        }
    }
}

/// Reads one task: a TOML file, a file of items, a published file (in its plain form), or a folder of two of CAA's.
///
/// # Errors
///
/// A file that is not a task: the message names the file, the line and field, what was found, and what was expected.
pub fn read(path: &Path) -> Result<Task> {
    read_as(path, Form::Plain)
}

/// [`read`], with published data in `form`.
///
/// # Errors
///
/// As [`read`].
pub fn read_as(path: &Path, form: Form) -> Result<Task> {
    let name = file_name(path);
    if own::concept_of(name).is_some() {
        return own::read_concept(path);
    }
    if path.is_dir() {
        return published::read_pair(path, path, form);
    }
    if path.extension().is_some_and(|extension| extension == "toml") {
        return own::read(path);
    }
    if json_stem(name).is_some() {
        return published::read(path, form);
    }
    bail!(
        "{}: found a file of another kind, expected a task: .toml, .jsonl, .ndjson or .json",
        path.display()
    )
}

/// A file's name without its folder; empty if it is not Unicode.
fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// A file's name without its extension.
fn stem(path: &Path) -> Result<String> {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let stem = stem.filter(|stem| !stem.trim().is_empty());
    stem.map(str::to_string).with_context(|| {
        format!(
            "{}: found a blank name or one that is not Unicode, expected a name",
            path.display()
        )
    })
}

/// One SHA-256 over files.
fn digest(files: &[PathBuf]) -> Result<String> {
    let mut digests = Vec::with_capacity(files.len());
    for file in files {
        digests.push(sha256_file(file)?);
    }
    Ok(sha256_of_all(&digests))
}

#[cfg(test)]
mod tests;
