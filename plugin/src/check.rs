//! `mistralrs-steered check`: all checks that don't need weights.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use mistralrs_cli::{ModelEntry, model_configs};
use mistralrs_core::parse_isq_value;
use steermap_extract::model_files::ModelFiles;

use crate::compile::{Target, compile_within, ranges, token_of};
use crate::config::Config;
use crate::state::SavedState;
use crate::steering::{SpecOwner, name_of_configuration};
use crate::{Library, SteeringError, SteeringSpec, VectorUse};

/// The result of a check.
pub struct Checked {
    /// The report, as text.
    pub report: String,
    /// The vectors and maps, except control vectors of models whose sizes are not known yet.
    pub library: Library,
    /// By model id: the fingerprint of the model's files, if they are on this machine, the model is steered and
    /// fingerprints are compared.
    pub fingerprints: BTreeMap<String, String>,
}

/// Checks `config` together with the state `saved` in its state folder.
///
/// Checks the file itself, that mistral.rs can make a loader of every entry of `[[models]]`, that the paths and files
/// that an entry names exist, every vector and map file, and every default spec against the sizes and the fingerprint
/// of its model's files. A model that is not on this machine is reported; the server fetches and checks it later.
///
/// # Errors
///
/// The first error.
pub fn check(config: &Config, ignore_fingerprints: bool, saved: &SavedState) -> Result<Checked, SteeringError> {
    let within = |error: SteeringError| error.within(&config.path);
    model_configs(&config.engine.models).map_err(|error| SteeringError::Engine {
        path: config.path.clone(),
        message: format!("models: {error:#}"),
    })?;
    let mut library = config.library()?;
    let names = |entry: &ModelEntry| [Some(entry.model_id.clone()), entry.format.tok_model_id.clone()];
    let set = |entry: &ModelEntry| {
        let mut names = names(entry).into_iter().flatten();
        names.find(|name| saved.defaults.contains_key(name))
    };
    let has_default = |entry: &ModelEntry| config.defaults.contains_key(&entry.model_id) || set(entry).is_some();
    let mut fingerprints = BTreeMap::new();
    let mut models = Vec::new();
    for (index, entry) in config.engine.models.iter().enumerate() {
        model_is_there(entry, index)
            .and_then(|()| settings_are_sound(entry, index))
            .map_err(within)?;
        let files = files_of(entry);
        let has_control_vectors = config.vectors.has_control_of(&entry.model_id);
        let target = match &files {
            Some(files) if has_control_vectors || has_default(entry) => target(entry, files, ignore_fingerprints)?,
            _ => None,
        };
        if let (Some(target), Some(files)) = (&target, &files) {
            if let Some(fingerprint) = &target.fingerprint {
                fingerprints.insert(entry.model_id.clone(), fingerprint.clone());
            }
            config
                .vectors
                .load_control(
                    &mut library,
                    &entry.model_id,
                    &target.info(),
                    files.architecture().as_deref(),
                )
                .map_err(within)?;
        }
        models.push((entry, files, target));
    }
    let library_with_saved = saved_vectors(config, &library, saved)?;
    let mut report = format!("{}: as it should be\n", config.path.display());
    for warning in &config.warnings {
        push_line(&mut report, format_args!("warning: {warning}"));
    }
    let mut unknown: BTreeMap<String, usize> = saved.defaults.keys().cloned().zip(0..).collect();
    for (entry, files, target) in models {
        let place = if files.is_some() {
            "on this machine"
        } else {
            "not on this machine, to be fetched"
        };
        push_line(&mut report, format_args!("model {}: {place}", entry.model_id));
        let set = set(entry).and_then(|name| unknown.remove_entry(&name));
        let default = match set {
            Some((model, index)) => Some(EffectiveDefault {
                spec: &saved.defaults[&model],
                at: format!("defaults[{index}].spec."),
                file: &saved.path,
                library: &library_with_saved,
                words: "steered by a default that was set over HTTP",
            }),
            None => config.defaults.get(&entry.model_id).map(|default| EffectiveDefault {
                spec: &default.spec,
                at: default.at.clone(),
                file: &config.path,
                library: &library,
                words: "steered by default",
            }),
        };
        let default = default.filter(|default| !default.spec.vectors.is_empty());
        let said = match default {
            None => "not steered by default".to_string(),
            Some(default) => default.describe(entry, files.as_ref(), target.as_ref(), config)?,
        };
        push_line(&mut report, format_args!("  {said}"));
    }
    if let Some((model, index)) = unknown.first_key_value() {
        let known: Vec<&str> = config
            .engine
            .models
            .iter()
            .map(|entry| entry.model_id.as_str())
            .collect();
        let expected = format!("a model_id of [[models]]: {}", known.join(", "));
        let error = SteeringError::value(format!("defaults[{index}].model"), format!("{model:?}"), expected);
        return Err(error.within(&saved.path));
    }
    if saved.number > 0 {
        let vectors: Vec<&str> = saved.vectors.keys().map(String::as_str).collect();
        let vectors = if vectors.is_empty() {
            "none".to_string()
        } else {
            vectors.join(", ")
        };
        let path = saved.path.display();
        push_line(
            &mut report,
            format_args!("{path}: uploaded vectors: {vectors}; written {}", saved.time),
        );
    }
    for (name, source) in &config.sources {
        let place = if source.files().is_some() {
            "on this machine"
        } else {
            "not on this machine, to be fetched"
        };
        push_line(&mut report, format_args!("source {name}: {}, {place}", source.model));
    }
    contents(&mut report, config, &library);
    Ok(Checked {
        report,
        library,
        fingerprints,
    })
}

/// The library together with the uploaded vectors of the state.
fn saved_vectors(config: &Config, library: &Library, saved: &SavedState) -> Result<Library, SteeringError> {
    let mut all = library.clone();
    for (name, vector) in &saved.vectors {
        if config.vectors.0.contains_key(name) {
            return Err(name_of_configuration(name).within(&saved.path));
        }
        all.insert_shared(name, vector.clone())
            .map_err(|error| error.within(&saved.path))?;
    }
    Ok(all)
}

/// A model's default.
struct EffectiveDefault<'a> {
    spec: &'a SteeringSpec,
    at: String,
    /// The file with the default.
    file: &'a Path,
    library: &'a Library,
    /// Where it comes from, as text.
    words: &'static str,
}

impl EffectiveDefault<'_> {
    /// Checks it as far as the model is known, and describes it.
    fn describe(
        &self,
        entry: &ModelEntry,
        files: Option<&ModelFiles>,
        target: Option<&Target>,
        config: &Config,
    ) -> Result<String, SteeringError> {
        let words = self.words;
        // Control vectors of a model whose sizes are not known yet are loaded after the model.
        let awaited = |name: &str| self.library.get(name).is_none() && config.vectors.0.contains_key(name);
        let awaited = self.spec.names().any(awaited);
        let (files, target) = match (files, target) {
            (None, _) => return Ok(format!("{words}; to be checked once the model is on this machine")),
            (Some(_), None) => return Ok(format!("{words}; its sizes are not known before it is loaded")),
            _ if awaited => {
                return Ok(format!(
                    "{words}; to be checked once the models of its control vectors are loaded"
                ));
            }
            (Some(files), Some(target)) => (files, target),
        };
        let tokenizer = files.tokenizer();
        let token = |text: &str| token_of(tokenizer.as_ref(), text);
        let bound = config.bounds.get(&entry.model_id);
        let dose = bound.map(|bound| SpecOwner::Operator.dose(*bound));
        let program = compile_within(self.spec, self.library, target, &token, &self.at, dose)
            .map_err(|error| error.within(self.file))?;
        let names: Vec<String> = self.spec.vectors.iter().map(used).collect();
        Ok(format!(
            "{words} with {} at layers {}",
            names.join(", "),
            ranges(&program.layers())
        ))
    }
}

/// The model as its files describe it; `None` if its sizes are not known before it is loaded.
fn target(entry: &ModelEntry, files: &ModelFiles, ignore_fingerprints: bool) -> Result<Option<Target>, SteeringError> {
    let Some(sizes) = files.sizes() else { return Ok(None) };
    Ok(Some(Target {
        model: entry.model_id.clone(),
        hidden_size: sizes.hidden_size,
        num_layers: sizes.num_layers,
        fingerprint: if ignore_fingerprints {
            None
        } else {
            Some(files.fingerprint()?)
        },
        // `auto` is decided when the model is loaded.
        dtype: None,
    }))
}

/// Describes a vector and its map.
fn used(used: &VectorUse) -> String {
    match &used.map {
        Some(map) => format!("{} through {map} ({})", used.vector, used.offset.unwrap_or_default()),
        None => used.vector.to_string(),
    }
}

fn contents(report: &mut String, config: &Config, library: &Library) {
    for (name, vector) in library.iter() {
        let layers: Vec<usize> = vector.layers().iter().map(|layer| layer.layer).collect();
        let (concept, model) = (&vector.header().concept, vector.model());
        push_line(
            report,
            format_args!(
                "vector {name}: {concept:?}, found on {}, layers {}",
                model.model,
                ranges(&layers)
            ),
        );
    }
    for (name, source) in &config.vectors.0 {
        if let (None, Some(model)) = (library.get(name), &source.control_of) {
            push_line(
                report,
                format_args!("vector {name}: another program's file, checked once {model} is loaded"),
            );
        }
    }
    for (name, map) in library.maps() {
        let header = map.header();
        push_line(
            report,
            format_args!(
                "map {name}: from {} to {}, {} layer pairs",
                header.source.model,
                header.target.model,
                map.pairs().len()
            ),
        );
    }
}

fn push_line(report: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(report, "{text}").expect("writing to a string does not fail");
}

/// The files of an entry of `[[models]]`; `None` if they are not on this machine.
pub(crate) fn files_of(entry: &ModelEntry) -> Option<ModelFiles> {
    let hf_cache = entry.device.hf_cache.as_deref();
    match &entry.format.quantized_file {
        Some(names) => ModelFiles::gguf(&entry.model_id, names, entry.format.tok_model_id.as_deref(), hf_cache),
        None => ModelFiles::folder(&entry.model_id, hf_cache),
    }
}

/// Checks that the path of a model exists; mistral.rs would otherwise look for it on the model hub.
fn model_is_there(entry: &ModelEntry, index: usize) -> Result<(), SteeringError> {
    let id = &entry.model_id;
    let is_path = Path::new(id).is_absolute() || id.starts_with('.') || id.matches('/').count() != 1;
    if is_path && !Path::new(id).is_dir() {
        return Err(SteeringError::value(
            format!("models[{index}].model_id"),
            format!("{id:?}, which is not a folder"),
            "a model's folder, or an id of the form owner/name",
        ));
    }
    if let (true, Some(names)) = (Path::new(id).is_dir(), &entry.format.quantized_file)
        && files_of(entry).is_none()
    {
        return Err(SteeringError::value(
            format!("models[{index}].format.quantized_file"),
            format!("{names:?}, which {id:?} or its tokenizer's folder lacks"),
            "GGUF files in the model's folder",
        ));
    }
    Ok(())
}

/// Checks that the files that an entry names exist, and that its quantisation is valid.
fn settings_are_sound(entry: &ModelEntry, index: usize) -> Result<(), SteeringError> {
    let files = [
        ("tokenizer", &entry.tokenizer),
        ("chat_template", &entry.chat_template),
        ("jinja_explicit", &entry.jinja_explicit),
        ("device.topology", &entry.device.topology),
        ("quantization.imatrix", &entry.quantization.imatrix),
        ("quantization.calibration_file", &entry.quantization.calibration_file),
        ("adapter.xlora_order", &entry.adapter.xlora_order),
    ];
    for (field, file) in files {
        if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
            let found = format!("{:?}, which is not a file", file.display().to_string());
            return Err(SteeringError::value(
                format!("models[{index}].{field}"),
                found,
                "a file",
            ));
        }
    }
    let isq = entry.quantization.in_situ_quant.as_deref();
    if let Some(Err(message)) = isq.map(|isq| parse_isq_value(isq, None)) {
        let field = format!("models[{index}].quantization.in_situ_quant");
        return Err(SteeringError::value(
            field,
            format!("{:?}", isq.unwrap_or_default()),
            message,
        ));
    }
    Ok(())
}
