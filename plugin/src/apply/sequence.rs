//! The state of a sequence from its admission to its end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use candle_core::{Result, Tensor};
use residual_hooks::Row;

use super::component::components;
use super::reader::SequenceReader;
use crate::compile::{Condition, ConditionStates, Program, Step};
use crate::lock::lock;

/// The program of one sequence, the values of its conditions so far, and the reader of its stream.
pub struct SequenceState {
    program: Arc<Program>,
    /// The value of each condition of the program.
    values: Vec<ConditionValue>,
    /// By step, the position at which the token that starts its schedule was generated.
    started: Vec<OnceLock<usize>>,
    reader: Option<Arc<SequenceReader>>,
    on_decision: Box<dyn Fn(bool) + Send + Sync>,
}

/// The value of one condition.
enum ConditionValue {
    /// Decided once, from the prompt.
    Once(PromptDecision),
    /// Decided at each token.
    Each(Mutex<TokenDecisions>),
}

/// A decision from the prompt, or what has been added up for it.
#[derive(Default)]
struct PromptDecision {
    made: OnceLock<bool>,
    /// Prompt tokens seen, from the first on, and the sum of their components along the condition's direction.
    seen: Mutex<(usize, f64)>,
}

/// The decisions of a condition at each token so far.
#[derive(Default)]
struct TokenDecisions {
    /// The position of the first token.
    first: usize,
    held: Vec<bool>,
    /// The components of the last tokens, up to the length of the condition's window.
    recent: VecDeque<f64>,
    /// Their sum.
    sum: f64,
}

impl TokenDecisions {
    /// Adds the components of the tokens from `start` on. Tokens that are already decided are skipped: the engine reads
    /// a sequence from its start again after it has evicted it.
    fn extend(&mut self, condition: &Condition, start: usize, components: &[f32]) {
        let window = match condition.reads {
            ConditionStates::Each { window, .. } => window,
            ConditionStates::Last | ConditionStates::Mean => 1,
        };
        let end = self.first + self.held.len();
        if self.held.is_empty() || start > end {
            *self = Self {
                first: start,
                ..Self::default()
            };
        }
        let known = (self.first + self.held.len()).saturating_sub(start);
        for component in components.iter().skip(known) {
            // One addition and one subtraction per token, in the same order however the tokens are split into passes.
            if self.recent.len() == window {
                self.sum -= self.recent.pop_front().unwrap_or_default();
            }
            self.recent.push_back(f64::from(*component));
            self.sum += f64::from(*component);
            if !self.sum.is_finite() {
                self.sum = self.recent.iter().sum();
            }
            let mean = self.sum / self.recent.len() as f64;
            let held = self.held.last() == Some(&true);
            self.held.push(condition.goes_on(held, mean));
        }
    }

    fn at(&self, position: usize) -> Option<bool> {
        self.held.get(position.checked_sub(self.first)?).copied()
    }
}

impl SequenceState {
    /// The state of a new sequence. `on_decision` is called with the decision of each condition that is decided once.
    pub fn new(
        program: Arc<Program>,
        reader: Option<Arc<SequenceReader>>,
        on_decision: impl Fn(bool) + Send + Sync + 'static,
    ) -> Self {
        let value = |condition: &Condition| {
            if condition.is_each() {
                ConditionValue::Each(Mutex::default())
            } else {
                ConditionValue::Once(PromptDecision::default())
            }
        };
        let scheduled = program.steps.iter().any(|step| step.schedule.is_some());
        Self {
            values: program.conditions.iter().map(value).collect(),
            started: if scheduled {
                program.steps.iter().map(|_| OnceLock::new()).collect()
            } else {
                Vec::new()
            },
            reader,
            on_decision: Box::new(on_decision),
            program,
        }
    }

    /// The state of a row's sequence, if it is steered or read.
    pub fn of(row: &Row) -> Option<&Self> {
        row.state.as_ref()?.downcast_ref()
    }

    /// The sequence's program.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// The reader of its stream, if there is one.
    pub fn reader(&self) -> Option<&SequenceReader> {
        self.reader.as_deref()
    }

    /// Whether any of its steps has a schedule.
    pub fn is_scheduled(&self) -> bool {
        !self.started.is_empty()
    }

    /// Records which tokens of a pass start schedules.
    pub fn note_triggers(&self, row: &Row) {
        for (step, started) in self.program.steps.iter().zip(&self.started) {
            let Some(trigger) = step.schedule.as_ref().and_then(|schedule| schedule.trigger()) else {
                continue;
            };
            if started.get().is_some() {
                continue;
            }
            let first = row.prompt_len.saturating_sub(row.start);
            let generated = row.ids.iter().enumerate().skip(first);
            if let Some((offset, _)) = generated.into_iter().find(|(_, id)| **id == trigger) {
                // No other thread sets it: a sequence runs in one pass at a time.
                started.get_or_init(|| row.start + offset);
            }
        }
    }

    /// The factor of each step at a position.
    pub fn gains(&self, position: usize, prompt_len: usize) -> impl Iterator<Item = f32> {
        let steps = self.program.steps.iter().zip(&self.started);
        steps.map(move |(step, started)| match &step.schedule {
            Some(schedule) => schedule.at(position, prompt_len, started.get().copied()),
            None => 1.0,
        })
    }

    /// Whether the step `number` of the program does nothing at a position since its schedule's factor is 0.
    pub fn rests(&self, number: usize, position: usize, prompt_len: usize) -> bool {
        let Some(started) = self.started.get(number) else {
            return false;
        };
        let schedule = self.program.steps.get(number).and_then(|step| step.schedule.as_ref());
        schedule.is_some_and(|schedule| schedule.at(position, prompt_len, started.get().copied()) == 0.0)
    }

    /// Whether the condition of `step` holds for the token at `position`, after the sequence's states up to the layer
    /// `seen` have been observed. A condition that is not yet decided does not hold.
    pub fn holds(&self, step: &Step, position: usize, prompt_len: usize, seen: Option<usize>) -> bool {
        let Some(when) = &step.when else { return true };
        let decided = |index: usize| {
            let condition = self.program.conditions.get(index)?;
            let observed = seen.is_some_and(|seen| condition.layer <= seen);
            match self.values.get(index)? {
                ConditionValue::Each(decisions) => observed.then(|| lock(decisions).at(position)).flatten(),
                // For the prompt's last token it is known from its layer on, for earlier tokens never.
                ConditionValue::Once(decision)
                    if position >= prompt_len || (observed && position + 1 == prompt_len) =>
                {
                    decision.made.get().copied()
                }
                ConditionValue::Once(_) => None,
            }
        };
        when.evaluate(&decided) == Some(true)
    }

    /// The layers after which conditions are decided from the states of `row`.
    pub fn decides_at(&self, row: &Row) -> impl Iterator<Item = usize> {
        let in_prompt = row.start < row.prompt_len;
        let conditions = self.program.conditions.iter();
        conditions
            .filter(move |condition| in_prompt || condition.is_each())
            .map(|condition| condition.layer)
    }

    /// Reads the row's states after `layer`, `[tokens or more, hidden]`, for the conditions at that layer.
    ///
    /// # Errors
    ///
    /// Errors of candle.
    pub fn observe(&self, layer: usize, row: &Row, states: &Tensor) -> Result<()> {
        let here = || {
            let all = self.program.conditions.iter().zip(&self.values);
            all.filter(|(condition, _)| condition.layer == layer)
        };
        // One copy from the device for all conditions that read every token.
        let each = here().filter(|(condition, _)| condition.is_each());
        let directions: Vec<&[f32]> = each.map(|(condition, _)| condition.direction.values()).collect();
        let mut of_each = if directions.is_empty() {
            Vec::new()
        } else {
            components(&states.narrow(0, 0, row.tokens())?, &directions)?
        }
        .into_iter();
        for (condition, decided) in here() {
            let of = |from: usize, count: usize| -> Result<Vec<f32>> {
                let of_one = components(&states.narrow(0, from, count)?, &[condition.direction.values()])?;
                Ok(of_one.into_iter().next().unwrap_or_default())
            };
            match decided {
                ConditionValue::Each(decisions) => {
                    lock(decisions).extend(condition, row.start, &of_each.next().unwrap_or_default());
                }
                ConditionValue::Once(decision) if decision.made.get().is_some() => {}
                ConditionValue::Once(decision) => {
                    let value = match condition.reads {
                        ConditionStates::Mean => {
                            let mut seen = lock(&decision.seen);
                            let end = (row.start + row.tokens()).min(row.prompt_len);
                            // A prompt may come in parts, and from its start again after the engine has evicted it.
                            if row.start > seen.0 || end <= seen.0 {
                                continue;
                            }
                            let new = of(seen.0 - row.start, end - seen.0)?;
                            let sum: f64 = new.into_iter().map(f64::from).sum();
                            *seen = (end, seen.1 + sum);
                            if end < row.prompt_len {
                                continue;
                            }
                            seen.1 / row.prompt_len as f64
                        }
                        _ => match row.last_prompt_token() {
                            Some(index) => of(index, 1)?.first().copied().map_or(f64::NAN, f64::from),
                            None => continue,
                        },
                    };
                    let holds = condition.is_met(value);
                    if decision.made.set(holds).is_ok() {
                        (self.on_decision)(holds);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directions::Direction;

    fn condition(release: Option<f32>, window: usize) -> Condition {
        Condition {
            layer: 1,
            direction: Arc::new(Direction::new(vec![1.0])),
            reads: ConditionStates::Each { release, window },
            above: true,
            threshold: 1.0,
        }
    }

    #[test]
    fn components_in_parts_decide_as_in_one_pass() {
        let components: Vec<f32> = (0..40).map(|i| (i * i % 17) as f32 / 4.0 - 1.0).collect();
        for condition in [
            condition(None, 1),
            condition(Some(0.25), 1),
            condition(Some(0.5), 5),
            condition(None, 4),
        ] {
            let mut whole = TokenDecisions::default();
            whole.extend(&condition, 0, &components);
            let mut parts = TokenDecisions::default();
            parts.extend(&condition, 0, &components[..7]);
            // The engine evicts the sequence, and reads it again.
            parts.extend(&condition, 0, &components[..5]);
            parts.extend(&condition, 5, &components[5..9]);
            for position in 9..40 {
                parts.extend(&condition, position, &components[position..=position]);
            }
            assert_eq!(parts.held, whole.held);
            assert!(whole.held.contains(&true) && whole.held.contains(&false));
            assert_eq!((whole.at(39), whole.at(40)), (Some(whole.held[39]), None));
        }
    }

    #[test]
    fn a_window_is_a_mean_of_the_last_components() {
        let mut decisions = TokenDecisions::default();
        decisions.extend(&condition(None, 2), 3, &[3.0, 0.0, 0.0, 2.5, 0.0]);
        assert_eq!(decisions.held, [true, true, false, true, true]);
        assert_eq!(
            (decisions.at(2), decisions.at(3), decisions.at(5)),
            (None, Some(true), Some(false))
        );
    }
}
