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

/// Exit code of a command that Ctrl-C stopped: 128 + SIGINT, as shells set it.
pub const STOPPED: u8 = 130;

/// The command line, for provenance; without this program's folder.
pub fn command_line() -> String {
    ["mapper".to_string()]
        .into_iter()
        .chain(std::env::args().skip(1))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A flag that Ctrl-C sets; a second Ctrl-C ends the process at once. A separate thread handles the signal, so that it
/// takes effect while every worker of the async runtime is computing.
///
/// # Errors
///
/// The operating system refused the handler, or this is the second call.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    ctrlc::set_handler(move || {
        if set.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(STOPPED));
        }
        eprintln!("\nstopping: the texts that are running have five seconds to finish; Ctrl-C again stops at once");
    })
    .context("Ctrl-C can't be handled")?;
    Ok(flag)
}
