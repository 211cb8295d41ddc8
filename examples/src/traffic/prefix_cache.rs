//! The engine's figures of its prefix cache. It logs them every few seconds in which it generated tokens.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::server::Server;

/// How long to wait for the figures; the engine logs every five seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// One line of figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CacheFigures {
    /// Share of all sequences since the server started that had a hit in the cache.
    pub hit_rate: f64,
    /// Number of sequences running when the line was written.
    pub running: usize,
    /// Number of sequences waiting then.
    pub waiting: usize,
}

/// Parses a line of the log.
pub fn parse(line: &str) -> Option<CacheFigures> {
    let after = |mark: &str| line.split_once(mark).map(|(_, rest)| rest);
    let before = |mark: &str| {
        let (text, _) = line.split_once(mark)?;
        text.rsplit([' ', ',']).next()?.parse().ok()
    };
    let percent = after("Prefix cache hitrate ")?.split_once('%')?.0;
    Some(CacheFigures {
        hit_rate: percent.parse::<f64>().ok()? / 100.0,
        running: before(" running")?,
        waiting: before(" waiting")?,
    })
}

/// Number of the server's `sent` requests so far that hit the prefix cache. No request may be in progress. `nudge`
/// sends another request that generates tokens and cannot hit, so that the engine logs its figures. It is called until
/// a line counts it.
///
/// # Errors
///
/// If `nudge` fails, or the server logs no figures.
pub fn hits(server: &Server, sent: usize, mut nudge: impl FnMut(usize) -> Result<()>) -> Result<usize> {
    for nudges in 1..=4 {
        let from = server.log_lines();
        nudge(nudges)?;
        let figures = server
            .logged(from, PATIENCE, parse)
            .context("the server logs no figures")?;
        // A line written before the last request was counted has another denominator.
        let hits = figures.hit_rate * (sent + nudges) as f64;
        // The rate is written with four digits after the point.
        if (hits - hits.round()).abs() <= 0.51e-4 * (sent + nudges) as f64 {
            return Ok(hits.round() as usize);
        }
    }
    anyhow::bail!("the server's figures do not match {sent} requests")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_read() {
        let line = "2026-11-24T08:00:00Z  INFO mistralrs_core: Throughput (T/s) 12.40, Prefix cache hitrate 37.50%, \
                    3 running, 14 waiting\n";
        let figures = parse(line).unwrap();
        assert_eq!((figures.hit_rate, figures.running, figures.waiting), (0.375, 3, 14));
        assert_eq!(parse("Server listening on http://127.0.0.1:80"), None);
    }
}
