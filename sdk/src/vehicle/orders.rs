//! What the program asks of the update thread.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Orders that wait for the update thread.
#[derive(Debug, Default)]
pub(super) struct Orders {
    waiting: Mutex<Waiting>,
    given: Condvar,
}

/// Orders since they were taken last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) check: bool,
    pub(super) activate: bool,
    /// Stays set.
    pub(super) close: bool,
}

impl Orders {
    pub(super) fn give(&self, order: impl FnOnce(&mut Waiting)) {
        order(&mut self.lock());
        self.given.notify_all();
    }

    /// Takes what was asked for.
    pub(super) fn take(&self) -> Waiting {
        let mut waiting = self.lock();
        let taken = *waiting;
        *waiting = Waiting { close: taken.close, ..Waiting::default() };
        taken
    }

    /// Waits until something is asked for, at most this long.
    pub(super) fn rest(&self, at_most: Duration) {
        let waiting = self.lock();
        let idle = |waiting: &mut Waiting| *waiting == Waiting::default();
        // The result says how the wait ended, which the next look at the orders says too.
        drop(self.given.wait_timeout_while(waiting, at_most, idle));
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
