//! One vector is found at a time; who comes meanwhile waits, while there is room.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::steering::lock;

/// What is taken for the speed before one has been measured, in bytes of text a second.
const FIRST_SPEED: f64 = 10_000.0;
/// How much a new measurement of the speed counts.
const NEW: f64 = 0.3;
/// Longest time that a client is told to wait, in seconds.
const LONGEST_WAIT: u64 = 120;

/// Who waits for a turn.
pub(crate) struct Queue {
    turn: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
    limit: usize,
}

struct State {
    /// Bytes of the texts of those who wait or have their turn.
    bytes: usize,
    /// Bytes a second.
    speed: f64,
}

/// A turn; it ends when this is dropped.
pub(crate) struct Turn {
    state: Arc<Mutex<State>>,
    bytes: usize,
    /// Absent while waiting.
    begun: Option<(Instant, OwnedSemaphorePermit)>,
}

/// There is no room: after so many seconds there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) seconds: u64,
}

impl Queue {
    /// A queue in which texts of `limit` bytes may wait.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            state: Arc::new(Mutex::new(State {
                bytes: 0,
                speed: FIRST_SPEED,
            })),
            limit,
        }
    }

    /// Waits for a turn with texts of `bytes` bytes. Who comes to an empty queue always gets one.
    ///
    /// # Errors
    ///
    /// [`Full`], at once.
    pub(crate) async fn turn(&self, bytes: usize) -> Result<Turn, Full> {
        let mut turn = {
            let mut state = lock(&self.state);
            if state.bytes > 0 && state.bytes + bytes > self.limit {
                let seconds = (state.bytes as f64 / state.speed).ceil();
                let seconds = (seconds as u64).clamp(1, LONGEST_WAIT);
                return Err(Full { seconds });
            }
            state.bytes += bytes;
            Turn {
                state: self.state.clone(),
                bytes,
                begun: None,
            }
        };
        // The semaphore is never closed; were it, nobody would have to wait.
        if let Ok(permit) = self.turn.clone().acquire_owned().await {
            turn.begun = Some((Instant::now(), permit));
        }
        Ok(turn)
    }
}

impl Turn {
    /// Says that nothing was worked out in it, so that its speed does not count.
    pub(crate) fn idle(mut self) {
        if let Some((begun, permit)) = self.begun.take() {
            drop((begun, permit));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.bytes -= self.bytes;
        if let Some((begun, _)) = &self.begun {
            let speed = self.bytes as f64 / begun.elapsed().as_secs_f64().max(1e-3);
            state.speed = (1.0 - NEW) * state.speed + NEW * speed;
        }
    }
}

/// Leaves time to served models while they run.
#[derive(Clone)]
pub(crate) struct Pace {
    share: f64,
    start: Instant,
    /// When a served model last ran for somebody else, in milliseconds after `start` and one; 0: never.
    ran: Arc<AtomicU64>,
}

/// A model that ran within this time is taken to be running.
const RUNNING: Duration = Duration::from_millis(250);

impl Pace {
    pub(crate) fn new(share: f64) -> Self {
        Self {
            share,
            start: Instant::now(),
            ran: Arc::default(),
        }
    }

    /// A served model runs for a request of somebody else. Costs next to nothing.
    pub(crate) fn ran(&self) {
        self.ran.store(self.now(), Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + 1
    }

    /// How long to rest after work that took `took`.
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
        assert_eq!(full, Full { seconds: 9 });
        drop(first);
        let first = queue.turn(60).await.unwrap();
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.turn(40).await.map(Turn::idle) }
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
