//! Results that need all tasks: effects on each other, corrections for many tests, verdicts.

use std::collections::HashMap;

use anyhow::{Context, Result};
use steermap_report::result::{ControlKind, Protocol, SideEffect, Specificity, SteeringKind, TaskResult};

use super::controls::ControlSlopes;
use super::measure::{Bench, PreparedTask};
use super::verdict::{self, Evidence};
use crate::behaviour::{Choices, cosine};
use crate::statistics::{holm, mean};
use crate::tasks;

/// The effect of one task's vectors on the items of another: slopes with the native and with the mapped vector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effect {
    /// With the native vector.
    pub native: f64,
    /// With the mapped one.
    pub mapped: f64,
}

/// `[task that steers][task that is measured]`
pub struct Effects {
    /// Slopes.
    pub slopes: Vec<Vec<Effect>>,
    /// Alphas between which they are taken.
    pub alphas: [f64; 2],
}

impl Bench<'_> {
    /// The effects of each task's vectors on the first items of every task, including its own.
    ///
    /// # Errors
    ///
    /// An error of the engine, or a stop.
    pub async fn effects(&mut self, tasks: &[&PreparedTask<'_>], protocol: &Protocol) -> Result<Effects> {
        let mut slopes = Vec::with_capacity(tasks.len());
        let mut alphas = [0.0; 2];
        for task in tasks {
            let directions = [task.native(protocol.layer)?, task.mapped(protocol.layer)?];
            alphas = self.steps(&directions[0]);
            let mut row = Vec::with_capacity(tasks.len());
            for other in tasks {
                let unit = format!("{}/on/{}", task.task.name, other.task.name);
                let items = other.measuring.take(protocol.control_items);
                let measured = self.slopes(&unit, &items, &directions).await?;
                let [native, mapped] = [0, 1].map(|i| measured.get(i).map(|items| mean(items)));
                row.push(Effect {
                    native: native.context("the native vector was not measured")?,
                    mapped: mapped.context("the mapped vector was not measured")?,
                });
            }
            slopes.push(row);
        }
        Ok(Effects { slopes, alphas })
    }
}

/// Adds to each task the results that need the others: side effects, the control of other tasks' vectors, specificity,
/// corrected p-values and the verdict. Tasks are in the order of `effects`.
pub fn conclude(tasks: &mut [TaskResult], effects: &Effects, protocol: &Protocol, resamples: usize, seed: u64) {
    let names: Vec<String> = tasks.iter().map(|task| task.name.clone()).collect();
    let steers: Vec<bool> = tasks.iter().map(steers_on_both).collect();
    let slopes = &effects.slopes;
    let span = effects.alphas[1] - effects.alphas[0];
    for (index, task) in tasks.iter_mut().enumerate() {
        let others: Vec<usize> = (0..slopes.len()).filter(|&other| other != index).collect();
        task.side_effects = others
            .iter()
            .map(|&other| SideEffect {
                task: names[other].clone(),
                alpha: effects.alphas[1],
                native: slopes[index][other].native * span,
                mapped: slopes[index][other].mapped * span,
            })
            .collect();
        let of_others = ControlSlopes {
            kind: ControlKind::OtherTasks,
            alphas: effects.alphas.to_vec(),
            items: task.measuring.min(protocol.control_items),
            slopes: others.iter().map(|&other| slopes[other][index].mapped).collect(),
            native: slopes[index][index].native,
            mapped: slopes[index][index].mapped,
            propensities: None,
        };
        task.controls.extend(of_others.control(resamples, seed));
        task.specificity = specificity(slopes, &names, &steers, index);
    }
    correct(tasks);
    for task in tasks {
        let native = task.curves.iter().find(|curve| curve.kind == SteeringKind::Native);
        let Some(native) = native.map(|curve| curve.slope) else {
            continue;
        };
        let layer = task.layers.iter().find(|layer| layer.target_layer == protocol.layer);
        let evidence = Evidence {
            positive: &task.positive,
            native_steers: &task.native_steers,
            native: &native,
            retention: &task.retention,
            direct_share: layer.and_then(|layer| layer.direct_share),
            control: task.decisive(),
            specificity: task.specificity.as_ref(),
        };
        task.verdict = verdict::of_task(&evidence, protocol);
    }
}

/// Whether a task's native vector steers on both halves. Otherwise effects in units of its effect are undefined.
fn steers_on_both(task: &TaskResult) -> bool {
    let native = task.curves.iter().find(|curve| curve.kind == SteeringKind::Native);
    task.native_steers.steers && native.is_some_and(|curve| curve.slope.low > 0.0)
}

/// How specific the mapped vector of task `index` is; `None` if its own native vector doesn't steer, or that of no
/// other task.
fn specificity(slopes: &[Vec<Effect>], names: &[String], steers: &[bool], index: usize) -> Option<Specificity> {
    let counted: Vec<usize> = (0..slopes.len()).filter(|&task| steers[task]).collect();
    let others: Vec<usize> = counted.iter().copied().filter(|&task| task != index).collect();
    if others.is_empty() || !steers[index] {
        return None;
    }
    // In units of the effect of each task's own native vector.
    let on = |task: usize, of: fn(&Effect) -> f64, measured: &[usize]| -> Vec<f64> {
        let units = measured
            .iter()
            .map(|&other| of(&slopes[task][other]) / slopes[other][other].native);
        units.collect()
    };
    let size = |effects: Vec<f64>| mean(&effects.iter().map(|effect| effect.abs()).collect::<Vec<_>>());
    let profile = on(index, |effect| effect.mapped, &counted);
    let near = |task: usize| cosine(&profile, &on(task, |effect| effect.native, &counted));
    let nearest = others
        .iter()
        .map(|&other| (near(other), other))
        .reduce(|best, other| if other.0 > best.0 { other } else { best })?;
    Some(verdict::specificity(Specificity {
        own: slopes[index][index].mapped / slopes[index][index].native,
        others: size(on(index, |effect| effect.mapped, &others)),
        native_others: size(on(index, |effect| effect.native, &others)),
        own_profile: near(index),
        other_profile: nearest.0,
        nearest_other: names[nearest.1].clone(),
        specific: false,
    }))
}

/// Holm's correction of the decisive control's p-values over all tasks.
fn correct(tasks: &mut [TaskResult]) {
    let p_values: Vec<f64> = tasks.iter().filter_map(|task| Some(task.decisive()?.p_value)).collect();
    let mut adjusted = holm(&p_values).into_iter();
    let controls = tasks.iter_mut().flat_map(|task| &mut task.controls);
    for control in controls.filter(|control| control.kind == ControlKind::MappedRandom) {
        control.p_adjusted = adjusted.next();
    }
}

/// The cluster of each item: items whose answers differ at the same two tokens are in one cluster. Letters and yes-no
/// answers differ at the same tokens in every item, so there each item is a cluster; likewise if all items would be in
/// one.
pub fn clusters(kind: tasks::ItemKind, choices: &Choices) -> Vec<usize> {
    let own: Vec<usize> = (0..choices.len()).collect();
    if kind != tasks::ItemKind::Completion {
        return own;
    }
    let mut numbers = HashMap::new();
    let clusters: Vec<usize> = choices
        .answers()
        .into_iter()
        .map(|(a, b)| {
            let next = numbers.len();
            *numbers.entry((a.min(b), a.max(b))).or_insert(next)
        })
        .collect();
    if numbers.len() < 2 { own } else { clusters }
}

/// A note on how many texts have no score of the judge; `None` if all have one.
pub fn unjudged(tasks: &[TaskResult]) -> Option<String> {
    let texts = tasks
        .iter()
        .flat_map(|task| &task.generation)
        .flat_map(|generation| &generation.texts);
    let (all, unjudged) = texts.fold((0, 0), |(all, unjudged), text| {
        (all + 1, unjudged + usize::from(text.judged.is_none()))
    });
    (unjudged > 0).then(|| {
        format!("the judge gave no scores for {unjudged} of {all} texts: the means of its scores leave them out")
    })
}

/// Fewest clusters whose intervals are reliable.
const FEW_CLUSTERS: usize = 20;

/// Notes on the tasks' intervals.
pub fn notes(tasks: &[TaskResult]) -> Vec<String> {
    let few = tasks.iter().filter(|task| task.clusters < FEW_CLUSTERS);
    few.map(|task| {
        format!(
            "{}: its {} measured items form {} clusters that share their deciding words: intervals from fewer than \
             {FEW_CLUSTERS} clusters are rough",
            task.name, task.measuring, task.clusters
        )
    })
    .collect()
}
