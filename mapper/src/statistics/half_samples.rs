//! The standard error of what was found from a sample that cannot be resampled cheaply.

/// The standard error of a statistic of n independent items, from its values on random halves of them, drawn without
/// replacement:
///
/// ```text
/// sqrt(mean((half - full)^2))
/// ```
///
/// It is the delete-d jackknife of Shao & Wu 1989 ("A general theory for jackknife variance estimation") with
/// `d = n / 2`, whose factor `(n - d) / d` is 1: halves differ from the whole as much as the whole from the truth. Of a mean,
/// over all halves, it is the standard error of the mean itself. Unlike the jackknife that leaves out one it also holds
/// for statistics that do not vary smoothly with each item, such as a median. With h halves drawn its own relative
/// error is about 1 / sqrt(2 h).
///
/// `None` without halves, or if a value is not finite.
pub fn half_sample_error(full: f64, halves: &[f64]) -> Option<f64> {
    let squares: f64 = halves.iter().map(|half| (half - full).powi(2)).sum();
    let error = (squares / halves.len() as f64).sqrt();
    error.is_finite().then_some(error)
}
