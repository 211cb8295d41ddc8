//! Conditions on a sequence's states, and how they combine.

use std::sync::Arc;

use super::directions::unit_direction;
use crate::directions::Direction;
use crate::spec::{DecisionFrequency, Test, TokenState, When};
use crate::{Library, SteeringError, Target};

/// A threshold for the component of a state along a direction, before the layer's own steering.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The layer of the state.
    pub layer: usize,
    /// The unit direction of the component: `[hidden_size]`, finite.
    pub direction: Arc<Direction>,
    /// Which states it reads.
    pub reads: ConditionStates,
    /// Whether the component must be greater than the threshold; else it must be less.
    pub above: bool,
    /// The threshold, finite.
    pub threshold: f32,
}

/// Which states a condition reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConditionStates {
    /// The state of the prompt's last token.
    Last,
    /// The mean of the states of the prompt's tokens.
    Mean,
    /// The state of each token.
    Each {
        /// The threshold at which a condition that holds ends; `None`: the same threshold.
        release: Option<f32>,
        /// The number of tokens whose components are averaged, at least 1.
        window: usize,
    },
}

impl Condition {
    /// Whether a state with this component along the condition's direction meets the condition. NaN never does.
    pub fn is_met(&self, component: f64) -> bool {
        let threshold = f64::from(self.threshold);
        if self.above {
            component > threshold
        } else {
            component < threshold
        }
    }

    /// Whether it holds at a token with this component, given whether it `held` at the token before.
    pub fn goes_on(&self, held: bool, component: f64) -> bool {
        match self.reads {
            ConditionStates::Each {
                release: Some(release), ..
            } if held => {
                let release = f64::from(release);
                // NaN fails every comparison.
                if self.above {
                    component >= release
                } else {
                    component <= release
                }
            }
            _ => self.is_met(component),
        }
    }

    /// Whether it is decided at every token.
    pub fn is_each(&self) -> bool {
        matches!(self.reads, ConditionStates::Each { .. })
    }

    /// Whether its value at a token depends on the tokens before it.
    pub fn remembers(&self) -> bool {
        match self.reads {
            ConditionStates::Each { release, window } => release.is_some() || window > 1,
            ConditionStates::Mean => true,
            ConditionStates::Last => false,
        }
    }

    /// Bytes that are equal if and only if the conditions are equal.
    pub(super) fn canonical(&self) -> Vec<u8> {
        let number = |x: f32| (x + 0.0).to_le_bytes();
        let mut bytes = match self.reads {
            ConditionStates::Last => vec![0],
            ConditionStates::Mean => vec![1],
            ConditionStates::Each { release, window } => {
                let mut bytes = vec![2, u8::from(release.is_some())];
                bytes.extend(number(release.unwrap_or_default()));
                bytes.extend((window as u64).to_le_bytes());
                bytes
            }
        };
        bytes.push(u8::from(self.above));
        bytes.extend((self.layer as u64).to_le_bytes());
        bytes.extend(number(self.threshold));
        bytes.extend(self.direction.digest().bytes());
        bytes
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.direction.bytes()
    }
}

/// Conditions combined; a number is an index into [`Program::conditions`](super::Program::conditions).
#[derive(Clone, Debug, PartialEq)]
pub enum Formula {
    /// One condition.
    Test(usize),
    /// All of these.
    All(Vec<Formula>),
    /// Any of these.
    Any(Vec<Formula>),
}

impl Formula {
    /// Whether it holds, if the conditions that are `decided` determine it (Kleene's three-valued logic).
    pub fn evaluate(&self, decided: &dyn Fn(usize) -> Option<bool>) -> Option<bool> {
        let (parts, settles) = match self {
            Self::Test(condition) => return decided(*condition),
            Self::All(parts) => (parts, false),
            Self::Any(parts) => (parts, true),
        };
        let mut known = true;
        for part in parts {
            match part.evaluate(decided) {
                Some(value) if value == settles => return Some(settles),
                Some(_) => {}
                None => known = false,
            }
        }
        known.then_some(!settles)
    }

    /// The conditions in it.
    pub fn conditions(&self) -> Vec<usize> {
        match self {
            Self::Test(condition) => vec![*condition],
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::conditions).collect(),
        }
    }

    /// The first layer at which it may be known to hold for a token. `known_from` returns the layer from which each
    /// condition is known.
    pub fn known_from(&self, known_from: &dyn Fn(usize) -> usize) -> usize {
        match self {
            Self::Test(condition) => known_from(*condition),
            Self::All(parts) => parts.iter().map(|part| part.known_from(known_from)).max().unwrap_or(0),
            Self::Any(parts) => parts.iter().map(|part| part.known_from(known_from)).min().unwrap_or(0),
        }
    }

    /// Bytes that are equal if and only if the formulas and their conditions are equal.
    pub(super) fn canonical(&self, conditions: &[Condition]) -> Vec<u8> {
        let (kind, parts) = match self {
            Self::Test(condition) => return conditions.get(*condition).map(Condition::canonical).unwrap_or_default(),
            Self::All(parts) => (3, parts),
            Self::Any(parts) => (4, parts),
        };
        let mut bytes = vec![kind];
        bytes.extend((parts.len() as u64).to_le_bytes());
        for part in parts {
            let part = part.canonical(conditions);
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part);
        }
        bytes
    }
}

/// The formula of `when`. Adds its conditions to `conditions`, each once. `at` is the path of `when`, for messages.
pub(super) fn formula(
    when: &When,
    conditions: &mut Vec<Condition>,
    library: &Library,
    target: &Target,
    at: &str,
) -> Result<Formula, SteeringError> {
    let mut parts_of = |name: &str, parts: &[When]| -> Result<Vec<Formula>, SteeringError> {
        let parts = parts.iter().enumerate();
        parts
            .map(|(index, part)| formula(part, conditions, library, target, &format!("{at}.{name}[{index}]")))
            .collect()
    };
    match when {
        When::All(parts) => Ok(Formula::All(parts_of("all", parts)?)),
        When::Any(parts) => Ok(Formula::Any(parts_of("any", parts)?)),
        When::Test(test) => {
            let condition = condition(test, library, target, at)?;
            let known = conditions.iter().position(|other| *other == condition);
            Ok(Formula::Test(known.unwrap_or_else(|| {
                conditions.push(condition);
                conditions.len() - 1
            })))
        }
    }
}

fn condition(test: &Test, library: &Library, target: &Target, at: &str) -> Result<Condition, SteeringError> {
    let direction = unit_direction(&test.vector, test.map.as_deref(), test.layer, library, target, at)?;
    Ok(Condition {
        layer: test.layer,
        direction,
        reads: match (test.each, test.token) {
            (DecisionFrequency::Token, _) => ConditionStates::Each {
                release: test.release.map(|release| release as f32),
                window: test.window.unwrap_or(1),
            },
            (DecisionFrequency::Prompt, TokenState::Last) => ConditionStates::Last,
            (DecisionFrequency::Prompt, TokenState::Mean) => ConditionStates::Mean,
        },
        above: test.above.is_some(),
        threshold: test.above.or(test.below).unwrap_or_default() as f32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(above: bool, release: Option<f32>) -> Condition {
        Condition {
            layer: 1,
            direction: Arc::new(Direction::new(vec![1.0])),
            reads: ConditionStates::Each { release, window: 1 },
            above,
            threshold: 2.0,
        }
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        let formula = Formula::All(vec![
            Formula::Test(0),
            Formula::Any(vec![Formula::Test(1), Formula::Test(2)]),
        ]);
        let evaluate = |values: [Option<bool>; 3]| formula.evaluate(&|index| values[index]);
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(evaluate([yes, no, yes]), yes);
        assert_eq!(evaluate([yes, None, yes]), yes);
        assert_eq!(evaluate([no, None, None]), no);
        assert_eq!(evaluate([yes, no, no]), no);
        assert_eq!(evaluate([yes, None, no]), None);
        assert_eq!(evaluate([None, yes, yes]), None);
        // The later of the two sides, of which the earlier alternative.
        let layers = [2, 7, 5];
        assert_eq!(formula.known_from(&|index| layers[index]), 5);
        assert_eq!(formula.conditions(), [0, 1, 2]);
    }

    #[test]
    fn a_test_with_a_release_goes_on_until_it() {
        let steps = |condition: Condition, components: &[f64]| {
            let mut held = false;
            let mut all = Vec::new();
            for component in components {
                held = condition.goes_on(held, *component);
                all.push(held);
            }
            all
        };
        let components = [1.5, 2.5, 1.5, 1.0, 0.5, 1.5, f64::NAN, 3.0, f64::NAN];
        assert_eq!(
            steps(each(true, Some(1.0)), &components),
            [false, true, true, true, false, false, false, true, false]
        );
        assert_eq!(
            steps(each(true, None), &components),
            [false, true, false, false, false, false, false, true, false]
        );
        assert_eq!(
            steps(each(false, Some(3.0)), &[2.5, 1.0, 2.5, 3.0, 3.5, 2.5]),
            [false, true, true, true, false, false]
        );
    }
}
