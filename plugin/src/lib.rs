//! Steering for models served by mistral.rs.
//!
//! A [`SteeringSpec`] names vectors and their scales; a [`Library`] holds the vectors and maps; [`attach()`] compiles
//! both for one loaded model and installs the result in its residual stream. The server `mistralrs-steered` does this
//! for the `[steering]` table in mistral.rs's own configuration file; a program that uses the mistralrs crate needs a
//! few lines:
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
//! [`Steering`] steers each request by its own spec:
//!
//! ```no_run
//! # async fn f() -> anyhow::Result<()> {
//! # let engine: &mistralrs_core::MistralRs = todo!("the engine of a loaded model: `model.inner()` in the SDK");
//! # async fn send() {}
//! use steermap_plugin::{Library, RequestSteering, Steering, VectorUse};
//!
//! let mut library = Library::default();
//! library.load("happy", "happy.toml")?;
//! let steering = Steering::new(engine, library)?;
//! let request = steering.request(None, Some(&RequestSteering::from(VectorUse::new("happy", 4.0))))?;
//! let answer = request.scope(async { send().await }).await; // `model.send_chat_request(..)` in the SDK
//! # Ok(())
//! # }
//! ```
//!
//! | module | role |
//! | --- | --- |
//! | [`spec`] | steering specs |
//! | [`select`] | which tokens a vector acts on |
//! | [`config`] | the `[steering]` table |
//! | [`vector_source`] | the vectors in that table: vector files, or control vectors and their models |
//! | [`library`] | vectors and maps by name |
//! | [`target`] | the model that specs are compiled for |
//! | [`directions`] | the unit directions of vectors, which programs share |
//! | [`compile`](mod@compile) | compiles a spec and its vectors into a program for one model |
//! | [`apply`] | runs the programs of a batch in the forward pass |
//! | [`hook`] | connects [`apply`] to the seam |
//! | [`steering`] | the current snapshot, and the steering of each request |
//! | [`live`] | vectors found from pairs while the server runs |
//! | [`state`] | the folder that keeps changes across restarts |
//! | [`attach`](mod@attach) | installs hooks in loaded models: of a [`Steering`], or of one program |
//! | [`foreign`] | vectors that other programs wrote |
//! | [`gguf`] | control vectors of llama.cpp, repeng and EasySteer |
//! | [`policy`] | what an operator allows requests to do |
//! | [`token_texts`] | the texts of tokens |
//! | [`server`] | the HTTP side: requests, administration |
//! | [`metrics`] | counters for Prometheus |
//! | [`allocator`] | how long the binaries' allocator keeps freed memory |
//! | [`check`], [`serve`] | the two commands of `mistralrs-steered` |

#![warn(missing_docs)]

pub mod allocator;
pub mod apply;
pub mod attach;
pub mod check;
pub mod compile;
pub mod config;
pub mod directions;
pub mod error;
pub mod foreign;
mod found_expected;
pub mod hook;
pub mod library;
pub mod live;
mod lock;
pub mod metrics;
mod name;
pub mod policy;
#[cfg(test)]
mod reference;
pub mod select;
mod sent;
pub mod serve;
pub mod server;
mod slot;
pub mod spec;
pub mod state;
pub mod steering;
mod stopping;
pub mod target;
#[cfg(test)]
mod testing;
pub mod token_texts;
mod toml_reader;
mod unknown_keys;
pub mod vector_source;

pub use attach::{attach, detach};
pub use compile::Program;
pub use error::SteeringError;
pub use foreign::gguf;
pub use hook::SteeringHook;
pub use library::Library;
pub use metrics::Metrics;
pub use spec::{RequestSteering, SteeringSpec, VectorUse};
pub use steering::{SteeredRequest, Steering};
pub use target::Target;
