//! The upload of a vector as a form.

use axum::extract::Multipart;
use axum::extract::multipart::{Field, MultipartError};
use axum::http::StatusCode;
use steermap_maps::{MAX_TOML_BYTES, VectorFile};
use tracing::warn;

use super::refusal::Refusal;
use crate::foreign::ReadOptions;
use crate::name::check_name;
use crate::{Steering, gguf};

/// The most bytes of `name` and `model`: far more than any name needs.
const MAX_TEXT_BYTES: usize = 1024;

/// The fields of the form, as they were sent.
#[derive(Debug, Default)]
pub(super) struct Upload {
    name: Option<Vec<u8>>,
    toml: Option<Vec<u8>>,
    safetensors: Option<Vec<u8>>,
    gguf: Option<Vec<u8>>,
    model: Option<Vec<u8>>,
}

/// A complete form.
#[derive(Debug)]
pub(super) struct UploadForm {
    /// The name of the new vector.
    pub(super) name: String,
    content: UploadedFiles,
}

#[derive(Debug)]
enum UploadedFiles {
    /// steermap's own two files.
    Files { toml: Vec<u8>, safetensors: Vec<u8> },
    /// A control vector of llama.cpp or repeng, and the served model that it was found on.
    Gguf { gguf: Vec<u8>, model: Option<String> },
}

impl Upload {
    /// Reads the form, whose body is limited to `limit` bytes. Ignores the client's file names.
    ///
    /// # Errors
    ///
    /// A field is unknown, there twice, or too large; or the form ends early, or is too large as a whole.
    pub(super) async fn read(mut form: Multipart, limit: usize) -> Result<Self, Refusal> {
        let mut upload = Self::default();
        while let Some(field) = form.next_field().await.map_err(|error| broken(&error, limit))? {
            let key = field.name().unwrap_or_default().to_string();
            let text = MAX_TEXT_BYTES.min(limit);
            let (place, most) = match key.as_str() {
                "name" => (&mut upload.name, text),
                "model" => (&mut upload.model, text),
                "toml" => (&mut upload.toml, limit.min(MAX_TOML_BYTES as usize)),
                "safetensors" => (&mut upload.safetensors, limit),
                "gguf" => (&mut upload.gguf, limit),
                _ => {
                    let known = "one of name, toml, safetensors, gguf, model";
                    let key: String = key.chars().take(64).collect();
                    return Err(Refusal::value("form", format!("the field {key:?}"), known));
                }
            };
            if place.is_some() {
                return Err(Refusal::value(&key, "the field twice", "it once"));
            }
            *place = Some(read_field(field, &key, most, limit).await?);
        }
        Ok(upload)
    }

    /// Checks that the form has all required fields and no others.
    ///
    /// # Errors
    ///
    /// A field is missing, or excludes another one; or a text is not UTF-8.
    pub(super) fn check(self) -> Result<UploadForm, Refusal> {
        let Some(name) = self.name else {
            return Err(Refusal::value("name", "nothing", "the vector's name"));
        };
        let name = text("name", name)?;
        check_name("name", &name)?;
        let content = match (self.gguf, self.toml, self.safetensors) {
            (Some(gguf), None, None) => UploadedFiles::Gguf {
                gguf,
                model: self.model.map(|model| text("model", model)).transpose()?,
            },
            (Some(_), _, _) => {
                return Err(Refusal::value(
                    "gguf",
                    "this field beside toml or safetensors",
                    "one kind of file",
                ));
            }
            (None, Some(toml), Some(safetensors)) => {
                if self.model.is_some() {
                    return Err(Refusal::value(
                        "model",
                        "this field beside toml",
                        "this field only with gguf: the TOML names its model",
                    ));
                }
                UploadedFiles::Files { toml, safetensors }
            }
            (None, Some(_), None) => {
                return Err(Refusal::value("safetensors", "nothing", "the file that goes with toml"));
            }
            (None, None, Some(_)) => {
                return Err(Refusal::value("toml", "nothing", "the file that goes with safetensors"));
            }
            (None, None, None) => return Err(Refusal::value("toml", "nothing", "toml and safetensors, or gguf")),
        };
        Ok(UploadForm { name, content })
    }
}

impl UploadForm {
    /// The vector, and notes on what in the files is probably not as its author thinks. Hashes and checks all of the files, so it
    /// must run on a blocking thread.
    ///
    /// # Errors
    ///
    /// A file is invalid, or the model does not exist.
    pub(super) fn vector(self, steering: &Steering) -> Result<(VectorFile, Vec<String>), Refusal> {
        match self.content {
            UploadedFiles::Files { toml, safetensors } => {
                let vector = VectorFile::from_parts(&toml, &safetensors).map_err(|(part, problem)| {
                    let message = format!("{}: {problem}", part.as_str());
                    Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, message)
                })?;
                Ok((vector, Vec::new()))
            }
            UploadedFiles::Gguf { gguf, model } => {
                let snapshot = steering.snapshot();
                let model = snapshot.model(model.as_deref())?;
                let read = gguf::read_with(&gguf, &self.name, model.target.info(), &ReadOptions::default());
                let read = read.map(|read| {
                    let notes = read.notes(model.architecture.as_deref());
                    notes.iter().for_each(|note| warn!("{}: {note}", self.name));
                    (read.vector, notes)
                });
                read.map_err(|error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("gguf: {error}")))
            }
        }
    }
}

async fn read_field(mut field: Field<'_>, key: &str, most: usize, limit: usize) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.chunk().await.map_err(|error| broken(&error, limit))? {
        if bytes.len() + chunk.len() > most {
            return Err(Refusal::too_large(key, most));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn text(field: &str, bytes: Vec<u8>) -> Result<String, Refusal> {
    String::from_utf8(bytes).map_err(|_| Refusal::value(field, "bytes that are not UTF-8", "text"))
}

fn broken(error: &MultipartError, limit: usize) -> Refusal {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::too_large("body", limit),
        status => Refusal::new(
            status,
            format!(
                "body: found a broken form ({}), expected multipart/form-data",
                error.body_text()
            ),
        ),
    }
}
