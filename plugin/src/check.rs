//! `mistralrs-steered check`: everything that can be known without loading weights.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use mistralrs_cli::{ModelEntry, model_configs};
use mistralrs_core::parse_isq_value;

use crate::compile::{Target, compile, ranges, token_of};
use crate::config::{Config, DefaultSpec};
use crate::model_files::ModelFiles;
use crate::{Library, SteeringError, VectorUse};

/// What a check found and loaded.
pub struct Checked {
    /// What was found, as text for people.
    pub report: String,
    /// The vectors and maps, but for control vectors of models whose sizes are not known yet.
    pub library: Library,
    /// By model id: the fingerprint of its files, where they are here and it's steered and compared.
    pub fingerprints: BTreeMap<String, String>,
}

/// Checks `config`.
///
/// Checked are: the file itself, that mistral.rs can make a loader of every entry of `[[models]]`, that models given as
/// paths and files that an entry names are there, every vector and map file, and every default spec against the sizes
/// and the fingerprint of its model's files. A model that is not on this machine is said to be so; the server will fetch it and check then.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn check(config: &Config, ignore_fingerprints: bool) -> Result<Checked, SteeringError> {
    let within = |error: SteeringError| error.within(&config.path);
    model_configs(&config.engine.models).map_err(|error| SteeringError::Engine {
        path: config.path.clone(),
        message: format!("models: {error:#}"),
    })?;
    let mut library = config.library()?;
    let mut fingerprints = BTreeMap::new();
    let mut models = Vec::new();
    for (index, entry) in config.engine.models.iter().enumerate() {
        model_is_there(entry, index)
            .and_then(|()| settings_are_sound(entry, index))
            .map_err(within)?;
        let files = ModelFiles::of_entry(entry);
        let has_control_vectors = config.vectors.has_control_of(&entry.model_id);
        let target = match &files {
            Some(files) if has_control_vectors || config.defaults.contains_key(&entry.model_id) => {
                target(entry, files, ignore_fingerprints)?
            }
            _ => None,
        };
        if let Some(target) = &target {
            if let Some(fingerprint) = &target.fingerprint {
                fingerprints.insert(entry.model_id.clone(), fingerprint.clone());
            }
            config
                .vectors
                .load_control(&mut library, &entry.model_id, &target.info())
                .map_err(within)?;
        }
        models.push((entry, files, target));
    }
    let mut report = format!("{}: as it should be\n", config.path.display());
    for (entry, files, target) in models {
        let place = if files.is_some() {
            "on this machine"
        } else {
            "not on this machine, to be fetched"
        };
        line(&mut report, format_args!("model {}: {place}", entry.model_id));
        // Those of a model whose sizes are not known yet are loaded after it.
        let awaited = |default: &DefaultSpec| default.spec.names().any(|name| library.get(name).is_none());
        match (config.defaults.get(&entry.model_id), files, target) {
            (None, ..) => line(&mut report, format_args!("  not steered by default")),
            (Some(_), None, _) => line(
                &mut report,
                format_args!("  steered by default; checked once it is here"),
            ),
            (Some(_), Some(_), None) => line(
                &mut report,
                format_args!("  steered by default; its sizes are not known before it is loaded"),
            ),
            (Some(default), ..) if awaited(default) => line(
                &mut report,
                format_args!("  steered by default; checked once the models of its control vectors are loaded"),
            ),
            (Some(default), Some(files), Some(target)) => {
                let tokenizer = files.tokenizer();
                let token = |text: &str| token_of(tokenizer.as_ref(), text);
                let program = compile(&default.spec, &library, &target, &token, &default.at).map_err(within)?;
                let layers = program.layers();
                let names: Vec<String> = default.spec.vectors.iter().map(used).collect();
                line(
                    &mut report,
                    format_args!(
                        "  steered by default with {} at layers {}",
                        names.join(", "),
                        ranges(&layers)
                    ),
                );
            }
        }
    }
    contents(&mut report, config, &library);
    Ok(Checked {
        report,
        library,
        fingerprints,
    })
}

/// What its files say of a model; `None` if its sizes are not known before it is loaded.
fn target(entry: &ModelEntry, files: &ModelFiles, ignore_fingerprints: bool) -> Result<Option<Target>, SteeringError> {
    let Some(sizes) = files.sizes() else { return Ok(None) };
    Ok(Some(Target {
        model: entry.model_id.clone(),
        hidden_size: sizes.hidden_size,
        num_layers: sizes.num_layers,
        fingerprint: match ignore_fingerprints {
            true => None,
            false => Some(files.fingerprint()?),
        },
        // `auto` is decided when the model is loaded.
        dtype: None,
    }))
}

/// A vector and its map, in words.
fn used(used: &VectorUse) -> String {
    match &used.map {
        Some(map) => format!("{} through {map} ({})", used.vector, used.offset.unwrap_or_default()),
        None => used.vector.clone(),
    }
}

fn contents(report: &mut String, config: &Config, library: &Library) {
    for (name, vector) in library.iter() {
        let layers: Vec<usize> = vector.layers().iter().map(|layer| layer.layer).collect();
        let (concept, model) = (&vector.header().concept, vector.model());
        line(
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
            line(
                report,
                format_args!("vector {name}: a control vector, checked once {model} is loaded"),
            );
        }
    }
    for (name, map) in library.maps() {
        let header = map.header();
        line(
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

fn line(report: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(report, "{text}").expect("writing to a string does not fail");
}

/// A path to a model must lead somewhere; mistral.rs would otherwise look for it on the model hub.
fn model_is_there(entry: &ModelEntry, index: usize) -> Result<(), SteeringError> {
    let id = &entry.model_id;
    let is_path = Path::new(id).is_absolute() || id.starts_with('.') || id.matches('/').count() != 1;
    if is_path && !Path::new(id).is_dir() {
        return Err(SteeringError::value(
            format!("models[{index}].model_id"),
            format!("{id:?}, which is no folder"),
            "a model's folder, or an id of the form owner/name",
        ));
    }
    if let (true, Some(names)) = (Path::new(id).is_dir(), &entry.format.quantized_file)
        && ModelFiles::of_entry(entry).is_none()
    {
        return Err(SteeringError::value(
            format!("models[{index}].format.quantized_file"),
            format!("{names:?}, which {id:?} or its tokenizer's folder lacks"),
            "GGUF files in the model's folder",
        ));
    }
    Ok(())
}

/// The files that an entry names are there, and its quantisation is one.
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
            let found = format!("{:?}, which is no file", file.display().to_string());
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
