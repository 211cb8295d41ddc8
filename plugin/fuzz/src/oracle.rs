//! The definition of selectors, slow and simple. The plugin's fast implementation is compared with it.

use residual_hooks::Turn;

use crate::VectorUse;
use crate::fixture::token;
use crate::spec::{Role, Selection, TokenRef, Where, Window};

/// Whether the token `id` at `index` of a phase with `len` tokens is among `tokens`; `turns` are those of a prompt. For
/// generations, which have no end and so no negative positions, `len` is ignored.
pub fn selects(tokens: &Where, index: usize, len: usize, id: u32, turns: &[Turn]) -> bool {
    let selection = match tokens {
        Where::All => return true,
        Where::None => return false,
        Where::Only(selection) => selection,
    };
    let roles = [&selection.roles, &selection.exclude_roles].map(|roles| in_messages(roles, index, turns));
    let (index, len) = (index as i128, len as i128);
    let includes = [
        at_positions(&selection.positions, index, len),
        in_windows(&selection.windows, index, len),
        of_tokens(&selection.tokens, id),
        roles[0],
    ];
    let excludes = [
        at_positions(&selection.exclude_positions, index, len),
        in_windows(&selection.exclude_windows, index, len),
        of_tokens(&selection.exclude_tokens, id),
        roles[1],
    ];
    let included = includes.contains(&Some(true)) || includes == [None; 4];
    included && !excludes.contains(&Some(true))
}

/// Whether `used` acts on the token `id` at `index` of a prompt of `len`: by its selection for the prompt, or on the
/// last token if its generation includes the choice of the first token. With a first factor of 0 it does not act on the
/// prompt.
pub fn acts_on_prompt(used: &VectorUse, index: usize, len: usize, id: u32, turns: &[Turn]) -> bool {
    let first_factor = (used.schedule.as_ref()).map_or(1.0, |schedule| match (&schedule.trigger, &schedule.factors) {
        (Some(_), _) => schedule.before.unwrap_or(0.0),
        (None, Some(factors)) => factors[0],
        (None, None) => schedule.from.unwrap_or(1.0),
    });
    let last = index + 1 == len && chooses_the_first(used.in_generation());
    first_factor as f32 != 0.0 && (last || selects(used.in_prompt(), index, len, id, turns))
}

/// Whether position -1 is among `tokens` of a generation. Lists of token ids don't include it.
fn chooses_the_first(tokens: &Where) -> bool {
    let selection = match tokens {
        Where::All => return true,
        Where::None => return false,
        Where::Only(selection) => selection,
    };
    let has = |positions: &Option<Vec<i64>>, windows: &Option<Vec<Window>>| {
        positions.iter().flatten().any(|position| *position == -1)
            || windows.iter().flatten().any(|window| window.start == -1)
    };
    let listed = selection.positions.is_some() || selection.windows.is_some() || selection.tokens.is_some();
    (!listed || has(&selection.positions, &selection.windows))
        && !has(&selection.exclude_positions, &selection.exclude_windows)
}

/// The name of the first clause of `tokens` that selects nothing in `prompt`, or that excludes the rest.
pub fn idle_clause(tokens: &Where, prompt: &[u32], turns: &[Turn]) -> Option<String> {
    let Where::Only(selection) = tokens else { return None };
    let any = |selection: Selection| {
        let tokens = Where::Only(selection);
        (prompt.iter().enumerate()).any(|(index, id)| selects(&tokens, index, prompt.len(), *id, turns))
    };
    let none = Selection::default;
    for (index, &position) in selection.positions.iter().flatten().enumerate() {
        let positions = Some(vec![position]);
        if !any(Selection { positions, ..none() }) {
            return Some(format!("positions[{index}]"));
        }
    }
    for (index, &window) in selection.windows.iter().flatten().enumerate() {
        let windows = Some(vec![window]);
        if !any(Selection { windows, ..none() }) {
            return Some(format!("windows[{index}]"));
        }
    }
    if let tokens @ Some(_) = selection.tokens.clone()
        && !any(Selection { tokens, ..none() })
        && selection.required
    {
        return Some("tokens".into());
    }
    if let Some(roles) = &selection.roles
        && !turns.iter().any(|turn| is_of(roles, turn))
        && selection.required
    {
        return Some("roles".into());
    }
    let mut left = Selection {
        exclude_positions: None,
        exclude_windows: None,
        exclude_tokens: None,
        exclude_roles: None,
        ..selection.clone()
    };
    // Without any of the tokens or messages in the prompt there is nothing to exclude.
    if !any(left.clone()) {
        return None;
    }
    left.exclude_positions = selection.exclude_positions.clone();
    if !any(left.clone()) {
        return Some("exclude_positions".into());
    }
    left.exclude_windows = selection.exclude_windows.clone();
    if !any(left.clone()) {
        return Some("exclude_windows".into());
    }
    left.exclude_roles = selection.exclude_roles.clone();
    if !any(left.clone()) {
        return Some("exclude_roles".into());
    }
    (!any(selection.clone())).then(|| "exclude_tokens".into())
}

fn at_positions(positions: &Option<Vec<i64>>, index: i128, len: i128) -> Option<bool> {
    let positions = positions.as_ref()?;
    Some(positions.iter().any(|&position| from_start(position, len) == index))
}

fn in_windows(windows: &Option<Vec<Window>>, index: i128, len: i128) -> Option<bool> {
    let within = |window: &Window| {
        from_start(window.start, len) <= index && window.end.is_none_or(|end| index < from_start(end, len))
    };
    Some(windows.as_ref()?.iter().any(within))
}

fn of_tokens(tokens: &Option<Vec<TokenRef>>, id: u32) -> Option<bool> {
    let is = |token_ref: &TokenRef| match token_ref {
        TokenRef::Id(other) => *other == id,
        TokenRef::Text(text) => token(text) == Ok(id),
    };
    Some(tokens.as_ref()?.iter().any(is))
}

/// A message is its text and, for an assistant, the position before, from whose state its first token is chosen.
fn in_messages(roles: &Option<Vec<Role>>, index: usize, turns: &[Turn]) -> Option<bool> {
    let roles = roles.as_ref()?;
    let within = |turn: &Turn| {
        let chooses = turn.role == "assistant" && index + 1 == turn.tokens.start;
        is_of(roles, turn) && (chooses || turn.tokens.contains(&index))
    };
    Some(turns.iter().any(within))
}

fn is_of(roles: &[Role], turn: &Turn) -> bool {
    let role = match turn.role.as_str() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => Role::Tool,
        _ => return false,
    };
    roles.contains(&role)
}

fn from_start(position: i64, len: i128) -> i128 {
    let position = i128::from(position);
    if position < 0 { position + len } else { position }
}
