//! Watches a running server from outside: its memory, and lines that its log must not have.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::prefix_cache;
use crate::memory::resident;
use crate::server::Server;

/// Time between two measurements.
const INTERVAL: Duration = Duration::from_secs(1);
/// Parts of lines that report a panic or a restarted engine.
const ALARMS: [&str; 4] = [
    "panicked",
    "is dead, rebooting",
    "rebooted engine",
    "memory allocation of",
];
/// Number of alarms whose text is kept.
const MAX_ALARMS: usize = 20;

/// Observations of a server so far.
pub struct ServerWatch<'a> {
    server: &'a Server,
    /// The first line of the log that was not read yet.
    line: usize,
    next: Instant,
    /// Resident memory, in MiB, once a second.
    pub memory: Vec<f64>,
    /// The first lines of the log that report a panic or a restart.
    pub alarms: Vec<String>,
    /// Share of sequences with a hit in the prefix cache, as the engine logged it last.
    pub hit_rate: Option<f64>,
}

impl<'a> ServerWatch<'a> {
    /// Watches `server` from now on.
    pub fn new(server: &'a Server) -> Self {
        Self {
            server,
            line: server.log_lines(),
            next: Instant::now(),
            memory: Vec::new(),
            alarms: Vec::new(),
            hit_rate: None,
        }
    }

    /// Time until the next measurement.
    pub fn left(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Measures the memory and reads the log, if it is time to.
    ///
    /// # Errors
    ///
    /// If the server has ended.
    pub fn observe(&mut self) -> Result<()> {
        if self.left().is_zero() {
            self.next = Instant::now() + INTERVAL;
            let memory = resident(self.server.pid()).context("the server has ended")?;
            self.memory.push(memory);
            self.read_log();
        }
        Ok(())
    }

    /// Reads the log so far.
    pub fn read_log(&mut self) {
        let (end, lines) = self.server.log_since(self.line);
        self.line = end;
        for line in lines {
            if let Some(figures) = prefix_cache::parse(&line) {
                self.hit_rate = Some(figures.hit_rate);
            }
            if is_alarm(&line) && self.alarms.len() < MAX_ALARMS {
                self.alarms.push(line.trim_end().to_string());
            }
        }
    }
}

fn is_alarm(line: &str) -> bool {
    ALARMS.iter().any(|alarm| line.contains(alarm))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_and_restarts_are_alarms() {
        for line in [
            "thread '<unnamed>' panicked at src/sequence.rs:10:5:",
            "2026-11-24T08:00:00Z  WARN mistralrs_core: Engine m is dead, rebooting",
            "2026-11-24T08:00:00Z  INFO mistralrs_core: Successfully rebooted engine m",
            "2026-11-24T08:00:00Z ERROR mistralrs_core::engine: The engine panicked; all its requests are answered",
        ] {
            assert!(is_alarm(line), "{line}");
        }
        assert!(!is_alarm(
            "2026-11-24T08:00:00Z  WARN mistralrs_core: Sequence 3 failed: no logits"
        ));
    }
}
