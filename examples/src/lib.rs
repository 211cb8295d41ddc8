//! Models, data and runnable examples.

#![warn(missing_docs)]

pub mod family;
pub mod real_models;
pub mod server;
pub mod show;
pub mod stories;
pub mod transfer;
