//! steermap's files: a TOML file for people to read, with its tensors beside it in safetensors files.
//!
//! | module | role |
//! | --- | --- |
//! | [`vector`] | steering vectors in one model's residual stream, native or mapped: [`VectorFile`] |
//! | [`map`] | maps from one model's residual stream to another's, and carrying vectors through them: [`MapFile`] |
//! | [`activations`] | residual streams on disk: a folder of shards with an index |
//! | [`offset`] | how a vector goes through a map: [`OffsetRule`] |
//! | [`any`], [`describe`] | a file of any kind: [`AnyFile`], and its contents as text |
//! | [`model`], [`provenance`] | tables that every kind of file has: its model, and how it was made |
//! | [`fingerprint`] | identifies a model's weights and tokenizer |
//! | [`error`] | [`FileError`] (which file) and [`Problem`] (what is wrong in it) |
//! | [`dtype`] | how floating-point numbers are stored: [`FloatDtype`] |
//! | [`atomic`], [`read`], [`digest`] | atomic writes, reads with a limit, SHA-256; other crates use them too |
//!
//! Three private modules hold what the kinds of file share: `tensors` (safetensors bytes to checked values, and back),
//! `store` (a TOML file and the tensors it names, as one unit) and `tensor_file` (a safetensors file of any size, mapped
//! into memory). A new kind of file is a new module beside [`vector`] and [`map`] that uses those.
//!
//! Every invariant holds for values in memory too: a [`VectorFile`] or a [`MapFile`] exists only after passing all
//! checks, so code that gets one needn't check again. The numbers of a map in a file are an exception:
//! [`PairMap::load`] checks them on first use.
//!
//! This crate does not depend on mistral.rs, on candle, or on how steering is done.

#![warn(missing_docs)]

pub mod activations;
pub mod any;
pub mod atomic;
pub mod describe;
pub mod digest;
pub mod dtype;
pub mod error;
pub mod fingerprint;
pub mod map;
pub mod model;
pub mod offset;
pub mod provenance;
pub mod read;
pub mod vector;

mod store;
mod tensor_file;
mod tensors;

#[cfg(test)]
mod testing;

pub use any::AnyFile;
pub use dtype::{FloatDtype, UnknownDtype};
pub use error::{FileError, Problem};
pub use fingerprint::{fingerprint_folder, fingerprint_gguf};
pub use map::{
    AffineMap, ApplyError, FitReport, LayerPair, LinearMap, LowRankMap, MapFile, MapHeader, MapKind, MapWriter,
    MappedLayer, MappedVector, PairMap, PositionRules, Positions, RankR2, Reach, WeightMatrix,
};
pub use model::{ModelInfo, Numerics};
pub use offset::OffsetRule;
pub use provenance::Provenance;
pub use store::{MAX_MAP_TOML_BYTES, MAX_TOML_BYTES, MAX_WEIGHTS_BYTES};
pub use vector::{LayerVector, Mapped, Spread, TokenPosition, VectorFile, VectorHeader, VectorPart, VectorParts};
