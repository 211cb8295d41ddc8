use proptest::prelude::*;

use residual_hooks::Turn;

use super::*;
use crate::spec::Role;
use crate::testing::{cases, places, selections, token};

/// Longest prompt, and number of generated tokens, that tests try: beyond all positions of [`selections`].
const LONGEST: usize = 12;

fn window(start: i64, end: impl Into<Option<i64>>) -> Window {
    Window { start, end: end.into() }
}

fn ids(ids: impl IntoIterator<Item = u32>) -> Option<Vec<TokenRef>> {
    Some(ids.into_iter().map(TokenRef::Id).collect())
}

fn selector(selection: Selection) -> Selector {
    Selector::new(&Where::Only(selection), Phase::Prompt, "at", &token).unwrap()
}

fn positions(positions: impl Into<Vec<i64>>) -> Selection {
    Selection {
        positions: Some(positions.into()),
        ..Selection::default()
    }
}

fn windows(windows: impl Into<Vec<Window>>) -> Selection {
    Selection {
        windows: Some(windows.into()),
        ..Selection::default()
    }
}

/// The positions selected of a prompt of tokens 0, 1, 2...
fn of(selection: Selection, len: usize) -> Vec<usize> {
    let selector = selector(selection);
    (0..len)
        .filter(|&position| selector.contains(position, len, position as u32))
        .collect()
}

#[test]
fn positions_count_from_both_ends() {
    assert_eq!(of(positions([0]), 4), [0]);
    assert_eq!(of(positions([3]), 4), [3]);
    assert_eq!(of(positions([4]), 4), [0; 0]);
    assert_eq!(of(positions([-1]), 4), [3]);
    assert_eq!(of(positions([-4]), 4), [0]);
    assert_eq!(of(positions([-5]), 4), [0; 0]);
    assert_eq!(of(positions([2, -4, 2]), 4), [0, 2]);
    assert_eq!(of(positions([i64::MAX, i64::MIN]), 4), [0; 0]);
}

#[test]
fn windows_are_half_open_and_cut_at_the_prompts_ends() {
    assert_eq!(of(windows([window(1, 3)]), 5), [1, 2]);
    assert_eq!(of(windows([window(3, None)]), 5), [3, 4]);
    assert_eq!(of(windows([window(3, 99)]), 5), [3, 4]);
    assert_eq!(of(windows([window(5, 99)]), 5), [0; 0]);
    assert_eq!(of(windows([window(-2, None)]), 5), [3, 4]);
    assert_eq!(of(windows([window(-9, None)]), 5), [0, 1, 2, 3, 4]);
    assert_eq!(of(windows([window(-9, -3)]), 5), [0, 1]);
    assert_eq!(of(windows([window(-9, -5)]), 5), [0; 0]);
    assert_eq!(of(windows([window(1, -1)]), 5), [1, 2, 3]);
    assert_eq!(of(windows([window(3, -2)]), 5), [0; 0]);
    assert_eq!(of(windows([window(-3, 4)]), 5), [2, 3]);
    assert_eq!(of(windows([window(-3, 2)]), 5), [0; 0]);
    assert_eq!(
        of(windows([window(0, 1), window(-1, None), window(2, 3)]), 5),
        [0, 2, 4]
    );
}

#[test]
fn includes_unite_and_exclusions_always_subtract() {
    let selection = Selection {
        tokens: ids([4, 1]),
        exclude_positions: Some(vec![-1]),
        exclude_windows: Some(vec![window(0, 1)]),
        ..positions([0, 2, 5])
    };
    assert_eq!(of(selection.clone(), 6), [1, 2, 4]);
    let all_but = Selection {
        positions: None,
        tokens: None,
        exclude_tokens: ids([3]),
        ..selection
    };
    assert_eq!(of(all_but, 6), [1, 2, 4]);
}

#[test]
fn generated_positions_count_from_the_first_generated_token() {
    let at = |selection, position| {
        let tokens = Where::Only(selection);
        let selector = Selector::new(&tokens, Phase::Generation, "at", &token).unwrap();
        selector.contains(position, 5, 9)
    };
    assert!(!at(positions([0]), 4));
    assert!(at(positions([0]), 5));
    assert!(!at(positions([0]), 6));
    assert!(at(windows([window(2, None)]), 7));
    assert!(!at(windows([window(2, None)]), 6));
    for (phase, position) in [(Phase::Prompt, 5), (Phase::Generation, 4)] {
        let all = Selector::new(&Where::All, phase, "at", &token).unwrap();
        assert!(!all.contains(position, 5, 9), "a token of the other phase");
    }
}

#[test]
fn texts_are_tokens_or_say_what_they_are() {
    let of_text = |text: &str| {
        let selection = Selection {
            exclude_tokens: Some(vec![TokenRef::Id(7), TokenRef::Text(text.into())]),
            ..positions([1])
        };
        Selector::new(&Where::Only(selection), Phase::Prompt, "at", &token)
    };
    let selector = of_text(" cat").unwrap();
    assert!(selector.contains(1, 4, 0) && !selector.contains(1, 4, 1) && !selector.contains(1, 4, 7));
    assert_eq!(
        of_text("cat").unwrap_err().to_string(),
        "at.exclude_tokens[1]: found \"cat\", which is 3 tokens, expected one token of the model's tokenizer"
    );
}

#[test]
fn exclusions_of_everything_are_refused() {
    let refused = [
        Selection {
            exclude_windows: Some(vec![window(0, None)]),
            ..Selection::default()
        },
        Selection {
            exclude_windows: Some(vec![window(1, None)]),
            ..positions([3])
        },
        Selection {
            exclude_positions: Some(vec![-1, -2]),
            ..windows([window(-2, None)])
        },
        Selection {
            tokens: ids([1, 2]),
            exclude_tokens: ids([2, 3, 1]),
            ..Selection::default()
        },
    ];
    for selection in refused {
        let error = Selector::new(&Where::Only(selection), Phase::Prompt, "at", &token).unwrap_err();
        assert_eq!(
            error.to_string(),
            "at: found exclusions that leave no token, expected at least one token, or \"none\""
        );
    }
}

#[test]
fn equal_selections_look_the_same() {
    let all = Selector::new(&Where::All, Phase::Prompt, "at", &token).unwrap();
    assert!(all.is_all());
    assert_eq!(selector(windows([window(0, None)])), all);
    let but_first = Selection {
        exclude_positions: Some(vec![0]),
        ..Selection::default()
    };
    assert_eq!(selector(but_first), selector(windows([window(1, None)])));
    assert_eq!(selector(positions([2, 1, 1])), selector(windows([window(1, 3)])));
    assert_eq!(selector(positions([-1, -2])), selector(windows([window(-2, None)])));
    let nested = |start, ends: [i64; 2]| windows(ends.map(|end| window(start, end)));
    assert_eq!(selector(nested(1, [-3, -1])), selector(windows([window(1, -1)])));
    assert_eq!(selector(nested(-9, [3, 4])), selector(windows([window(-9, 4)])));
    assert_ne!(selector(positions([0])), selector(positions([-1])));
    let none = Selector::new(&Where::None, Phase::Prompt, "at", &token).unwrap();
    assert!(none.is_none() && !none.is_all());
    assert!(none.selects_something(&[1]).is_ok());
}

fn turn(role: &str, tokens: std::ops::Range<usize>) -> Turn {
    let role = role.to_string();
    Turn { role, tokens }
}

#[test]
fn roles_are_the_texts_of_their_messages() {
    let of = |roles: &[Role]| Selection {
        roles: Some(roles.to_vec()),
        ..Selection::default()
    };
    let turns = [
        turn("system", 1..3),
        turn("user", 5..8),
        turn("assistant", 11..13),
        turn("user", 16..17),
        turn("critic", 18..19),
    ];
    let selected = |selection: Selection| -> Vec<usize> {
        let selector = selector(selection).in_turns(&turns);
        (0..20).filter(|position| selector.contains(*position, 20, 0)).collect()
    };
    assert_eq!(selected(of(&[Role::User])), [5, 6, 7, 16]);
    assert_eq!(selected(of(&[Role::System, Role::Tool])), [1, 2]);
    // The first token of an answer is chosen from the state before it.
    assert_eq!(selected(of(&[Role::Assistant])), [10, 11, 12]);
    let beside = Selection {
        exclude_roles: Some(vec![Role::User]),
        windows: Some(vec![window(6, Some(11))]),
        ..of(&[Role::System])
    };
    assert_eq!(selected(beside), [1, 2, 8, 9, 10]);
    // Not known yet, and so no token's.
    let unknown = selector(of(&[Role::User]));
    assert!(unknown.has_roles() && !unknown.is_none() && !unknown.is_all());
    assert!(!(0..20).any(|position| unknown.contains(position, 20, 0)));
    assert!(!unknown.in_turns(&turns).has_roles());
    // A turn that is missing is no mistake unless the request says so.
    let required = |required| Selection {
        required,
        ..of(&[Role::Tool])
    };
    let told = |selection| selector(selection).in_turns(&turns).selects_something(&[0; 20]);
    assert_eq!(told(required(false)), Ok(()));
    assert_eq!(
        told(required(true)).unwrap_err(),
        "roles: found no message with these roles in the prompt, expected at least one"
    );
    // Nor of a vector that doesn't act on the prompt, since its schedule begins later.
    let idle = |selection: Selection| selector(selection).never().in_turns(&turns).selects_something(&[0; 20]);
    assert!(selector(of(&[Role::User])).never().has_roles());
    let users = Selection {
        required: true,
        ..of(&[Role::User])
    };
    assert_eq!(idle(users), Ok(()));
    assert!(idle(required(true)).is_err());
    let nothing = Selection {
        exclude_roles: Some(vec![Role::User]),
        ..positions([6])
    };
    assert!(told(nothing).unwrap_err().starts_with("exclude_roles: found none"));
    let all_out = Selection {
        exclude_roles: Some(vec![Role::User, Role::System]),
        ..of(&[Role::User])
    };
    assert!(Selector::new(&Where::Only(all_out), Phase::Prompt, "at", &token).is_err());
}

#[test]
fn a_clause_that_selects_nothing_of_the_prompt_is_named() {
    let message = |selection: Selection| selector(selection).selects_something(&[0, 1, 2]).unwrap_err();
    assert_eq!(
        message(positions([0, 40])),
        "positions[1]: found 40, expected one of the prompt's 3 positions"
    );
    assert!(message(positions([-4])).starts_with("positions[0]: found -4"));
    assert_eq!(
        message(windows([window(0, 1), window(3, None)])),
        "windows[1]: found [3], expected one with any of the prompt's 3 positions"
    );
    assert!(message(windows([window(-2, 1)])).starts_with("windows[0]: found [-2, 1]"));
    let tokens = |tokens| Selection {
        tokens: ids(tokens),
        required: true,
        ..Selection::default()
    };
    let optional = Selection {
        required: false,
        ..tokens([7, 8])
    };
    assert_eq!(selector(optional).selects_something(&[0, 1, 2]), Ok(()));
    assert_eq!(
        message(tokens([7, 8])),
        "tokens: found none of these among the prompt's 3 tokens, expected at least one"
    );
    assert_eq!(selector(tokens([7, 2])).selects_something(&[0, 1, 2]), Ok(()));
    for name in ["exclude_positions", "exclude_windows", "exclude_tokens"] {
        let mut selection = positions([-1]);
        match name {
            "exclude_positions" => selection.exclude_positions = Some(vec![2, -9]),
            "exclude_windows" => selection.exclude_windows = Some(vec![window(90, None), window(2, 3)]),
            _ => selection.exclude_tokens = ids([2]),
        }
        assert_eq!(selector(selection.clone()).selects_something(&[2, 2, 2, 0]), Ok(()));
        assert_eq!(
            message(selection),
            format!("{name}: found none of the prompt's 3 positions left, expected at least one")
        );
    }
}

#[test]
fn disjoint_selectors_are_known_to_be() {
    let but = |mut selection: Selection, at: i64, tokens: Option<Vec<TokenRef>>| {
        selection.exclude_positions = Some(vec![at]);
        selection.exclude_tokens = tokens;
        selection
    };
    let only = |tokens| Selection {
        tokens,
        ..Selection::default()
    };
    let disjoint = [
        (positions([1]), positions([2, 0])),
        (positions([-1]), positions([-2])),
        (windows([window(0, 4)]), windows([window(4, None)])),
        (only(ids([1])), only(ids([2]))),
        (positions([3]), but(Selection::default(), 3, None)),
        (positions([-1]), but(Selection::default(), -1, None)),
        (only(ids([1])), but(windows([window(0, 9)]), 0, ids([1]))),
    ];
    for (a, b) in disjoint {
        let (a, b) = (selector(a), selector(b));
        assert!(!a.may_overlap(&b) && !b.may_overlap(&a), "{a:?} {b:?}");
        assert!(a.may_overlap(&a) && b.may_overlap(&b));
    }
    let meet = [
        (positions([0]), positions([-1])),
        (positions([0]), only(ids([1]))),
        (windows([window(2, -2)]), windows([window(-9, 3)])),
        (windows([window(2, -2)]), windows([window(5, -1)])),
        (windows([window(-2, 5)]), windows([window(-4, 3)])),
        (windows([window(0, 5)]), windows([window(4, 6)])),
    ];
    for (a, b) in meet {
        let (a, b) = (selector(a), selector(b));
        assert!(a.may_overlap(&b) && b.may_overlap(&a), "{a:?} {b:?}");
    }
}

/// Whether the definition selects the token at `index` of a prompt with `len` tokens, or of a generation, for which `len` is 0.
fn defined(tokens: &Where, index: usize, len: usize, id: u32) -> bool {
    let selection = match tokens {
        Where::All => return true,
        Where::None => return false,
        Where::Only(selection) => selection,
    };
    let (index, len) = (index as i64, len as i64);
    let counted = |bound: i64| match len {
        // Of a generation, -1 is the prompt's last token.
        0 => bound,
        len => {
            if bound < 0 {
                len + bound
            } else {
                bound
            }
        }
    };
    let at = |list: &Option<Vec<i64>>| list.iter().flatten().any(|&position| counted(position) == index);
    let inside = |list: &Option<Vec<Window>>| {
        list.iter()
            .flatten()
            .any(|window| counted(window.start) <= index && window.end.is_none_or(|end| index < counted(end)))
    };
    let is = |list: &Option<Vec<TokenRef>>| {
        list.iter().flatten().any(|token_ref| match token_ref {
            TokenRef::Id(other) => *other == id,
            TokenRef::Text(text) => token(text) == Ok(id),
        })
    };
    let says = |list: &Option<Vec<Role>>| {
        let said = |role: &Role| match role {
            Role::User => [1, 2, 3, 9].contains(&index),
            Role::Assistant => [4, 5, 6].contains(&index),
            Role::System | Role::Developer | Role::Tool => false,
        };
        list.iter().flatten().any(said)
    };
    let all = selection.positions.is_none()
        && selection.windows.is_none()
        && selection.tokens.is_none()
        && selection.roles.is_none();
    let included = all
        || at(&selection.positions)
        || inside(&selection.windows)
        || is(&selection.tokens)
        || says(&selection.roles);
    let excluded = at(&selection.exclude_positions)
        || inside(&selection.exclude_windows)
        || is(&selection.exclude_tokens)
        || says(&selection.exclude_roles);
    included && !excluded
}

/// All tokens of a phase there can be: index, length of the prompt, id.
fn everywhere() -> impl Iterator<Item = (usize, usize, u32)> {
    let indices = (1..=LONGEST).flat_map(|len| (0..len).map(move |index| (index, len)));
    indices.flat_map(|(index, len)| (0..6).map(move |id| (index, len, id)))
}

/// In a chat of which [`defined`] knows too.
fn made(tokens: &Where, phase: Phase) -> Option<Selector> {
    let turns = [turn("user", 1..4), turn("assistant", 5..7), turn("user", 9..10)];
    let selector = Selector::new(tokens, phase, "at", &token).ok()?;
    Some(selector.in_turns(&turns))
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn contains_is_what_is_defined(prompt in places(false), generation in places(true)) {
        let selector = made(&prompt, Phase::Prompt);
        for (index, len, id) in everywhere() {
            let expected = defined(&prompt, index, len, id);
            // One that is refused must have nothing to select.
            let found = selector.as_ref().is_some_and(|selector| selector.contains(index, len, id));
            prop_assert_eq!(found, expected, "{} of {}, token {}", index, len, id);
        }
        let selector = made(&generation, Phase::Generation);
        for (index, len, id) in everywhere() {
            let found = selector.as_ref().is_some_and(|selector| selector.contains(len + index, len, id));
            prop_assert_eq!(found, defined(&generation, index, 0, id));
        }
    }

    #[test]
    fn what_selectors_say_of_themselves_is_true(tokens in places(false)) {
        let Some(selector) = made(&tokens, Phase::Prompt) else { return Ok(()) };
        let selects = |index, len, id| selector.contains(index, len, id);
        for (index, len, id) in everywhere() {
            let selected = selects(index, len, id);
            prop_assert!(selected || !selector.is_all());
            prop_assert!(!selected || !selector.is_none());
            prop_assert!(!selector.ignores_position() || selected == selects(0, 1, id));
        }
    }

    #[test]
    fn selectors_that_meet_are_never_called_disjoint(a in places(false), b in places(false)) {
        let (Some(a), Some(b)) = (made(&a, Phase::Prompt), made(&b, Phase::Prompt)) else { return Ok(()) };
        let meet = everywhere().any(|(index, len, id)| a.contains(index, len, id) && b.contains(index, len, id));
        prop_assert!(!meet || (a.may_overlap(&b) && b.may_overlap(&a)));
    }

    #[test]
    fn equal_bytes_are_equal_selectors(a in selections(false), b in selections(false)) {
        let (a, b) = (Where::Only(a), Where::Only(b));
        let (Some(a), Some(b)) = (made(&a, Phase::Prompt), made(&b, Phase::Prompt)) else { return Ok(()) };
        prop_assert_eq!(a.canonical() == b.canonical(), a == b);
        prop_assert!(a != b || everywhere().all(|(i, len, id)| a.contains(i, len, id) == b.contains(i, len, id)));
        let differ = everywhere().any(|(i, len, id)| a.contains(i, len, id) != b.contains(i, len, id));
        prop_assert!(!differ || a != b);
    }

    #[test]
    fn a_prompt_passes_if_each_clause_selects_of_it(
        selection in selections(false),
        prompt in prop::collection::vec(0..6u32, 1..LONGEST),
    ) {
        let tokens = Where::Only(selection.clone());
        let Some(selector) = made(&tokens, Phase::Prompt) else { return Ok(()) };
        let some = |selection: Selection| {
            let tokens = Where::Only(selection);
            prompt.iter().enumerate().any(|(index, id)| defined(&tokens, index, prompt.len(), *id))
        };
        let mut clauses: Vec<Selection> = vec![selection.clone()];
        clauses.extend(selection.positions.iter().flatten().map(|&position| positions([position])));
        clauses.extend(selection.windows.iter().flatten().map(|&window| windows([window])));
        // Tokens need not be there, and then there is nothing that exclusions could leave.
        let without = |selection: &Selection| Selection {
            exclude_positions: None,
            exclude_windows: None,
            exclude_tokens: None,
            exclude_roles: None,
            ..selection.clone()
        };
        if !some(without(&selection)) {
            clauses.remove(0);
        }
        prop_assert_eq!(selector.selects_something(&prompt).is_ok(), clauses.into_iter().all(some));
        let required = Selection { required: true, ..selection.clone() };
        if let Some(strict) = made(&Where::Only(required), Phase::Prompt) {
            let tokens = selection.tokens.clone();
            let tokens = tokens.is_none() || some(Selection { tokens, ..Selection::default() });
            // The chat has messages of a user and of an assistant.
            let roles = selection.roles.as_ref();
            let roles = roles.is_none_or(|roles| roles.contains(&Role::User) || roles.contains(&Role::Assistant));
            let passes = selector.selects_something(&prompt).is_ok();
            prop_assert_eq!(strict.selects_something(&prompt).is_ok(), passes && tokens && roles);
        }
    }

    #[test]
    fn the_last_token_goes_with_any_selector(tokens in places(false)) {
        let Some(selector) = made(&tokens, Phase::Prompt) else { return Ok(()) };
        let last = selector.clone().with_last();
        for (index, len, id) in everywhere() {
            prop_assert_eq!(last.contains(index, len, id), selector.contains(index, len, id) || index + 1 == len);
            prop_assert!(!selector.clone().never().contains(index, len, id));
        }
        for (index, len, id) in everywhere().filter(|(index, len, _)| index + 1 == *len) {
            prop_assert_eq!(last.adds_last(&vec![id; len]), !selector.contains(index, len, id));
        }
        prop_assert!(!last.is_none());
        prop_assert_eq!(last.is_last(), selector.is_none());
        prop_assert!(last.may_overlap(&last));
    }
}
