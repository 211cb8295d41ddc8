//! Ties what a caller awaits to the request that the engine gets.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Learns the id under which a request reaches the engine.
///
/// Whoever sends a request often can't choose its id, nor add anything to it. A mark is set for the length of a future
/// ([`marked`]); the engine gives requests that are sent meanwhile an id of their own and tells the mark.
pub trait RequestMark: Send + Sync {
    /// Called before the engine sees the request, with the id that [`ResidualHook::claim`](crate::ResidualHook::claim)
    /// will be asked with.
    fn sent_as(&self, request: usize);
}

/// Set in the ids of marked requests, so that they differ from all that callers choose themselves.
pub const MARKED: usize = 1 << (usize::BITS - 2);

thread_local! {
    static MARK: RefCell<Option<Arc<dyn RequestMark>>> = const { RefCell::new(None) };
}

/// The mark of the future that this thread is polling. For the engine.
pub fn current_mark() -> Option<Arc<dyn RequestMark>> {
    MARK.with_borrow(Clone::clone)
}

/// `future`, with every request that it sends marked. Tasks that it spawns are not marked.
pub fn marked<F: Future>(mark: Arc<dyn RequestMark>, future: F) -> Marked<F> {
    Marked {
        mark,
        future: Box::pin(future),
    }
}

/// See [`marked`].
pub struct Marked<F> {
    mark: Arc<dyn RequestMark>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for Marked<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        struct Restore(Option<Arc<dyn RequestMark>>);
        impl Drop for Restore {
            fn drop(&mut self) {
                MARK.set(self.0.take());
            }
        }
        let _restore = Restore(MARK.replace(Some(self.mark.clone())));
        self.future.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::task::Waker;

    use super::*;

    #[derive(Default)]
    struct Ids(Mutex<Vec<usize>>);

    impl RequestMark for Ids {
        fn sent_as(&self, request: usize) {
            self.0.lock().unwrap().push(request);
        }
    }

    /// What the engine does when a request is sent.
    fn send(request: usize) {
        if let Some(mark) = current_mark() {
            mark.sent_as(request);
        }
    }

    #[test]
    fn a_mark_is_there_only_while_its_future_is_polled() {
        let (outer, inner) = (Arc::new(Ids::default()), Arc::new(Ids::default()));
        let within = marked(inner.clone(), async {
            send(2);
            // Comes back at the second poll.
            let mut first = true;
            std::future::poll_fn(|_| match std::mem::take(&mut first) {
                true => Poll::Pending,
                false => Poll::Ready(()),
            })
            .await;
            send(3);
        });
        let mut future = Box::pin(marked(outer.clone(), async {
            send(1);
            within.await;
            send(4);
        }));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut cx).is_pending());
        send(9);
        assert!(future.as_mut().poll(&mut cx).is_ready());
        assert!(current_mark().is_none());
        assert_eq!(*outer.0.lock().unwrap(), [1, 4]);
        assert_eq!(*inner.0.lock().unwrap(), [2, 3]);
    }
}
