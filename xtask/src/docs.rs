//! The documentation: `cargo xtask docs` builds the book in docs/, and checks links.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};

use crate::project::{Project, run};
use crate::{clients, models_page};

/// The version of mdBook.
const MDBOOK: &str = "0.5.4";

/// The page with every field of a spec.
const SPEC_PAGE: &str = "docs/src/reference/spec.md";

/// The source of its tables.
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

/// Checks the links of every page of the project, and that the pages of docs/ which configurations mention exist.
pub fn links(project: &Project) -> Result<()> {
    let missing = missing_pages(project.root())?;
    ensure!(missing.is_empty(), "{}", missing.join("\n"));
    let packages = clients::npm_packages(project, "docs")?;
    run(Command::new("node")
        .arg(project.root().join("tests/docs/links.mjs"))
        .current_dir(packages))
}

/// The path of mdBook, which is installed if it is missing.
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
        // Even so it builds the book in a second, and compiling it takes half the time.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0"))?;
    // Only the program is needed after this.
    fs::remove_dir_all(tools.join("build")).context("target/tools/build")?;
    Ok(program)
}

/// The pages of docs/ that configurations mention (YAML, TOML and Dockerfiles at the top and in examples/) but that do not exist, as messages.
fn missing_pages(root: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    configurations(root, false, &mut files)?;
    configurations(&root.join("examples"), true, &mut files)?;
    let mut missing = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let file = file.strip_prefix(root).unwrap_or(&file).display();
        for (line, number) in text.lines().zip(1..) {
            let absent = mentioned_pages(line).filter(|page| !root.join(page).is_file());
            missing.extend(absent.map(|page| format!("{file}:{number}: {page} does not exist")));
        }
    }
    Ok(missing)
}

/// Adds the YAML and TOML files and Dockerfiles in `folder`, sorted.
fn configurations(folder: &Path, below: bool, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries
        .map(|entry| Ok(entry.with_context(|| folder.display().to_string())?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let end = path.extension().and_then(|end| end.to_str());
        if below && path.is_dir() {
            configurations(&path, below, files)?;
        } else if path.is_file() && (matches!(end, Some("yaml" | "yml" | "toml")) || path.ends_with("Dockerfile")) {
            files.push(path);
        }
    }
    Ok(())
}

/// The pages (`docs/..md`) that a line mentions, by their paths from the top folder.
fn mentioned_pages(line: &str) -> impl Iterator<Item = &str> {
    let words = line.split(|letter: char| !letter.is_ascii_alphanumeric() && !"_-./".contains(letter));
    words.filter_map(|word| {
        let begin = word.find("docs/")?;
        // A word of a URL begins with `//`.
        let page = word[begin..].trim_end_matches('.');
        (!word.starts_with("//") && page.ends_with(".md")).then_some(page)
    })
}

/// The page of specs as it is, and as the schema makes it.
fn spec_page(project: &Project) -> Result<(String, String)> {
    project.generated_page(SPEC_PAGE, SCHEMA, |schema| {
        tables(&serde_json::from_str(schema).context(SCHEMA)?)
    })
}

/// A section for each type of the schema, in the order in which they are mentioned.
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
        // A description may state the value without the field in its last sentence.
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

/// The words that are the values of a type, with their meanings.
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

/// The kind of value that a schema allows, in words.
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
    fn pages_that_configurations_mention_exist() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["docs", "examples/a", "other"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("docs/here.md", "");
        write("Dockerfile", "# see docs/here.md.\n");
        write(
            "examples/a/a.yaml",
            "a: 1\n# docs/gone.md, https://example.com/docs/theirs.md\n",
        );
        write("examples/a/a.toml", "# ../../docs/here.md#part (docs/gone-too.md)\n");
        write("other/b.toml", "# docs/not-looked-at.md\n");
        assert_eq!(
            missing_pages(dir.path()).unwrap(),
            [
                "examples/a/a.toml:1: docs/gone-too.md does not exist",
                "examples/a/a.yaml:2: docs/gone.md does not exist"
            ]
        );
        let project = Project::find().unwrap();
        assert!(missing_pages(project.root()).unwrap().is_empty());
    }

    #[test]
    fn kinds_are_described_in_words() {
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
