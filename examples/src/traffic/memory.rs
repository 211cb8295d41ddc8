//! Memory of a process.

use anyhow::{Context, Result};

/// Current resident memory of the process `pid`, in MiB. Works on Linux only.
///
/// # Errors
///
/// If there is no such process, or the system has no `/proc`.
pub fn resident(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).context(path)?;
    parse(&status).context("the process's status has no VmRSS")
}

fn parse(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// Mean and standard deviation of the middle and the last third of a series, of which the first third is the warm-up.
///
/// `None` for fewer than six values.
pub fn thirds(values: &[f64]) -> Option<[(f64, f64); 2]> {
    let third = values.len() / 3;
    (third >= 2).then(|| [&values[third..2 * third], &values[2 * third..]].map(moments))
}

fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_mebibytes() {
        assert_eq!(parse("Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t3\n"), Some(2.0));
        assert_eq!(parse("Name:\tx\n"), None);
        assert!(resident(std::process::id()).unwrap() > 0.5);
    }

    #[test]
    fn the_first_third_is_left_out() {
        let [middle, last] = thirds(&[900.0, 900.0, 1.0, 3.0, 5.0, 5.0, 5.0]).unwrap();
        assert_eq!((middle.0, middle.1), (2.0, 2f64.sqrt()));
        assert_eq!(last, (5.0, 0.0));
        assert_eq!(thirds(&[1.0; 5]), None);
    }
}
