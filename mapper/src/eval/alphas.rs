//! The strengths to steer at: `relative`, `relative:-0.2:0.2:0.02`, or offset norms such as `-20:20:2`.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

/// Maximum number of alphas. More are probably a mistake, since each is a pass over all items.
const MOST: usize = 1001;

/// The unit of alphas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlphaUnit {
    /// The mean norm of the stream at the steered layer.
    Relative,
    /// The norm of the offset, as in the paper.
    Absolute,
}

impl AlphaUnit {
    /// `relative` or `absolute`
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relative => "relative",
            Self::Absolute => "absolute",
        }
    }
}

/// Alphas, ascending, at least two.
#[derive(Clone, Debug, PartialEq)]
pub struct Alphas {
    unit: AlphaUnit,
    values: Vec<f64>,
}

impl Alphas {
    /// Their unit.
    pub fn unit(&self) -> AlphaUnit {
        self.unit
    }

    /// The alphas as given.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// In units of `mean_norm`.
    pub fn relative_to(&self, mean_norm: f64) -> Vec<f64> {
        match self.unit {
            AlphaUnit::Relative => self.values.clone(),
            AlphaUnit::Absolute => self.values.iter().map(|value| value / mean_norm).collect(),
        }
    }
}

impl Default for Alphas {
    /// 21, from -0.2 to 0.2 of the mean norm.
    fn default() -> Self {
        Self {
            unit: AlphaUnit::Relative,
            values: range(-0.2, 0.2, 0.02),
        }
    }
}

impl FromStr for Alphas {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let expected = || {
            format!(
                "found {text:?}, expected `relative`, `relative:FIRST:LAST:STEP`, or norms FIRST:LAST:STEP such as -20:20:2"
            )
        };
        if text == "relative" {
            return Ok(Self::default());
        }
        let (unit, numbers) = match text.strip_prefix("relative:") {
            Some(rest) => (AlphaUnit::Relative, rest),
            None => (AlphaUnit::Absolute, text),
        };
        let numbers: Option<Vec<f64>> = numbers.split(':').map(|number| number.trim().parse().ok()).collect();
        let [first, last, step] = numbers.with_context(expected)?[..] else {
            return Err(anyhow::anyhow!(expected()));
        };
        ensure!(
            [first, last, step].iter().all(|number| number.is_finite()) && step > 0.0 && first < last,
            "{}, with FIRST below LAST and STEP above 0",
            expected()
        );
        let count = (last - first) / step;
        ensure!(
            count < MOST as f64,
            "found {text:?}, {count:.0} alphas, expected at most {MOST}"
        );
        ensure!(
            first + step <= last,
            "found {text:?}, a single alpha, expected at least two"
        );
        Ok(Self {
            unit,
            values: range(first, last, step),
        })
    }
}

impl fmt::Display for Alphas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.values.first().unwrap_or(&0.0), self.values.last().unwrap_or(&0.0));
        write!(
            f,
            "{} alphas from {first} to {last} ({})",
            self.values.len(),
            self.unit.as_str()
        )
    }
}

/// `first`, `first + step`, ... up to `last`, which is included if it is a step up to rounding.
fn range(first: f64, last: f64, step: f64) -> Vec<f64> {
    // Rounded to decimals far below the step, so that 0 is exactly 0 and decimals are as written.
    let scale = 10f64.powi(9 - step.log10().floor() as i32);
    let count = ((last - first) / step + 1e-9).floor() as usize;
    let rounded = |value: f64| (value * scale).round() / scale;
    // Adding 0 makes -0 a 0.
    (0..=count).map(|i| rounded(first + i as f64 * step) + 0.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_meet_zero_and_both_ends() {
        let alphas: Alphas = "relative".parse().unwrap();
        assert_eq!(alphas.values().len(), 21);
        assert_eq!(
            (alphas.values()[0], alphas.values()[10], alphas.values()[20]),
            (-0.2, 0.0, 0.2)
        );
        assert_eq!(alphas.values()[13], 0.06);
        let paper: Alphas = "-20:20:2".parse().unwrap();
        assert_eq!((paper.unit(), paper.values().len()), (AlphaUnit::Absolute, 21));
        assert_eq!(paper.values()[10], 0.0);
        assert_eq!(paper.relative_to(40.0)[20], 0.5);
        let uneven: Alphas = "relative:0.1:0.35:0.1".parse().unwrap();
        assert_eq!(uneven.values(), [0.1, 0.2, 0.3]);
        assert_eq!("0:40000:10000".parse::<Alphas>().unwrap().values()[3], 30000.0);
    }

    #[test]
    fn mistakes_are_told() {
        for text in [
            "",
            "1",
            "1:2",
            "a:b:c",
            "1:2:3:4",
            "2:1:1",
            "0:1:0",
            "0:1:-1",
            "0:1:nan",
            "0:1:5",
            "0:1:1e-9",
            "relative:",
            "relative:0:inf:1",
        ] {
            let error = text.parse::<Alphas>().unwrap_err().to_string();
            assert!(error.contains("expected") && error.contains(text), "{text}: {error}");
        }
    }
}
