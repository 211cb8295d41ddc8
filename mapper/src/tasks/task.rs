//! A behaviour task.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use serde::Deserialize;
use steermap_maps::TokenPosition;

use super::rule::Rule;
use crate::pairs::{Message, Pair, Text};

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
    pub generation: Option<TextsToContinue>,
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
pub struct TextsToContinue {
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
