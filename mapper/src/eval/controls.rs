//! Controls: the slopes of directions other than the task's own, which a slope must be compared with.

use anyhow::{Context, Result};
use steermap_report::result::{Control, ControlKind, NativeSteers, Protocol};

use super::analysis::{self, Propensities};
use super::layers::LayerSlopes;
use super::measure::{Bench, PreparedTask, ScaledDirection};
use crate::statistics::{Resamples, mean, rank_p_value, student};

/// The slopes of a control's directions beside those of the native and the mapped vector at the same alphas and items.
pub struct ControlSlopes<'a> {
    /// Where the directions come from.
    pub kind: ControlKind,
    /// The alphas.
    pub alphas: Vec<f64>,
    /// Number of items.
    pub items: usize,
    /// By direction: mean over items.
    pub slopes: Vec<f64>,
    /// Of the native vector.
    pub native: f64,
    /// Of the mapped vector.
    pub mapped: f64,
    /// Propensities of the native vector and by direction, where there are more than two alphas.
    pub propensities: Option<(&'a Propensities, &'a [Propensities])>,
}

impl ControlSlopes<'_> {
    /// The control with its statistics; `None` without directions.
    pub fn control(self, resamples: usize, seed: u64) -> Option<Control> {
        let retention: Vec<f64> = self.slopes.iter().map(|slope| slope / self.native).collect();
        let mapped = self.mapped / self.native;
        let pearson = self.propensities.and_then(|(native, directions)| {
            let of = |direction: &Propensities| {
                let items = analysis::item_pearsons(native, direction);
                mean(&items.iter().map(|pearson| pearson.abs()).collect::<Vec<_>>())
            };
            let by_direction: Vec<f64> = directions.iter().map(of).collect();
            analysis::spread(&by_direction, resamples, seed)
        });
        let item_pearson = self.propensities.and_then(|(native, directions)| {
            let of = |direction: &Propensities| mean(&analysis::alpha_pearsons(&self.alphas, native, direction));
            analysis::spread(&directions.iter().map(of).collect::<Vec<_>>(), resamples, seed)
        });
        Some(Control {
            kind: self.kind,
            alphas: self.alphas,
            items: self.items,
            spread: analysis::spread(&retention, resamples, seed)?,
            p_value: rank_p_value(mapped, &retention)?,
            p_adjusted: None,
            retention,
            mapped,
            pearson,
            item_pearson,
        })
    }
}

impl Bench<'_> {
    /// The controls that only need this task's measurements, the decisive one first, all between two alphas on the
    /// first items of the measuring half. `own` has the task's own slopes there, `random` the draws of the decisive
    /// control.
    ///
    /// # Errors
    ///
    /// An error of the engine, or a stop; a direction that the map maps to zero.
    pub async fn own_controls(
        &mut self,
        task: &PreparedTask<'_>,
        protocol: &Protocol,
        own: &LayerSlopes,
        random: &[ScaledDirection],
        (resamples, seed): (usize, u64),
    ) -> Result<Vec<Control>> {
        let items = task.measuring.take(protocol.control_items);
        let alphas = self.steps(&task.native(own.layer)?);
        let mut controls = Vec::new();
        for (kind, spelled, directions) in [
            (ControlKind::MappedRandom, "mapped-random", random),
            (
                ControlKind::ShuffledLabels,
                "shuffled-labels",
                &task.shuffled(own.layer)?,
            ),
        ] {
            let unit = format!("{}/control/{spelled}", task.task.name);
            let slopes = self.slopes(&unit, &items, directions).await?;
            let slopes = ControlSlopes {
                kind,
                alphas: alphas.to_vec(),
                items: items.len(),
                slopes: slopes.iter().map(|items| mean(items)).collect(),
                native: mean(&own.native[..items.len()]),
                mapped: mean(&own.mapped[..items.len()]),
                propensities: None,
            };
            controls.extend(slopes.control(resamples, seed));
        }
        Ok(controls)
    }

    /// Whether the native vector, with these slopes by item, steers on the finding half, compared with isotropic random
    /// directions.
    ///
    /// # Errors
    ///
    /// An error of the engine, or a stop.
    pub async fn native_steers(
        &mut self,
        task: &PreparedTask<'_>,
        native: &[f64],
        random: &[ScaledDirection],
        protocol: &Protocol,
        (resamples, seed): (&Resamples, u64),
    ) -> Result<NativeSteers> {
        let unit = format!("{}/steers/random", task.task.name);
        let random = self.slopes(&unit, &task.finding, random).await?;
        let random: Vec<f64> = random.iter().map(|items| mean(items)).collect();
        native_steers(native, &random, protocol, (resamples, seed))
    }
}

/// Whether a native vector with these slopes by item steers, beside the slopes of isotropic random directions. Such a
/// slope is a sum over the stream's dimensions, so nearly normal, around 0: under chance the native one over their root
/// mean square has Student's distribution. Corrected for the number of tasks, as the mapped vector's rank is: a task
/// whose own vector could not pass says nothing of the map.
///
/// # Errors
///
/// No random direction.
pub(super) fn native_steers(
    native: &[f64],
    random: &[f64],
    protocol: &Protocol,
    (resamples, seed): (&Resamples, u64),
) -> Result<NativeSteers> {
    let slope = analysis::estimate(native, resamples);
    let spread = analysis::spread(random, resamples.iter().len(), seed).context("found no random direction")?;
    let squares: Vec<f64> = random.iter().map(|slope| slope * slope).collect();
    let tail = protocol.level / protocol.tasks.max(1) as f64 / 2.0;
    let least = mean(&squares).sqrt() * student(1.0 - tail, random.len() as f64);
    Ok(NativeSteers {
        steers: slope.low > 0.0 && slope.value > least,
        least,
        slope,
        random: spread,
    })
}
