//! The commands, from their arguments to their output.

pub mod capture;
pub mod combine;
pub mod convert;
pub mod eval;
pub mod files;
pub mod fit;
pub mod models;
pub mod output;
pub mod pipe;
pub mod sae;
pub mod text;
pub mod vector;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

pub use output::{check_inputs, check_out, check_out_folder};

/// What a command that was stopped ends with: 128 + SIGINT, as shells have it.
pub const STOPPED: u8 = 130;

/// The command line, for provenance: without the folder that this program lies in.
pub fn command_line() -> String {
    ["mapper".to_string()]
        .into_iter()
        .chain(std::env::args().skip(1))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A flag that Ctrl-C sets; a second Ctrl-C ends the process at once. The signal is taken by a thread of its own, so that it is
/// seen while every worker of the async runtime is computing.
///
/// # Errors
///
/// The operating system refused the handler. To be called once.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    ctrlc::set_handler(move || {
        if set.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(STOPPED));
        }
        eprintln!("\nstopping: the texts that are running have five seconds to end; Ctrl-C again ends at once");
    })
    .context("Ctrl-C can't be handled")?;
    Ok(flag)
}
