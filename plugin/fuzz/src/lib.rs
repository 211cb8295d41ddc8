//! The fuzz targets: the plugin's own sources from a request's bytes to a compiled program, with invariants that must
//! hold for all bytes.
//!
//! | module | role |
//! | --- | --- |
//! | [`json`], [`table`] | one target each: read, validate, write, read again |
//! | [`program`] | compiles a valid spec and checks the program token by token |
//! | [`mutate`] | mutations that keep the syntax |
//! | [`oracle`] | the definition of selectors |
//! | [`fixture`] | the vectors, map, model and tokenizer that specs are compiled with |
//!
//! The rest is the plugin's source, included by path: as a dependency, the plugin would pull in all of mistral.rs.

#![warn(missing_docs)]

pub mod fixture;
pub mod json;
pub mod mutate;
pub mod oracle;
pub mod program;
pub mod table;

// Only a part of each is run here. They are in a separate module so that their submodules are found beside them.
#[allow(dead_code)]
#[path = "../../src"]
mod plugin {
    pub mod compile;
    pub mod directions;
    pub mod error;
    pub mod foreign;
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
    compile, directions, error, foreign, library, lock, name, policy, reference, select, spec, target, vector_source,
};
pub use spec::{RequestSteering, SteeringSpec, VectorUse};
