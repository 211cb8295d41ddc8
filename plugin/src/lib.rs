//! Steering for models served by mistral.rs.
//!
//! A [`SteeringSpec`] names vectors and how strongly to add them; a [`Library`] holds the vectors and maps; [`attach()`]
//! compiles the two for one loaded model and installs the result in its residual stream. The server
//! `mistralrs-steered` does so for the `[steering]` table in mistral.rs's own configuration file; a program that uses
//! the mistralrs crate does it in a few lines:
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! # let engine: &mistralrs_core::MistralRs = todo!("the engine of a loaded model: `model.inner()` in the SDK");
//! use steermap_plugin::{SteeringSpec, Library, VectorUse};
//!
//! let mut library = Library::default();
//! library.load("happy", "happy.toml")?;
//! let spec = SteeringSpec::from(VectorUse::new("happy", 4.0).at_layers([14]));
//! steermap_plugin::attach(engine, None, &spec, &library)?;
//! # Ok(())
//! # }
//! ```
//!
//! | module | role |
//! | --- | --- |
//! | [`spec`] | what is asked for |
//! | [`config`] | the `[steering]` table |
//! | [`library`] | vectors and maps by name |
//! | [`compile`] | a spec and vectors, made into offsets for one model |
//! | [`hook`] | adds the offsets in the forward pass |
//! | [`attach`](mod@attach) | puts a hook into a loaded model |
//! | [`model_files`] | what a model on disk is: sizes and fingerprint |
//! | [`check`], [`serve`] | the two commands of `mistralrs-steered` |

#![warn(missing_docs)]

pub mod attach;
pub mod check;
pub mod compile;
pub mod config;
pub mod error;
pub mod hook;
pub mod library;
pub mod model_files;
pub mod serve;
pub mod spec;

pub use attach::{attach, detach};
pub use error::SteeringError;
pub use hook::SteeringHook;
pub use library::Library;
pub use spec::{SteeringSpec, VectorUse};
