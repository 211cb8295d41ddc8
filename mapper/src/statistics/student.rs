//! Student's distribution.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The `share` quantile of Student's distribution with `degrees` degrees of freedom above 0, whole or not; NaN of none.
pub fn student(share: f64, degrees: f64) -> f64 {
    StudentsT::new(0.0, 1.0, degrees).map_or(f64::NAN, |t| t.inverse_cdf(share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_scipy() {
        // scipy.stats.t.ppf, scipy 1.17.1
        for (share, degrees, expected) in [
            (0.975, 1.0, 12.706204736174694),
            (0.975, 2.0, 4.302652729749462),
            (0.975, 2.5, 3.5746548420036817),
            (0.975, 19.0, 2.0930240544083087),
            (1.0 - 0.05 / 28.0, 20.0, 3.3006039801320304),
        ] {
            let found = student(share, degrees);
            assert!(
                (found - expected).abs() < 1e-6 * expected,
                "{share}, {degrees}: {found}"
            );
        }
        assert!(student(0.975, 0.0).is_nan());
    }
}
