//! What the driving thread, the loader thread and the vehicle share.
//!
//! Between the driving thread and the loader there are only atomics: models and shadow frames change their owner through
//! [`HandOff`], what happened is one word ([`Report`]), what is asked is one number ([`Order`]). Locks exist between the loader and
//! the vehicle only.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use switchback_onnx::HandOff;

use super::error::RollBackReason;
use super::load::TestedSession;
use super::{EngineEvent, EngineStatus};
use crate::drive::Staging;

/// Events kept for a vehicle that does not fetch them; the oldest go first.
const EVENTS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Loader to driver: the model that the next frame is answered with.
    pub(super) incoming: HandOff<TestedSession>,
    /// Driver to loader: a model to free.
    pub(super) retired: HandOff<TestedSession>,
    /// Loader to driver: a place to prepare the candidate's inputs in.
    pub(super) staging: HandOff<Staging>,
    /// Driver to loader: the same, filled.
    pub(super) staged: HandOff<Staging>,
    report: AtomicU64,
    order: AtomicU64,
    loader: OnceLock<Thread>,
    status: Mutex<EngineStatus>,
    events: Mutex<VecDeque<EngineEvent>>,
    happened: Condvar,
}

/// What the loader asks of the driver, done at the next frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Order {
    /// The trial is over: give the previous model back.
    Confirm = 1,
    /// Return to the previous model.
    RollBack = 2,
}

/// What happened to the model that the loader published last. The driver writes it, the loader reads it; a later report
/// implies the earlier ones, so that none is lost when the loader looks late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// It answers, on trial.
    Swapped,
    /// It was healthy for the whole trial.
    TrialPassed,
    /// It answers, and nothing is kept beside it.
    Confirmed,
    /// It was taken back.
    RolledBack(RollBackReason),
}

impl Shared {
    /// Writes a report about the model of `generation`. Driving thread; one store. The loader looks by itself: waking it is a system call,
    /// which would cost the swapping step more than all the rest of the swap.
    pub(super) fn report(&self, generation: u64, report: Report) {
        let code = match report {
            Report::Swapped => 1,
            Report::TrialPassed => 2,
            Report::Confirmed => 3,
            Report::RolledBack(reason) => 0x100 | reason as u64,
        };
        self.report.store(generation << 16 | code, Ordering::Release);
    }

    /// The report about the model of `generation`, if there is one yet.
    pub(super) fn reported(&self, generation: u64) -> Option<Report> {
        let word = self.report.load(Ordering::Acquire);
        if word >> 16 != generation << 16 >> 16 {
            return None;
        }
        match word & 0xffff {
            1 => Some(Report::Swapped),
            2 => Some(Report::TrialPassed),
            3 => Some(Report::Confirmed),
            code if code & 0x100 != 0 => Some(Report::RolledBack(RollBackReason::from_code(code as u8))),
            _ => None,
        }
    }

    /// Asks the driver about the model of `generation`; an order that comes too late does not hit the next model.
    pub(super) fn order(&self, generation: u64, order: Order) {
        self.order.store(generation << 16 | order as u64, Ordering::Release);
    }

    /// Forgets what was ordered and reported about the model before, which has settled. Loader, before it publishes the next one.
    pub(super) fn begin(&self) {
        self.order.store(0, Ordering::Release);
        self.report.store(0, Ordering::Release);
    }

    /// The order about the model of `generation` to follow now, once. One about another model is dropped.
    pub(super) fn take_order(&self, generation: Option<u64>) -> Option<Order> {
        // A plain load first: an exchange on every frame would cost more than the whole check.
        if self.order.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let word = self.order.swap(0, Ordering::Acquire);
        generation.filter(|generation| word >> 16 == generation << 16 >> 16)?;
        match word & 0xffff {
            1 => Some(Order::Confirm),
            2 => Some(Order::RollBack),
            _ => None,
        }
    }

    pub(super) fn set_loader(&self, thread: Thread) {
        // Set once, by the only place that starts the thread.
        let _ = self.loader.set(thread);
    }

    pub(super) fn wake_loader(&self) {
        if let Some(loader) = self.loader.get() {
            loader.unpark();
        }
    }

    pub(super) fn status(&self) -> MutexGuard<'_, EngineStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn emit(&self, event: EngineEvent) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(event);
        self.happened.notify_all();
    }

    pub(super) fn event(&self, wait: Duration) -> Option<EngineEvent> {
        let until = Instant::now() + wait;
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(event) = events.pop_front() {
                return Some(event);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            events = self.happened.wait_timeout(events, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_back_only_for_its_own_model() {
        let shared = Shared::default();
        assert_eq!(shared.reported(0), None);
        for report in [Report::Swapped, Report::TrialPassed, Report::Confirmed, Report::RolledBack(RollBackReason::Envelope)] {
            shared.report(7, report);
            assert_eq!(shared.reported(7), Some(report));
            assert_eq!(shared.reported(8), None);
        }
    }

    #[test]
    fn an_order_is_followed_once() {
        let shared = Shared::default();
        assert_eq!(shared.take_order(Some(7)), None);
        shared.order(7, Order::RollBack);
        assert_eq!((shared.take_order(Some(7)), shared.take_order(Some(7))), (Some(Order::RollBack), None));
    }

    #[test]
    fn an_order_about_another_model_is_not_followed() {
        let shared = Shared::default();
        shared.order(7, Order::Confirm);
        assert_eq!((shared.take_order(Some(8)), shared.take_order(Some(7))), (None, None));
        shared.order(7, Order::Confirm);
        assert_eq!((shared.take_order(None), shared.take_order(Some(7))), (None, None));
    }

    #[test]
    fn what_was_said_about_a_model_does_not_hit_the_same_model_when_it_returns() {
        let shared = Shared::default();
        shared.report(7, Report::RolledBack(RollBackReason::Deadline));
        shared.order(7, Order::RollBack);
        shared.begin();
        assert_eq!((shared.reported(7), shared.take_order(Some(7))), (None, None));
    }
}
