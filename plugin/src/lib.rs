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
//! Requests that differ are steered one by one ([`Steering`]):
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
//! | [`spec`] | what is asked for |
//! | [`select`] | on which tokens a vector acts |
//! | [`config`] | the `[steering]` table |
//! | [`vector_source`] | the vectors in that table: files, or control vectors and their models |
//! | [`library`] | vectors and maps by name |
//! | [`directions`] | what vectors are made into once, and programs share |
//! | [`compile`](mod@compile) | a spec and vectors, made into a program for one model |
//! | [`apply`] | runs the programs of a batch in the forward pass |
//! | [`hook`] | ties [`apply`] to the seam |
//! | [`steering`] | what holds at a moment, and what a request got of it |
//! | [`live`] | vectors found from pairs while the server runs |
//! | [`state`] | the folder in which changes outlast the server |
//! | [`attach`](mod@attach) | puts one program into a loaded model |
//! | [`foreign`] | vectors that other programs wrote |
//! | [`gguf`] | control vectors of llama.cpp, repeng and EasySteer |
//! | [`policy`] | what an operator lets requests do |
//! | [`token_texts`] | what tokens spell |
//! | [`server`] | the HTTP side: requests, administration |
//! | [`metrics`] | what is counted |
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
pub mod gguf;
pub mod hook;
pub mod library;
pub mod live;
pub mod metrics;
pub mod policy;
#[cfg(test)]
mod reference;
pub mod select;
pub mod serve;
pub mod server;
pub mod spec;
pub mod state;
pub mod steering;
mod stopping;
#[cfg(test)]
mod testing;
pub mod token_texts;
mod unknown_keys;
pub mod vector_source;

pub use attach::{attach, detach};
pub use compile::{Program, Target};
pub use error::SteeringError;
pub use hook::SteeringHook;
pub use library::Library;
pub use metrics::Metrics;
pub use spec::{RequestSteering, SteeringSpec, VectorUse};
pub use steering::{SteeredRequest, Steering};
