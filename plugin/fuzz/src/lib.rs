//! What the fuzz targets run: the plugin's own sources from a request's bytes to a compiled program, and what must hold
//! of them whatever the bytes.
//!
//! | module | role |
//! | --- | --- |
//! | [`json`], [`table`] | one target each: read, validate, write, read again |
//! | [`program`] | compiles a valid spec and checks the program token by token |
//! | [`mutate`] | mutations that keep the syntax |
//! | [`oracle`] | what selectors and prompts mean, spelled out |
//! | [`fixture`] | the vectors, map, model and tokenizer that specs are compiled with |
//!
//! The rest is the plugin's, included by path: as a dependency it would bring all of mistral.rs.

#![warn(missing_docs)]

pub mod fixture;
pub mod json;
pub mod mutate;
pub mod oracle;
pub mod program;
pub mod table;

// Only a part of each is run here. A module of their own, so that their submodules are found beside them.
#[allow(dead_code)]
#[path = "../../src"]
mod plugin {
    pub mod compile;
    pub mod directions;
    pub mod error;
    pub mod foreign;
    pub mod gguf;
    pub mod library;
    pub mod lock;
    pub mod name;
    pub mod policy;
    pub mod reference;
    pub mod select;
    pub mod spec;
    pub mod target;
    pub mod vector_source;
}

#[allow(dead_code)]
#[path = "../../src/server/object.rs"]
mod object;

pub use compile::{Program, Target};
pub use error::SteeringError;
pub use library::Library;
pub use plugin::{
    compile, directions, error, foreign, gguf, library, lock, name, policy, reference, select, spec, target,
    vector_source,
};
pub use spec::{RequestSteering, SteeringSpec, VectorUse};
