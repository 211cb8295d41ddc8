//! Worker processes of a benchmark.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use steermap_examples::worker_process::WorkerProcess;

/// The processes of one launch: two of the published engine, and this program's own worker.
pub struct Launch {
    published: [WorkerProcess; 2],
    patched: WorkerProcess,
}

impl Launch {
    /// Starts `stock` with `stock_args` twice, and this program's `worker` with `model`, first or last.
    pub fn start(stock: &Path, stock_args: &[&str], model: &str, patched_first: bool) -> Result<Self> {
        let published = || {
            let mut command = Command::new(stock);
            command.args(stock_args);
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
                published: [published()?, published()?],
            })
        } else {
            Ok(Self {
                published: [published()?, published()?],
                patched: patched()?,
            })
        }
    }

    /// Seconds that `request` takes: the published engine, that engine again, then the patched one in each of `modes`.
    pub fn round<const N: usize>(&mut self, modes: &[&str], request: &str, turn: usize) -> Result<[f64; N]> {
        let mut seconds = [0.0; N];
        // The order changes each time, so that none always follows the same other.
        for i in 0..N {
            let who = (turn + i) % N;
            seconds[who] = match who {
                0 | 1 => self.published[who].ask(request)?,
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
