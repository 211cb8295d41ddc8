//! Classifies a text that a model wrote as positive or negative, by a fixed rule.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use unicode_segmentation::UnicodeSegmentation;

/// The rule that classifies a text. Words are those of Unicode's word boundaries (UAX #29).
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Positive if the text has more words of the positive list than of the negative one.
    Keywords {
        /// Words, or words in a row, in any case; one at least.
        positive: Vec<String>,
        /// The same, and none of the other list.
        negative: Vec<String>,
    },
    /// Positive if more than this share of the letters are capital, of those that have a case.
    Capitals {
        /// From 0 to below 1.
        share: f64,
    },
    /// Positive if the text has fewer words than this.
    Length {
        /// 1 or more.
        words: usize,
    },
}

impl Rule {
    /// Whether a text is positive. One without a keyword or without letters is not.
    pub fn is_positive(&self, text: &str) -> bool {
        match self {
            Self::Keywords { positive, negative } => {
                let words = words(text);
                let count = |list: &[String]| list.iter().map(|keyword| occurrences(&words, keyword)).sum::<usize>();
                count(positive) > count(negative)
            }
            Self::Capitals { share } => {
                let (mut upper, mut cased) = (0usize, 0usize);
                for letter in text.chars() {
                    upper += usize::from(letter.is_uppercase());
                    cased += usize::from(letter.is_uppercase() || letter.is_lowercase());
                }
                cased > 0 && upper as f64 > share * cased as f64
            }
            Self::Length { words: limit } => text.unicode_words().count() < *limit,
        }
    }

    /// The rule as a sentence.
    pub fn describe(&self) -> String {
        match self {
            Self::Keywords { positive, negative } => format!(
                "A text counts as positive if it has more of the words {} than of {} (whole words, any case).",
                listed(positive),
                listed(negative)
            ),
            Self::Capitals { share } => format!(
                "A text counts as positive if more than {} % of its letters are capital.",
                (share * 1000.0).round() / 10.0
            ),
            Self::Length { words } => format!("A text counts as positive if it has fewer than {words} words."),
        }
    }
}

/// The words of a text as they are compared: in lower case, with one kind of apostrophe.
fn words(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace('\u{2019}', "'");
    text.unicode_words().map(String::from).collect()
}

/// How often a keyword's words are there in a row.
fn occurrences(text: &[String], keyword: &str) -> usize {
    let keyword = words(keyword);
    match keyword.len() {
        0 => 0,
        length => text.windows(length).filter(|window| *window == keyword).count(),
    }
}

fn listed(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    quoted.join(", ")
}

/// A rule as it is written in files.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleTable {
    kind: String,
    positive: Option<Vec<String>>,
    negative: Option<Vec<String>>,
    share: Option<f64>,
    words: Option<i64>,
}

impl RuleTable {
    /// Checks the rule. Messages begin with the field.
    pub fn check(self) -> Result<Rule> {
        let given = [
            ("positive", self.positive.is_some()),
            ("negative", self.negative.is_some()),
            ("share", self.share.is_some()),
            ("words", self.words.is_some()),
        ];
        let known: &[&str] = match self.kind.as_str() {
            "keywords" => &["positive", "negative"],
            "capitals" => &["share"],
            "length" => &["words"],
            other => bail!("kind: found {other:?}, expected \"keywords\", \"capitals\" or \"length\""),
        };
        let stray = given.iter().find(|(field, given)| *given && !known.contains(field));
        if let Some((field, _)) = stray {
            bail!(
                "{field}: found in a rule of kind {:?}, expected {}",
                self.kind,
                known.join(", ")
            );
        }
        Ok(match self.kind.as_str() {
            "keywords" => {
                let positive = keywords("positive", self.positive)?;
                let negative = keywords("negative", self.negative)?;
                for word in &negative {
                    let both = positive.iter().any(|other| words(other) == words(word));
                    ensure!(
                        !both,
                        "negative: found {word:?}, which is also in positive; expected another word"
                    );
                }
                Rule::Keywords { positive, negative }
            }
            "capitals" => {
                let share = self.share.context("share: found no such key, expected a number")?;
                ensure!(
                    (0.0..1.0).contains(&share),
                    "share: found {share}, expected a number from 0 to below 1"
                );
                Rule::Capitals { share }
            }
            _ => {
                let words = self.words.context("words: found no such key, expected a number")?;
                let count = usize::try_from(words).ok().filter(|&count| count > 0);
                let words = count.with_context(|| format!("words: found {words}, expected 1 or more"))?;
                Rule::Length { words }
            }
        })
    }
}

fn keywords(field: &str, list: Option<Vec<String>>) -> Result<Vec<String>> {
    let list = list.with_context(|| format!("{field}: found no such key, expected a list of words"))?;
    ensure!(
        !list.is_empty(),
        "{field}: found an empty list, expected at least a word"
    );
    for (index, word) in list.iter().enumerate() {
        ensure!(!words(word).is_empty(), "{field}: found {word:?}, expected a word");
        let again = list[..index].iter().any(|other| words(other) == words(word));
        ensure!(!again, "{field}: found {word:?} twice, expected it once");
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyword_rule(positive: &[&str], negative: &[&str]) -> Rule {
        let owned = |list: &[&str]| list.iter().map(|&word| word.to_string()).collect();
        Rule::Keywords {
            positive: owned(positive),
            negative: owned(negative),
        }
    }

    #[test]
    fn keywords_are_whole_words_in_any_case() {
        let rule = keyword_rule(&["happy", "Été", "can't", "of course", "快乐"], &["sad", "sadly"]);
        for (text, positive) in [
            ("HAPPY!", true),
            ("unhappy, happyish", false),
            ("happy but sad", false),
            ("happy, happy, sad", true),
            ("un ÉTÉ chaud", true),
            ("I can’t", true),
            ("Of course.", true),
            ("of the course", false),
            ("我很快乐。", true),
            ("sadly happy happy", true),
            ("", false),
        ] {
            assert_eq!(rule.is_positive(text), positive, "{text}");
        }
    }

    #[test]
    fn capitals_are_a_share_of_the_letters_that_have_a_case() {
        let rule = Rule::Capitals { share: 0.5 };
        for (text, positive) in [
            ("ABc 123 ...", true),
            ("ABcd", false),
            ("ÄÖü", true),
            ("abC", false),
            ("123", false),
            ("", false),
            ("東京 AB", true),
        ] {
            assert_eq!(rule.is_positive(text), positive, "{text}");
        }
        assert!(Rule::Capitals { share: 0.0 }.is_positive("aaaaaaaaaB"));
    }

    #[test]
    fn length_counts_words() {
        let rule = Rule::Length { words: 3 };
        assert!(!rule.is_positive("It's - well - short."));
        assert!(rule.is_positive("Quite short!"));
        assert!(rule.is_positive(""));
    }

    #[test]
    fn sentences() {
        let sentence = keyword_rule(&["happy", "smile"], &["sad"]).describe();
        assert!(sentence.contains("\"happy\", \"smile\" than of \"sad\""), "{sentence}");
        assert!(Rule::Capitals { share: 0.5 }.describe().contains("more than 50 %"));
        assert!(Rule::Capitals { share: 0.125 }.describe().contains("more than 12.5 %"));
        assert!(Rule::Length { words: 20 }.describe().contains("fewer than 20 words"));
    }

    #[test]
    fn every_mistake_names_its_field() {
        for (table, message) in [
            ("kind = \"poem\"", "kind: found \"poem\", expected \"keywords\""),
            ("kind = \"keywords\"\nnegative = [\"a\"]", "positive: found no such key"),
            ("kind = \"keywords\"\npositive = [\"a\"]", "negative: found no such key"),
            (
                "kind = \"keywords\"\npositive = []\nnegative = [\"a\"]",
                "positive: found an empty list",
            ),
            (
                "kind = \"keywords\"\npositive = [\"!\"]\nnegative = [\"a\"]",
                "positive: found \"!\", expected a word",
            ),
            (
                "kind = \"keywords\"\npositive = [\"a\", \"A\"]\nnegative = [\"b\"]",
                "positive: found \"A\" twice",
            ),
            (
                "kind = \"keywords\"\npositive = [\"a\"]\nnegative = [\"b\", \"A\"]",
                "negative: found \"A\", which is also in positive",
            ),
            (
                "kind = \"keywords\"\npositive = [\"a\"]\nnegative = [\"b\"]\nshare = 0.5",
                "share: found in a rule of kind \"keywords\", expected positive, negative",
            ),
            ("kind = \"capitals\"", "share: found no such key"),
            ("kind = \"capitals\"\nshare = 1.0", "share: found 1, expected"),
            ("kind = \"capitals\"\nshare = -0.1", "share: found -0.1"),
            ("kind = \"capitals\"\nshare = nan", "share: found NaN"),
            (
                "kind = \"capitals\"\nshare = 0.5\nwords = 3",
                "words: found in a rule of kind \"capitals\"",
            ),
            ("kind = \"length\"", "words: found no such key"),
            ("kind = \"length\"\nwords = 0", "words: found 0, expected 1 or more"),
            ("kind = \"length\"\nwords = -2", "words: found -2, expected 1 or more"),
        ] {
            let table: RuleTable = toml::from_str(table).unwrap();
            let error = format!("{:#}", table.check().unwrap_err());
            assert!(error.starts_with(message), "{error}");
        }
        let table: RuleTable = toml::from_str("kind = \"length\"\nwords = 20").unwrap();
        assert_eq!(table.check().unwrap(), Rule::Length { words: 20 });
    }
}
