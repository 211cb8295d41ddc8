//! Runs the plan of a layer with tensor operations, on devices other than the CPU.
//!
//! Everything is computed in float32 and rounded to the stream's dtype once, at the end. The result of a row depends
//! only on its own steps, not on other rows of the batch.

use std::hash::Hash;
use std::sync::{Arc, Mutex};

use candle_core::{D, DType, Device, DeviceLocation, Result, Tensor};
use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use super::gains::Gains;
use super::plan::{LayerPlan, Lookup, StepFactors};
use crate::directions::Direction;
use crate::lock::lock;

/// Most bytes of directions that are cached on a model's devices. A pass that needs more copies them anew.
pub const MAX_DIRECTIONS_BYTES: u64 = 256 << 20;

/// The same for lookups and factors, which have one number per position and a few per step.
pub const MAX_LOOKUPS_BYTES: u64 = 16 << 20;

/// Caches the tensors of the last passes, since in generation the next pass usually needs the same.
pub struct TensorTables {
    /// By addresses of directions. The values keep the directions alive, so that their addresses stay unique.
    directions: TensorCache<Vec<usize>, DirectionTable>,
    /// By content, as bits of the numbers.
    numbers: TensorCache<(usize, Vec<u32>), Tensor>,
}

/// Tensors by key and device, bounded in bytes.
type TensorCache<K, V> = Mutex<Cache<(K, DeviceLocation), V, TensorBytes>>;

/// Directions in float32; row 0 is zeros.
#[derive(Clone)]
struct DirectionTable {
    /// `[directions + 1, hidden]`
    table_rows: Tensor,
    /// Keeps the directions alive, so that their addresses stay unique.
    _of: Arc<Vec<Arc<Direction>>>,
}

#[derive(Clone)]
struct TensorBytes;

impl Weighter<(Vec<usize>, DeviceLocation), DirectionTable> for TensorBytes {
    fn weight(&self, _: &(Vec<usize>, DeviceLocation), kept: &DirectionTable) -> u64 {
        // Counts the copy on the host too, which this may be the last owner of.
        let host: usize = kept._of.iter().map(|direction| direction.bytes()).sum();
        (kept.table_rows.elem_count() * size_of::<f32>() + host) as u64
    }
}

impl Weighter<((usize, Vec<u32>), DeviceLocation), Tensor> for TensorBytes {
    fn weight(&self, ((_, key), _): &((usize, Vec<u32>), DeviceLocation), tensor: &Tensor) -> u64 {
        ((key.len() + tensor.elem_count()) * size_of::<u32>() + 64) as u64
    }
}

impl Default for TensorTables {
    fn default() -> Self {
        Self {
            directions: Mutex::new(Cache::with_weighter(64, MAX_DIRECTIONS_BYTES, TensorBytes)),
            numbers: Mutex::new(Cache::with_weighter(256, MAX_LOOKUPS_BYTES, TensorBytes)),
        }
    }
}

impl TensorTables {
    /// Steers `stream`, `[rows, width, hidden]`, by `plan`, with the factors `gains` of this pass; `None` if it does
    /// nothing.
    ///
    /// # Errors
    ///
    /// A direction has another width than the stream, or candle fails.
    pub fn apply(&self, plan: &LayerPlan, gains: Option<&Gains>, stream: &Tensor) -> Result<Option<Tensor>> {
        let rounds = plan.layout.rounds();
        let Some(first) = rounds.first() else { return Ok(None) };
        let shape = stream.dims3()?;
        let device = stream.device();
        let directions = self.directions(&plan.directions, shape.2, device)?;
        let column = |of: fn(&StepFactors) -> f32| {
            let values: Vec<f32> = plan.factors.iter().map(of).collect();
            self.column(&values, device)
        };
        let set = column(|factors| factors.set)?;
        let before = stream.to_dtype(DType::F32)?;
        let mut out = before.clone();
        for (number, round) in rounds.iter().enumerate() {
            let d = self.gather(&directions, &round.table_rows, shape)?;
            let mut factor = self.gather(&set, &round.steps, shape)?;
            if round.projects {
                let take = self.gather(&column(|factors| factors.take)?, &round.steps, shape)?;
                let component = out.broadcast_mul(&d)?.sum_keepdim(D::Minus1)?;
                if round.clamps {
                    // For a step that clamps, `set` is 0, and the bounded component is added to it; for others the
                    // bounds are 0.
                    let min = self.gather(
                        &column(|factors| factors.clamp.map_or(0.0, |[min, _]| min))?,
                        &round.steps,
                        shape,
                    )?;
                    let max = self.gather(
                        &column(|factors| factors.clamp.map_or(0.0, |[_, max]| max))?,
                        &round.steps,
                        shape,
                    )?;
                    let bounded = component.broadcast_maximum(&min)?.broadcast_minimum(&max)?;
                    factor = factor.broadcast_add(&bounded)?;
                }
                factor = factor.broadcast_sub(&component.broadcast_mul(&take)?)?;
            }
            if let Some(gains) = gains {
                factor = factor.broadcast_mul(&gains.of_round(&plan.layout, number, device)?)?;
            }
            out = out.broadcast_add(&d.broadcast_mul(&factor)?)?;
        }
        if plan.factors.iter().any(|factors| factors.preserve != 0.0) {
            let preserve = self.gather(&column(|factors| factors.preserve)?, &first.steps, shape)?;
            let norm = |x: &Tensor| x.sqr()?.sum_keepdim(D::Minus1)?.sqrt();
            // A state of length 0 can't be scaled to another length.
            let ratio = (norm(&before)? / norm(&out)?.maximum(f32::MIN_POSITIVE)?)?.minimum(f32::MAX)?;
            let factor = (preserve.broadcast_mul(&(ratio - 1.0)?)? + 1.0)?;
            out = out.broadcast_mul(&factor)?;
        }
        out.to_dtype(stream.dtype()).map(Some)
    }

    /// `directions` as rows after a row of zeros: `[directions + 1, hidden]`.
    fn directions(&self, directions: &[Arc<Direction>], hidden: usize, device: &Device) -> Result<Tensor> {
        let key = directions
            .iter()
            .map(|direction| Arc::as_ptr(direction) as usize)
            .collect();
        let made = cached(&self.directions, key, device, || {
            let mut table_rows = vec![0f32; hidden];
            for direction in directions {
                let values = direction.values();
                if values.len() != hidden {
                    candle_core::bail!("a direction of {} values for a stream of {hidden}", values.len());
                }
                table_rows.extend(values);
            }
            Ok(DirectionTable {
                table_rows: Tensor::from_vec(table_rows, (directions.len() + 1, hidden), device)?,
                _of: Arc::new(directions.to_vec()),
            })
        })?;
        Ok(made.table_rows)
    }

    /// `values` as `[values, 1]`.
    fn column(&self, values: &[f32], device: &Device) -> Result<Tensor> {
        let bits = values.iter().map(|value| value.to_bits()).collect();
        cached(&self.numbers, (1, bits), device, || {
            Tensor::from_slice(values, (values.len(), 1), device)
        })
    }

    /// Gathers the row of `table`, `[table rows, n]`, for each position: `[rows or 1, width or 1, n]`.
    fn gather(&self, table: &Tensor, lookup: &Lookup, (rows, width, _): (usize, usize, usize)) -> Result<Tensor> {
        let n = table.dim(1)?;
        let (numbers, shape) = match lookup {
            Lookup::Same(number) => return table.narrow(0, *number as usize, 1)?.reshape((1, 1, n)),
            Lookup::Rows(numbers) => (numbers, (rows, 1, n)),
            Lookup::Positions(numbers) => (numbers, (rows, width, n)),
        };
        let device = table.device();
        let numbers = cached(&self.numbers, (0, numbers.clone()), device, || {
            Tensor::new(numbers.as_slice(), device)
        })?;
        table.index_select(&numbers, 0)?.reshape(shape)
    }
}

/// The cached value for `key` on `device`; if there is none, calls `make` and caches its value.
fn cached<K: Eq + Hash + Clone, V: Clone>(
    cache: &TensorCache<K, V>,
    key: K,
    device: &Device,
    make: impl FnOnce() -> Result<V>,
) -> Result<V>
where
    TensorBytes: Weighter<(K, DeviceLocation), V>,
{
    let key = (key, device.location());
    if let Some(value) = lock(cache).get(&key) {
        return Ok(value.clone());
    }
    let value = make()?;
    lock(cache).insert(key, value.clone());
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_in_bytes() {
        let tables = TensorTables {
            directions: Mutex::new(Cache::with_weighter(4, 20_000, TensorBytes)),
            numbers: Mutex::new(Cache::with_weighter(4, 10_000, TensorBytes)),
        };
        for i in 0..200 {
            let directions: Vec<_> = (0..4).map(|_| Arc::new(Direction::new(vec![i as f32; 64]))).collect();
            let made = tables.directions(&directions, 64, &Device::Cpu).unwrap();
            assert_eq!(made.dims(), [5, 64]);
            tables.column(&vec![i as f32; 100], &Device::Cpu).unwrap();
            assert!(lock(&tables.directions).weight() <= 20_000);
            assert!(lock(&tables.numbers).weight() <= 10_000);
        }
        assert!(lock(&tables.directions).len() > 1 && lock(&tables.numbers).len() > 1);
        // The same again is not made again; a direction of another width is an error.
        let one = [Arc::new(Direction::new(vec![1.0; 64]))];
        let first = tables.directions(&one, 64, &Device::Cpu).unwrap();
        assert_eq!(first.id(), tables.directions(&one, 64, &Device::Cpu).unwrap().id());
        let other = [Arc::new(Direction::new(vec![1.0; 63]))];
        assert!(tables.directions(&other, 64, &Device::Cpu).is_err());
    }
}
