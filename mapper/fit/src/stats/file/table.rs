//! Which tensors a file has, in which order, and which numbers may be in them.

use std::collections::BTreeSet;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};

use super::at::At;
use crate::stats::error::StatsFileError;
use crate::stats::layout::LayoutPlan;
use crate::stats::matrix::Matrix;
use crate::stats::moments::Moments;
use crate::stats::split::Split;

/// A tensor of one split.
#[derive(Clone, Copy, Debug)]
pub(super) enum SumsPart {
    SourceMean(usize),
    TargetMean(usize),
    TargetSquares(usize),
    Gram(usize),
    Cross(usize),
    SourceNorms,
    TargetNorms,
}

impl SumsPart {
    /// All parts, in the file's order.
    pub fn all(plan: &LayoutPlan) -> Vec<Self> {
        let sources = (0..plan.sources.len()).map(Self::SourceMean);
        let targets = (0..plan.targets.len()).flat_map(|t| [Self::TargetMean(t), Self::TargetSquares(t)]);
        let inputs = (0..plan.inputs.len()).map(Self::Gram);
        let pairs = (0..plan.pairs.len()).map(Self::Cross);
        let norms = [Self::SourceNorms, Self::TargetNorms];
        sources.chain(targets).chain(inputs).chain(pairs).chain(norms).collect()
    }

    pub fn name(self, split: Split, plan: &LayoutPlan) -> String {
        match self {
            Self::SourceMean(s) => format!("{split}.source.{}.mean", plan.sources[s]),
            Self::TargetMean(t) => format!("{split}.target.{}.mean", plan.targets[t]),
            Self::TargetSquares(t) => format!("{split}.target.{}.squares", plan.targets[t]),
            Self::Gram(i) => format!("{split}.input.{i}.gram"),
            Self::Cross(p) => format!("{split}.pair.{p}.cross"),
            Self::SourceNorms => format!("{split}.source_norms"),
            Self::TargetNorms => format!("{split}.target_norms"),
        }
    }

    pub fn shape(self, plan: &LayoutPlan) -> Vec<usize> {
        let layout = &plan.layout;
        match self {
            Self::SourceMean(_) => vec![layout.source_hidden],
            Self::TargetMean(_) | Self::TargetSquares(_) => vec![layout.target_hidden],
            Self::Gram(i) => {
                let width = plan.inputs[i].width;
                vec![width * (width + 1) / 2]
            }
            Self::Cross(p) => vec![layout.target_hidden, plan.inputs[plan.pairs[p].input].width],
            Self::SourceNorms => vec![plan.sources.len()],
            Self::TargetNorms => vec![plan.targets.len()],
        }
    }

    /// The values in the file's order.
    pub fn slices(self, moments: &Moments) -> Vec<&[f64]> {
        match self {
            Self::SourceMean(s) => vec![&moments.source_mean[s]],
            Self::TargetMean(t) => vec![&moments.target_mean[t]],
            Self::TargetSquares(t) => vec![&moments.target_squares[t]],
            Self::Gram(i) => {
                let gram = &moments.gram[i];
                (0..gram.columns())
                    .map(|column| &gram.column(column)[column..])
                    .collect()
            }
            Self::Cross(p) => vec![moments.cross[p].values()],
            Self::SourceNorms => vec![&moments.source_norms],
            Self::TargetNorms => vec![&moments.target_norms],
        }
    }

    /// The same, to be filled.
    pub fn slices_mut(self, moments: &mut Moments) -> Vec<&mut [f64]> {
        match self {
            Self::SourceMean(s) => vec![&mut moments.source_mean[s]],
            Self::TargetMean(t) => vec![&mut moments.target_mean[t]],
            Self::TargetSquares(t) => vec![&mut moments.target_squares[t]],
            Self::Gram(i) => lower_columns(&mut moments.gram[i]),
            Self::Cross(p) => vec![moments.cross[p].values_mut()],
            Self::SourceNorms => vec![&mut moments.source_norms],
            Self::TargetNorms => vec![&mut moments.target_norms],
        }
    }

    /// Whether the first number of each slice, or all of them, can't be negative.
    fn lowest(self) -> Lowest {
        match self {
            Self::SourceMean(_) | Self::TargetMean(_) | Self::Cross(_) => Lowest::Any,
            Self::Gram(_) => Lowest::FirstNotNegative,
            Self::TargetSquares(_) | Self::SourceNorms | Self::TargetNorms => Lowest::NotNegative,
        }
    }
}

/// Which numbers of a slice can't be negative.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lowest {
    Any,
    /// The diagonal is the first of each column's part.
    FirstNotNegative,
    NotNegative,
}

fn lower_columns(gram: &mut Matrix<f64>) -> Vec<&mut [f64]> {
    let rows = gram.rows();
    let columns = gram.values_mut().chunks_exact_mut(rows).enumerate();
    columns.map(|(column, values)| &mut values[column..]).collect()
}

/// One tensor of a file. Samples are by place: 0 that of the validation rows, 1 that of the test rows.
#[derive(Clone, Copy, Debug)]
pub(super) enum StoredTensor {
    Sums(Split, SumsPart),
    Keys(usize),
    Source(usize),
    Target(usize),
}

impl StoredTensor {
    pub fn name(self, plan: &LayoutPlan) -> String {
        let sample = |place: usize, what: &str| format!("{}.{what}", [Split::Validation, Split::Test][place]);
        match self {
            Self::Sums(split, part) => part.name(split, plan),
            Self::Keys(place) => sample(place, "keys"),
            Self::Source(place) => sample(place, "source"),
            Self::Target(place) => sample(place, "target"),
        }
    }

    fn info(self, plan: &LayoutPlan, sampled: [usize; 2]) -> (Dtype, Vec<usize>) {
        let [source, target] = widths(plan);
        match self {
            Self::Sums(_, part) => (Dtype::F64, part.shape(plan)),
            Self::Keys(place) => (Dtype::U64, vec![sampled[place]]),
            Self::Source(place) => (Dtype::F32, vec![sampled[place], source]),
            Self::Target(place) => (Dtype::F32, vec![sampled[place], target]),
        }
    }
}

/// All tensors of a file of this or the first version, in the file's order.
pub(super) fn contents(plan: &LayoutPlan, first_version: bool) -> Vec<StoredTensor> {
    let sums = |split: Split| {
        SumsPart::all(plan)
            .into_iter()
            .map(move |part| StoredTensor::Sums(split, part))
    };
    let sample = |place: usize| {
        [
            StoredTensor::Keys(place),
            StoredTensor::Source(place),
            StoredTensor::Target(place),
        ]
    };
    if first_version {
        Split::ALL.into_iter().flat_map(sums).chain(sample(1)).collect()
    } else {
        sums(Split::Train).chain([0, 1].into_iter().flat_map(sample)).collect()
    }
}

/// The tensors with their names and places.
pub(super) fn table(plan: &LayoutPlan, contents: &[StoredTensor], sampled: [usize; 2]) -> Vec<(String, TensorInfo)> {
    let first_version = contents
        .iter()
        .any(|content| matches!(content, StoredTensor::Sums(Split::Test, _)));
    let mut start = 0;
    let entry = |content: &StoredTensor| {
        let (dtype, shape) = content.info(plan, sampled);
        // The layout's limits keep this far from overflow.
        let end = start + shape.iter().product::<usize>() * (dtype.bitsize() / 8);
        let data_offsets = (start, end);
        start = end;
        let name = content.name(plan);
        let name = match content {
            StoredTensor::Sums(..) => name,
            // It had but one sample.
            _ if first_version => name.replacen("test", "sample", 1),
            _ => name,
        };
        let info = TensorInfo {
            dtype,
            shape,
            data_offsets,
        };
        (name, info)
    };
    contents.iter().map(entry).collect()
}

/// Numbers in a sampled row: of the source, of the target.
pub(super) fn widths(plan: &LayoutPlan) -> [usize; 2] {
    let layout = &plan.layout;
    [
        plan.sources.len() * layout.source_hidden,
        plan.targets.len() * layout.target_hidden,
    ]
}

/// Checks that the file has the tensors that the layout implies, and no others.
pub(super) fn check_table(
    at: At<'_>,
    metadata: &Metadata,
    table: &[(String, TensorInfo)],
) -> Result<(), StatsFileError> {
    for (name, expected) in table {
        let field = |what: &str| format!("tensor {name:?}{what}");
        let Some(found) = metadata.info(name) else {
            return Err(at.invalid(&field(""), "nothing", "a tensor"));
        };
        if found.dtype != expected.dtype {
            return Err(at.invalid(&field(", dtype"), found.dtype, &expected.dtype.to_string()));
        }
        if found.shape != expected.shape {
            let (found, expected) = (format!("{:?}", found.shape), format!("{:?}", expected.shape));
            return Err(at.invalid(&field(", shape"), found, &expected));
        }
        if found.data_offsets != expected.data_offsets {
            let found = format!("{:?}", found.data_offsets);
            return Err(at.invalid(&field(", place"), found, &format!("{:?}", expected.data_offsets)));
        }
    }
    let known: BTreeSet<&String> = table.iter().map(|(name, _)| name).collect();
    match metadata.offset_keys().iter().find(|name| !known.contains(name)) {
        Some(name) => Err(at.invalid("tensors", format!("{name:?}"), "only those that the layout implies")),
        None => Ok(()),
    }
}

/// Checks that sums are finite, not negative where they can't be, and 0 without rows.
pub(super) fn check_numbers(at: At<'_>, name: &str, part: SumsPart, moments: &Moments) -> Result<(), StatsFileError> {
    let mut start = 0;
    for slice in part.slices(moments) {
        let fault = |(index, &value): (usize, &f64)| {
            let low = part.lowest() == Lowest::NotNegative || part.lowest() == Lowest::FirstNotNegative && index == 0;
            let expected = if !value.is_finite() {
                "finite numbers"
            } else if low && value < 0.0 {
                "0 or more"
            } else if moments.count == 0 && value != 0.0 {
                "0, as there are no rows"
            } else {
                return None;
            };
            Some((index, value, expected))
        };
        if let Some((index, value, expected)) = slice.iter().enumerate().find_map(fault) {
            return Err(at.invalid(&format!("tensor {name:?}, index {}", start + index), value, expected));
        }
        start += slice.len();
    }
    Ok(())
}
