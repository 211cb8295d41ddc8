//! Items as one model's tokens: the token at which the two answers differ.

use anyhow::{Context, Result, bail, ensure};
use steermap_extract::text::quoted;

use super::task::TaskItem;
use crate::align::TokenizedText;
use crate::pairs::Text;

/// A two-way choice of an item: two tokens after a prompt, whose logits are measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemChoice {
    /// Index of the item in the list.
    pub item: usize,
    /// The prompt's tokens, and those that both answers begin with.
    pub prompt: Vec<u32>,
    /// The first token of the positive answer that differs.
    pub positive: u32,
    /// The first token of the negative answer that differs.
    pub negative: u32,
}

/// An item that can't be measured with a model's tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Index of the item in the list.
    pub item: usize,
    /// Why, for a report.
    pub reason: String,
}

/// Finds the choice of each item, in the order of the items. `tokenize` gives the tokens of a prompt with an answer
/// behind it, as one text (see [`answered`](super::answered)), since tokenizers treat a word at the start of a text in
/// their own way; of a plain prompt with the byte behind each token, of a chat without.
///
/// # Errors
///
/// What `tokenize` answers with, and a list of which all items are skipped.
pub fn choices(
    items: &[TaskItem],
    mut tokenize: impl FnMut(&Text, &str) -> Result<TokenizedText>,
) -> Result<(Vec<ItemChoice>, Vec<Skipped>)> {
    let mut found = ChoiceBuilder::default();
    for (index, item) in items.iter().enumerate() {
        let mut tokens = |answer: &str| tokenize(&item.prompt, answer).with_context(|| at(index, item));
        let (positive, negative) = (tokens(&item.positive)?, tokens(&item.negative)?);
        found.add(index, item, &positive, &negative)?;
    }
    found.finish()
}

/// [`choices`] with an asynchronous tokenizer, such as a chat template in the engine.
///
/// # Errors
///
/// As [`choices`].
pub async fn choices_async(
    items: &[TaskItem],
    mut tokenize: impl AsyncFnMut(&Text, &str) -> Result<TokenizedText>,
) -> Result<(Vec<ItemChoice>, Vec<Skipped>)> {
    let mut found = ChoiceBuilder::default();
    for (index, item) in items.iter().enumerate() {
        let positive = tokenize(&item.prompt, &item.positive).await;
        let positive = positive.with_context(|| at(index, item))?;
        let negative = tokenize(&item.prompt, &item.negative).await;
        let negative = negative.with_context(|| at(index, item))?;
        found.add(index, item, &positive, &negative)?;
    }
    found.finish()
}

#[derive(Default)]
struct ChoiceBuilder {
    choices: Vec<ItemChoice>,
    skipped: Vec<Skipped>,
}

impl ChoiceBuilder {
    fn add(&mut self, index: usize, item: &TaskItem, positive: &TokenizedText, negative: &TokenizedText) -> Result<()> {
        if matches!(item.prompt, Text::Plain(_)) {
            for tokens in [positive, negative] {
                ensure!(
                    tokens.reach.len() == tokens.ids.len(),
                    "{}: found {} tokens and {} ends of tokens, expected as many",
                    at(index, item),
                    tokens.ids.len(),
                    tokens.reach.len()
                );
            }
        }
        match parting(item, positive, negative) {
            Ok(shared) => self.choices.push(ItemChoice {
                item: index,
                prompt: positive.ids[..shared].to_vec(),
                positive: positive.ids[shared],
                negative: negative.ids[shared],
            }),
            Err(reason) => self.skipped.push(Skipped { item: index, reason }),
        }
        Ok(())
    }

    fn finish(self) -> Result<(Vec<ItemChoice>, Vec<Skipped>)> {
        if self.choices.is_empty() {
            let first = self
                .skipped
                .first()
                .context("found no item to measure, expected at least one")?;
            bail!(
                "found nothing to measure: all {} items are skipped, the first because {}",
                self.skipped.len(),
                first.reason
            );
        }
        Ok((self.choices, self.skipped))
    }
}

/// The first position at which the tokens of the two answers differ, or why the item can't be measured.
fn parting(item: &TaskItem, positive: &TokenizedText, negative: &TokenizedText) -> Result<usize, String> {
    let shared = shared(positive.ids.iter(), negative.ids.iter());
    let shorter = positive.ids.len().min(negative.ids.len());
    if positive.ids == negative.ids {
        return Err(format!(
            "the answers have the same tokens: {} and {}",
            quoted(&item.positive),
            quoted(&item.negative)
        ));
    }
    let beginning = || {
        Err(format!(
            "one answer is the beginning of the other: {} and {}",
            quoted(&item.positive),
            quoted(&item.negative)
        ))
    };
    if shared == shorter {
        return beginning();
    }
    let Text::Plain(prompt) = &item.prompt else {
        // Behind an answer the template closes the message, so that what the longer answer has more of stands
        // between tokens that both end in.
        let (p, n) = (&item.positive, &item.negative);
        let closing = self::shared(positive.ids.iter().rev(), negative.ids.iter().rev());
        if (p.starts_with(n.as_str()) || n.starts_with(p.as_str())) && shared + closing >= shorter {
            return beginning();
        }
        return if shared > 0 {
            Ok(shared)
        } else {
            Err("nothing of the prompt is left before the answers".into())
        };
    };
    // A token without text is the tokenizer's own, such as the end of the text.
    let (Some(p), Some(n)) = (positive.reach[shared], negative.reach[shared]) else {
        return beginning();
    };
    let starts = [positive, negative].map(|tokens| tokens.reach[..shared].iter().flatten().max().copied());
    let [Some(p_start), Some(n_start)] = starts else {
        return Err("nothing of the prompt is left before the answers".into());
    };
    // A token may begin in the prompt, a space at its end, if both do so at the same place.
    let begin_alike = p_start == n_start || (p_start >= prompt.len() && n_start >= prompt.len());
    if p <= prompt.len() || n <= prompt.len() || !begin_alike {
        return Err(format!(
            "the prompt's tokens depend on the answer: with {} and {} they differ before its end",
            quoted(&item.positive),
            quoted(&item.negative)
        ));
    }
    Ok(shared)
}

/// The number of equal tokens at the start of two sequences.
fn shared<'a>(a: impl Iterator<Item = &'a u32>, b: impl Iterator<Item = &'a u32>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}

fn at(index: usize, item: &TaskItem) -> String {
    match &item.prompt {
        Text::Plain(prompt) => format!("item {}, {}", index + 1, quoted(prompt)),
        Text::Chat(messages) => {
            let last = messages.last().map(|last| quoted(&last.content));
            format!("item {}, {}", index + 1, last.unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::tests::{byte_level, pieces};
    use crate::pairs::Message;
    use crate::tasks::answered;
    use tokenizers::Tokenizer;

    fn item(prompt: &str, positive: &str, negative: &str) -> TaskItem {
        TaskItem {
            prompt: Text::Plain(prompt.into()),
            positive: positive.into(),
            negative: negative.into(),
        }
    }

    fn chat(positive: &str, negative: &str) -> TaskItem {
        let user = Message {
            role: "user".into(),
            content: "q".into(),
        };
        TaskItem {
            prompt: Text::Chat(vec![user]),
            ..item("", positive, negative)
        }
    }

    /// A plain text by the tokenizer; a chat as the bytes of its messages, each behind 1 and before 2.
    fn tokens(tokenizer: &Tokenizer, prompt: &Text, answer: &str) -> Result<TokenizedText> {
        match answered(prompt, answer) {
            Text::Plain(text) => TokenizedText::new(tokenizer, &text),
            Text::Chat(messages) => {
                let mut ids = Vec::new();
                for message in messages {
                    ids.push(1);
                    ids.extend(message.content.bytes().map(u32::from));
                    ids.push(2);
                }
                Ok(TokenizedText {
                    ids,
                    ..TokenizedText::default()
                })
            }
        }
    }

    fn all(tokenizer: &Tokenizer, items: &[TaskItem]) -> Result<(Vec<ItemChoice>, Vec<Skipped>)> {
        choices(items, |prompt, answer| tokens(tokenizer, prompt, answer))
    }

    /// Why the item is skipped.
    fn reason(tokenizer: &Tokenizer, skipped: TaskItem) -> String {
        let (choices, skipped) = all(tokenizer, &[item("q", "x", "y"), skipped]).unwrap();
        assert_eq!(choices.len(), 1);
        let [Skipped { item: 1, reason }] = skipped.as_slice() else {
            panic!("{skipped:?}")
        };
        reason.clone()
    }

    #[test]
    fn the_choice_is_the_token_behind_the_prompt() {
        // With pieces, " a" alone would begin with a piece of white space, but behind a prompt it is one token.
        let pieces = pieces(&["▁", "a", "b", "▁a", "▁b"], &[("▁", "a"), ("▁", "b")], true);
        let (choices, skipped) = all(&pieces, &[item("a b", " a", " b")]).unwrap();
        let id = |token: &str| pieces.token_to_id(token).unwrap();
        assert!(skipped.is_empty());
        assert_eq!(
            choices,
            [ItemChoice {
                item: 0,
                prompt: vec![id("<s>"), id("▁a"), id("▁b")],
                positive: id("▁a"),
                negative: id("▁b"),
            }]
        );
    }

    #[test]
    fn what_answers_share_goes_to_the_prompt() {
        let bytes = byte_level(&[], true);
        let id = |token: &str| bytes.token_to_id(token).unwrap();
        let (choices, _) = all(&bytes, &[item("q:", " (A)", " (B)")]).unwrap();
        assert_eq!(choices[0].prompt, ["<s>", "q", ":", "Ġ", "("].map(id));
        assert_eq!((choices[0].positive, choices[0].negative), (id("A"), id("B")));
        // The bytes of a character: the first of the two is shared.
        let (choices, _) = all(&bytes, &[item("q", "é", "ê")]).unwrap();
        assert_eq!(choices[0].prompt.len(), 3);
    }

    #[test]
    fn a_token_may_begin_in_the_prompt_if_both_do() {
        let bytes = byte_level(&[("Ġ", "y"), ("Ġ", "n")], false);
        let id = |token: &str| bytes.token_to_id(token).unwrap();
        let (choices, _) = all(&bytes, &[item("q: ", "yes", "no")]).unwrap();
        assert_eq!(choices[0].prompt, ["q", ":"].map(id));
        assert_eq!((choices[0].positive, choices[0].negative), (id("Ġy"), id("Ġn")));
    }

    #[test]
    fn items_that_measure_nothing_are_skipped() {
        let bytes = byte_level(&[("a", "b")], true);
        assert!(reason(&bytes, item("q", "ab", "abc")).contains("one answer is the beginning of the other"));
        assert!(reason(&bytes, item("q", "", "a")).contains("one answer is the beginning of the other"));
        assert!(reason(&bytes, item("xa", "b", "c")).contains("the prompt's tokens depend on the answer"));
        // Only the BOS is left.
        let bytes = byte_level(&[("a", "b"), ("a", "c")], true);
        assert!(reason(&bytes, item("a", "b", "c")).contains("nothing of the prompt is left"));
        // The unknown character, whatever it is.
        let unknown: Tokenizer = r#"{"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "Split",
            "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": false}, "model": {"type": "WordLevel",
            "vocab": {"?": 0, "q": 1, "x": 2, "y": 3}, "unk_token": "?"}}"#
            .parse()
            .unwrap();
        assert!(reason(&unknown, item("q", "é", "ê")).contains("the same tokens"));
    }

    #[test]
    fn the_end_of_a_text_is_no_answer() {
        let bytes = byte_level(&[], false);
        let mut json: serde_json::Value = serde_json::from_str(&bytes.to_string(false).unwrap()).unwrap();
        json["post_processor"] = serde_json::json!({
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [256], "tokens": ["<s>"]}},
        });
        let ended: Tokenizer = json.to_string().parse().unwrap();
        assert!(reason(&ended, item("q", "x", "xy")).contains("one answer is the beginning of the other"));
    }

    #[test]
    fn chats_go_by_their_tokens() {
        let bytes = byte_level(&[], false);
        let (choices, skipped) = all(&bytes, &[chat("Yes", "No"), chat("(A)", "(B)"), chat("ab", "a ab")]).unwrap();
        assert!(skipped.is_empty());
        let q = u32::from(b'q');
        assert_eq!(choices[0].prompt, [1, q, 2, 1]);
        assert_eq!(choices[1].prompt, [1, q, 2, 1, u32::from(b'(')]);
        assert_eq!(choices[2].item, 2);
        assert!(reason(&bytes, chat("Yes", "Yes, sir")).contains("one answer is the beginning of the other"));
        assert!(reason(&bytes, chat("Yes", "Yes")).contains("the same tokens"));
        let nothing = choices_of_ids(&[1, 2], &[3, 4]);
        assert!(nothing.contains("nothing of the prompt is left"));
    }

    fn choices_of_ids(positive: &[u32], negative: &[u32]) -> String {
        let answers = [positive, negative].map(|ids| TokenizedText {
            ids: ids.to_vec(),
            ..TokenizedText::default()
        });
        parting(&chat("a", "b"), &answers[0], &answers[1]).unwrap_err()
    }

    #[test]
    fn errors_name_the_item() {
        let bytes = byte_level(&[], false);
        let alike = [item("q", "a", "ab"), item("q", "b", "bc")];
        let error = all(&bytes, &alike).unwrap_err().to_string();
        assert!(error.contains("all 2 items are skipped"), "{error}");
        assert!(
            error.contains("one answer is the beginning of the other: \"a\" and \"ab\""),
            "{error}"
        );
        assert!(all(&bytes, &[]).unwrap_err().to_string().contains("found no item"));
        let error = choices(&alike, |_, _| anyhow::bail!("broken")).unwrap_err();
        assert_eq!(format!("{error:#}"), "item 1, \"q\": broken");
        let no_ends = |_: &Text, answer: &str| {
            Ok(TokenizedText {
                ids: answer.bytes().map(u32::from).collect(),
                ..TokenizedText::default()
            })
        };
        let error = choices(&alike, no_ends).unwrap_err().to_string();
        assert!(error.contains("1 tokens and 0 ends"), "{error}");
    }

    #[test]
    fn waiting_changes_nothing() {
        let bytes = byte_level(&[], true);
        let items = [item("q:", " (A)", " (B)"), item("q", "a", "ab"), chat("Yes", "No")];
        let waited = choices_async(&items, async |prompt: &Text, answer: &str| {
            tokens(&bytes, prompt, answer)
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(waited).unwrap(), all(&bytes, &items).unwrap());
    }
}
