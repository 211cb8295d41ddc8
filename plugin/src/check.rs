//! `mistralrs-steered check`: everything that can be known without loading weights.

use std::fmt::Write;
use std::path::Path;

use mistralrs_cli::{ModelEntry, model_configs};
use mistralrs_core::parse_isq_value;

use crate::compile::{Target, compile, ranges};
use crate::config::Config;
use crate::model_files::ModelFiles;
use crate::{SteeringError, VectorLibrary};

/// Checks `config` and says what it found, as text for people.
///
/// Checked are: the file itself, that mistral.rs can make a loader of every entry of `[[models]]`, that models given as
/// paths and files that an entry names are there, every vector file, and every default spec against the sizes and the fingerprint of its model's
/// files. A model that is not on this machine is said to be so; the server will fetch it and check then.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn check(config: &Config, ignore_fingerprints: bool) -> Result<String, SteeringError> {
    let within = |error: SteeringError| error.within(&config.path);
    model_configs(&config.engine.models).map_err(|error| SteeringError::Engine {
        path: config.path.clone(),
        message: format!("models: {error:#}"),
    })?;
    let library = config.library()?;
    let mut report = format!("{}: as it should be\n", config.path.display());
    for (index, entry) in config.engine.models.iter().enumerate() {
        model_is_there(entry, index)
            .and_then(|()| settings_are_sound(entry, index))
            .map_err(within)?;
        let files = ModelFiles::of_entry(entry);
        let place = if files.is_some() {
            "on this machine"
        } else {
            "not on this machine, to be fetched"
        };
        line(&mut report, format_args!("model {}: {place}", entry.model_id));
        match (config.defaults.get(&entry.model_id), files) {
            (None, _) => line(&mut report, format_args!("  not steered by default")),
            (Some(_), None) => line(
                &mut report,
                format_args!("  steered by default; checked once it is here"),
            ),
            (Some(default), Some(files)) => {
                let Some(sizes) = files.sizes() else {
                    line(
                        &mut report,
                        format_args!("  steered by default; its sizes are not known before it is loaded"),
                    );
                    continue;
                };
                let fingerprint = if ignore_fingerprints {
                    None
                } else {
                    Some(files.fingerprint()?)
                };
                let target = Target {
                    model: entry.model_id.clone(),
                    hidden_size: sizes.hidden_size,
                    num_layers: sizes.num_layers,
                    fingerprint,
                };
                let offsets = compile(&default.spec, &library, &target, &default.at).map_err(within)?;
                let layers: Vec<usize> = offsets.layers.keys().copied().collect();
                let names: Vec<&str> = default.spec.vectors.iter().map(|v| v.vector.as_str()).collect();
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
    vectors(&mut report, &library);
    Ok(report)
}

fn vectors(report: &mut String, library: &VectorLibrary) {
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
