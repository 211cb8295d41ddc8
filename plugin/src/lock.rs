//! Locks mutexes whether or not they are poisoned.

use std::sync::{Mutex, MutexGuard};

/// Locks `mutex`, also if a thread panicked while it held the lock. Only for data that is consistent after every
/// statement.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
