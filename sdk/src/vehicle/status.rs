//! What goes on in a vehicle: its state now, and what happened.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use switchback_signing::{
    digest::Sha256Digest,
    metadata::vehicle::{Reason, ReleaseRef, UpdateState},
};

use super::install::ChunkBytes;
use crate::store::{Finding, SlotId};

/// Events kept for a program that does not ask for them; the oldest go first.
const EVENTS_MAX: usize = 256;

/// The state of a vehicle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where the update stands.
    pub update: UpdateState,
    /// Progress of the download, thousandths.
    pub progress_permille: u32,
    /// Where the chunks of the last download came from, since it began in this run.
    pub chunk_bytes: ChunkBytes,
    /// The model that answers steps.
    pub active: Option<ActiveModel>,
    /// The release that the update is about, while it is not the active one.
    pub candidate: Option<ReleaseRef>,
    /// Why the last update was refused or rolled back.
    pub reason: Option<Reason>,
    /// Why the server could not be asked; absent when the last try succeeded.
    pub check_failure: Option<Reason>,
    /// Completed questions to the server.
    pub checks: u64,
    /// Seconds by which the vehicle's clock is behind the latest time at which metadata was verified; 0 when it is not. While it is
    /// behind, expiry is judged by that time.
    pub clock_behind_s: u64,
    /// The server knows the vehicle: it enrolled, now or in an earlier run, or the Director has answered it since the start.
    pub enrolled: bool,
    /// The update thread runs. It ends only when the vehicle is closed, or by a defect.
    pub running: bool,
}

/// A model that answers steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveModel {
    /// The release.
    pub release: ReleaseRef,
    /// SHA-256 of the bundle's chunk index: the signed identity of the release.
    pub index_sha256: Sha256Digest,
    /// Where it lies.
    pub slot: SlotId,
    /// Equals the `generation` in the step's output.
    pub generation: u64,
    /// It has not passed its trial yet.
    pub on_trial: bool,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, seconds since 1970-01-01 UTC by the vehicle's clock.
    pub time_s: i64,
    /// What.
    pub kind: EventKind,
    /// The release that it is about.
    pub release: Option<ReleaseRef>,
    /// Why, when it is a failure.
    pub reason: Option<Reason>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// The update is in this state now.
    Update(UpdateState),
    /// The download was interrupted and goes on by itself.
    DownloadPaused,
    /// The Director named a delta and it is not used, or not any more: the release comes with more bytes instead.
    DeltaNotUsed,
    /// The server could not be asked; the vehicle tries again by itself.
    CheckFailed,
    /// The server was asked, and answered.
    Checked,
    /// Metadata was not believed while an update was on its way, which goes on.
    NotBelieved,
    /// The server knows the vehicle now.
    Enrolled,
    /// The server refuses to enroll the vehicle.
    EnrollmentFailed,
    /// The start found this on the disk.
    Recovered(Finding),
    /// The confirmed model could not be used: nothing drives until it can be, which is tried again, or until there is another one.
    ModelLost,
    /// The confirmed model could be used after all, and drives.
    ModelRestored,
    /// The vehicle's clock is behind a time that the vehicle has seen, see [`Status::clock_behind_s`]. Told once until it is right again.
    ClockBehind,
}

/// Status and events, shared by the update thread and whoever asks.
#[derive(Debug)]
pub(super) struct Board {
    inner: Mutex<Inner>,
    happened: Condvar,
}

#[derive(Debug)]
struct Inner {
    status: Status,
    events: VecDeque<Event>,
}

impl Board {
    pub(super) fn new(status: Status) -> Self {
        Self { inner: Mutex::new(Inner { status, events: VecDeque::new() }), happened: Condvar::new() }
    }

    pub(super) fn status(&self) -> Status {
        self.lock().status.clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock().status);
    }

    /// Changes the status and tells of it in one step, so that whoever sees the event sees the status too.
    pub(super) fn tell(&self, event: Event, change: impl FnOnce(&mut Status)) {
        let mut inner = self.lock();
        change(&mut inner.status);
        if inner.events.len() == EVENTS_MAX {
            inner.events.pop_front();
        }
        inner.events.push_back(event);
        self.happened.notify_all();
    }

    pub(super) fn next_event(&self, wait: Duration) -> Option<Event> {
        let until = Instant::now() + wait;
        let mut inner = self.lock();
        loop {
            if let Some(event) = inner.events.pop_front() {
                return Some(event);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            inner = self.happened.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock is held can leave at most one event out.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
