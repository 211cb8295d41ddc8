//! An evaluation as text for a terminal: the table, the verdicts, and the proposed specs.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::figures::{curve_style, outcome};
use crate::number::{Digits, NONE, counted, layers, text as number, two};
use crate::plain::clean;
use crate::result::{Estimate, Evaluation, Means, Outcome, Proposal, TaskResult, ValueSpread};

const TWO: Digits = Digits::Fixed(2);

/// The columns; all but the first two are of numbers.
const COLUMNS: &str =
    "task|outcome|layers|retention [95%]|over the band|mapped random|p (Holm)|Pearson (items)|MSE|cosine";

/// One line per task, the means over tasks, the verdicts, the failed tasks, and the proposed specs.
pub fn text(evaluation: &Evaluation) -> String {
    let summary = &evaluation.summary;
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(COLUMNS.split('|'));
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.add_rows(evaluation.tasks.iter().map(row));
    table.add_row(mean_row(&summary.all, "measured"));
    table.add_row(mean_row(&summary.steering, "native steers"));
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let measured = counted(summary.measured, "task", "tasks");
    let failed = evaluation.failed.len();
    let (steered, judged, carried) = (summary.steered, summary.judged, summary.carried);
    let mut lines = vec![
        table.trim_fmt(),
        format!(
            "\n{measured} measured, {failed} failed; the native vector steers on {steered}; carried: {carried} of {judged} that say something"
        ),
        summary.verdict.sentence.clone(),
    ];
    lines.extend(texts("all with prompts", &summary.all));
    lines.extend(texts("where the native vector steers", &summary.steering));
    let others = evaluation
        .tasks
        .iter()
        .filter(|task| task.verdict.outcome != Outcome::Carried);
    lines.extend(others.map(|task| format!("{}: {}", task.name, task.verdict.sentence)));
    lines.extend(
        evaluation
            .failed
            .iter()
            .map(|failed| format!("{}: failed: {}", failed.name, failed.reason)),
    );
    lines.extend(evaluation.notes.iter().map(|note| format!("note: {note}")));
    for task in &evaluation.tasks {
        if let Some(Proposal {
            gain,
            perplexity_ratio,
            toml,
            ..
        }) = &task.proposal
        {
            let cost = format!("propensity {gain:+.2}, perplexity times {perplexity_ratio:.3}");
            lines.push(format!(
                "\n# {}: {cost} (on the finding half)\n{}",
                task.name,
                toml.trim_end()
            ));
        }
    }
    // Names come from files and could contain escape sequences of the terminal.
    clean(&lines.join("\n")) + "\n"
}

/// Scores of generated texts, in a line.
fn texts(which: &str, means: &Means) -> Option<String> {
    let texts = means.texts.as_ref()?;
    let kinds = texts.kinds.iter().map(|kind| {
        let judged = kind
            .judged
            .map(|judged| format!(", by the judge {}", interval(Some(&judged))));
        let (name, score) = (curve_style(kind.kind).name, interval(Some(&kind.score)));
        format!("{name} {score}{}", judged.unwrap_or_default())
    });
    let agreement = interval(texts.agreement_score.as_ref());
    Some(format!(
        "texts, scored 0 to 1 ({}, {which}): {}; propensity ranks the settings as the scores do: Spearman {agreement}",
        counted(texts.tasks, "task", "tasks"),
        kinds.collect::<Vec<_>>().join("; ")
    ))
}

fn row(task: &TaskResult) -> Vec<String> {
    let control = task.decisive();
    let range = control.map(|control| control.spread.range.map(two));
    let p = control.and_then(|control| control.p_adjusted);
    vec![
        one_line(&task.name),
        outcome(task.verdict.outcome).0.to_string(),
        layers(&task.source_layers, task.target_layer),
        interval(Some(&task.retention)),
        interval(task.band_retention.as_ref()),
        range.map_or(NONE.to_string(), |[low, high]| format!("{low} to {high}")),
        number(p.unwrap_or(f64::NAN), Digits::Auto),
        spread(&task.item_pearson, TWO),
        spread(&task.mse, Digits::Auto),
        two(task.cosine),
    ]
}

fn mean_row(means: &Means, name: &str) -> Vec<String> {
    let value = |mean: &Option<Estimate>, digits| number(mean.map_or(f64::NAN, |mean| mean.value), digits);
    let mut row = vec![String::new(); COLUMNS.split('|').count()];
    row[0] = format!("mean of {} ({name})", means.tasks);
    row[4] = interval(means.retention.as_ref());
    row[7] = value(&means.item_pearson, TWO);
    row[8] = value(&means.mse, Digits::Auto);
    row
}

/// Text in one line, since names from files may have line breaks.
fn one_line(text: &str) -> String {
    clean(text).replace(['\n', '\r', '\t'], " ")
}

fn interval(estimate: Option<&Estimate>) -> String {
    estimate.map_or(NONE.to_string(), |estimate| {
        let [value, low, high] = [estimate.value, estimate.low, estimate.high].map(two);
        format!("{value} [{low}, {high}]")
    })
}

fn spread(spread: &ValueSpread, digits: Digits) -> String {
    let [mean, deviation] = [spread.mean, spread.deviation].map(|value| number(value, digits));
    match spread.count {
        0 => NONE.to_string(),
        _ => format!("{mean} \u{b1} {deviation}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Size, hostile, sample};

    #[test]
    fn says_what_was_found() {
        let evaluation = sample(&Size::default());
        let text = text(&evaluation);
        for words in [
            "retention [95%]",
            "\u{2713} carried",
            "\u{2717} not carried",
            "\u{2013} says nothing",
            "7 tasks measured, 2 failed; the native vector steers on 6",
            "sarcasm: failed: ",
            "mean of 7 (measured)",
            "mean of 6 (native steers)",
            "note: ",
            "relative_scale = 0.8",
        ] {
            assert!(text.contains(words), "{words}:\n{text}");
        }
        let widths = text.lines().take(10).map(|line| line.chars().count());
        assert!(widths.max().unwrap() < 160, "{text}");
    }

    #[test]
    fn takes_little_and_lets_no_control_through() {
        assert!(text(&sample(&Size::none())).contains("0 tasks measured"));
        let mut evaluation = hostile();
        evaluation.tasks[0].name = "a\nb\u{1b}[31m".to_string();
        let text = text(&evaluation);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{1}'), "{text}");
        assert!(text.contains("a b\u{fffd}[31m"), "{text}");
    }
}
