//! The confidence interval of a share.

/// The 0.975 quantile of the normal distribution.
pub const Z: f64 = 1.959_963_984_540_054;

/// The 95% interval of a share (0 to 1) from `trials` independent trials, which need not be a whole number: Wilson's
/// score interval (1927). Unlike a bootstrap's it has a width above 0 for shares of 0 and 1. `(0, 1)` for no trials;
/// NaN for a share of NaN.
pub fn wilson_interval(share: f64, trials: f64) -> (f64, f64) {
    if trials <= 0.0 {
        return (0.0, 1.0);
    }
    let n = trials;
    let shrunk = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    // A share of 0 or 1 is its own bound, up to rounding.
    ((shrunk - half).min(share), (shrunk + half).max(share))
}
