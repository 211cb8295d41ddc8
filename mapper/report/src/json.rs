//! `report.json`: indented, with lists of numbers on one line.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::result::Evaluation;

/// An evaluation as JSON.
///
/// # Errors
///
/// A number isn't finite, which JSON can't hold; the message names its field.
pub(crate) fn text(evaluation: &Evaluation) -> Result<String> {
    let text = indented(&serde_json::to_value(evaluation).context("report.json")?, 0) + "\n";
    // A number that isn't finite has become `null`: an error where a number is required, an absent value where it is
    // optional.
    let back = parse(&text).context("report.json: expected finite numbers only")?;
    if &back != evaluation {
        let (given, read) = (format!("{evaluation:#?}"), format!("{back:#?}"));
        let mut lines = given.lines().zip(read.lines());
        let field = lines
            .find(|(given, read)| given != read)
            .and_then(|(given, _)| given.trim().split(':').next());
        bail!(
            "report.json: {}: found a number that is not finite, expected finite numbers only",
            field.unwrap_or("a field")
        );
    }
    Ok(text)
}

/// Reads an evaluation from JSON.
///
/// # Errors
///
/// Another format, or a field that is wrong; the message says what was found and what was expected.
pub(crate) fn parse(text: &str) -> Result<Evaluation> {
    #[derive(Deserialize)]
    struct FormatHeader {
        format: String,
    }
    let head: FormatHeader = serde_json::from_str(text).context("found no report, expected JSON with a format")?;
    ensure!(
        head.format == Evaluation::FORMAT,
        "format: found {:?}, expected {:?}",
        head.format,
        Evaluation::FORMAT
    );
    let mut json = serde_json::Deserializer::from_str(text);
    Ok(serde_path_to_error::deserialize(&mut json)?)
}

fn indented(value: &Value, depth: usize) -> String {
    let lines = |open: char, items: Vec<String>, close: char| {
        let (inner, outer) = (" ".repeat(depth + 1), " ".repeat(depth));
        format!("{open}\n{inner}{}\n{outer}{close}", items.join(&format!(",\n{inner}")))
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let field =
                |(name, value): (&String, _)| format!("{}: {}", Value::from(&name[..]), indented(value, depth + 1));
            lines('{', fields.iter().map(field).collect(), '}')
        }
        Value::Array(values) if values.iter().any(|value| value.is_object() || value.is_array()) => lines(
            '[',
            values.iter().map(|value| indented(value, depth + 1)).collect(),
            ']',
        ),
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Size, sample};

    #[test]
    fn reads_back_the_same() {
        let evaluation = sample(&Size::default());
        let text = text(&evaluation).unwrap();
        assert_eq!(parse(&text).unwrap(), evaluation);
        assert!(text.contains("\n \"format\": \"steermap-eval/2\",\n"));
        // One line for a list of numbers.
        assert!(text.lines().count() < 12_000, "{} lines", text.lines().count());
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused_by_name() {
        type Spoil = fn(&mut Evaluation);
        let spoils: [(Spoil, &str); 5] = [
            (|e| e.run.perplexity_budget = f64::NAN, "run.perplexity_budget"),
            (
                |e| e.tasks[1].curves[0].mean[2] = f64::INFINITY,
                "tasks[1].curves[0].mean[2]",
            ),
            (|e| e.tasks[0].source_auroc = Some(f64::NAN), "source_auroc"),
            (
                |e| e.tasks[0].controls[0].p_adjusted = Some(f64::NEG_INFINITY),
                "p_adjusted",
            ),
            (
                |e| e.summary.all.retention.as_mut().unwrap().low = f64::NAN,
                "summary.all.retention.low",
            ),
        ];
        for (spoil, field) in spoils {
            let mut evaluation = sample(&Size::default());
            spoil(&mut evaluation);
            let error = format!("{:#}", text(&evaluation).unwrap_err());
            assert!(
                error.contains(field) && error.contains("expected finite numbers"),
                "{error}"
            );
        }
    }

    #[test]
    fn errors_say_what_is_wrong_with_the_file() {
        let text = text(&sample(&Size::single())).unwrap();
        for (bad, words) in [
            ("", "found no report"),
            ("{}", "missing field `format`"),
            (
                &text.replace("eval/2", "eval/1"),
                "found \"steermap-eval/1\", expected \"steermap-eval/2\"",
            ),
            (&text.replace("\"seed\": 5", "\"seed\": \"five\""), "run.seed"),
            (&text.replace("\"seed\"", "\"sead\""), "sead"),
        ] {
            let error = format!("{:#}", parse(bad).unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    }
}
