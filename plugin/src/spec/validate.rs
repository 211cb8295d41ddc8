//! Checks of a spec that need no vectors, model or prompt.

use residual_hooks::Phase;

use super::apply::{Apply, Selection, TokenRef, Where, Window};
use super::limits::{MAX_ENTRIES, MAX_POSITION, MAX_TOKEN_TEXT, MAX_VECTORS};
use super::number::finite;
use super::steering_spec::SteeringSpec;
use super::vector_use::{Op, VectorUse};
use super::when::MAX_TESTS;
use crate::SteeringError;
use crate::name::check_name;

impl SteeringSpec {
    /// Checks what can be checked without vectors, a model or a prompt. `at` is the path of the spec, ending with a dot
    /// or empty, for messages.
    ///
    /// # Errors
    ///
    /// A name that no vector or map can have, a scale or threshold that is not a finite 32-bit number, keys that are
    /// missing or exclude each other, a list that is empty, too long or repeats an entry, or a selector that selects
    /// nothing.
    pub fn validate(&self, at: &str) -> Result<(), SteeringError> {
        at_most(&format!("{at}vectors"), self.vectors.len(), MAX_VECTORS, "vectors")?;
        // Checked first, so that later messages stay bounded.
        let conditions = self.vectors.iter().filter_map(|vector| vector.when.as_ref());
        let tests: usize = conditions.map(|when| when.count(MAX_TESTS)).sum();
        if tests > MAX_TESTS {
            let found = format!("more than {MAX_TESTS} tests in `when`");
            return Err(SteeringError::value(
                format!("{at}vectors"),
                found,
                format!("at most {MAX_TESTS}"),
            ));
        }
        let mut vectors = self.vectors.iter().enumerate();
        vectors.try_for_each(|(index, vector)| vector.validate(&format!("{at}vectors[{index}]")))
    }
}

impl VectorUse {
    pub(super) fn validate(&self, at: &str) -> Result<(), SteeringError> {
        let field = |name: &str| format!("{at}.{name}");
        self.vector.validate(&field("vector"))?;
        if let Some(map) = &self.map {
            check_name(&field("map"), map)?;
        }
        self.validate_scale(at)?;
        if let (Some(rule), None) = (self.offset, &self.map) {
            return Err(SteeringError::value(
                field("offset"),
                format!("{rule:?} without a map", rule = rule.to_string()),
                "a map beside it, or no such key",
            ));
        }
        if let Some(layers) = &self.layers {
            layers.validate(&field("layers"))?;
        }
        if let Some(apply) = &self.apply {
            apply.validate(&field("apply"))?;
        }
        if let Some(when) = &self.when {
            when.validate(&field("when"))?;
            if when.waits_for_the_prompt() && *self.in_prompt() != Where::None {
                return Err(SteeringError::value(
                    field("apply.prompt"),
                    "tokens of the prompt beside `when`, which is decided after the prompt",
                    "\"none\" or no such key",
                ));
            }
        }
        if let Some(schedule) = &self.schedule {
            // With a negative factor, an operation that removes a component would add to it.
            let least = if self.op == Op::Add { -1.0 } else { 0.0 };
            schedule.validate(&field("schedule"), least)?;
        }
        Ok(())
    }

    /// The keys that state the strength; at most one may be given.
    fn scales(&self) -> [(&'static str, Option<f64>); 3] {
        [
            ("scale", self.scale),
            ("relative_scale", self.relative_scale),
            ("std_scale", self.std_scale),
        ]
    }

    fn validate_scale(&self, at: &str) -> Result<(), SteeringError> {
        let field = |name: &str| format!("{at}.{name}");
        let numbers = [
            ("scale", self.scale),
            ("relative_scale", self.relative_scale),
            ("std_scale", self.std_scale),
            ("min", self.min),
            ("max", self.max),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                finite(&field(name), number)?;
            }
        }
        if self.op == Op::Clamp {
            return self.validate_clamp(at);
        }
        for (name, bound) in [("min", self.min), ("max", self.max)] {
            if let Some(bound) = bound {
                let found = format!("{bound} beside another op than \"clamp\"");
                return Err(SteeringError::value(field(name), found, "no such key"));
            }
        }
        let mut given = self
            .scales()
            .into_iter()
            .filter_map(|(name, scale)| Some((name, scale?)));
        match (given.next(), given.next()) {
            (Some(_), Some((second, _))) => {
                let expected = "either scale, relative_scale or std_scale";
                return Err(SteeringError::value(field(second), "both", expected));
            }
            (None, _) if self.op != Op::Ablate => {
                let expected = "scale, relative_scale or std_scale";
                return Err(SteeringError::value(field("scale"), "neither", expected));
            }
            (Some((name, scale)), None) if self.op == Op::Ablate && name != "scale" => {
                let (found, expected) = (
                    format!("{scale} for op = \"ablate\""),
                    "scale, the share that is removed",
                );
                return Err(SteeringError::value(field(name), found, expected));
            }
            _ => {}
        }
        if !self.normalize {
            let reason = match (self.op, self.relative_scale, self.std_scale) {
                (Op::Ablate, ..) => Some("op = \"ablate\", which uses only the direction"),
                (Op::Set, ..) => Some("op = \"set\", which uses only the direction"),
                (Op::Clamp, ..) => Some("op = \"clamp\", which uses only the direction"),
                (Op::Add, Some(_), _) => Some("relative_scale, which is that of a direction"),
                (Op::Add, None, Some(_)) => Some("std_scale, which is that of a direction"),
                (Op::Add, None, None) => None,
            };
            if let Some(reason) = reason {
                let found = format!("false beside {reason}");
                return Err(SteeringError::value(field("normalize"), found, "true or no such key"));
            }
        }
        Ok(())
    }
}

impl VectorUse {
    /// Checks the numbers of a clamp, which are finite.
    fn validate_clamp(&self, at: &str) -> Result<(), SteeringError> {
        let field = |name: &str| format!("{at}.{name}");
        for (name, scale) in self.scales() {
            if let Some(scale) = scale {
                let found = format!("{scale} for op = \"clamp\"");
                return Err(SteeringError::value(field(name), found, "min, max or both"));
            }
        }
        if !self.normalize {
            let found = "false beside op = \"clamp\", which uses only the direction";
            return Err(SteeringError::value(field("normalize"), found, "true or no such key"));
        }
        match (self.min, self.max) {
            (None, None) => Err(SteeringError::value(field("min"), "neither", "min, max or both")),
            (Some(min), Some(max)) if min > max => {
                let found = format!("{min}, above max, {max}");
                Err(SteeringError::value(field("min"), found, format!("at most {max}")))
            }
            _ => Ok(()),
        }
    }
}

impl Apply {
    fn validate(&self, at: &str) -> Result<(), SteeringError> {
        let phases = [
            ("prompt", Phase::Prompt, &self.prompt),
            ("generation", Phase::Generation, &self.generation),
        ];
        for (name, phase, tokens) in phases {
            if let Some(Where::Only(selection)) = tokens {
                selection.validate(&format!("{at}.{name}"), phase)?;
            }
        }
        let nowhere = |tokens: &Option<Where>| matches!(tokens, None | Some(Where::None));
        if nowhere(&self.prompt) && nowhere(&self.generation) {
            let expected = "tokens of the prompt, of the generation, or no such key";
            return Err(SteeringError::value(at, "tokens of neither phase", expected));
        }
        Ok(())
    }
}

impl Selection {
    fn validate(&self, at: &str, phase: Phase) -> Result<(), SteeringError> {
        if *self == Self::default() {
            return Err(SteeringError::value(
                at,
                "{}",
                "positions, windows, tokens, roles or their exclude_* forms",
            ));
        }
        let include = ("positions", &self.positions, "windows", &self.windows);
        let exclude = (
            "exclude_positions",
            &self.exclude_positions,
            "exclude_windows",
            &self.exclude_windows,
        );
        for (positions_name, positions, windows_name, windows) in [include, exclude] {
            each(at, positions_name, positions, |field, position| {
                bound(field, *position, *position, phase)
            })?;
            each(at, windows_name, windows, |field, window| window.validate(field, phase))?;
        }
        for (name, tokens) in [("tokens", &self.tokens), ("exclude_tokens", &self.exclude_tokens)] {
            each(at, name, tokens, |field, token| token.validate(field))?;
        }
        for (name, roles) in [("roles", &self.roles), ("exclude_roles", &self.exclude_roles)] {
            if phase == Phase::Generation && roles.is_some() {
                let found = "roles for generated tokens, which are always the assistant's";
                return Err(SteeringError::value(format!("{at}.{name}"), found, "no such key"));
            }
            let earlier = |index: usize, role| roles.iter().flatten().take(index).any(|other| other == role);
            let mut numbered = roles.iter().flatten().enumerate();
            if let Some((index, role)) = numbered.find(|(index, role)| earlier(*index, *role)) {
                let found = format!("{:?} again", role.name());
                return Err(SteeringError::value(
                    format!("{at}.{name}[{index}]"),
                    found,
                    "each role once",
                ));
            }
            each(at, name, roles, |_, _| Ok(()))?;
        }
        if self.required && (phase == Phase::Generation || (self.tokens.is_none() && self.roles.is_none())) {
            let expected = "tokens or roles of the prompt beside it, or no such key";
            return Err(SteeringError::value(format!("{at}.required"), "true", expected));
        }
        Ok(())
    }
}

impl Window {
    fn validate(self, at: &str, phase: Phase) -> Result<(), SteeringError> {
        bound(at, self.start, self, phase)?;
        let Some(end) = self.end else { return Ok(()) };
        bound(at, end, self, phase)?;
        let empty = match phase {
            // A window that ends at 0 is empty, whichever end its start counts from.
            Phase::Prompt => end == 0 || ((self.start < 0) == (end < 0) && self.start >= end),
            Phase::Generation => self.start >= end,
        };
        if empty {
            let expected = "a window with an end after its start";
            return Err(SteeringError::value(at, self.to_string(), expected));
        }
        Ok(())
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.end {
            Some(end) => write!(f, "[{}, {end}]", self.start),
            None => write!(f, "[{}]", self.start),
        }
    }
}

impl TokenRef {
    pub(super) fn validate(&self, at: &str) -> Result<(), SteeringError> {
        let Self::Text(text) = self else { return Ok(()) };
        if text.is_empty() {
            return Err(SteeringError::value(at, "\"\"", "a token's id or its text"));
        }
        at_most(at, text.len(), MAX_TOKEN_TEXT, "bytes")
    }
}

/// Checks each entry of the list `name`, and that it is neither empty nor too long.
fn each<T>(
    at: &str,
    name: &str,
    list: &Option<Vec<T>>,
    check: impl Fn(&str, &T) -> Result<(), SteeringError>,
) -> Result<(), SteeringError> {
    let Some(list) = list else { return Ok(()) };
    let at = format!("{at}.{name}");
    if list.is_empty() {
        return Err(SteeringError::value(at, "[]", "at least one entry, or no such key"));
    }
    at_most(&at, list.len(), MAX_ENTRIES, "entries")?;
    list.iter()
        .enumerate()
        .try_for_each(|(index, entry)| check(&format!("{at}[{index}]"), entry))
}

/// Checks a position or a window's bound; `found` is the value to report.
fn bound(at: &str, position: i64, found: impl ToString, phase: Phase) -> Result<(), SteeringError> {
    let least = match phase {
        Phase::Prompt => -MAX_POSITION,
        Phase::Generation => -1,
    };
    if (least..=MAX_POSITION).contains(&position) {
        return Ok(());
    }
    let expected = match phase {
        Phase::Generation if position < 0 => {
            "-1, the prompt's last token, or more, since the end of a generation is not known".to_string()
        }
        _ => format!("{least} to {MAX_POSITION}"),
    };
    Err(SteeringError::value(at, found.to_string(), expected))
}

pub(super) fn at_most(at: &str, count: usize, limit: usize, what: &str) -> Result<(), SteeringError> {
    if count <= limit {
        return Ok(());
    }
    Err(SteeringError::value(
        at,
        format!("{count} {what}"),
        format!("at most {limit}"),
    ))
}
