//! The vectors of each task: found on the source and on the target from the same pairs, kept beside the report.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use steermap_extract::Wanted;
use steermap_extract::find::vector_of;
use steermap_maps::{MapFile, MappedLayer, OffsetRule, VectorFile};

use super::halves::DrawnVectors;
use crate::map::provenance;
use crate::session::Session;
use crate::tasks::Task;
use crate::vector::{DistinctPairs, Method, PairStates, Sign, origin};

/// The two vectors of a task.
pub struct TaskVectors {
    /// Found on the source.
    pub found: VectorFile,
    /// Found on the target.
    pub native: VectorFile,
    /// The former carried over, by layer of the target.
    pub mapped: Vec<MappedLayer>,
}

/// Where a task's vector on one model is kept: `vectors/NAME.toml`, of the target `vectors/NAME.native.toml`.
pub fn path(folder: &Path, task: &str, native: bool) -> PathBuf {
    let name = match native {
        true => format!("{task}.native.toml"),
        false => format!("{task}.toml"),
    };
    folder.join("vectors").join(name)
}

/// What is found of a task on one model.
pub struct FindOptions<'a> {
    /// Where vectors are found.
    pub layers: Vec<usize>,
    /// Where draws are found too.
    pub drawn_layers: &'a [usize],
    /// How.
    pub method: Method,
    /// Vectors from half samples.
    pub halves: usize,
    /// Of methods that draw, and of halves and sides.
    pub seed: u64,
    /// The command line, for the file's provenance.
    pub command: &'a str,
}

/// Finds a task's vector on one model and writes it, and beside it those of halves of its pairs and of sides drawn anew.
///
/// # Errors
///
/// Texts that the model does not tell apart, what the engine answers with, a file that can't be written.
pub async fn find_and_save(session: &Session, task: &Task, finding: &FindOptions<'_>, path: &Path) -> Result<()> {
    let wanted = Wanted {
        concept: task.positive.clone(),
        layers: finding.layers.clone(),
        position: task.position,
        method: finding.method,
        sign: Sign::Mean,
        seed: finding.seed,
        neutral: false,
    };
    let names: Vec<String> = task
        .files
        .iter()
        .filter_map(|file| file.file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    let provenance = provenance(finding.command.to_string(), names.join(" + "), task.sha256.clone());
    let pairs = DistinctPairs::new(&task.pairs());
    let found = async {
        let states = PairStates::read(&**session, &pairs.pairs, &wanted.layers, wanted.position, &()).await?;
        let vector = vector_of(&origin(session)?, &states, &pairs, &wanted, provenance, true, &())?;
        let (layers, method) = (finding.drawn_layers, finding.method);
        let drawn = DrawnVectors::find(&states, &pairs, layers, method, finding.halves, finding.seed)?;
        anyhow::Ok((vector, drawn))
    };
    let found = found.await;
    let (vector, drawn) = found.with_context(|| format!("on {}", session.source().model))?;
    drawn.save(&DrawnVectors::path(path))?;
    Ok(vector.save(path)?)
}

/// Reads a task's vectors back and carries the source's over.
///
/// # Errors
///
/// Files that are gone or no vectors any more, a vector that the map does not reach from.
pub fn load(folder: &Path, task: &str, map: &MapFile, offset: OffsetRule, check: bool) -> Result<TaskVectors> {
    let read = |native| -> Result<VectorFile> { Ok(VectorFile::load(&path(folder, task, native))?) };
    let (found, native) = (read(false)?, read(true)?);
    let mapped = map
        .apply(&found, offset, check)
        .with_context(|| format!("task {task:?}"))?;
    Ok(TaskVectors {
        found,
        native,
        mapped: mapped.layers,
    })
}
