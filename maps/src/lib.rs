//! What steermap keeps on disk: a TOML file that people read, with its tensors beside it in one safetensors file.
//!
//! | module | role |
//! | --- | --- |
//! | [`vector`] | steering vectors found on one model: [`VectorFile`] |
//! | [`model`], [`provenance`] | tables that every kind of file has: which model, made how |
//! | [`fingerprint`] | what identifies a model's weights and tokenizer |
//! | [`error`] | [`FileError`] (which file) and [`Problem`] (what is wrong in it) |
//! | [`atomic`], [`digest`] | whole-or-nothing writes, SHA-256: small helpers that other crates may use too |
//!
//! Two private modules carry what the kinds of file share: `store` (a TOML file and the tensors it names, as one unit)
//! and `tensors` (safetensors bytes to checked `f32` values and back). A new kind of file is a new module beside
//! [`vector`] that stands on those two.
//!
//! Every invariant holds for a value in memory too: a [`VectorFile`] can't be made, by whatever way, without passing
//! all checks, so code that is handed one needn't check again.
//!
//! This crate knows nothing of mistral.rs, of candle, or of how steering is done.

#![warn(missing_docs)]

pub mod atomic;
pub mod digest;
pub mod error;
pub mod fingerprint;
pub mod model;
pub mod provenance;
pub mod vector;

mod read;
mod store;
mod tensors;

pub use error::{FileError, Problem};
pub use fingerprint::{fingerprint_folder, fingerprint_gguf};
pub use model::{ModelInfo, Numerics};
pub use provenance::Provenance;
pub use store::{MAX_TOML_BYTES, MAX_WEIGHTS_BYTES};
pub use vector::{LayerVector, TokenPosition, VectorFile, VectorHeader};
