//! Connects the future that a caller awaits with the request that the engine gets.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Learns the id under which a request reaches the engine.
///
/// The sender of a request often can neither choose its id nor add anything to it. A mark is set while a future is
/// polled ([`marked`]); the engine gives requests that the future sends a unique id and passes it to the mark.
pub trait RequestMark: Send + Sync {
    /// Called before the engine receives the request, with the id that
    /// [`ResidualHook::claim`](crate::ResidualHook::claim) will get.
    fn sent_as(&self, request: usize);
}

/// A bit that is set in the ids of marked requests, so that they differ from ids that callers choose.
pub const MARKED: usize = 1 << (usize::BITS - 2);

thread_local! {
    static MARK: RefCell<Option<Arc<dyn RequestMark>>> = const { RefCell::new(None) };
}

/// The mark of the future that this thread is polling. For the engine.
pub fn current_mark() -> Option<Arc<dyn RequestMark>> {
    MARK.with_borrow(Clone::clone)
}

/// Runs `future` so that every request it sends is marked. Requests of tasks that it spawns are not.
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
            // Ready at the second poll.
            let mut first = true;
            std::future::poll_fn(|_| {
                if std::mem::take(&mut first) {
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
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
