//! The documentation: `cargo xtask docs` builds the book in docs/, and checks the links of all pages.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use crate::project::{Project, run};
use crate::{clients, models_page};

/// The version of mdBook that builds the book.
const MDBOOK: &str = "0.5.4";

/// The page that has every field of a spec.
const SPEC_PAGE: &str = "docs/src/reference/spec.md";

/// What it is made from.
const SCHEMA: &str = "plugin/steering.schema.json";

/// Brings the generated pages up to date, checks links, and builds the book into `target/docs`.
pub fn build(project: &Project) -> Result<()> {
    for (name, (page, expected)) in [
        (SPEC_PAGE, spec_page(project)?),
        (models_page::PAGE, models_page::page(project)?),
    ] {
        if page != expected {
            fs::write(project.root().join(name), expected).context(name)?;
            println!("wrote {name}");
        }
    }
    links(project)?;
    let mut mdbook = Command::new(mdbook(project)?);
    run(mdbook.arg("build").arg(project.root().join("docs")))?;
    println!("{}", project.root().join("target/docs/index.html").display());
    Ok(())
}

/// Checks the links of every page of the project.
pub fn links(project: &Project) -> Result<()> {
    let packages = clients::npm_packages(project, "docs")?;
    run(Command::new("node")
        .arg(project.root().join("tests/docs/links.mjs"))
        .current_dir(packages))
}

/// The program that builds the book, which is compiled unless it is there.
fn mdbook(project: &Project) -> Result<PathBuf> {
    let tools = project.root().join("target/tools");
    let program = tools.join("bin/mdbook").with_extension(std::env::consts::EXE_EXTENSION);
    let version = Command::new(&program).arg("--version").output();
    if version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == format!("mdbook v{MDBOOK}")) {
        return Ok(program);
    }
    println!("installing mdBook {MDBOOK} into {}", tools.display());
    run(project
        .cargo("install")
        .args(["mdbook", "--version", &format!("={MDBOOK}"), "--locked", "--force"])
        .args(["--no-default-features", "--features", "search", "--root"])
        .arg(&tools)
        .env("CARGO_TARGET_DIR", tools.join("build"))
        // It builds one book in a second, and is compiled in half the time.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"))?;
    // Only the program is needed from now on.
    fs::remove_dir_all(tools.join("build")).context("target/tools/build")?;
    Ok(program)
}

/// The text of the page of specs, and the text that the schema gives it.
fn spec_page(project: &Project) -> Result<(String, String)> {
    project.generated_page(SPEC_PAGE, SCHEMA, |schema| {
        tables(&serde_json::from_str(schema).context(SCHEMA)?)
    })
}

/// A section for each type of the schema, in the order in which a reader meets them.
fn tables(schema: &Value) -> Result<String> {
    let types = schema["$defs"].as_object().context("$defs")?;
    let mut text = String::new();
    let mut met = BTreeSet::new();
    let mut waiting = vec!["SteeringSpec".to_string(), "RequestSteering".to_string()];
    while !waiting.is_empty() {
        let mut next = Vec::new();
        for name in waiting {
            if !met.insert(name.clone()) {
                continue;
            }
            let table = types.get(&name).with_context(|| format!("$defs: {name}"))?;
            write!(text, "\n### {name}\n\n{}\n", description(table))?;
            match (table.get("properties").and_then(Value::as_object), values(table)) {
                (Some(fields), _) => fields_table(&mut text, table, fields)?,
                (None, Some(values)) => values_table(&mut text, &values)?,
                (None, None) => write!(text, "\nWritten as: {}.\n", kind(table))?,
            }
            references(table, &mut next);
        }
        waiting = next;
    }
    text.push('\n');
    Ok(text)
}

fn fields_table(text: &mut String, table: &Value, fields: &Map<String, Value>) -> Result<()> {
    let required: Vec<&str> = table["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    text.push_str("\n| field | type | if absent | what it is |\n| --- | --- | --- | --- |\n");
    for (name, field) in fields {
        // The descriptions say what holds without a field in their last sentence, where they say it in a word.
        let what = description(field);
        let (what, default) = match what.split_once(" Absent: ") {
            Some((what, default)) => (what.to_string(), default.trim_end_matches('.').to_string()),
            None if required.contains(&name.as_str()) => (what, "required".to_string()),
            None => (
                what,
                field
                    .get("default")
                    .map(|value| format!("`{value}`"))
                    .unwrap_or_default(),
            ),
        };
        writeln!(text, "| `{name}` | {} | {default} | {} |", kind(field), cell(&what))?;
    }
    Ok(())
}

fn values_table(text: &mut String, values: &[(&str, String)]) -> Result<()> {
    text.push_str("\n| value | what it means |\n| --- | --- |\n");
    for (value, what) in values {
        writeln!(text, "| `\"{value}\"` | {} |", cell(what))?;
    }
    Ok(())
}

/// The words that a type is one of, with what they mean.
fn values<'a>(table: &'a Value) -> Option<Vec<(&'a str, String)>> {
    let one_of = table.get("oneOf")?.as_array()?;
    let value = |schema: &'a Value| Some((schema["const"].as_str()?, description(schema)));
    one_of.iter().map(value).collect()
}

fn description(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().to_string()
}

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace("\n\n", " ").replace('|', "\\|")
}

/// What is written for a value of a schema.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.trim_start_matches("#/$defs/");
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        return words.join(" or ");
    }
    if let Some(schemas) = schema.get("anyOf").and_then(Value::as_array) {
        let kinds = schemas.iter().map(kind).filter(|kind| !kind.is_empty());
        return kinds.collect::<Vec<_>>().join(" or ");
    }
    let word = match &schema["type"] {
        Value::Array(words) => words.iter().find(|word| *word != "null").and_then(Value::as_str),
        word => word.as_str(),
    };
    match word {
        Some("array") => format!(
            "list of {}{}",
            kind(&schema["items"]),
            bounds(schema, "minItems", "maxItems")
        ),
        Some("string") => "text".to_string(),
        Some("boolean") => "true or false".to_string(),
        Some("integer") => format!("whole number{}", bounds(schema, "minimum", "maximum")),
        Some("number") => format!("number{}", bounds(schema, "minimum", "maximum")),
        Some("object") => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let fields: Vec<String> = fields
                .map(|(name, field)| format!("`{name}`: {}", kind(field)))
                .collect();
            format!("a table with {}", fields.join(", "))
        }
        _ => String::new(),
    }
}

fn bounds(schema: &Value, least: &str, most: &str) -> String {
    match (schema.get(least).filter(|least| **least != 0), schema.get(most)) {
        (Some(least), Some(most)) => format!(", {least} to {most}"),
        (Some(least), None) => format!(", {least} or more"),
        (None, Some(most)) => format!(", {most} at most"),
        (None, None) => String::new(),
    }
}

/// Appends the names of the types that a schema refers to.
fn references(schema: &Value, names: &mut Vec<String>) {
    match schema {
        Value::Object(table) => {
            if let Some(name) = schema["$ref"].as_str() {
                names.push(name.trim_start_matches("#/$defs/").to_string());
            }
            table.values().for_each(|value| references(value, names));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_specs_is_what_the_schema_makes() {
        let project = Project::find().unwrap();
        let (page, expected) = spec_page(&project).unwrap();
        assert!(
            page == expected,
            "run `cargo xtask docs`: {SPEC_PAGE} is not what {SCHEMA} makes"
        );
        let schema: Value = serde_json::from_str(&fs::read_to_string(project.root().join(SCHEMA)).unwrap()).unwrap();
        for name in schema["$defs"].as_object().unwrap().keys() {
            assert!(page.contains(&format!("\n### {name}\n")), "{name}");
        }
    }

    #[test]
    fn kinds_are_told_in_words() {
        let kind = |json: &str| kind(&serde_json::from_str(json).unwrap());
        assert_eq!(
            kind(r##"{"anyOf": [{"$ref": "#/$defs/When"}, {"type": "null"}]}"##),
            "[When](#when)"
        );
        assert_eq!(
            kind(
                r#"{"type": ["array", "null"], "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 8}"#
            ),
            "list of whole number, 1 to 8"
        );
        assert_eq!(
            kind(r#"{"type": ["number", "null"], "minimum": -1.0, "maximum": 1.0}"#),
            "number, -1.0 to 1.0"
        );
        assert_eq!(kind(r#"{"enum": ["all", "none"]}"#), "`\"all\"` or `\"none\"`");
        assert_eq!(
            kind(
                r##"{"type": "object", "properties": {"all": {"type": "array", "items": {"$ref": "#/$defs/When"}}}}"##
            ),
            "a table with `all`: list of [When](#when)"
        );
    }
}
