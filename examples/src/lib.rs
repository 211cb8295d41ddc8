//! Models, data and runnable examples.

#![warn(missing_docs)]

pub mod real_models;
pub mod server;
