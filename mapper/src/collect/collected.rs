//! Statistics with their header.

use std::path::Path;

use anyhow::{Context, Result};
use steermap_fit::stats::{Split, Statistics};

use super::header::StatisticsHeader;
use crate::progress::grouped;

/// The share of rows left out as outliers above which a note is printed.
const MANY_OUTLIERS: f64 = 0.03;

/// Statistics with their header.
pub struct Collected {
    /// The statistics.
    pub statistics: Statistics,
    /// The models, rules and text that they were collected from.
    pub header: StatisticsHeader,
}

impl Collected {
    /// Reads a statistics file.
    ///
    /// # Errors
    ///
    /// A file that can't be read or is invalid.
    pub fn load(path: &Path) -> Result<Self> {
        let (statistics, header) = Statistics::load(path)?;
        let header = StatisticsHeader::from_json(header).with_context(|| path.display().to_string())?;
        Ok(Self { statistics, header })
    }

    /// Writes a statistics file atomically.
    ///
    /// # Errors
    ///
    /// The operating system's error.
    pub fn save(&mut self, path: &Path) -> Result<()> {
        self.statistics.flush();
        Ok(self.statistics.save(path, &self.header)?)
    }

    /// The statistics of shuffled pairings ([`Statistics::shuffled`]).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn shuffled(&mut self) -> Result<Self> {
        self.statistics.flush();
        Ok(Self {
            statistics: self.statistics.shuffled()?,
            header: self.header.clone(),
        })
    }

    /// The contents as text.
    pub fn describe(&self) -> String {
        let StatisticsHeader {
            source,
            target,
            rules,
            parts,
            ..
        } = &self.header;
        let counts = self.header.counts();
        let mut text = format!("statistics of {} and {}\n", source.model, target.model);
        text += &self.notes();
        for part in parts {
            let files: Vec<&str> = part.corpus.iter().map(|file| file.name.as_str()).collect();
            let whole = if part.complete { "" } else { ", incomplete" };
            text += &format!(
                "part: {}, shard {}: {} documents, {} rows{whole}\n",
                files.join(" + "),
                part.shard,
                part.counts.documents,
                part.counts.rows
            );
        }
        let [train, validation, test] = Split::ALL.map(|split| self.statistics.rows(split));
        text += &format!(
            "rows: {} ({train} train, {validation} validation, {test} test)\n\
             left out: {} first, {} outliers, {} special, {} and {} without a partner in source and target\n\
             rules: {}\nlayer pairs: {}\n",
            counts.rows,
            counts.first,
            counts.outliers,
            counts.special,
            counts.unmatched_source,
            counts.unmatched_target,
            rules.describe(),
            self.statistics.layout().pairs.len()
        );
        text
    }

    /// Warnings about these statistics, a line each.
    pub fn notes(&self) -> String {
        let counts = self.header.counts();
        let mut notes = String::new();
        let share = counts.outliers as f64 / (counts.rows + counts.outliers).max(1) as f64;
        if share > MANY_OUTLIERS {
            notes += &format!(
                "note: {:.1}% of the pairs were left out as outliers ({}): see --outliers\n",
                100.0 * share,
                grouped(counts.outliers)
            );
        }
        if counts.missing_windows > 0 {
            notes += &format!(
                "note: {} windows of text are in the activations of only one of the models\n",
                grouped(counts.missing_windows)
            );
        }
        if counts.cut_windows > 0 {
            notes += &format!(
                "note: {} windows of text were longer than a model's context and were cut there: give a smaller --window\n",
                grouped(counts.cut_windows)
            );
        }
        notes
    }

    /// Adds `other`.
    ///
    /// # Errors
    ///
    /// Other models, layers or rules, or documents that are already counted.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        self.header.merge(other.header)?;
        Ok(self.statistics.merge(other.statistics)?)
    }
}
