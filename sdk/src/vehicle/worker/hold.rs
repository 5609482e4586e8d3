//! Releases that the vehicle does not want for now.

use std::time::{Duration, Instant};

use switchback_signing::{
    digest::Sha256Digest,
    metadata::vehicle::{Reason, UpdateState},
    trust::VerifiedTarget,
};

use super::Worker;
use crate::{
    store::{DISK_FULL, READ_ONLY, SPACE_MISSING},
    update::CONSENT_DENIED,
};

/// Time after which the program is asked again about a release that it has denied: whoever said no should not be asked at every poll,
/// and may think better of it by tomorrow.
const DENIED_FOR: Duration = Duration::from_secs(24 * 3600);

/// Time after which a release is tried again for which the disk had no room or could not be written.
const NO_ROOM_FOR: Duration = Duration::from_secs(3600);

/// Bytes by which the free space must have grown for another try before that: logs that come and go are no reason.
const ROOM_BYTES_MIN: u64 = 4 << 20;

/// A release that is not asked for again while nothing has changed. Forgotten at a restart, when the program asks for a check, when
/// the Director assigns another release, when the disk that was full has more room, and after a time.
pub(super) struct Hold {
    index_sha256: Sha256Digest,
    reason: Reason,
    until: Instant,
    /// Free bytes at which there is another try, if the disk was full.
    room: Option<u64>,
}

fn holds_for(reason: &Reason) -> Option<Duration> {
    match reason.number {
        CONSENT_DENIED => Some(DENIED_FOR),
        DISK_FULL | SPACE_MISSING | READ_ONLY => Some(NO_ROOM_FOR),
        _ => None,
    }
}

impl Worker {
    /// Remembers a refusal that the next offer would only repeat.
    pub(super) fn hold(&mut self, stage: UpdateState, reason: Option<&Reason>) {
        let Some((target, reason)) = self.target.as_ref().zip(reason.filter(|_| stage == UpdateState::Refused)) else {
            return;
        };
        if self.hold.as_ref().is_some_and(|hold| hold.index_sha256 == target.sha256()) {
            // The refusal is this one's echo; it does not last longer by being repeated.
            return;
        }
        if let Some(time) = holds_for(reason) {
            let full = matches!(reason.number, DISK_FULL | SPACE_MISSING);
            let room = self.store.free_bytes().ok().filter(|_| full).map(|free| free.saturating_add(ROOM_BYTES_MIN));
            self.hold = Some(Hold { index_sha256: target.sha256(), reason: reason.clone(), until: Instant::now() + time, room });
        }
    }

    /// Why the vehicle does not want this release for now.
    pub(super) fn held(&mut self, target: &VerifiedTarget) -> Option<Reason> {
        let free = self.store.free_bytes().unwrap_or(0);
        self.hold.take_if(|hold| {
            let changed = hold.index_sha256 != target.sha256() || hold.room.is_some_and(|room| room <= free);
            changed || hold.until <= Instant::now()
        });
        self.hold.as_ref().map(|hold| hold.reason.clone())
    }
}
