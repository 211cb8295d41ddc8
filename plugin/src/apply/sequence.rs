//! What a sequence carries from its admission to its end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock};

use candle_core::{Result, Tensor};
use residual_hooks::Row;

use super::component::components;
use super::lock;
use super::reader::SequenceReader;
use crate::compile::{Condition, Program, Reads, Step};

/// The program of one sequence, what its conditions said so far, and what reads its stream.
pub struct SequenceState {
    program: Arc<Program>,
    /// By condition of the program.
    answers: Vec<Answer>,
    /// By step, the position at which the token that starts its schedule was generated.
    started: Vec<OnceLock<usize>>,
    reader: Option<Arc<SequenceReader>>,
    on_decision: Box<dyn Fn(bool) + Send + Sync>,
}

/// What one condition says.
enum Answer {
    /// Once, of the prompt.
    Once(Decision),
    /// Of each token.
    Each(Mutex<Course>),
}

/// The way to a decision.
#[derive(Default)]
struct Decision {
    made: OnceLock<bool>,
    /// Prompt tokens seen, from the first on, and the sum of their components along the condition's direction.
    seen: Mutex<(usize, f64)>,
}

/// What a condition said of each token so far.
#[derive(Default)]
struct Course {
    /// The position of the first.
    first: usize,
    held: Vec<bool>,
    /// The components of the last tokens, as many as the condition's window has.
    recent: VecDeque<f64>,
    /// The sum of these.
    sum: f64,
}

impl Course {
    /// Goes on with the components of the tokens from `start` on. What is known is not decided again: the engine reads a sequence
    /// from its start again when it had to make room for others.
    fn go_on(&mut self, condition: &Condition, start: usize, components: &[f32]) {
        let window = match condition.reads {
            Reads::Each { window, .. } => window,
            Reads::Last | Reads::Mean => 1,
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
            // One addition and one subtraction a token, in the same order however the tokens come.
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
    /// A sequence that is about to run. `on_decision` is called with the decision of each condition that is decided once.
    pub fn new(
        program: Arc<Program>,
        reader: Option<Arc<SequenceReader>>,
        on_decision: impl Fn(bool) + Send + Sync + 'static,
    ) -> Self {
        let answer = |condition: &Condition| match condition.is_each() {
            true => Answer::Each(Mutex::default()),
            false => Answer::Once(Decision::default()),
        };
        let scheduled = program.steps.iter().any(|step| step.schedule.is_some());
        Self {
            answers: program.conditions.iter().map(answer).collect(),
            started: match scheduled {
                true => program.steps.iter().map(|_| OnceLock::new()).collect(),
                false => Vec::new(),
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

    /// What is done to the sequence.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// What reads its stream.
    pub fn reader(&self) -> Option<&SequenceReader> {
        self.reader.as_deref()
    }

    /// Whether any of its steps has a schedule.
    pub fn is_scheduled(&self) -> bool {
        !self.started.is_empty()
    }

    /// Notes the tokens of a pass that start schedules.
    pub fn pass(&self, row: &Row) {
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
                // Nobody else sets it: a sequence runs in one pass at a time.
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

    /// Whether the step `number` of the program does nothing at a position, since its schedule says 0.
    pub fn rests(&self, number: usize, position: usize, prompt_len: usize) -> bool {
        let Some(started) = self.started.get(number) else {
            return false;
        };
        let schedule = self.program.steps.get(number).and_then(|step| step.schedule.as_ref());
        schedule.is_some_and(|schedule| schedule.at(position, prompt_len, started.get().copied()) == 0.0)
    }

    /// Whether `step` of the program acts on the token at `position`, as far as its condition goes, once the sequence's states up to
    /// the layer `seen` were looked at. What is not known yet does not hold.
    pub fn holds(&self, step: &Step, position: usize, prompt_len: usize, seen: Option<usize>) -> bool {
        let Some(when) = &step.when else { return true };
        let decided = |index: usize| {
            let condition = self.program.conditions.get(index)?;
            let looked_at = seen.is_some_and(|seen| condition.layer <= seen);
            match self.answers.get(index)? {
                Answer::Each(course) => looked_at.then(|| lock(course).at(position)).flatten(),
                // Known of the prompt's last token from the layer on, of those before it never.
                Answer::Once(decision) if position >= prompt_len || (looked_at && position + 1 == prompt_len) => {
                    decision.made.get().copied()
                }
                Answer::Once(_) => None,
            }
        };
        when.evaluate(&decided) == Some(true)
    }

    /// The layers after which the states of `row` decide something.
    pub fn decides_at(&self, row: &Row) -> impl Iterator<Item = usize> {
        let in_prompt = row.start < row.prompt_len;
        let conditions = self.program.conditions.iter();
        conditions
            .filter(move |condition| in_prompt || condition.is_each())
            .map(|condition| condition.layer)
    }

    /// Looks at the row's states after `layer`, `[tokens or more, hidden]`, for what the conditions there want to know.
    ///
    /// # Errors
    ///
    /// What candle says.
    pub fn observe(&self, layer: usize, row: &Row, states: &Tensor) -> Result<()> {
        let here = || {
            let all = self.program.conditions.iter().zip(&self.answers);
            all.filter(|(condition, _)| condition.layer == layer)
        };
        // One copy from the device for all that look at every token.
        let each = here().filter(|(condition, _)| condition.is_each());
        let directions: Vec<&[f32]> = each.map(|(condition, _)| condition.direction.values()).collect();
        let mut of_each = match directions.is_empty() {
            true => Vec::new(),
            false => components(&states.narrow(0, 0, row.tokens())?, &directions)?,
        }
        .into_iter();
        for (condition, answer) in here() {
            let of = |from: usize, count: usize| -> Result<Vec<f32>> {
                let of_one = components(&states.narrow(0, from, count)?, &[condition.direction.values()])?;
                Ok(of_one.into_iter().next().unwrap_or_default())
            };
            match answer {
                Answer::Each(course) => {
                    lock(course).go_on(condition, row.start, &of_each.next().unwrap_or_default());
                }
                Answer::Once(decision) if decision.made.get().is_some() => {}
                Answer::Once(decision) => {
                    let value = match condition.reads {
                        Reads::Mean => {
                            let mut seen = lock(&decision.seen);
                            let end = (row.start + row.tokens()).min(row.prompt_len);
                            // A prompt may come in parts, and from its start again where the engine had to make room.
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
            reads: Reads::Each { release, window },
            above: true,
            threshold: 1.0,
        }
    }

    #[test]
    fn a_course_in_parts_is_one_in_one_go() {
        let components: Vec<f32> = (0..40).map(|i| (i * i % 17) as f32 / 4.0 - 1.0).collect();
        for condition in [
            condition(None, 1),
            condition(Some(0.25), 1),
            condition(Some(0.5), 5),
            condition(None, 4),
        ] {
            let mut whole = Course::default();
            whole.go_on(&condition, 0, &components);
            let mut parts = Course::default();
            parts.go_on(&condition, 0, &components[..7]);
            // The engine makes room, and begins again.
            parts.go_on(&condition, 0, &components[..5]);
            parts.go_on(&condition, 5, &components[5..9]);
            for position in 9..40 {
                parts.go_on(&condition, position, &components[position..=position]);
            }
            assert_eq!(parts.held, whole.held);
            assert!(whole.held.contains(&true) && whole.held.contains(&false));
            assert_eq!((whole.at(39), whole.at(40)), (Some(whole.held[39]), None));
        }
    }

    #[test]
    fn a_window_is_a_mean_of_the_last_components() {
        let mut course = Course::default();
        course.go_on(&condition(None, 2), 3, &[3.0, 0.0, 0.0, 2.5, 0.0]);
        assert_eq!(course.held, [true, true, false, true, true]);
        assert_eq!(
            (course.at(2), course.at(3), course.at(5)),
            (None, Some(true), Some(false))
        );
    }
}
