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
    /// The source's vector through the map, by target layer.
    pub mapped: Vec<MappedLayer>,
}

/// The file of a task's vector: `vectors/NAME.toml` on the source, `vectors/NAME.native.toml` on the target.
pub fn path(folder: &Path, task: &str, native: bool) -> PathBuf {
    let name = if native {
        format!("{task}.native.toml")
    } else {
        format!("{task}.toml")
    };
    folder.join("vectors").join(name)
}

/// How a task's vectors are found on one model.
pub struct FindOptions<'a> {
    /// The layers to find vectors at.
    pub layers: Vec<usize>,
    /// The layers to find draws at.
    pub drawn_layers: &'a [usize],
    /// The method.
    pub method: Method,
    /// Number of vectors from half samples.
    pub halves: usize,
    /// Seed of methods that draw, of halves and of sides.
    pub seed: u64,
    /// The command line, for the file's provenance.
    pub command: &'a str,
}

/// Finds a task's vector on one model and writes it, with the vectors of half samples and of random sides beside it.
///
/// # Errors
///
/// Texts that the model does not tell apart, an error of the engine, a file that can't be written.
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

/// Reads a task's vectors and carries the source's through the map.
///
/// # Errors
///
/// Files that can't be read, or a vector without a layer that the map reads.
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
