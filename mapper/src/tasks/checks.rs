//! Checks of items from files of any format.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use anyhow::{Result, bail, ensure};
use steermap_extract::text::quoted;

use super::task::{ItemKind, TaskItem};

/// The share of one answer above which a half counts as unbalanced.
const BALANCE: f64 = 0.6;

/// The letter of a choice: `A`, ` A`, `(A)` or ` (A)`, in upper case.
pub(super) fn letter(answer: &str) -> Option<char> {
    let bare = answer.trim();
    let bare = bare.strip_prefix('(').unwrap_or(bare);
    let bare = bare.strip_suffix(')').unwrap_or(bare);
    let mut chars = bare.chars();
    match (chars.next(), chars.next()) {
        (Some(letter), None) if letter.is_alphabetic() => letter.to_uppercase().next(),
        _ => None,
    }
}

/// `yes` or `no`, whatever the case, with or without space around and a full stop.
pub(super) fn yes_no(answer: &str) -> Option<&'static str> {
    let bare = answer.trim().trim_end_matches('.').to_lowercase();
    ["yes", "no"].into_iter().find(|&word| word == bare)
}

/// The part of an answer that must differ: the letter, yes or no, or the text.
fn essence(kind: ItemKind, answer: &str) -> Option<String> {
    match kind {
        ItemKind::Letters => letter(answer).map(String::from),
        ItemKind::YesNo => yes_no(answer).map(String::from),
        ItemKind::Completion => Some(answer.to_string()).filter(|answer| !answer.is_empty()),
    }
}

/// Checks the answers of an item by the task's kind. `keys` are the names of the two fields.
pub(super) fn answers(at: &str, kind: ItemKind, item: &TaskItem, keys: [&str; 2]) -> Result<()> {
    let expected = match kind {
        ItemKind::Letters => "the letter of a choice, such as \"A\" or \" (A)\"",
        ItemKind::YesNo => "yes or no",
        ItemKind::Completion => "an answer",
    };
    let mut both = Vec::new();
    for (key, answer) in keys.into_iter().zip([&item.positive, &item.negative]) {
        match essence(kind, answer) {
            Some(essence) => both.push(essence),
            None => bail!("{at}: {key}: found {}, expected {expected}", quoted(answer)),
        }
    }
    ensure!(
        both[0] != both[1],
        "{at}: {}: found {}, the same as {}; expected another answer",
        keys[1],
        quoted(&item.negative),
        keys[0]
    );
    Ok(())
}

/// The kind of most items' answers, so that an error in one item doesn't change the kind of the set.
pub(super) fn kind<'a>(items: impl Iterator<Item = &'a TaskItem> + Clone) -> ItemKind {
    let most = |kind: &ItemKind| {
        let looks =
            |item: &&TaskItem| essence(*kind, &item.positive).is_some() && essence(*kind, &item.negative).is_some();
        2 * items.clone().filter(looks).count() > items.clone().count()
    };
    let known = [ItemKind::Letters, ItemKind::YesNo];
    known.into_iter().find(most).unwrap_or(ItemKind::Completion)
}

/// Checks that no item occurs twice. Each item comes with its place, for messages.
pub(super) fn distinct<'a>(items: impl Iterator<Item = (&'a TaskItem, &'a str)>) -> Result<()> {
    let mut seen: HashMap<&TaskItem, &str> = HashMap::new();
    for (item, at) in items {
        if let Some(first) = seen.insert(item, at) {
            bail!("{at}: found the same item as at {first}, expected every item once");
        }
    }
    Ok(())
}

/// Checks that both halves, given with their files, have at least two items.
pub(super) fn halves(halves: [(&Path, &[TaskItem]); 2]) -> Result<()> {
    for ((path, items), half) in halves.into_iter().zip(["finding", "measuring"]) {
        let found = match items.len() {
            0 => "none: it is empty".to_string(),
            count => count.to_string(),
        };
        ensure!(
            items.len() >= 2,
            "{}: items of the {half} half: found {found}, expected at least two",
            path.display()
        );
    }
    Ok(())
}

/// Notes for the report about the halves.
pub(super) fn notes(kind: ItemKind, finding: &[TaskItem], measuring: &[TaskItem]) -> Vec<String> {
    let mut notes = Vec::new();
    if kind != ItemKind::Completion {
        for (half, items) in [("finding", finding), ("measuring", measuring)] {
            notes.extend(imbalance(kind, half, items));
        }
    }
    let known: HashSet<_> = finding.iter().map(|item| &item.prompt).collect();
    let again = measuring.iter().filter(|item| known.contains(&item.prompt)).count();
    if again > 0 {
        notes.push(format!(
            "{again} of {} measuring items have a prompt of the finding half",
            measuring.len()
        ));
    }
    notes
}

/// A note if too many items of a half have the same positive answer.
fn imbalance(kind: ItemKind, half: &str, items: &[TaskItem]) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for answer in items.iter().filter_map(|item| essence(kind, &item.positive)) {
        *counts.entry(answer).or_default() += 1;
    }
    let (answer, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    let what = match kind {
        ItemKind::Letters => "letter",
        ItemKind::YesNo | ItemKind::Completion => "answer",
    };
    (count as f64 > BALANCE * items.len() as f64).then(|| {
        format!(
            "unbalanced: the positive {what} is {answer} in {count} of {} {half} items",
            items.len()
        )
    })
}
