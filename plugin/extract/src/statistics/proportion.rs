//! How well a share is known from a number of trials.

/// The 0.975 quantile of the normal distribution.
pub const Z: f64 = 1.959_963_984_540_054;

/// The 95% interval of a share (0 to 1) that was found in `trials` independent trials, which need not be a whole number:
/// Wilson's score interval (1927). Unlike a bootstrap it has a width where the share is 0 or 1. `(0, 1)` of no trials; NaN
/// of a share that is NaN.
pub fn wilson_interval(share: f64, trials: f64) -> (f64, f64) {
    if trials <= 0.0 {
        return (0.0, 1.0);
    }
    let n = trials;
    let shrunk = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    // A share of 0 or 1 is its own bound; rounding may say otherwise.
    ((shrunk - half).min(share), (shrunk + half).max(share))
}
