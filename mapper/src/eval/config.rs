//! The proposed configuration for the server: `steering.toml`, with every vector and the map once, and an entry of
//! `[[steering.defaults]]` for each task.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use steermap_report::result::Evaluation;

use super::job::file_stem;
use super::vectors;

/// A task's vector and its map, with the names that [`table`] gives them.
pub struct ServedVector<'a> {
    /// The task.
    pub task: &'a str,
    /// The map's file.
    pub map: &'a Path,
    /// `affine` if the map's bias is added; `None` for its linear part.
    pub offset: Option<&'a str>,
}

#[derive(Serialize)]
struct DefaultsEntry<'a> {
    vectors: [DefaultVector<'a>; 1],
}

#[derive(Serialize)]
struct DefaultVector<'a> {
    vector: String,
    map: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<&'a str>,
    relative_scale: f64,
    layers: [usize; 1],
}

#[derive(Serialize)]
struct ConfigFile<T> {
    steering: T,
}

#[derive(Serialize)]
struct SourcesTable {
    vectors: BTreeMap<String, String>,
    maps: BTreeMap<String, String>,
}

/// An entry of `[[steering.defaults]]`, to paste below the tables of `steering.toml`.
pub fn entry(served: &ServedVector<'_>, layer: usize, alpha: f64) -> String {
    #[derive(Serialize)]
    struct DefaultsTable<'a> {
        defaults: [DefaultsEntry<'a>; 1],
    }
    let used = DefaultVector {
        vector: name(served.task),
        map: name(&file_stem(served.map)),
        offset: served.offset,
        relative_scale: alpha,
        layers: [layer],
    };
    let steering = DefaultsTable {
        defaults: [DefaultsEntry { vectors: [used] }],
    };
    // There are only names and numbers, so this can't fail.
    toml::to_string(&ConfigFile { steering }).unwrap_or_default()
}

/// `steering.toml` of a report in `folder`: the vectors of the tasks that a spec is proposed for and the map, by paths
/// from that folder, and the proposed entries, commented out. `None` if nothing is proposed.
///
/// # Errors
///
/// A folder or map that doesn't exist.
pub fn table(evaluation: &Evaluation, map: &Path, folder: &Path) -> Result<Option<String>> {
    let proposed: Vec<_> = evaluation
        .tasks
        .iter()
        .filter_map(|task| Some((task, task.proposal.as_ref()?)))
        .collect();
    if proposed.is_empty() {
        return Ok(None);
    }
    let path_of = |path: &Path| -> Result<String> {
        let at = || path.display().to_string();
        let (from, to) = (
            folder.canonicalize().with_context(at)?,
            path.canonicalize().with_context(at)?,
        );
        let relative = pathdiff::diff_paths(&to, from).unwrap_or(to);
        Ok(relative.to_string_lossy().into_owned())
    };
    let mut vectors = BTreeMap::new();
    for (task, _) in &proposed {
        vectors.insert(name(&task.name), path_of(&vectors::path(folder, &task.name, false))?);
    }
    let maps = BTreeMap::from([(name(&file_stem(map)), path_of(map)?)]);
    let mut text = format!(
        "# Proposed by `mapper eval` on {}. Uncomment the entries to serve, one vector or several.\n\n",
        evaluation.run.date
    );
    text += &toml::to_string(&ConfigFile {
        steering: SourcesTable { vectors, maps },
    })?;
    for (task, proposal) in proposed {
        text += &format!(
            "\n# {}: propensity {:+.2}, perplexity times {:.3} (on the finding half)\n",
            task.name, proposal.gain, proposal.perplexity_ratio
        );
        text.extend(proposal.toml.lines().map(|line| format!("# {line}\n")));
    }
    Ok(Some(text))
}

/// A name that the plugin accepts: letters, digits, `.`, `_` and `-`, at most 64 characters.
fn name(text: &str) -> String {
    let kept = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '-'
        }
    };
    text.chars().map(kept).take(64).collect()
}

#[cfg(test)]
mod tests {
    use steermap_plugin::SteeringSpec;

    use super::*;

    #[test]
    fn an_entry_is_what_the_plugin_reads() {
        let served = ServedVector {
            task: "mood of the day",
            map: Path::new("maps/small--large.toml"),
            offset: Some("affine"),
        };
        let text = entry(&served, 7, 0.12);
        let table: toml::Table = text.parse().unwrap();
        let spec: SteeringSpec = table["steering"]["defaults"][0].clone().try_into().unwrap();
        let used = &spec.vectors[0];
        assert_eq!(
            (used.vector.name().unwrap(), used.map.as_deref()),
            ("mood-of-the-day", Some("small--large"))
        );
        assert_eq!(
            (used.relative_scale, used.layers.clone()),
            (Some(0.12), Some([7].into_iter().collect()))
        );
        // Two of them are still one file.
        let both = text
            + &entry(
                &ServedVector {
                    task: "tense",
                    ..served
                },
                3,
                0.1,
            );
        let table: toml::Table = both.parse().unwrap();
        assert_eq!(table["steering"]["defaults"].as_array().unwrap().len(), 2);
    }
}
