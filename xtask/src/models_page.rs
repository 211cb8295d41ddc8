//! The tables of docs/src/models.md, made from the same rows that the tests of all architectures check.

use std::fmt::Write;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::project::Project;

/// The page.
pub const PAGE: &str = "docs/src/models.md";

/// The source of its tables.
pub const MATRIX: &str = "tests/fixtures/architectures/matrix.toml";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Matrix {
    text: Vec<Row>,
    gguf: Vec<Row>,
    multimodal: Vec<Row>,
}

/// One architecture, or several that share a model's code.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    /// Their names in mistral.rs.
    architectures: Vec<String>,
    /// Folders beside the file, with models whose states and logits are compared with those of transformers.
    #[serde(default)]
    models: Vec<String>,
    /// Other tests.
    #[serde(default)]
    also: String,
    /// The meaning of "the stream after block l" where it isn't obvious, and any limitation.
    #[serde(default)]
    note: String,
    /// The reason why it can't be steered, if it can't.
    refused: Option<String>,
}

/// The page as it is, and as the matrix makes it.
pub fn page(project: &Project) -> Result<(String, String)> {
    project.generated_page(PAGE, MATRIX, |matrix| tables(&toml::from_str(matrix).context(MATRIX)?))
}

fn tables(matrix: &Matrix) -> Result<String> {
    let mut text = String::new();
    let parts = [
        ("Text models", &matrix.text),
        ("GGUF", &matrix.gguf),
        ("Models that see or hear", &matrix.multimodal),
    ];
    for (title, rows) in parts {
        write!(
            text,
            "\n## {title}\n\n| architecture | layers | compared with transformers | notes |\n| --- | --- | --- | --- |\n"
        )?;
        for row in rows {
            let layers = if row.refused.is_some() { "none" } else { "all" };
            let compared = match (row.models.as_slice(), row.also.as_str()) {
                ([], "") => "no".to_string(),
                ([], also) => also.to_string(),
                (models, "") => models.join(", "),
                (models, also) => format!("{}; {also}", models.join(", ")),
            };
            let notes = [row.refused.as_deref().unwrap_or_default(), &row.note];
            let notes: Vec<&str> = notes.into_iter().filter(|note| !note.is_empty()).collect();
            writeln!(
                text,
                "| {} (`{}`) | {layers} | {compared} | {} |",
                row.name,
                row.architectures.join("`, `"),
                notes.join(". ")
            )?;
        }
    }
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_models_is_what_the_matrix_makes() {
        let (page, expected) = page(&Project::find().unwrap()).unwrap();
        assert!(
            page == expected,
            "run `cargo xtask docs`: {PAGE} is not what {MATRIX} makes"
        );
    }
}
