//! Comparison of an answer in the storm with the one that its request gets alone.
//!
//! Batching itself changes the last bits of a logit, since sums are taken in another order. So two greedy answers may
//! diverge where the best two tokens are nearly equally likely, and only there. The difference of log probabilities is
//! measured on every token that both have. For unsteered requests, which the plugin does not change, it shows the
//! effect of batching.

use serde::Serialize;

use super::client::{Answer, Choice, CompletionOutcome, Token, TokenReadout};
use super::exchanges::Exchange;
use super::served::Tolerance;

/// Results of comparing the answers to unsteered or to steered requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AnswerTally {
    /// Number of whole answers compared.
    pub whole: usize,
    /// Number of cancelled answers with at least one token, of which the received part was compared.
    pub cut: usize,
    /// Number of answers cancelled before any token.
    pub nothing: usize,
    /// Number of tokens compared.
    pub tokens: usize,
    /// Number of answers that diverge from the solo one where two tokens were nearly equally likely.
    pub near_ties: usize,
    /// The largest difference between a token's log probability in the storm and alone, before answers diverge.
    pub largest_deviation: f64,
    /// Number of tokens, of prompts and generations, whose readouts were compared.
    pub readings: usize,
    /// The largest difference between a readout in the storm and alone, before answers diverge.
    pub largest_reading_deviation: f64,
    /// Answers whose header has another fingerprint than the solo one's, or none.
    pub fingerprints: Vec<String>,
    /// Answers that diverge elsewhere, or were refused: the request, and where.
    pub wrong: Vec<String>,
}

/// Comparison of all requests of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Requests that the plugin does not change.
    pub unsteered: AnswerTally,
    /// All other requests.
    pub steered: AnswerTally,
}

/// Compares a storm's outcomes with the answers that the requests get alone. Answers may diverge where the best two
/// tokens are within the `tolerance` of each other.
pub fn compare(
    exchanges: &[Exchange],
    alone: &[Answer],
    outcomes: &[CompletionOutcome],
    tolerance: Tolerance,
) -> Comparison {
    let mut comparison = Comparison::default();
    for (index, ((exchange, alone), outcome)) in exchanges.iter().zip(alone).zip(outcomes).enumerate() {
        comparison.add(index, exchange, alone, outcome, tolerance);
    }
    comparison
}

impl Comparison {
    /// Compares the outcome of request number `index` with the answer that it gets alone; see [`compare`].
    pub fn add(
        &mut self,
        index: usize,
        exchange: &Exchange,
        alone: &Answer,
        outcome: &CompletionOutcome,
        tolerance: Tolerance,
    ) {
        let tally = if exchange.steered {
            &mut self.steered
        } else {
            &mut self.unsteered
        };
        let asked = || format!("request {index}, {}", serde_json::json!(exchange.ask.steering));
        let (answer, whole) = match outcome {
            CompletionOutcome::Whole(answer) => (answer, true),
            CompletionOutcome::Cut(answer) => (answer, false),
            CompletionOutcome::Refused(status, message) => {
                tally.wrong.push(format!("{}: status {status}: {message}", asked()));
                return;
            }
        };
        // A request cancelled early may have no header.
        let told = answer.fingerprint.is_some() || whole;
        if told && (answer.fingerprint.is_none() || answer.fingerprint != alone.fingerprint) {
            let both = format!("{:?}, alone {:?}", answer.fingerprint, alone.fingerprint);
            tally.fingerprints.push(format!("{}: {both}", asked()));
        }
        let something = answer.choices().any(|choice| !choice.tokens.is_empty());
        match (whole, something) {
            (true, _) => tally.whole += 1,
            (false, true) => tally.cut += 1,
            (false, false) => {
                tally.nothing += 1;
                return;
            }
        }
        let (asked_for, came) = (alone.choices().count(), answer.choices().count());
        if whole && asked_for != came {
            tally
                .wrong
                .push(format!("{}: {came} choices, alone {asked_for}", asked()));
        }
        // All choices are greedy, so all are the same.
        let mut parted = false;
        for choice in answer.choices() {
            match difference(&alone.first, choice, whole, tolerance, tally) {
                None => {}
                Some(ChoiceDifference::NearTie) => parted = true,
                Some(ChoiceDifference::Wrong(told)) => tally.wrong.push(format!("{} {told}", asked())),
            }
        }
        tally.near_ties += usize::from(parted);
    }
}

/// How a choice differs from the one that its request gets alone.
enum ChoiceDifference {
    /// The answers diverge where two tokens are nearly equally likely.
    NearTie,
    /// The answers diverge elsewhere, with a description.
    Wrong(String),
}

/// How a choice differs from the one that its request gets alone. The common part is counted in `tally`.
fn difference(
    alone: &Choice,
    choice: &Choice,
    whole: bool,
    tolerance: Tolerance,
    tally: &mut AnswerTally,
) -> Option<ChoiceDifference> {
    let parts = first_difference(&alone.tokens, &choice.tokens, whole, tally);
    if let Some(told) = readout_difference(alone, choice, whole && parts.is_none(), tolerance, tally) {
        return Some(ChoiceDifference::Wrong(told));
    }
    match parts {
        // With equal tokens the texts are equal but for tokens that a stream has no event for.
        None if whole && (&alone.text, &alone.finish) != (&choice.text, &choice.finish) => {
            let [found, expected] = [choice, alone].map(|choice| format!("{:?} ({:?})", choice.text, choice.finish));
            Some(ChoiceDifference::Wrong(format!("is {found}, alone {expected}")))
        }
        None => None,
        Some(at) if alone.tokens.get(at).is_some_and(|token| is_near_tie(token, tolerance)) => {
            Some(ChoiceDifference::NearTie)
        }
        Some(at) => {
            let tokens = format!("{:?}, alone {:?}", choice.tokens.get(at), alone.tokens.get(at));
            Some(ChoiceDifference::Wrong(format!("differs at token {at}: {tokens}")))
        }
    }
}

/// How an answer's readouts differ from the solo one's, at tokens that both have. `whole` says whether their numbers
/// must be equal. The compared readouts are counted in `tally`.
fn readout_difference(
    alone: &Choice,
    choice: &Choice,
    whole: bool,
    tolerance: Tolerance,
    tally: &mut AnswerTally,
) -> Option<String> {
    if whole && alone.readout.len() != choice.readout.len() {
        let (found, expected) = (choice.readout.len(), alone.readout.len());
        return Some(format!("has readouts of {found} tokens, alone {expected}"));
    }
    let numbers = |reading: &TokenReadout| reading.values.clone().into_iter().flatten();
    let largest = alone
        .readout
        .iter()
        .flat_map(numbers)
        .fold(1.0, |most: f64, x| most.max(x.abs()));
    for (alone, found) in alone.readout.iter().zip(&choice.readout) {
        if (alone.position, &alone.token) != (found.position, &found.token) {
            // The texts diverge before, which is reported.
            return whole.then(|| format!("has a readout of {found:?}, alone {alone:?}"));
        }
        tally.readings += 1;
        let pairs = alone.values.iter().zip(&found.values);
        for (alone_value, value) in pairs {
            let apart = match (alone_value, value) {
                (Some(a), Some(b)) => (a - b).abs(),
                (None, None) => continue,
                _ => f64::INFINITY,
            };
            tally.largest_reading_deviation = tally.largest_reading_deviation.max(apart);
            if apart > tolerance.readout * largest {
                return Some(format!("has a readout of {found:?}, alone {alone:?}"));
            }
        }
    }
    None
}

/// The first token at which an answer diverges from the solo one. The common part is counted in `tally`.
fn first_difference(alone: &[Token], answer: &[Token], whole: bool, tally: &mut AnswerTally) -> Option<usize> {
    for (at, (alone, token)) in alone.iter().zip(answer).enumerate() {
        if alone.text != token.text {
            return Some(at);
        }
        tally.largest_deviation = tally.largest_deviation.max((token.logprob - alone.logprob).abs());
        tally.tokens += 1;
    }
    let ends_wrongly = answer.len() > alone.len() || (whole && answer.len() < alone.len());
    ends_wrongly.then(|| alone.len().min(answer.len()))
}

/// Whether the best two tokens at this position are so near to each other that batching may swap them.
pub fn is_near_tie(token: &Token, tolerance: Tolerance) -> bool {
    // (A grammar may have ruled out the better one.)
    token
        .second
        .is_some_and(|second| (token.logprob - second).abs() <= tolerance.near_tie)
}

impl AnswerTally {
    /// Whether all answers equal the solo ones up to near ties.
    pub fn is_right(&self) -> bool {
        self.wrong.is_empty() && self.fingerprints.is_empty()
    }

    /// A readable summary in one line.
    pub fn describe(&self) -> String {
        format!(
            "{} whole and {} cut answers ({} cancelled before any token), {} tokens: {} wrong, {} diverged at a near tie, \
             {} fingerprints wrong; log probabilities at most {:.1e} apart; readouts of {} tokens at most {:.1e}",
            self.whole,
            self.cut,
            self.nothing,
            self.tokens,
            self.wrong.len(),
            self.near_ties,
            self.fingerprints.len(),
            self.largest_deviation,
            self.readings,
            self.largest_reading_deviation
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::client::CompletionRequest;

    fn token(id: u64, logprob: f64, second: f64) -> Token {
        Token {
            text: id.to_string(),
            logprob,
            second: Some(second),
        }
    }

    fn answer(tokens: &[Token], fingerprint: &str) -> Answer {
        Answer {
            first: choice(tokens),
            fingerprint: Some(fingerprint.into()),
            ..Answer::default()
        }
    }

    fn choice(tokens: &[Token]) -> Choice {
        Choice {
            text: tokens.iter().map(|token| token.text.as_str()).collect(),
            tokens: tokens.to_vec(),
            ..Choice::default()
        }
    }

    fn exchange() -> Exchange {
        Exchange {
            ask: CompletionRequest::new("m", "p", 3),
            steered: true,
            prompt_tokens: 1,
            pause: std::time::Duration::ZERO,
        }
    }

    fn compared(alone: &[Token], outcome: CompletionOutcome) -> AnswerTally {
        compared_with(&answer(alone, "f"), outcome, Tolerance::F32)
    }

    fn compared_with(expected: &Answer, outcome: CompletionOutcome, tolerance: Tolerance) -> AnswerTally {
        let comparison = compare(&[exchange()], std::slice::from_ref(expected), &[outcome], tolerance);
        assert_eq!(comparison.unsteered, AnswerTally::default());
        comparison.steered
    }

    #[test]
    fn equal_answers_are_right_and_their_deviation_is_measured() {
        let alone = [token(1, -0.2, -6.0), token(2, -0.2, -6.0)];
        let tally = compared(
            &alone,
            CompletionOutcome::Whole(answer(&[token(1, -0.2, -6.0), token(2, -0.202, -6.0)], "f")),
        );
        assert!(tally.is_right() && tally.whole == 1 && tally.tokens == 2, "{tally:?}");
        assert!((tally.largest_deviation - 2e-3).abs() < 1e-9, "{tally:?}");
        let cut = compared(&alone, CompletionOutcome::Cut(answer(&alone[..1], "f")));
        assert!(
            cut.is_right() && (cut.whole, cut.cut, cut.tokens) == (0, 1, 1),
            "{cut:?}"
        );
        let nothing = compared(&alone, CompletionOutcome::Cut(answer(&[], "f")));
        assert!(nothing.is_right() && nothing.nothing == 1, "{nothing:?}");
    }

    #[test]
    fn other_answers_are_wrong_unless_two_tokens_are_equally_likely() {
        let alone = [token(1, -0.2, -6.0), token(2, -0.7, -0.70001)];
        let wrong = [
            CompletionOutcome::Whole(answer(&[token(7, -0.2, -6.0), token(2, -0.2, -6.0)], "f")),
            CompletionOutcome::Whole(answer(&alone[..1], "f")).clone(),
            CompletionOutcome::Whole(answer(&[alone[0].clone(), alone[1].clone(), token(3, -0.2, -6.0)], "f")),
            CompletionOutcome::Cut(answer(&[token(7, -0.2, -6.0)], "f")),
            CompletionOutcome::Whole(answer(&alone, "g")),
            CompletionOutcome::Refused(500, "no".into()),
        ];
        for (index, outcome) in wrong.into_iter().enumerate() {
            // The second answer ends where two tokens are equally likely.
            let expected = index == 1;
            assert_eq!(compared(&alone, outcome.clone()).is_right(), expected, "{outcome:?}");
        }
        let tie = compared(
            &alone,
            CompletionOutcome::Whole(answer(&[alone[0].clone(), token(9, -0.2, -6.0)], "f")),
        );
        assert!(tie.is_right() && tie.near_ties == 1, "{tie:?}");
    }

    #[test]
    fn readouts_must_equal_those_of_the_request_alone() {
        let alone = [token(1, -0.2, -6.0), token(2, -0.2, -6.0)];
        let reading = |position: usize, value: Option<f64>| TokenReadout {
            position,
            token: "x".into(),
            values: vec![value, None],
        };
        let read = |values: &[Option<f64>]| Answer {
            first: Choice {
                readout: values
                    .iter()
                    .enumerate()
                    .map(|(at, value)| reading(at, *value))
                    .collect(),
                ..choice(&alone)
            },
            ..answer(&alone, "f")
        };
        let expected = read(&[Some(20.0), None, Some(-3.0)]);
        let compared = |outcome| compared_with(&expected, outcome, Tolerance::F32);
        let near = compared(CompletionOutcome::Whole(read(&[Some(20.01), None, Some(-3.0)])));
        assert!(near.is_right() && near.readings == 3, "{near:?}");
        assert!((near.largest_reading_deviation - 0.01).abs() < 1e-9, "{near:?}");
        for wrong in [
            &[Some(20.1), None, Some(-3.0)][..],
            &[Some(20.0), Some(0.0), Some(-3.0)],
            &[Some(20.0), None, None],
            &[Some(20.0), None],
        ] {
            assert!(!compared(CompletionOutcome::Whole(read(wrong))).is_right(), "{wrong:?}");
        }
        assert!(compared(CompletionOutcome::Cut(read(&[Some(20.0)]))).is_right());
        // float16 rounds more.
        let outcome = CompletionOutcome::Whole(read(&[Some(20.1), None, Some(-3.0)]));
        assert!(compared_with(&expected, outcome, Tolerance::F16).is_right());
    }

    #[test]
    fn all_choices_must_be_equal() {
        let alone = [token(1, -0.2, -6.0), token(2, -0.2, -6.0)];
        let expected = Answer {
            others: vec![choice(&alone)],
            ..answer(&alone, "f")
        };
        let with = |other: Option<Choice>| {
            let outcome = CompletionOutcome::Whole(Answer {
                others: other.into_iter().collect(),
                ..expected.clone()
            });
            compared_with(&expected, outcome, Tolerance::F32)
        };
        assert!(with(Some(choice(&alone))).is_right());
        assert!(!with(None).is_right());
        assert!(!with(Some(choice(&[token(7, -0.2, -6.0), token(2, -0.2, -6.0)]))).is_right());
        let ended = Choice {
            finish: Some("stop".into()),
            ..choice(&alone)
        };
        let tally = with(Some(ended));
        assert!(tally.wrong[0].contains("stop") && tally.whole == 1, "{tally:?}");
    }
}
