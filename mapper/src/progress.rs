//! Progress of long work: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// Time between lines if there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Number of last steps that the remaining time is estimated from.
const STEPS: usize = 32;

/// The unit of progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, printed as such.
    Bytes,
    /// Things of this name.
    Of(&'static str),
}

impl Unit {
    fn spell(self, number: u64) -> String {
        match self {
            Self::Bytes => HumanBytes(number).to_string(),
            Self::Of(_) => grouped(number),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bytes => "",
            Self::Of(name) => name,
        }
    }
}

/// The progress of one piece of work, on standard error.
pub struct Progress {
    what: &'static str,
    unit: Unit,
    bar: Option<ProgressBar>,
    state: Mutex<ProgressState>,
}

struct ProgressState {
    done: u64,
    total: u64,
    message: String,
    /// Whether lines are printed.
    lines: bool,
    printed: Instant,
    /// When each of the last steps ended, and what was done by then.
    steps: Vec<(Instant, u64)>,
}

impl Progress {
    /// Of `total` units of `what` ("reading"); shows nothing unless `visible`.
    pub fn new(visible: bool, what: &'static str, unit: Unit, total: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bar = (visible && terminal).then(|| {
            let template = match unit {
                Unit::Bytes => format!("{what} {{wide_bar}} {{bytes}}/{{total_bytes}} {{msg}}"),
                Unit::Of(name) => format!("{what} {{wide_bar}} {{human_pos}}/{{human_len}} {name} {{msg}}"),
            };
            let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(total).with_style(style)
        });
        let now = Instant::now();
        Self {
            what,
            unit,
            bar,
            state: Mutex::new(ProgressState {
                done: 0,
                total,
                message: String::new(),
                lines: visible && !terminal,
                printed: now,
                steps: Vec::new(),
            }),
        }
    }

    /// Sets how much an earlier run has done, which the speed of this run must not include.
    pub fn start_at(&self, done: u64) {
        self.with(|state| {
            state.done = done;
            state.steps = vec![(Instant::now(), done)];
        });
    }

    /// Sets how much is done.
    pub fn set(&self, done: u64) {
        self.with(|state| {
            state.done = done.min(state.total);
            if state.steps.is_empty() {
                state.steps.push((Instant::now(), done));
            }
        });
    }

    /// Adds to what is done.
    pub fn add(&self, done: u64) {
        self.with(|state| {
            if state.steps.is_empty() {
                state.steps.push((Instant::now(), state.done));
            }
            state.done = (state.done + done).min(state.total);
        });
    }

    /// Ends a step, for the estimate of the remaining time, and sets the message beside the numbers.
    pub fn step(&self, message: impl Into<String>) {
        let message = message.into();
        self.with(|state| {
            state.steps.push((Instant::now(), state.done));
            if state.steps.len() > STEPS {
                state.steps.remove(0);
            }
            state.message = message;
        });
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn with(&self, change: impl FnOnce(&mut ProgressState)) {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        change(&mut state);
        let left = time_left(&state.steps, state.total).map_or(String::new(), |left| format!(", {left} left"));
        if let Some(bar) = &self.bar {
            bar.set_position(state.done);
            bar.set_message(format!("{}{left}", state.message));
        } else if state.lines && state.printed.elapsed() >= LINE_EVERY {
            state.printed = Instant::now();
            let (done, total) = (self.unit.spell(state.done), self.unit.spell(state.total));
            let percent = 100 * state.done / state.total.max(1);
            let name = self.unit.name();
            let separator = if state.message.is_empty() { "" } else { ", " };
            let line = format!("{}: {done} of {total} {name}", self.what);
            eprintln!("{} ({percent}%){separator}{}{left}", line.trim_end(), state.message);
        }
    }
}

/// The time that is left, as an interval of about 95%, from the speeds of the last steps; `None` before there are
/// three.
fn time_left(steps: &[(Instant, u64)], total: u64) -> Option<String> {
    let speeds: Vec<f64> = steps
        .windows(2)
        .filter(|two| two[1].1 > two[0].1)
        .map(|two| (two[1].0 - two[0].0).as_secs_f64() / (two[1].1 - two[0].1) as f64)
        .collect();
    if speeds.len() < 3 {
        return None;
    }
    let n = speeds.len() as f64;
    let mean = speeds.iter().sum::<f64>() / n;
    let variance = speeds.iter().map(|speed| (speed - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let error = 2.0 * (variance / n).sqrt();
    let rest = total.saturating_sub(steps.last()?.1) as f64;
    let (low, high) = (rest * (mean - error).max(0.0), rest * (mean + error));
    Some(interval(low, high))
}

/// An interval of seconds in words.
fn interval(low: f64, high: f64) -> String {
    let (unit, name) = match high {
        seconds if seconds < 120.0 => (1.0, "s"),
        seconds if seconds < 7200.0 => (60.0, "min"),
        _ => (3600.0, "h"),
    };
    let (low, high) = ((low / unit).round(), (high / unit).round());
    if low == high {
        format!("{high} {name}")
    } else {
        format!("{low} to {high} {name}")
    }
}

/// A number with its thousands separated: `12,034`.
pub fn grouped(number: u64) -> String {
    indicatif::HumanCount(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_left_by_hand() {
        let start = Instant::now();
        let at = |seconds: u64, done: u64| (start + Duration::from_secs(seconds), done);
        assert_eq!(time_left(&[at(0, 0), at(1, 10), at(2, 20)], 100), None);
        let steady: Vec<_> = (0..=4).map(|i| at(i, 10 * i)).collect();
        assert_eq!(time_left(&steady, 100).unwrap(), "6 s");
        assert_eq!(time_left(&steady, 50_000).unwrap(), "83 min");
        let uneven = [at(0, 0), at(1, 10), at(4, 20), at(5, 30), at(8, 40)];
        // 0.1 and 0.3 s each, so 0.2 with a standard error of 0.058.
        assert_eq!(time_left(&uneven, 140).unwrap(), "8 to 32 s");
    }

    #[test]
    fn numbers_are_read_easily() {
        assert_eq!(grouped(12034), "12,034");
        assert_eq!(Unit::Of("rows").spell(1_000_000), "1,000,000");
        assert_eq!(interval(3000.0, 90_000.0), "1 to 25 h");
    }
}
