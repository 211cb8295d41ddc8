//! The prompting baseline: asking for the concept in the prompt, as a user would do without steering.

use crate::pairs::{Message, Text};
use crate::tasks::Task;

/// Maximum number of examples of the positive side.
const EXAMPLES: usize = 4;

/// Texts to put in front of a prompt, the longest first: the task's instruction, or examples of the positive side from
/// the pairs that the vector is found from.
pub fn fronts(task: &Task) -> Vec<String> {
    let instruction = task.generation.as_ref().and_then(|texts| texts.instruction.clone());
    if let Some(instruction) = instruction {
        return vec![instruction];
    }
    let examples: Vec<String> = task
        .pairs()
        .iter()
        .take(EXAMPLES)
        .map(|pair| pair.positive.to_string())
        .collect();
    (1..=examples.len())
        .rev()
        .map(|count| examples[..count].join("\n\n"))
        .collect()
}

/// A prompt with `front` before it; in a chat, at the start of its first message, since not every template has a system
/// message.
pub fn with_front(front: &str, prompt: &Text) -> Text {
    match prompt {
        Text::Plain(prompt) => Text::Plain(format!("{front}\n\n{prompt}")),
        Text::Chat(messages) => {
            let mut messages = messages.clone();
            match messages.first_mut() {
                Some(first) => first.content = format!("{front}\n\n{}", first.content),
                None => messages.push(Message {
                    role: "user".to_string(),
                    content: front.to_string(),
                }),
            }
            Text::Chat(messages)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::read;

    #[test]
    fn examples_or_an_instruction_stand_in_front() {
        let folder = tempfile::tempdir().unwrap();
        let items: String = (1..=12)
            .map(|i| format!("{{\"prompt\": \"p{i}\", \"positive\": \" great\", \"negative\": \" bad\"}}\n"))
            .collect();
        std::fs::write(folder.path().join("mood.jsonl"), items).unwrap();
        let toml = |more: &str| {
            format!(
                "format = \"steermap-task/1\"\ndescription = \"Happy or sad.\"\npositive = \"happy\"\nnegative = \"sad\"\n\
                 kind = \"completion\"\nitems = \"mood.jsonl\"\n[generation]\nprompts = [\"a\", \"b\"]\n{more}\
                 [generation.rule]\nkind = \"length\"\nwords = 3\n"
            )
        };
        let path = folder.path().join("mood.toml");
        std::fs::write(&path, toml("")).unwrap();
        let found = fronts(&read(&path).unwrap());
        assert_eq!(found[0], "p1 great\n\np2 great\n\np3 great\n\np4 great");
        assert_eq!((found.len(), found[3].as_str()), (4, "p1 great"));
        std::fs::write(&path, toml("instruction = \"Be happy.\"\n")).unwrap();
        assert_eq!(fronts(&read(&path).unwrap()), ["Be happy."]);
        let plain = with_front("Be happy.", &Text::Plain("It was".to_string()));
        assert_eq!(plain, Text::Plain("Be happy.\n\nIt was".to_string()));
        let chat = Text::Chat(vec![Message {
            role: "user".to_string(),
            content: "Hello".to_string(),
        }]);
        assert_eq!(with_front("Be happy.", &chat).to_string(), "user: Be happy.\n\nHello");
    }
}
