//! Models, data and runnable examples.

#![warn(missing_docs)]

use std::process::ExitCode;

pub mod autoencoder;
pub mod broken_maps;
pub mod family;
pub mod figures;
pub mod memory;
pub mod programs;
pub mod random_files;
pub mod real_models;
pub mod server;
pub mod show;
pub mod slopes;
pub mod stories;
pub mod traffic;
pub mod worker_process;

/// The exit code of a program. An error is printed with its causes.
pub fn exit_code(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
