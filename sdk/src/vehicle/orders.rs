//! What the program asks of the update thread.

use std::{
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::fetch::OfflineFile;

/// Orders that wait for the update thread.
#[derive(Debug, Default)]
pub(super) struct Orders {
    waiting: Mutex<Waiting>,
    given: Condvar,
}

/// Orders since they were taken last.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) check: bool,
    pub(super) activate: bool,
    /// The newest counts.
    pub(super) offline: Option<Arc<OfflineFile>>,
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
        let close = waiting.close;
        mem::replace(&mut waiting, Waiting { close, ..Waiting::default() })
    }

    /// Waits until something is asked for, at most this long.
    pub(super) fn rest(&self, at_most: Duration) {
        let waiting = self.lock();
        let idle = |waiting: &mut Waiting| {
            let Waiting { check, activate, offline, close } = waiting;
            !*check && !*activate && offline.is_none() && !*close
        };
        // The result says how the wait ended, which the next look at the orders says too.
        drop(self.given.wait_timeout_while(waiting, at_most, idle));
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
