//! The report of a run.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::memory;
use crate::traffic::compare::Comparison;
use crate::traffic::served::ServedDtype;

/// Largest allowed growth of the memory from the middle third to the last third of a run that is long enough, as a
/// share.
const MAX_GROWTH: f64 = 0.1;
/// Least length, in seconds, of a run whose memory is judged; a shorter one is all warm-up.
const LONG_ENOUGH: f64 = 60.0;
/// Number of failures of each kind whose text is kept.
const MAX_FAILURES: usize = 5;

/// Results of the hostile requests of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HostileTally {
    /// Number of requests sent.
    pub sent: usize,
    /// Number of answers by status.
    pub statuses: BTreeMap<u16, usize>,
    /// Number of clients that hung up.
    pub hung_up: usize,
    /// Number of dropped connections and wrong answers.
    pub failed: usize,
    /// The first failures.
    pub failures: Vec<String>,
}

/// Results for one model in one dtype.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ChaosReport {
    /// The model.
    pub model: &'static str,
    /// The dtype that it ran in.
    pub dtype: ServedDtype,
    /// Number of concurrent requests.
    pub at_once: usize,
    /// Seconds from the first request of the storm to its last answer.
    pub seconds: f64,
    /// Ordinary requests of the storm, compared with their answers alone.
    pub ordinary: Comparison,
    /// Continuations after the storm, compared with a clean server's answers.
    pub continuations: Comparison,
    /// Ordinary requests that were not answered, in the storm and afterwards.
    pub unanswered: Vec<String>,
    /// Hostile requests, by kind.
    pub hostile: BTreeMap<&'static str, HostileTally>,
    /// Lines of the server's log that report a panic or a restart.
    pub alarms: Vec<String>,
    /// Share of sequences with a hit in the prefix cache, if the engine logged it.
    pub hit_rate: Option<f64>,
    /// Resident memory of the server during the storm, in MiB, once a second.
    pub memory: Vec<f64>,
}

impl HostileTally {
    /// Counts a request: its status, `None` if the client hung up, or its failure.
    pub(super) fn add(&mut self, outcome: Result<Option<u16>, String>) {
        self.sent += 1;
        match outcome {
            Ok(Some(status)) => *self.statuses.entry(status).or_default() += 1,
            Ok(None) => self.hung_up += 1,
            Err(failure) => {
                self.failed += 1;
                if self.failures.len() < MAX_FAILURES {
                    self.failures.push(failure);
                }
            }
        }
    }

    fn describe(&self) -> String {
        let statuses = self.statuses.iter().map(|(status, count)| format!("{status}: {count}"));
        let hung_up = (self.hung_up > 0).then(|| format!("hung up: {}", self.hung_up));
        let failed = (self.failed > 0).then(|| format!("FAILED: {}", self.failed));
        let parts: Vec<_> = statuses.chain(hung_up).chain(failed).collect();
        format!("{:>6} sent  {}", self.sent, parts.join(", "))
    }
}

impl ChaosReport {
    /// Growth of the memory from the middle to the last third, as a share of the former.
    pub fn growth(&self) -> Option<f64> {
        let [(middle, _), (last, _)] = memory::thirds(&self.memory)?;
        Some((last - middle) / middle)
    }

    /// What is wrong, in one sentence each.
    pub fn verdicts(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let answers = [("ordinary", &self.ordinary), ("continued", &self.continuations)];
        for (name, comparison) in answers {
            for kind in [&comparison.unsteered, &comparison.steered] {
                let count = kind.wrong.len() + kind.fingerprints.len();
                if count > 0 {
                    wrong.push(format!(
                        "{count} {name} answers differ from those that the requests get alone"
                    ));
                }
            }
        }
        if !self.unanswered.is_empty() {
            wrong.push(format!("{} ordinary requests were not answered", self.unanswered.len()));
        }
        let failed: usize = self.hostile.values().map(|tally| tally.failed).sum();
        if failed > 0 {
            wrong.push(format!("{failed} hostile requests were not answered as expected"));
        }
        if !self.alarms.is_empty() {
            wrong.push(format!("the log reports {} panics or restarts", self.alarms.len()));
        }
        let growth = self.growth().filter(|_| self.seconds >= LONG_ENOUGH);
        if let Some(growth) = growth.filter(|growth| *growth > MAX_GROWTH) {
            wrong.push(format!("the memory grew by {:.1}%", 100.0 * growth));
        }
        wrong
    }

    /// Whether nothing is wrong.
    pub fn is_right(&self) -> bool {
        self.verdicts().is_empty()
    }

    /// A readable summary.
    pub fn describe(&self) -> String {
        let rate = self
            .hit_rate
            .map_or("no".into(), |rate| format!("{:.1}%", 100.0 * rate));
        let mut text = format!(
            "{} in {}: {:.0} s, {} at once, {rate} prefix hits\n",
            self.model,
            self.dtype.name(),
            self.seconds,
            self.at_once
        );
        let answers = [("ordinary", &self.ordinary), ("afterwards", &self.continuations)];
        for (what, comparison) in answers {
            let kinds = [("unsteered", &comparison.unsteered), ("steered", &comparison.steered)];
            for (name, kind) in kinds {
                text += &format!("  {what:<12}{name:<10}{}\n", kind.describe());
                for wrong in kind.wrong.iter().chain(&kind.fingerprints).take(MAX_FAILURES) {
                    text += &format!("    {wrong}\n");
                }
            }
        }
        for failure in self.unanswered.iter().take(MAX_FAILURES) {
            text += &format!("    not answered: {failure}\n");
        }
        for (name, tally) in &self.hostile {
            text += &format!("  {name:<36}{}\n", tally.describe());
            for failure in &tally.failures {
                text += &format!("    {failure}\n");
            }
        }
        for alarm in &self.alarms {
            text += &format!("    log: {alarm}\n");
        }
        if let (Some([middle, last]), Some(growth)) = (memory::thirds(&self.memory), self.growth()) {
            text += &memory::describe([middle, last], growth);
        }
        let verdicts = self.verdicts();
        if verdicts.is_empty() {
            text += "  right\n";
        }
        for verdict in verdicts {
            text += &format!("  WRONG: {verdict}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_lists_everything_that_is_wrong() {
        let mut report = ChaosReport {
            seconds: 90.0,
            memory: vec![100.0; 9],
            ..ChaosReport::default()
        };
        let mut tally = HostileTally::default();
        tally.add(Ok(Some(422)));
        tally.add(Ok(Some(422)));
        tally.add(Ok(None));
        report.hostile.insert("n = 400", tally.clone());
        assert!(report.is_right(), "{}", report.describe());
        assert!(
            report.describe().contains("3 sent  422: 2, hung up: 1\n"),
            "{}",
            report.describe()
        );

        tally.add(Err("a connection was dropped".into()));
        report.hostile.insert("n = 400", tally);
        report.alarms.push("panicked".into());
        report.unanswered.push("request 3".into());
        report.ordinary.steered.wrong.push("request 4".into());
        report.memory[6..].fill(120.0);
        let text = report.describe();
        assert_eq!(report.verdicts().len(), 5, "{text}");
        for part in ["dropped", "panicked", "request 3", "request 4", "grew by 20.0%"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        report.seconds = 20.0;
        assert_eq!(report.verdicts().len(), 4);
    }
}
