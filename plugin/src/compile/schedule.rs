//! Compiled schedules: factors by the number of generated tokens.

use std::f64::consts::PI;

use crate::SteeringError;
use crate::select::ResolveToken;
use crate::spec::{self, Shape, TokenRef};

/// Factors of a step's effect, -1 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct CompiledSchedule {
    curve: FactorCurve,
    /// The token that starts the schedule, and the factor until then; `None`: it starts with the first generated token.
    trigger: Option<(u32, f32)>,
}

/// The factor for each number of generated tokens.
#[derive(Clone, Debug, PartialEq)]
enum FactorCurve {
    Ramp {
        cosine: bool,
        from: f64,
        to: f64,
        tokens: usize,
    },
    Listed {
        factors: Vec<f32>,
        repeat: bool,
    },
}

impl CompiledSchedule {
    /// The factor for the choice of the generated token `t`, counted from the schedule's start.
    pub fn factor(&self, t: usize) -> f32 {
        match &self.curve {
            FactorCurve::Ramp {
                cosine,
                from,
                to,
                tokens,
            } => {
                let share = (t as f64 / *tokens as f64).min(1.0);
                let share = if *cosine {
                    (1.0 - (PI * share).cos()) / 2.0
                } else {
                    share
                };
                (from + (to - from) * share) as f32
            }
            FactorCurve::Listed { factors, repeat } => {
                let last = factors.len().saturating_sub(1);
                let index = if *repeat { t % factors.len().max(1) } else { t.min(last) };
                factors.get(index).copied().unwrap_or(1.0)
            }
        }
    }

    /// The token that starts the schedule, if there is one.
    pub fn trigger(&self) -> Option<u32> {
        self.trigger.map(|(token, _)| token)
    }

    /// The factor of prompt tokens, and of all tokens until the schedule starts.
    pub fn at_rest(&self) -> f32 {
        match self.trigger {
            Some((_, before)) => before,
            None => self.factor(0),
        }
    }

    /// The factor at `position` of a sequence with a prompt of `prompt_len` tokens. The trigger was generated at
    /// position `started`, if it was.
    pub fn at(&self, position: usize, prompt_len: usize, started: Option<usize>) -> f32 {
        match (self.trigger, started) {
            (None, _) => self.factor((position + 1).saturating_sub(prompt_len)),
            (Some(_), Some(started)) if position >= started => self.factor(position - started),
            (Some((_, before)), _) => before,
        }
    }

    /// Whether all factors are 1.
    fn is_constant(&self) -> bool {
        let all = match &self.curve {
            FactorCurve::Ramp { from, to, .. } => *from == 1.0 && *to == 1.0,
            FactorCurve::Listed { factors, .. } => factors.iter().all(|factor| *factor == 1.0),
        };
        all && self.at_rest() == 1.0
    }

    /// Bytes that are equal if and only if two schedules have the same keys and values, with defaults filled in.
    pub(super) fn canonical(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match &self.curve {
            FactorCurve::Ramp {
                cosine,
                from,
                to,
                tokens,
            } => {
                bytes.push(u8::from(*cosine));
                bytes.extend([from, to].into_iter().flat_map(|x| (x + 0.0).to_le_bytes()));
                bytes.extend((*tokens as u64).to_le_bytes());
            }
            FactorCurve::Listed { factors, repeat } => {
                bytes.push(2 + u8::from(*repeat));
                bytes.extend((factors.len() as u64).to_le_bytes());
                bytes.extend(factors.iter().flat_map(|x| (x + 0.0).to_le_bytes()));
            }
        }
        if let Some((token, before)) = self.trigger {
            bytes.push(1);
            bytes.extend(token.to_le_bytes());
            bytes.extend((before + 0.0).to_le_bytes());
        }
        bytes
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.curve {
            FactorCurve::Ramp { .. } => 0,
            FactorCurve::Listed { factors, .. } => size_of_val(factors.as_slice()),
        }
    }
}

/// Compiles `written`; `None` if all factors are 1. `at` is its path, for messages.
///
/// # Errors
///
/// The trigger is not one token.
pub(super) fn schedule(
    written: &spec::Schedule,
    tokens: ResolveToken<'_>,
    at: &str,
) -> Result<Option<CompiledSchedule>, SteeringError> {
    let curve = match &written.factors {
        Some(factors) => FactorCurve::Listed {
            factors: factors.iter().map(|factor| *factor as f32).collect(),
            repeat: written.repeat,
        },
        None => FactorCurve::Ramp {
            cosine: written.shape == Some(Shape::Cosine),
            from: written.from.unwrap_or(1.0),
            to: written.to.unwrap_or(1.0),
            tokens: written
                .tokens
                .and_then(|tokens| usize::try_from(tokens).ok())
                .unwrap_or(1)
                .max(1),
        },
    };
    let trigger = match &written.trigger {
        None => None,
        Some(TokenRef::Id(id)) => Some(*id),
        Some(TokenRef::Text(text)) => Some(tokens(text).map_err(|instead| {
            let found = format!("{text:?}, {instead}");
            SteeringError::value(format!("{at}.trigger"), found, "one token of the model's tokenizer")
        })?),
    };
    let schedule = CompiledSchedule {
        curve,
        trigger: trigger.map(|token| (token, written.before.unwrap_or_default() as f32)),
    };
    Ok((!schedule.is_constant()).then_some(schedule))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(written: spec::Schedule) -> CompiledSchedule {
        schedule(&written, &|_| Ok(7), "").unwrap().unwrap()
    }

    #[test]
    fn factors_by_hand() {
        let line = of(spec::Schedule::ramp(Shape::Linear, 0.0, 1.0, 4));
        let factors: Vec<f32> = (0..6).map(|t| line.factor(t)).collect();
        assert_eq!(factors, [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]);
        let wave = of(spec::Schedule::ramp(Shape::Cosine, 1.0, -1.0, 2));
        assert!(
            (wave.factor(0) - 1.0).abs() < 1e-7 && wave.factor(1).abs() < 1e-7 && (wave.factor(9) + 1.0).abs() < 1e-7
        );
        let pulse = of(spec::Schedule {
            repeat: true,
            ..spec::Schedule::listed([1.0, 0.0, 0.0])
        });
        assert_eq!(
            (0..7).map(|t| pulse.factor(t)).collect::<Vec<_>>(),
            [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
        );
        let listed = of(spec::Schedule::listed([0.5, 0.25]));
        assert_eq!((listed.factor(1), listed.factor(100)), (0.25, 0.25));
        // A prompt of 3 tokens: its last one decides on the first that is generated.
        let at: Vec<f32> = (0..6).map(|position| line.at(position, 3, None)).collect();
        assert_eq!(at, [0.0, 0.0, 0.0, 0.25, 0.5, 0.75]);
    }

    #[test]
    fn a_trigger_starts_it() {
        let after = of(spec::Schedule::listed([1.0, 0.5]).after(TokenRef::Text("x".into())));
        assert_eq!((after.trigger(), after.at_rest()), (Some(7), 0.0));
        let at = |started| {
            (2..7)
                .map(|position| after.at(position, 3, started))
                .collect::<Vec<_>>()
        };
        assert_eq!(at(None), [0.0; 5]);
        assert_eq!(at(Some(4)), [0.0, 0.0, 1.0, 0.5, 0.5]);
    }

    #[test]
    fn one_that_makes_no_difference_is_none() {
        let none = |written| schedule(&written, &|_| Ok(7), "").unwrap().is_none();
        assert!(none(spec::Schedule::listed([1.0, 1.0])) && none(spec::Schedule::ramp(Shape::Cosine, 1.0, 1.0, 5)));
        assert!(!none(spec::Schedule::listed([1.0]).after(TokenRef::Id(1))));
    }
}
