//! The layers that are captured, and the pairs of them.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::sample::{DEFAULT_SAMPLE_ROWS, MIN_SAMPLE_ROWS, SAMPLE_BYTES};

/// Largest hidden size: four times that of any model known, and small enough that no size computed from a layout
/// overflows.
pub const MAX_HIDDEN: usize = 1 << 16;
/// Layers count from 0 to below this.
pub const MAX_LAYERS: usize = 1 << 12;
/// Most layers that one pair concatenates.
pub const MAX_INPUTS: usize = 64;
/// Most pairs of a layout.
pub const MAX_PAIRS: usize = 1 << 12;

/// One map to fit: from one source layer, or several whose states are concatenated, to one target layer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairSpec {
    /// 0-based; concatenated in this order.
    pub source_layers: Vec<usize>,
    /// 0-based.
    pub target_layer: usize,
}

/// Hidden sizes of the two models and the pairs of layers that maps are wanted for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Width of the source model's residual stream.
    pub source_hidden: usize,
    /// Width of the target model's.
    pub target_hidden: usize,
    /// In the order of the maps.
    pub pairs: Vec<PairSpec>,
}

/// An invalid layout. Names the field, what was found and what is expected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: found {found}, expected {expected}")]
pub struct LayoutError {
    /// `source_hidden`, `pairs[2].target_layer`, ...
    pub field: String,
    /// What was found.
    pub found: String,
    /// What is expected.
    pub expected: String,
}

impl Layout {
    /// The source layers that are captured: each once, ascending. [`Rows::source`](super::Rows) has this order.
    pub fn source_layers(&self) -> Vec<usize> {
        sorted(self.pairs.iter().flat_map(|pair| pair.source_layers.iter().copied()))
    }

    /// The target layers that are captured: each once, ascending. [`Rows::target`](super::Rows) has this order.
    pub fn target_layers(&self) -> Vec<usize> {
        sorted(self.pairs.iter().map(|pair| pair.target_layer))
    }

    /// The inputs of maps: each list of source layers once, ascending. Pairs with the same input share its Gram matrix.
    pub fn inputs(&self) -> Vec<Vec<usize>> {
        sorted(self.pairs.iter().map(|pair| pair.source_layers.clone()))
    }

    /// Bytes that the sums of the train rows take in memory, whatever the number of rows.
    pub fn sums_bytes(&self) -> u64 {
        let numbers = |a: usize, b: usize| a as u64 * b as u64;
        let width = |layers: usize| layers * self.source_hidden;
        let inputs: u64 = self
            .inputs()
            .iter()
            .map(|i| numbers(width(i.len()), width(i.len())))
            .sum();
        let pairs: u64 = self
            .pairs
            .iter()
            .map(|p| numbers(width(p.source_layers.len()), self.target_hidden))
            .sum();
        8 * (inputs + pairs)
    }

    /// Bytes of one row: the states of all captured layers of both models in f32.
    pub fn row_bytes(&self) -> u64 {
        let numbers = self.source_layers().len() as u64 * self.source_hidden as u64
            + self.target_layers().len() as u64 * self.target_hidden as u64;
        4 * numbers
    }

    /// The default number of rows kept of each held-out split: as many as fit into 256 MiB, at least 512 and at most
    /// 4,096.
    pub fn held_out_rows(&self) -> usize {
        let fitting = SAMPLE_BYTES / usize::try_from(self.row_bytes()).unwrap_or(usize::MAX).max(1);
        fitting.clamp(MIN_SAMPLE_ROWS, DEFAULT_SAMPLE_ROWS)
    }

    /// Checks sizes, layers and pairs.
    ///
    /// # Errors
    ///
    /// A size or a number of layers or pairs that is 0 or above its limit, a layer concatenated with itself, a pair
    /// listed twice.
    pub fn check(&self) -> Result<(), LayoutError> {
        let within = |field: &str, found: usize, low: usize, high: usize| {
            if (low..=high).contains(&found) {
                return Ok(());
            }
            Err(error(field, found, format!("{low} to {high}")))
        };
        within("source_hidden", self.source_hidden, 1, MAX_HIDDEN)?;
        within("target_hidden", self.target_hidden, 1, MAX_HIDDEN)?;
        within("number of pairs", self.pairs.len(), 1, MAX_PAIRS)?;
        for (index, pair) in self.pairs.iter().enumerate() {
            let field = |name: &str| format!("pairs[{index}].{name}");
            within(&field("source_layers' length"), pair.source_layers.len(), 1, MAX_INPUTS)?;
            for &layer in &pair.source_layers {
                within(&field("source_layers"), layer, 0, MAX_LAYERS - 1)?;
            }
            within(&field("target_layer"), pair.target_layer, 0, MAX_LAYERS - 1)?;
            if sorted(pair.source_layers.iter().copied()).len() < pair.source_layers.len() {
                let found = format!("{:?}", pair.source_layers);
                return Err(error(&field("source_layers"), found, "every layer once"));
            }
        }
        let mut pairs: Vec<_> = self.pairs.iter().map(|p| (&p.source_layers, p.target_layer)).collect();
        pairs.sort_unstable();
        match pairs.windows(2).find(|two| two[0] == two[1]) {
            Some(two) => {
                let found = format!("{:?} -> {} twice", two[0].0, two[0].1);
                Err(error("pairs", found, "every pair once"))
            }
            None => Ok(()),
        }
    }
}

/// A layout with what is derived from it: sorted lists, and for every pair where its parts lie in them.
#[derive(Clone, Debug)]
pub(crate) struct LayoutPlan {
    pub layout: Layout,
    pub sources: Vec<usize>,
    pub targets: Vec<usize>,
    pub inputs: Vec<MapInput>,
    /// In the order of `layout.pairs`.
    pub pairs: Vec<PairPlaces>,
}

/// An input of maps.
#[derive(Clone, Debug)]
pub(crate) struct MapInput {
    pub layers: Vec<usize>,
    /// Positions of the layers in [`LayoutPlan::sources`].
    pub sources: Vec<usize>,
    /// Sum of the layers' hidden sizes.
    pub width: usize,
}

/// A pair, by positions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PairPlaces {
    /// In [`LayoutPlan::inputs`].
    pub input: usize,
    /// In [`LayoutPlan::targets`].
    pub target: usize,
}

impl LayoutPlan {
    /// Checks the layout and derives the rest.
    pub fn new(layout: Layout) -> Result<Self, LayoutError> {
        layout.check()?;
        let (sources, targets) = (layout.source_layers(), layout.target_layers());
        // Every layer looked for was put in: the search can't miss.
        let place = |list: &[usize], layer: &usize| list.partition_point(|other| other < layer);
        let inputs: Vec<MapInput> = layout
            .inputs()
            .into_iter()
            .map(|layers| MapInput {
                sources: layers.iter().map(|layer| place(&sources, layer)).collect(),
                width: layers.len() * layout.source_hidden,
                layers,
            })
            .collect();
        let pairs = layout
            .pairs
            .iter()
            .map(|pair| PairPlaces {
                input: inputs.partition_point(|input| input.layers < pair.source_layers),
                target: place(&targets, &pair.target_layer),
            })
            .collect();
        Ok(Self {
            layout,
            sources,
            targets,
            inputs,
            pairs,
        })
    }
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort_unstable();
    items.dedup();
    items
}

fn error(field: &str, found: impl ToString, expected: impl ToString) -> LayoutError {
    LayoutError {
        field: field.to_owned(),
        found: found.to_string(),
        expected: expected.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(source_layers: &[usize], target_layer: usize) -> PairSpec {
        PairSpec {
            source_layers: source_layers.to_vec(),
            target_layer,
        }
    }

    fn layout(pairs: &[PairSpec]) -> Layout {
        Layout {
            source_hidden: 3,
            target_hidden: 5,
            pairs: pairs.to_vec(),
        }
    }

    #[test]
    fn lists_are_sorted_and_shared() {
        let layout = layout(&[pair(&[7], 9), pair(&[2, 7], 4), pair(&[7], 4)]);
        let plan = LayoutPlan::new(layout).unwrap();
        assert_eq!(plan.sources, [2, 7]);
        assert_eq!(plan.targets, [4, 9]);
        let inputs: Vec<_> = plan.inputs.iter().map(|i| (&i.layers[..], i.width)).collect();
        assert_eq!(inputs, [(&[2, 7][..], 6), (&[7][..], 3)]);
        assert_eq!(plan.inputs[0].sources, [0, 1]);
        let pairs: Vec<_> = plan.pairs.iter().map(|p| (p.input, p.target)).collect();
        assert_eq!(pairs, [(1, 1), (0, 0), (1, 0)]);
        // Gram 6x6 and 3x3; cross 3x5, 6x5, 3x5.
        assert_eq!(plan.layout.sums_bytes(), 8 * (36 + 9 + 15 + 30 + 15));
        assert_eq!(plan.layout.row_bytes(), 4 * 16);
        assert_eq!(plan.layout.held_out_rows(), 4096);
    }

    #[test]
    fn the_order_of_concatenation_matters() {
        let layout = layout(&[pair(&[2, 7], 4), pair(&[7, 2], 4)]);
        assert_eq!(layout.inputs().len(), 2);
        layout.check().unwrap();
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let good = layout(&[pair(&[1], 2)]);
        let with = |change: &dyn Fn(&mut Layout)| {
            let mut layout = good.clone();
            change(&mut layout);
            layout.check().unwrap_err().field
        };
        assert_eq!(with(&|l| l.source_hidden = 0), "source_hidden");
        assert_eq!(with(&|l| l.target_hidden = MAX_HIDDEN + 1), "target_hidden");
        assert_eq!(with(&|l| l.pairs.clear()), "number of pairs");
        assert_eq!(with(&|l| l.pairs.push(pair(&[1], 2))), "pairs");
        assert_eq!(with(&|l| l.pairs.push(pair(&[], 2))), "pairs[1].source_layers' length");
        assert_eq!(with(&|l| l.pairs.push(pair(&[3, 3], 2))), "pairs[1].source_layers");
        assert_eq!(
            with(&|l| l.pairs.push(pair(&[usize::MAX], 2))),
            "pairs[1].source_layers"
        );
        assert_eq!(with(&|l| l.pairs.push(pair(&[1], MAX_LAYERS))), "pairs[1].target_layer");
        assert_eq!(good.check(), Ok(()));
    }

    #[test]
    fn unknown_keys_are_errors() {
        let text = r#"{"source_hidden":1,"target_hidden":1,"pairs":[],"more":1}"#;
        assert!(serde_json::from_str::<Layout>(text).is_err());
    }
}
