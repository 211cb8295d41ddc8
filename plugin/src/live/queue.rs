//! The queue for finding vectors: one at a time; others wait, up to a limit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::lock::lock;

/// The assumed speed before one has been measured, in bytes of text per second.
const FIRST_SPEED: f64 = 10_000.0;
/// The weight of a new measurement of the speed.
const NEW_WEIGHT: f64 = 0.3;
/// Longest time that a client is told to wait, in seconds.
const LONGEST_WAIT: u64 = 120;

/// The requests that wait for a turn.
pub(crate) struct Queue {
    turn: Arc<Semaphore>,
    state: Arc<Mutex<QueueState>>,
    limit: usize,
}

struct QueueState {
    /// Bytes of the texts that wait or have their turn.
    bytes: usize,
    /// Bytes per second.
    speed: f64,
}

/// A turn, which ends when this is dropped.
pub(crate) struct QueueTurn {
    state: Arc<Mutex<QueueState>>,
    bytes: usize,
    /// Absent while waiting.
    begun: Option<(Instant, OwnedSemaphorePermit)>,
}

/// The queue is full; there may be room after this many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull {
    pub(crate) seconds: u64,
}

impl Queue {
    /// A queue for texts of at most `limit` bytes together.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            state: Arc::new(Mutex::new(QueueState {
                bytes: 0,
                speed: FIRST_SPEED,
            })),
            limit,
        }
    }

    /// Waits for a turn with texts of `bytes` bytes. An empty queue takes any size.
    ///
    /// # Errors
    ///
    /// [`QueueFull`], without waiting.
    pub(crate) async fn turn(&self, bytes: usize) -> Result<QueueTurn, QueueFull> {
        let mut turn = {
            let mut state = lock(&self.state);
            if state.bytes > 0 && state.bytes + bytes > self.limit {
                let seconds = (state.bytes as f64 / state.speed).ceil();
                let seconds = (seconds as u64).clamp(1, LONGEST_WAIT);
                return Err(QueueFull { seconds });
            }
            state.bytes += bytes;
            QueueTurn {
                state: self.state.clone(),
                bytes,
                begun: None,
            }
        };
        // The semaphore is never closed.
        if let Ok(permit) = self.turn.clone().acquire_owned().await {
            turn.begun = Some((Instant::now(), permit));
        }
        Ok(turn)
    }
}

impl QueueTurn {
    /// Ends a turn in which nothing was found, so that it does not count for the speed.
    pub(crate) fn idle(mut self) {
        if let Some((begun, permit)) = self.begun.take() {
            drop((begun, permit));
        }
    }
}

impl Drop for QueueTurn {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.bytes -= self.bytes;
        if let Some((begun, _)) = &self.begun {
            let speed = self.bytes as f64 / begun.elapsed().as_secs_f64().max(1e-3);
            state.speed = (1.0 - NEW_WEIGHT) * state.speed + NEW_WEIGHT * speed;
        }
    }
}

/// Leaves time for served models while they run.
#[derive(Clone)]
pub(crate) struct Pace {
    share: f64,
    start: Instant,
    /// When a served model last ran for another request, in milliseconds after `start` plus 1; 0: never.
    ran: Arc<AtomicU64>,
}

/// A model that ran within this time counts as running.
const RUNNING: Duration = Duration::from_millis(250);

impl Pace {
    pub(crate) fn new(share: f64) -> Self {
        Self {
            share,
            start: Instant::now(),
            ran: Arc::default(),
        }
    }

    /// Records that a served model runs for another request. Cheap.
    pub(crate) fn ran(&self) {
        self.ran.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + 1
    }

    /// The rest after work that took `took`.
    pub(crate) fn rest_after(&self, took: Duration) -> Duration {
        let ran = self.ran.load(Ordering::Relaxed);
        let since = Duration::from_millis(self.now().saturating_sub(ran));
        if ran > 0 && since < RUNNING + took {
            took.mul_f64((1.0 - self.share) / self.share)
        } else {
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_finds_no_room_is_told_when_to_come_again() {
        let queue = Arc::new(Queue::new(100));
        // Larger than the queue, but nobody else is there.
        let first = queue.turn(90_000).await.unwrap();
        let full = queue.turn(1).await.err().unwrap();
        assert_eq!(full, QueueFull { seconds: 9 });
        drop(first);
        let first = queue.turn(60).await.unwrap();
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.turn(40).await.map(QueueTurn::idle) }
        });
        tokio::task::yield_now().await;
        assert!(queue.turn(1).await.is_err());
        assert!(!waiting.is_finished());
        first.idle();
        waiting.await.unwrap().unwrap();
        assert_eq!(lock(&queue.state).bytes, 0);
        // Who gives up while waiting leaves room.
        let first = queue.turn(60).await.unwrap();
        let waiting = tokio::time::timeout(Duration::ZERO, queue.turn(40)).await;
        assert!(waiting.is_err());
        assert_eq!(lock(&queue.state).bytes, 60);
        drop(first);
    }

    #[test]
    fn there_is_rest_only_while_others_run() {
        let pace = Pace::new(0.25);
        let took = Duration::from_millis(10);
        assert_eq!(pace.rest_after(took), Duration::ZERO);
        pace.ran();
        assert_eq!(pace.rest_after(took), Duration::from_millis(30));
        let all = Pace::new(1.0);
        all.ran();
        assert_eq!(all.rest_after(took), Duration::ZERO);
    }
}
