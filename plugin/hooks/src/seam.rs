//! The functions that a model calls, and their scope.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::{Error, Result, Tensor};

use crate::{BatchView, ResidualHook};

/// The residual stream of a loaded model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Number of decoder blocks.
    pub num_layers: usize,
    /// Width of the stream.
    pub hidden_size: usize,
    /// Whether the stream after the last block can be hooked.
    pub last_block: bool,
}

/// The hook of the forward pass that this thread is running.
pub(crate) struct Active {
    pub(crate) hook: Arc<dyn ResidualHook>,
    pub(crate) wanted: Arc<[bool]>,
    pub(crate) stream: StreamInfo,
    pub(crate) batch: BatchView,
}

thread_local! {
    static ACTIVE: RefCell<Option<Rc<Active>>> = const { RefCell::new(None) };
}

/// Runs `forward` with `active` as this thread's hook, and restores the previous one afterwards, also if `forward`
/// panics.
pub(crate) fn with<T>(active: Option<Active>, forward: impl FnOnce() -> T) -> T {
    struct Restore(Option<Rc<Active>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ACTIVE.set(self.0.take());
        }
    }
    let _restore = Restore(ACTIVE.replace(active.map(Rc::new)));
    forward()
}

/// Must be called at the top of block `block` with the stream that it is about to read, of shape `[rows, tokens,
/// hidden]`. Returns the stream to read instead.
///
/// # Errors
///
/// The hook's error, or a stream that does not fit the batch view.
#[inline]
pub fn before_block(stream: Tensor, block: usize) -> Result<Tensor> {
    // Block 0 reads the embeddings, which are not the output of a block.
    match block.checked_sub(1) {
        Some(layer) => after_block(stream, |_| layer),
        None => Ok(stream),
    }
}

/// Must be called after the last block with the stream that the final norm is about to read. Works like
/// [`before_block`].
///
/// # Errors
///
/// As [`before_block`].
#[inline]
pub fn after_last_block(stream: Tensor) -> Result<Tensor> {
    after_block(stream, |info| info.num_layers.saturating_sub(1))
}

#[inline]
fn after_block(stream: Tensor, layer: impl FnOnce(&StreamInfo) -> usize) -> Result<Tensor> {
    let call = ACTIVE.with_borrow(|active| {
        let active = active.as_ref()?;
        let layer = layer(&active.stream);
        let wanted = active.wanted.get(layer).copied().unwrap_or(false);
        // Cloned so that no borrow is held while the hook runs.
        wanted.then(|| (active.clone(), layer))
    });
    match call {
        Some((active, layer)) => active.call(stream, layer),
        None => Ok(stream),
    }
}

impl Active {
    fn call(&self, stream: Tensor, layer: usize) -> Result<Tensor> {
        let (rows, hidden) = (self.batch.rows().len(), self.stream.hidden_size);
        let fits = matches!(*stream.dims(), [r, t, h] if r == rows && t >= self.batch.longest() && h == hidden);
        if !fits {
            return Err(Error::Msg(format!(
                "residual hook: after block {layer} the stream has shape {:?}, expected [{rows}, {} or more, {hidden}]",
                stream.dims(),
                self.batch.longest(),
            )));
        }
        let Some(replaced) = self.hook.after_block(layer, &stream, &self.batch)? else {
            return Ok(stream);
        };
        if replaced.shape() != stream.shape()
            || replaced.dtype() != stream.dtype()
            || !replaced.device().same_device(stream.device())
        {
            return Err(Error::Msg(format!(
                "residual hook: after block {layer} the hook returned {:?} {:?} on {:?}, expected {:?} {:?} on {:?}",
                replaced.dtype(),
                replaced.dims(),
                replaced.device().location(),
                stream.dtype(),
                stream.dims(),
                stream.device().location(),
            )));
        }
        Ok(replaced)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use candle_core::{DType, Device};

    use super::*;
    use crate::{HookSlot, Row, Support};

    /// Adds 1 after its layers and notes every call.
    struct AddOne {
        layers: Vec<usize>,
        calls: Mutex<Vec<(usize, Vec<usize>)>>,
    }

    impl AddOne {
        fn new(layers: &[usize]) -> Arc<Self> {
            Arc::new(Self {
                layers: layers.to_vec(),
                calls: Mutex::default(),
            })
        }
        fn layers_called(&self) -> Vec<usize> {
            self.calls.lock().unwrap().iter().map(|c| c.0).collect()
        }
    }

    impl ResidualHook for AddOne {
        fn layers(&self) -> Vec<usize> {
            self.layers.clone()
        }
        fn after_block(&self, layer: usize, stream: &Tensor, batch: &BatchView) -> Result<Option<Tensor>> {
            let tokens = batch.rows().iter().map(Row::tokens).collect();
            self.calls.lock().unwrap().push((layer, tokens));
            (stream + 1.0).map(Some)
        }
    }

    /// What a model does: block `i` adds `10^i`; the stream passes the seam before each block and after the last.
    fn model(rows: usize, tokens: usize) -> Result<Tensor> {
        let mut xs = Tensor::zeros((rows, tokens, 2), DType::F32, &Device::Cpu)?;
        for block in 0..3 {
            xs = before_block(xs, block)?;
            xs = (xs + 10f64.powi(block as i32))?;
        }
        after_last_block(xs)
    }

    fn value(xs: Result<Tensor>) -> f32 {
        xs.unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]
    }

    fn rows(n: usize, tokens: usize) -> Vec<Row> {
        (0..n).map(|request| Row::prompt(request, vec![0; tokens])).collect()
    }

    #[test]
    fn a_hook_is_called_after_its_layers_only_with_the_rows_of_the_batch() {
        let slot = HookSlot::new(Support::EveryBlock, 3, 2);
        let hook = AddOne::new(&[0, 2]);
        slot.install(hook.clone()).unwrap();
        let out = slot.scope(|| rows(2, 4), || model(2, 4));
        assert_eq!(value(out), 113.0);
        assert_eq!(hook.layers_called(), [0, 2]);
        assert_eq!(hook.calls.lock().unwrap()[0].1, [4, 4]);
    }

    #[test]
    fn nothing_happens_outside_a_scope_or_without_a_hook() {
        let slot = HookSlot::new(Support::EveryBlock, 3, 2);
        let hook = AddOne::new(&[0, 1, 2]);
        slot.install(hook.clone()).unwrap();
        assert_eq!(value(model(1, 1)), 111.0);
        slot.remove();
        let out = slot.scope(|| unreachable!("no hook asks for rows"), || model(1, 1));
        assert_eq!(value(out), 111.0);
        assert!(hook.layers_called().is_empty());
    }

    #[test]
    fn padding_is_allowed_and_a_stream_of_another_shape_is_an_error() {
        let slot = HookSlot::new(Support::EveryBlock, 3, 2);
        slot.install(AddOne::new(&[0])).unwrap();
        assert!(slot.scope(|| rows(1, 3), || model(1, 8)).is_ok());
        for (n, tokens) in [(2, 3), (1, 9)] {
            let error = slot.scope(|| rows(n, tokens), || model(1, 8)).unwrap_err();
            assert!(error.to_string().contains("shape [1, 8, 2]"), "{error}");
        }
    }

    #[test]
    fn a_hook_must_keep_shape_and_dtype() {
        struct Bad(fn(&Tensor) -> Result<Tensor>);
        impl ResidualHook for Bad {
            fn layers(&self) -> Vec<usize> {
                vec![1]
            }
            fn after_block(&self, _: usize, s: &Tensor, _: &BatchView) -> Result<Option<Tensor>> {
                (self.0)(s).map(Some)
            }
        }
        let slot = HookSlot::new(Support::EveryBlock, 3, 2);
        let bad: [fn(&Tensor) -> Result<Tensor>; 2] = [|s| s.narrow(1, 0, 1), |s| s.to_dtype(DType::F64)];
        for change in bad {
            slot.install(Arc::new(Bad(change))).unwrap();
            let error = slot.scope(|| rows(1, 2), || model(1, 2)).unwrap_err();
            assert!(error.to_string().contains("the hook returned"), "{error}");
        }
    }

    #[test]
    fn scopes_nest_and_end_with_a_panic() {
        let (a, b) = (AddOne::new(&[0]), AddOne::new(&[0, 1, 2]));
        let slot_a = HookSlot::new(Support::EveryBlock, 3, 2);
        let slot_b = HookSlot::new(Support::EveryBlock, 3, 2);
        let hookless = HookSlot::new(Support::EveryBlock, 3, 2);
        slot_a.install(a.clone()).unwrap();
        slot_b.install(b.clone()).unwrap();
        let (outer, inner, none) = slot_a.scope(
            || rows(1, 1),
            || {
                let inner = value(slot_b.scope(|| rows(1, 1), || model(1, 1)));
                let none = value(hookless.scope(|| rows(1, 1), || model(1, 1)));
                (value(model(1, 1)), inner, none)
            },
        );
        assert_eq!((outer, inner, none), (112.0, 114.0, 111.0));

        let panicked = std::panic::catch_unwind(|| slot_a.scope(|| rows(1, 1), || panic!("in the forward pass")));
        assert!(panicked.is_err());
        assert_eq!(value(model(1, 1)), 111.0);
    }

    #[test]
    fn threads_do_not_see_each_others_hooks() {
        let slot = HookSlot::new(Support::EveryBlock, 3, 2);
        slot.install(AddOne::new(&[0])).unwrap();
        slot.scope(
            || rows(1, 1),
            || {
                let other = std::thread::spawn(|| value(model(1, 1)));
                assert_eq!(other.join().unwrap(), 111.0);
                assert_eq!(value(model(1, 1)), 112.0);
            },
        );
    }
}
