//! Memory of a process, as Linux reports it in `/proc`.

use anyhow::{Context, Result};
use steermap_mapper::statistics::{mean, standard_deviation};

/// Current resident memory of the process `pid`, in MiB.
///
/// # Errors
///
/// If there is no such process, or the system has no `/proc`.
pub fn resident(pid: u32) -> Result<f64> {
    Ok(field(&pid.to_string(), "VmRSS")? as f64 / f64::from(1 << 20))
}

/// Current resident memory of this process, in bytes.
///
/// # Errors
///
/// As [`resident`].
pub fn own_resident() -> Result<u64> {
    field("self", "VmRSS")
}

/// Peak resident memory of this process so far, in bytes.
///
/// # Errors
///
/// As [`resident`].
pub fn own_peak() -> Result<u64> {
    field("self", "VmHWM")
}

fn field(process: &str, name: &str) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    parse(&status, name).with_context(|| format!("{path} has no {name}"))
}

fn parse(status: &str, name: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Mean and standard deviation of the middle and the last third of a series, of which the first third is the warm-up.
///
/// `None` for fewer than six values.
pub fn thirds(values: &[f64]) -> Option<[(f64, f64); 2]> {
    let moments = |values: &[f64]| (mean(values), standard_deviation(values).unwrap_or(f64::NAN));
    let third = values.len() / 3;
    (third >= 2).then(|| [&values[third..2 * third], &values[2 * third..]].map(moments))
}

/// A line of a report: the [`thirds`] of a series in MiB, and the growth from the first of them to the second.
pub fn describe([middle, last]: [(f64, f64); 2], growth: f64) -> String {
    format!(
        "  resident memory: {:.1} ± {:.1} MiB in the middle third, {:.1} ± {:.1} MiB in the last: {:+.2}%\n",
        middle.0,
        middle.1,
        last.0,
        last.1,
        100.0 * growth
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_bytes() {
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t3\n";
        assert_eq!(parse(status, "VmRSS"), Some(2 << 20));
        assert_eq!(parse(status, "VmHWM"), None);
        assert!(resident(std::process::id()).unwrap() > 0.5);
        assert!(own_peak().unwrap() >= own_resident().unwrap() / 2);
    }

    #[test]
    fn the_first_third_is_left_out() {
        let [middle, last] = thirds(&[900.0, 900.0, 1.0, 3.0, 5.0, 5.0, 5.0]).unwrap();
        assert_eq!((middle.0, middle.1), (2.0, 2f64.sqrt()));
        assert_eq!(last, (5.0, 0.0));
        assert_eq!(thirds(&[1.0; 5]), None);
    }
}
