//! Sums of vector files, and their parts orthogonal to other vectors.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use steermap_maps::digest::{sha256_file, sha256_of_all};
use steermap_maps::{LayerVector, VectorFile, VectorHeader};

use crate::map::provenance;

/// A result that is smaller than its inputs by more than this factor is only rounding, since directions are f32.
const LEAST_PART: f64 = 1e-6;
/// The ratio of two mean norms from which a note is given.
const UNLIKE: f64 = 1.1;

/// A term on the command line: `FILE` or `FACTOR*FILE`.
#[derive(Clone, Debug, PartialEq)]
pub struct Term {
    /// The factor of the file's directions: finite, not 0.
    pub factor: f64,
    /// The vector file.
    pub path: PathBuf,
}

impl FromStr for Term {
    type Err = anyhow::Error;

    /// # Errors
    ///
    /// A factor that is not a number, not finite, or 0; a missing file name.
    fn from_str(text: &str) -> Result<Self> {
        let (factor, path) = match text.split_once('*') {
            Some((factor, path)) => (factor.trim().parse().ok(), path.trim()),
            None => (Some(1.0), text),
        };
        let factor = factor.filter(|factor: &f64| factor.is_finite() && *factor != 0.0);
        match factor {
            // A path that begins with a dash is a misspelled option, or a file to be subtracted.
            Some(factor) if !path.is_empty() && !path.starts_with('-') => Ok(Self {
                factor,
                path: path.into(),
            }),
            _ => bail!(
                "found {text:?}, expected FILE or FACTOR*FILE, with a finite factor other than 0, such as -1*calm.toml"
            ),
        }
    }
}

/// A vector file with the name that it has in the result.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedVector {
    /// The file's name without its ending.
    pub name: String,
    /// The file's name.
    pub file: String,
    /// SHA-256 of the TOML file, which states that of its tensors.
    pub sha256: String,
    /// Its content.
    pub vector: VectorFile,
}

impl NamedVector {
    /// Reads a vector file.
    ///
    /// # Errors
    ///
    /// As [`VectorFile::load`].
    pub fn load(path: &Path) -> Result<Self> {
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self {
            name: text(path.file_stem()),
            file: text(path.file_name()),
            vector: VectorFile::load(path)?,
            sha256: sha256_file(path)?,
        })
    }
}

/// A combination of vectors of one model's stream, layer by layer: a sum of terms, minus its part in the span of other
/// vectors.
#[derive(Clone, Debug)]
pub struct Combination {
    /// Factors and vectors of the sum; at least one.
    pub terms: Vec<(f64, NamedVector)>,
    /// Vectors that the sum is made orthogonal to.
    pub orthogonal_to: Vec<NamedVector>,
    /// Whether each term's direction is scaled to norm 1 first, at every layer.
    pub normalize: bool,
    /// Whether vectors of other weights than the first's are refused.
    pub check_fingerprints: bool,
    /// What the result stands for; `None` for the sum as text.
    pub concept: Option<String>,
    /// The command line, for the file's provenance.
    pub command: String,
}

/// A vector made of others.
#[derive(Clone, Debug, PartialEq)]
pub struct Combined {
    /// The vector.
    pub vector: VectorFile,
    /// Notes for the user: layers left out, and values taken from the first term that differ in another.
    pub notes: Vec<String>,
}

impl Combination {
    /// Makes the vector, at the layers that all vectors have. Token position, numerics and the layers' mean norms are
    /// those of the first term: they describe the stream, of which the vectors' texts are only samples. `pairs` is the
    /// sum of those of the terms. The AUROC is unknown.
    ///
    /// # Errors
    ///
    /// No term; vectors of other sizes or (if checked) another fingerprint than the first; no layer that all have; a
    /// sum that is zero, or all but zero, or not finite in f32; a sum in the span of what it shall be orthogonal to.
    pub fn run(&self) -> Result<Combined> {
        let (_, first) = self.terms.first().context("found no vector, expected at least one")?;
        for other in self.all() {
            self.check_model(first, other)?;
        }
        let (layers, mut notes) = self.layers()?;
        let vectors = layers.iter().map(|&layer| self.layer(layer)).collect::<Result<_>>()?;
        notes.extend(self.differences(first, &layers));
        let header = first.vector.header();
        let (names, hashes): (Vec<_>, Vec<_>) = self.all().map(|named| (&*named.file, &*named.sha256)).unzip();
        let pairs = self.terms.iter().map(|(_, term)| term.vector.header().pairs);
        let header = VectorHeader {
            concept: self.concept.clone().unwrap_or_else(|| self.sum()),
            method: self.method(),
            token_position: header.token_position,
            pairs: pairs.fold(0, u32::saturating_add),
            model: header.model.clone(),
            numerics: header.numerics.clone(),
            provenance: provenance(self.command.clone(), names.join(" + "), sha256_of_all(&hashes)),
        };
        Ok(Combined {
            vector: VectorFile::new(header, vectors)?,
            notes,
        })
    }

    /// The vectors of the terms, then those to be orthogonal to.
    fn all(&self) -> impl Iterator<Item = &NamedVector> {
        self.terms.iter().map(|(_, term)| term).chain(&self.orthogonal_to)
    }

    fn check_model(&self, first: &NamedVector, other: &NamedVector) -> Result<()> {
        let (found, expected) = (other.vector.model(), first.vector.model());
        for (key, found, expected) in [
            ("hidden_size", found.hidden_size, expected.hidden_size),
            ("num_layers", found.num_layers, expected.num_layers),
        ] {
            ensure!(
                found == expected,
                "{}: model.{key}: found {found}, expected {expected}, that of {}",
                other.file,
                first.file
            );
        }
        ensure!(
            !self.check_fingerprints || found.fingerprint == expected.fingerprint,
            "{}: model.fingerprint: found {} ({}), expected {} ({}), that of {}",
            other.file,
            found.fingerprint,
            found.model,
            expected.fingerprint,
            expected.model,
            first.file
        );
        Ok(())
    }

    /// The layers that all vectors have, and a note on those that only some have.
    fn layers(&self) -> Result<(Vec<usize>, Vec<String>)> {
        let of = |named: &NamedVector| -> BTreeSet<usize> { named.vector.layers().iter().map(|l| l.layer).collect() };
        let any: BTreeSet<usize> = self.all().flat_map(of).collect();
        let (shared, left_out): (Vec<usize>, Vec<usize>) = any
            .into_iter()
            .partition(|&layer| self.all().all(|named| named.vector.layer(layer).is_some()));
        ensure!(
            !shared.is_empty(),
            "layers: found no layer that all vectors have, expected one: {}",
            self.all()
                .map(|named| format!("{} has {}", named.file, list(of(named))))
                .collect::<Vec<_>>()
                .join(", ")
        );
        let note = (!left_out.is_empty())
            .then(|| format!("left out because not all vectors have them: layers {}", list(left_out)));
        Ok((shared, note.into_iter().collect()))
    }

    fn layer(&self, layer: usize) -> Result<LayerVector> {
        let of = |named: &NamedVector| -> Result<Vec<f64>> {
            let direction = named.vector.direction(layer);
            let direction = direction.with_context(|| format!("{}: found no layer {layer}", named.file))?;
            Ok(direction.iter().map(|&value| f64::from(value)).collect())
        };
        let (mut sum, mut size) = (vec![0f64; self.terms[0].1.vector.model().hidden_size], 0.0);
        for (factor, term) in &self.terms {
            let direction = of(term)?;
            let norm = norm(&direction);
            let factor = if self.normalize { factor / norm } else { *factor };
            add(&mut sum, factor, &direction);
            size += factor.abs() * norm;
        }
        ensure!(
            norm(&sum) > LEAST_PART * size,
            "layer {layer}: found a sum of norm {:.3e}, expected one above 0: the terms cancel each other out",
            norm(&sum)
        );
        let others = self.orthogonal_to.iter().map(of).collect::<Result<Vec<_>>>()?;
        let before = norm(&sum);
        remove_span(&mut sum, &basis(others));
        ensure!(
            norm(&sum) > LEAST_PART * before,
            "layer {layer}: found a sum in the span of {}, expected a part that is orthogonal to it",
            names(&self.orthogonal_to)
        );
        Ok(LayerVector {
            layer,
            direction: sum.iter().map(|&value| value as f32).collect(),
            mean_norm: self.terms[0].1.vector.layer(layer).map_or(0.0, |layer| layer.mean_norm),
            auroc: None,
            neutral: None,
        })
    }

    /// Notes on values of other terms that differ from those of the first.
    fn differences(&self, first: &NamedVector, layers: &[usize]) -> Vec<String> {
        let (mut notes, header) = (Vec::new(), first.vector.header());
        for (_, term) in &self.terms[1..] {
            let other = term.vector.header();
            if other.token_position != header.token_position {
                notes.push(format!(
                    "{} was found at token position {}; the result states {}, that of {}",
                    term.file,
                    other.token_position.as_str(),
                    header.token_position.as_str(),
                    first.file
                ));
            }
            if other.numerics != header.numerics {
                notes.push(format!(
                    "{} was found with other numerics than {}; the result states those of the latter",
                    term.file, first.file
                ));
            }
            let unlike = layers.iter().filter(|&&layer| {
                let mean_norm = |named: &NamedVector| named.vector.layer(layer).map_or(0.0, |layer| layer.mean_norm);
                let (a, b) = (mean_norm(first), mean_norm(term));
                a.max(b) > UNLIKE * a.min(b)
            });
            let unlike: Vec<usize> = unlike.copied().collect();
            if !unlike.is_empty() {
                notes.push(format!(
                    "{} has mean norms that differ by more than 10% from those of {}, which the result states: layers {}",
                    term.file,
                    first.file,
                    list(unlike)
                ));
            }
        }
        notes
    }

    /// The sum as text, such as `0.5*happy - calm`.
    fn sum(&self) -> String {
        let mut text = String::new();
        for (index, (factor, term)) in self.terms.iter().enumerate() {
            text += match (index, *factor < 0.0) {
                (0, false) => "",
                (0, true) => "-",
                (_, false) => " + ",
                (_, true) => " - ",
            };
            if factor.abs() != 1.0 {
                let _ = write!(text, "{}*", factor.abs());
            }
            text += &term.name;
        }
        text
    }

    /// How the vector was made, such as `0.5*happy - calm, orthogonal to polite (of mean-difference)`.
    fn method(&self) -> String {
        let mut text = self.sum();
        if self.normalize {
            text += ", each at norm 1";
        }
        if !self.orthogonal_to.is_empty() {
            let _ = write!(text, ", orthogonal to {}", names(&self.orthogonal_to));
        }
        let methods: BTreeSet<&str> = self.all().map(|named| named.vector.header().method.as_str()).collect();
        let methods: Vec<&str> = methods.into_iter().collect();
        let _ = write!(text, " (of {})", methods.join("; "));
        text
    }
}

fn list(layers: impl IntoIterator<Item = usize>) -> String {
    let layers: Vec<String> = layers.into_iter().map(|layer| layer.to_string()).collect();
    layers.join(", ")
}

fn names(vectors: &[NamedVector]) -> String {
    let names: Vec<&str> = vectors.iter().map(|named| named.name.as_str()).collect();
    names.join(", ")
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(v: &[f64]) -> f64 {
    dot(v, v).sqrt()
}

/// `to += factor * v`
fn add(to: &mut [f64], factor: f64, v: &[f64]) {
    to.iter_mut().zip(v).for_each(|(to, v)| *to += factor * v);
}

/// An orthonormal basis of the vectors' span, by Gram-Schmidt. Vectors that depend on the others up to rounding add
/// nothing.
fn basis(vectors: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for mut vector in vectors {
        let before = norm(&vector);
        remove_span(&mut vector, &basis);
        let left = norm(&vector);
        if left > LEAST_PART * before {
            vector.iter_mut().for_each(|value| *value /= left);
            basis.push(vector);
        }
    }
    basis
}

/// Removes the part in the span of an orthonormal basis. It does so twice, since one pass leaves some of it if little
/// else is left (Giraud, Langou & Rozloznik 2005: "twice is enough").
fn remove_span(vector: &mut [f64], basis: &[Vec<f64>]) {
    for _ in 0..2 {
        for direction in basis {
            let part = dot(vector, direction);
            add(vector, -part, direction);
        }
    }
}

#[cfg(test)]
mod tests;
