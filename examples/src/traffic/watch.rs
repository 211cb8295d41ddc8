//! A running server, looked at from outside: what it holds in memory, and what its log must never say.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::memory::resident;
use super::prefix_cache;
use crate::server::Server;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Parts of lines that tell of a panic, or of an engine that was started again.
const ALARMS: [&str; 4] = [
    "panicked",
    "is dead, rebooting",
    "rebooted engine",
    "memory allocation of",
];
/// Alarms whose text is kept.
const MAX_TOLD: usize = 20;

/// What was seen of a server so far.
pub struct ServerWatch<'a> {
    server: &'a Server,
    /// The first line of the log that was not read yet.
    line: usize,
    next: Instant,
    /// Resident memory, in MiB, once a second.
    pub memory: Vec<f64>,
    /// Lines of the log that it must never have; the first of them.
    pub alarms: Vec<String>,
    /// The share of sequences that found a part of themselves in the prefix cache, as the engine logged it last.
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

    /// How long there is until the next look.
    pub fn left(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }

    /// Looks, if it is time to.
    ///
    /// # Errors
    ///
    /// A server that is no longer there.
    pub fn look(&mut self) -> Result<()> {
        if self.left().is_zero() {
            self.next = Instant::now() + EVERY;
            let memory = resident(self.server.pid()).context("the server has ended")?;
            self.memory.push(memory);
            self.read_log();
        }
        Ok(())
    }

    /// Reads what the log says by now.
    pub fn read_log(&mut self) {
        let (end, lines) = self.server.log_since(self.line);
        self.line = end;
        for line in lines {
            if let Some(figures) = prefix_cache::parse(&line) {
                self.hit_rate = Some(figures.hit_rate);
            }
            if is_alarm(&line) && self.alarms.len() < MAX_TOLD {
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
