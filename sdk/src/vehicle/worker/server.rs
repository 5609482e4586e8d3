//! What the update thread asks the server, and tells it.

use std::{collections::BTreeMap, time::Duration};

use switchback_signing::{
    metadata::vehicle::{EnrolledSecondary, EnrollmentRequest, Reason, ReleaseRef, UpdateState},
    time::UnixTime,
    trust::{Attack, FetchRequest, Installed, MetadataCache, MetadataCheck, Outcome, ReleaseFloor, Repository, TrustError, VerifiedTarget},
};

use super::{
    Worker,
    secondaries::root_version,
    task::{Task, random},
};
use crate::{
    fetch::{FetchError, RequestKey},
    store::{Folder, StoreError},
    update::{Input, Offer},
    vehicle::{
        Event, EventKind, VehicleError, check, reason,
        reason::{CLOCK_BEHIND, ROOTS_EXCHANGED},
        report::{self, Facts, release_of},
    },
};

/// Without news, the server hears from the vehicle at least this often, so that silence means something.
const REPORT_INTERVAL: Duration = Duration::from_secs(3600);

/// Shortest time between two polls that the server may ask for.
const POLL_MIN: Duration = Duration::from_secs(1);

/// Longest time between two polls that the server may ask for. The answer is not signed: with a larger number, one mistake or whoever
/// answers in the server's place would keep a whole fleet from pauses and fixes for as long.
const POLL_MAX: Duration = Duration::from_secs(3600);

/// Document that says that the server knows this vehicle.
const ENROLLED_FILE: &str = "enrolled";

impl Worker {
    pub(super) fn take_up_enrollment(&mut self) {
        // By the ECUs that it enrolled with: one that was exchanged is another vehicle to the Director.
        let enrolled = self.store.read_document(Folder::Keys, ENROLLED_FILE).ok().flatten();
        let known = enrolled.is_some_and(|enrolled| enrolled == self.enrolled_as());
        if !known && self.config.enrollment_token.is_some() {
            self.enroll = Task::due_now();
        }
        // Without a token it may have been enrolled otherwise: the Director's first answer will tell.
        self.board.change(|status| status.enrolled = known);
    }

    /// Who the server knows: the vehicle and its other ECUs.
    fn enrolled_as(&self) -> Vec<u8> {
        let ecu = |ecu: EnrolledSecondary| format!("\n{} {} {}", ecu.ecu_serial, ecu.hardware_id, ecu.public_key.key_id());
        let ecus: String = self.secondaries.identities().into_iter().map(ecu).collect();
        format!("{}{ecus}", self.identity.vehicle_id).into_bytes()
    }

    pub(super) fn enroll(&mut self) {
        if self.roots_are_exchanged() {
            // Asked again, in case it was the Image repository that answered with the wrong root.
            self.enroll.failed(None);
            let text = "the Image repository's root is the one that this vehicle has for the Director: are the two roots exchanged? \
                        The enrollment token was not used";
            return self.fail_check(EventKind::EnrollmentFailed, reason::reason(ROOTS_EXCHANGED, "roots_exchanged", text));
        }
        let request = EnrollmentRequest {
            token: self.config.enrollment_token.clone().unwrap_or_default(),
            vehicle_id: self.identity.vehicle_id.clone(),
            ecu_serial: self.identity.ecu_serial.clone(),
            hardware_id: self.identity.hardware_id.clone(),
            public_key: self.key.public_key(),
            sdk_version: self.identity.sdk_version,
            secondaries: self.secondaries.identities(),
            encryption_key: Some(self.decryption_key.encryption_key()),
        };
        let key = RequestKey { signer: &*self.key, now: self.now() };
        match self.link.enroll(&request, key) {
            Ok(()) => {
                self.enroll.succeeded(None);
                if let Err(error) = self.store.write_document(Folder::Keys, ENROLLED_FILE, &self.enrolled_as()) {
                    // Asked again at the next start; the server answers the same vehicle with the same key alike.
                    tracing::warn!(%error, "the enrollment was not recorded");
                }
                tracing::info!(vehicle.id = %self.identity.vehicle_id, "enrolled");
                let time_s = self.now().seconds();
                let event = Event { time_s, kind: EventKind::Enrolled, release: None, reason: None };
                self.board.tell(event, |status| status.enrolled = true);
            }
            Err(error) => {
                self.enroll.failed(error.retry_after());
                let kind = match error {
                    FetchError::Refused { .. } | FetchError::NotFound { .. } => EventKind::EnrollmentFailed,
                    _ => EventKind::CheckFailed,
                };
                self.check_failed(kind, &error);
            }
        }
    }

    /// Nothing in a root says which repository it is of, but the Image repository shows its own to everybody. Looked at before the one-time
    /// token is used up for a vehicle that could never update.
    fn roots_are_exchanged(&mut self) -> bool {
        let key = RequestKey { signer: &*self.key, now: self.now() };
        let ours = &self.config.anchors.director_root;
        let Some(version) = root_version(ours) else { return false };
        let request = FetchRequest {
            repository: Repository::Image,
            file_name: format!("{version}.root.json"),
            length_max: ours.len() as u64,
            nonce: None,
        };
        // A server that cannot be reached, or has another root of that version, says nothing.
        self.link.metadata(&request, key).is_ok_and(|theirs| theirs == *ours)
    }

    pub(super) fn run_check(&mut self) {
        self.look_at_clock();
        let now = self.now();
        let (installed, secondaries) = (self.installed(), self.secondaries.ecus());
        let check = MetadataCheck::with_secondaries(self.cache.clone(), self.identity.clone(), installed, secondaries, now);
        let mut check = check.with_map(self.config.repository_map.clone());
        if let Some(challenge) = self.freshness.challenge() {
            check = check.with_challenge(challenge);
        }
        let key = RequestKey { signer: &*self.key, now };
        let checked = match check::run(&mut check, &mut self.link, &mut self.store, key) {
            Ok(checked) => checked,
            Err(error) => {
                self.check.failed(None);
                return self.not_stored(&error);
            }
        };
        self.cache = check.into_cache();
        let answered = !matches!(checked.outcome, Outcome::Refused(_));
        if answered {
            self.freshness.checked(checked.asked);
        }
        let goes_on_offline = match &checked.outcome {
            Outcome::NothingNew => self.is_offline(),
            Outcome::Install(target) => self.stays_offline(target),
            Outcome::Refused(_) => true,
        };
        // What belongs to the release that is under way, and nothing else: the model of the file beside the calibration that the Director
        // assigns would be two that never belonged together.
        if !goes_on_offline {
            self.secondaries.want(checked.images);
        }
        match (checked.outcome, checked.network) {
            (Outcome::Refused(TrustError::Unreachable { .. }), Some(error)) => {
                self.check.failed(error.retry_after());
                self.check_failed(EventKind::CheckFailed, &error);
                return;
            }
            (Outcome::Refused(error), _) => self.not_believed(&error, None),
            (Outcome::NothingNew, _) => {
                self.verified(now);
                self.hold = None;
                // The Director need not know of an offline update.
                if !goes_on_offline {
                    self.input(Input::Withdrawn);
                    self.act();
                    self.repair_secondaries(None);
                }
            }
            (Outcome::Install(target), _) => {
                self.verified(now);
                if !goes_on_offline {
                    self.offered(target);
                }
            }
        }
        // First what follows from the answer, then the word that there is one.
        self.act();
        self.check.succeeded(Some(self.poll_wait()));
        let time_s = self.now().seconds();
        let event = Event { time_s, kind: EventKind::Checked, release: None, reason: None };
        self.board.tell(event, |status| {
            status.check_failure = None;
            status.checks += 1;
            // The Director makes metadata for vehicles that it knows.
            status.enrolled |= answered;
        });
    }

    /// What metadata is held against.
    pub(super) fn installed(&self) -> Installed {
        let state = self.store.state();
        let confirmed = state.confirmed().and_then(|slot| state.slot(slot).occupant());
        let image_sha256 = confirmed.filter(|_| !self.refetches).map(|occupant| occupant.index_sha256);
        Installed { floor: ReleaseFloor(state.floor()), image_sha256 }
    }

    /// The disk did not take what was verified. What it has counts.
    pub(super) fn not_stored(&mut self, error: &StoreError) {
        self.checks_failed += 1;
        self.fail_check(EventKind::CheckFailed, reason::of_store(error));
        match check::load_cache(&self.store, &self.config.anchors, &self.config.provisioned.metadata) {
            Ok(cache) => self.cache = cache,
            Err(error) => tracing::error!(%error, "the trusted metadata cannot be read"),
        }
    }

    pub(super) fn verified(&mut self, at: UnixTime) {
        if let Err(error) = self.ratchet.verified(at, &mut self.store) {
            tracing::warn!(%error, "the time of this check was not recorded");
        }
    }

    /// Says so when the clock is behind what the vehicle has seen, once until it is right again.
    pub(super) fn look_at_clock(&mut self) {
        let behind_s = self.ratchet.behind_s(self.clock_s());
        let told = self.board.status().clock_behind_s > 0;
        self.board.change(|status| status.clock_behind_s = behind_s);
        if behind_s > 0 && !told {
            let text = format!("the clock is {behind_s} s behind the time at which metadata was verified last; that time counts");
            tracing::warn!(behind_s, "{text}");
            self.tell(EventKind::ClockBehind, None, Some(reason::reason(CLOCK_BEHIND, "clock_behind", text)));
        }
    }

    pub(super) fn offered(&mut self, target: VerifiedTarget) {
        let release = target.release();
        let release =
            ReleaseRef { model: release.model.clone(), version: release.version.clone(), release_counter: release.release_counter };
        let known = self.candidate.as_ref().map(|candidate| candidate.occupant.index_sha256);
        let known = known.or(self.target.as_ref().map(VerifiedTarget::sha256));
        if self.update.is_under_way() && self.update.release() == Some(&release) && known != Some(target.sha256()) {
            // The same name on other bytes: another release, whatever it calls itself.
            self.input(Input::Withdrawn);
            self.act();
        }
        let quarantine = self.store.state().quarantine(&target.sha256()).map(reason::of_quarantine);
        let refusal = quarantine.or(self.held(&target)).or_else(|| self.unopened(&target, &release));
        self.target = Some(target);
        self.input(Input::Offered(Offer { release, refusal }));
    }

    /// Why the bundle cannot be opened: found before anybody is asked for consent, and not held against what is under way, which has its
    /// key or needs none any more.
    fn unopened(&mut self, target: &VerifiedTarget, release: &ReleaseRef) -> Option<Reason> {
        if self.update.is_under_way() && self.update.release() == Some(release) {
            return None;
        }
        let error = target.content_key(&self.decryption_key, &self.identity).err()?;
        let reason = reason::of_trust(&error);
        self.detected(error.attack(), &reason);
        Some(reason)
    }

    /// `file` is the metadata that came with an offline update.
    pub(super) fn not_believed(&mut self, error: &TrustError, file: Option<&MetadataCache>) {
        let reason = reason::of_trust(error);
        // A file that cannot be had is what every network does now and then.
        self.detected(error.attack().filter(|attack| *attack != Attack::DropRequest), &reason);
        if let TrustError::ContractUnknown { path, .. } | TrustError::SdkTooOld { path, .. } | TrustError::RuntimeTooOld { path, .. } =
            error
            && let Some(release) = check::release_at(file.unwrap_or(&self.cache), path)
        {
            // All of it is believed, and assigned to this vehicle: the rollout shall hear that the vehicle is too old for it.
            self.target = None;
            return self.input(Input::Offered(Offer { release, refusal: Some(reason) }));
        }
        self.report.after(Duration::ZERO);
        if matches!(error, TrustError::FileMissing { .. }) || self.update.is_under_way() {
            self.tell(EventKind::NotBelieved, None, Some(reason));
        } else {
            self.input(Input::NotBelieved(reason));
        }
    }

    pub(super) fn send_report(&mut self) {
        let now = self.now();
        let number = match self.counters.next(&mut self.store) {
            Ok(number) => number,
            Err(error) => {
                tracing::error!(%error, "no number for a report");
                return self.report.failed(None);
            }
        };
        let state = self.store.state();
        let stage = self.update.stage();
        let about = self.update.release().filter(|_| !matches!(stage, UpdateState::Idle | UpdateState::Confirmed)).cloned();
        let facts = Facts {
            identity: &self.identity,
            installed: state.confirmed().and_then(|slot| state.slot(slot).occupant()),
            active: self.active.as_ref().map(|active| release_of(&active.occupant)),
            candidate: about,
            update: stage,
            reason: self.update.reason().cloned(),
            attack: self.attack.clone(),
            counters: self.counters(),
            encryption_key: self.decryption_key.encryption_key(),
            secondaries: self.secondaries.reports(now),
            number,
            now,
        };
        let manifest = match report::manifest(facts, &*self.key) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.report.failed(None);
                return self.fail_check(EventKind::CheckFailed, reason::of_vehicle(&VehicleError::Signer(error)));
            }
        };
        match self.link.report(&manifest, RequestKey { signer: &*self.key, now }) {
            Ok(answer) => {
                self.attack = None;
                self.report.succeeded(Some(REPORT_INTERVAL));
                self.config.poll_interval = poll_interval(answer.poll_after_s);
            }
            Err(error) => {
                if matches!(error, FetchError::Refused { status: 409, .. }) {
                    self.counters.skip();
                }
                tracing::warn!(error = %reason::story(&error), "the report was not sent; it is tried again");
                self.report.failed(error.retry_after());
            }
        }
    }

    pub(super) fn counters(&self) -> BTreeMap<String, u64> {
        let driving = self.pulse.counters().into_iter();
        let ours = [
            ("downloads_paused", self.downloads_paused),
            ("checks_failed", self.checks_failed),
            ("bundle_bytes_downloaded", self.chunk_bytes.downloaded),
            ("bundle_bytes_reused", self.chunk_bytes.reused),
            ("bundle_bytes_not_reused", self.chunk_bytes.not_reused),
            ("bundle_bytes_restored", self.chunk_bytes.restored),
            ("bundle_bytes_not_restored", self.chunk_bytes.not_restored),
            ("delta_bytes_downloaded", self.chunk_bytes.delta),
        ];
        driving.chain(ours).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    pub(super) fn check_failed(&mut self, kind: EventKind, error: &FetchError) {
        self.checks_failed += 1;
        self.suspect(error);
        self.fail_check(kind, reason::of_fetch(error));
    }

    pub(super) fn fail_check(&mut self, kind: EventKind, reason: Reason) {
        tracing::warn!(reason.number, reason.name, reason.text, "the server could not be asked");
        let event = Event { time_s: self.now().seconds(), kind, release: None, reason: Some(reason.clone()) };
        self.board.tell(event, |status| status.check_failure = Some(reason));
    }

    /// Uptane, 5.4.4: an ECU should report slow retrieval and data without end.
    pub(super) fn suspect(&mut self, error: &FetchError) {
        self.detected(error.attack(), &reason::of_fetch(error));
    }

    /// Remembers for the next report what would be an attack if somebody did it on purpose, by its name in the Standard.
    pub(super) fn detected(&mut self, attack: Option<Attack>, found: &Reason) {
        if let Some(attack) = attack {
            self.attack = Some(reason::reason(found.number, &found.name, format!("{attack}: {}", found.text)));
            self.report.after(Duration::ZERO);
        }
    }

    /// The poll interval, a tenth more or less, so that a fleet that was switched on at once does not ask at once for ever.
    pub(super) fn poll_wait(&self) -> Duration {
        let tenth = self.config.poll_interval / 10;
        self.config.poll_interval - tenth + tenth.mul_f64((random() & 0xffff) as f64 / 32_768.0)
    }
}

/// The time between two polls, as the server asks for it and within bounds.
fn poll_interval(asked_s: u64) -> Duration {
    Duration::from_secs(asked_s).clamp(POLL_MIN, POLL_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_cannot_send_a_vehicle_away_for_longer_than_an_hour() {
        for (asked_s, expected_s) in [(0, 1), (60, 60), (3600, 3600), (86_400, 3600), (u64::MAX, 3600)] {
            assert_eq!(poll_interval(asked_s), Duration::from_secs(expected_s));
        }
    }
}
