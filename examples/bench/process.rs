//! Worker processes of a benchmark.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use steermap_examples::worker_process::WorkerProcess;

/// The processes of one launch: two equal ones as the reference, and this program's own worker.
pub struct Launch {
    reference: [WorkerProcess; 2],
    patched: WorkerProcess,
}

impl Launch {
    /// Starts `program` with `program_args` twice, and this program's `worker` with `model`, first or last.
    pub fn start(program: &Path, program_args: &[&str], model: &str, patched_first: bool) -> Result<Self> {
        let reference = || {
            let mut command = Command::new(program);
            command.args(program_args);
            quiet(command)
        };
        let patched = || {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["worker", model]);
            quiet(command)
        };
        if patched_first {
            let patched = patched()?;
            Ok(Self {
                patched,
                reference: [reference()?, reference()?],
            })
        } else {
            Ok(Self {
                reference: [reference()?, reference()?],
                patched: patched()?,
            })
        }
    }

    /// Seconds that `request` takes: the reference, the other reference, then the worker in each of `modes`.
    pub fn round(&mut self, modes: &[&str], request: &str, turn: usize) -> Result<Vec<f64>> {
        let mut seconds = vec![0.0; 2 + modes.len()];
        // The order changes each time, so that none always follows the same other.
        for i in 0..seconds.len() {
            let who = (turn + i) % seconds.len();
            seconds[who] = match who {
                0 | 1 => self.reference[who].ask(request)?,
                _ => {
                    self.patched.ask(modes[who - 2])?;
                    self.patched.ask(request)?
                }
            };
        }
        Ok(seconds)
    }
}

/// Starts a worker without its standard error.
fn quiet(mut command: Command) -> Result<WorkerProcess> {
    command.stderr(Stdio::null());
    WorkerProcess::start(command).map(|(worker, _)| worker)
}
