//! The Primary's side of the vehicle's other ECUs (Uptane, 5.4.2.5 to 5.4.2.7: time, metadata and images for Secondaries).

use std::time::Duration;

use switchback_signing::{
    digest::Sha256Digest,
    keys::Signer,
    metadata::{
        MetadataError, Signed,
        json::{self, Json},
        vehicle::{EcuReport, EnrolledSecondary, MANIFEST_BYTES_MAX, Reason, SilentEcu, UpdateState},
    },
    time::UnixTime,
    trust::{Attack, Ecu, FetchFailure, FetchRequest, Installed, MetadataCache, ReleaseFloor, VerifiedImage},
};

use super::{
    Worker,
    offline::{Contents, OfflineSource},
    task::Task,
};
use crate::{
    fetch::{FetchError, RequestKey},
    update::{ActivationPolicy, Blame},
    vehicle::{
        SecondaryEcu, SecondaryError,
        install::Setback,
        link::{Link, failure},
        reason::{self, SECONDARY_REFUSED, SECONDARY_SILENT},
    },
};

/// The vehicle's other ECUs, and what they are about to run.
pub(in crate::vehicle) struct Secondaries {
    members: Vec<Member>,
    /// What the release that is assigned needs on them, where they do not run it yet.
    images: Vec<VerifiedImage>,
    /// The release whose images they hold beside those that they run.
    staged_for: Option<Sha256Digest>,
    /// Some of them run an image on trial.
    trying: bool,
    /// When they are to be told again which release drives for good.
    pub(super) settle: Task,
}

struct Member {
    ecu: Box<dyn SecondaryEcu>,
    identity: EnrolledSecondary,
    /// What it said last that it runs.
    installed: Option<Sha256Digest>,
}

impl Secondaries {
    pub(in crate::vehicle) fn new(ecus: Vec<Box<dyn SecondaryEcu>>) -> Self {
        let member = |ecu: Box<dyn SecondaryEcu>| Member { identity: ecu.identity(), ecu, installed: None };
        let members = ecus.into_iter().map(member).collect();
        // Before anything else: the last run may have ended in the middle of a trial.
        Self { members, images: Vec::new(), staged_for: None, trying: false, settle: Task::due_now() }
    }

    pub(in crate::vehicle) fn identities(&self) -> Vec<EnrolledSecondary> {
        self.members.iter().map(|member| member.identity.clone()).collect()
    }

    /// The ECUs as a check of metadata knows them. One that does not answer has what it had.
    pub(super) fn ecus(&mut self) -> Vec<Ecu> {
        let ecu = |member: &mut Member| {
            if let Ok(installed) = member.ecu.installed() {
                member.installed = installed;
            }
            // Its floor is its own business: it checks for itself.
            let installed = Installed { floor: ReleaseFloor::default(), image_sha256: member.installed };
            Ecu { ecu_serial: member.identity.ecu_serial.clone(), hardware_id: member.identity.hardware_id.clone(), installed }
        };
        self.members.iter_mut().map(ecu).collect()
    }

    /// What a check found that they should install.
    pub(super) fn want(&mut self, images: Vec<VerifiedImage>) {
        if images != self.images {
            self.staged_for = None;
        }
        self.images = images;
    }

    /// Every report that verifies, and the ECUs that gave none: a report that the Director would refuse would silence the whole vehicle.
    pub(super) fn reports(&mut self, now: UnixTime) -> (Vec<Json>, Vec<SilentEcu>) {
        let (mut reports, mut silent) = (Vec::new(), Vec::new());
        for member in &mut self.members {
            match member.report(now) {
                Ok(report) => reports.push(report),
                Err(error) => {
                    let ecu_serial = member.identity.ecu_serial.clone();
                    tracing::warn!(ecu = %ecu_serial, %error, "no report of the ECU");
                    silent.push(SilentEcu { ecu_serial, reason: reason::reason(SECONDARY_SILENT, "secondary_silent", error.to_string()) });
                }
            }
        }
        (reports, silent)
    }

    /// Every ECU gets time and metadata; those that need one get their image.
    fn stage(&mut self, supply: Supply<'_>, key: RequestKey<'_>) -> Result<(), Delay> {
        let Supply { link, metadata, is_file } = supply;
        for member in &mut self.members {
            let mut source = |request: &FetchRequest| hand_over(metadata, link, key, request);
            let told = match is_file {
                false => member.ecu.verify(key.now, &mut source),
                true => member.ecu.verify_offline(key.now, &mut source),
            };
            told.map_err(|error| member.delay(&error))?;
            let serial = &member.identity.ecu_serial;
            let Some(image) = self.images.iter().find(|image| image.ecus().contains(serial)) else { continue };
            let bytes = link.image(image).map_err(Delay::Network)?;
            let mut check = image.check();
            if let Err(error) = check.update(&bytes).and_then(|()| check.finish()) {
                return Err(Delay::Failed(reason::of_trust(&error), error.attack()));
            }
            member.ecu.stage(&bytes).map_err(|error| member.delay(&error))?;
            tracing::info!(ecu = %serial, path = image.path(), "the ECU holds its image");
        }
        Ok(())
    }

    /// Runs what is staged for this release on all ECUs that need it; the first that does not says why.
    fn activate(&mut self, release: Sha256Digest) -> Result<(), Reason> {
        // The end of this trial will tell them all.
        self.settle = Task::never();
        for member in &mut self.members {
            let serial = &member.identity.ecu_serial;
            let Some(image) = self.images.iter().find(|image| image.ecus().contains(serial)) else { continue };
            let Some(sha256) = image.hashes().sha256 else { continue };
            self.trying = true;
            member.ecu.activate(sha256, release).map_err(|error| member.reason(&error))?;
        }
        Ok(())
    }

    fn settle(&mut self, confirmed: Option<Sha256Digest>) {
        self.trying = false;
        let mut unsettled = false;
        for member in &mut self.members {
            if let Err(error) = member.ecu.settle(confirmed) {
                tracing::warn!(ecu = %member.identity.ecu_serial, %error, "the ECU has not heard which release drives; it is told again");
                unsettled = true;
            }
        }
        if unsettled { self.settle.failed(None) } else { self.settle = Task::never() }
    }
}

impl Member {
    fn report(&mut self, now: UnixTime) -> Result<Json, SecondaryError> {
        let bytes = self.ecu.report(now)?;
        let silent = |problem: String| SecondaryError::Silent { reason: format!("its report cannot be used: {problem}") };
        let json = json::parse(&bytes, MANIFEST_BYTES_MAX).map_err(|error| silent(error.to_string()))?;
        let signed = Signed::<EcuReport>::from_envelope(json.clone()).map_err(|error: MetadataError| silent(error.to_string()))?;
        if signed.signed.ecu_serial != self.identity.ecu_serial {
            return Err(silent(format!("it is of ECU {}", signed.signed.ecu_serial)));
        }
        let key = &self.identity.public_key;
        signed.verify(&key.key_id(), key).map_err(|_| silent("its key has not signed it".into()))?;
        Ok(json)
    }

    /// The error as the Primary reports it: which ECU, and what it says.
    fn reason(&self, error: &SecondaryError) -> Reason {
        let EnrolledSecondary { ecu_serial, hardware_id, .. } = &self.identity;
        let (number, name) = match error {
            SecondaryError::Refused { .. } => (SECONDARY_REFUSED, "secondary_refused"),
            SecondaryError::Silent { .. } => (SECONDARY_SILENT, "secondary_silent"),
        };
        reason::reason(number, name, format!("ECU {ecu_serial} ({hardware_id}): {error}"))
    }
}

/// Where metadata and images for the other ECUs come from.
struct Supply<'a> {
    link: &'a mut Link,
    metadata: &'a MetadataCache,
    /// They came with an offline update.
    is_file: bool,
}

impl<'a> Supply<'a> {
    /// The file, or else the network and what was verified over it.
    fn new(file: Option<&'a mut Contents>, link: &'a mut Link, metadata: &'a MetadataCache) -> Self {
        match file {
            Some(Contents { link, metadata }) => Self { link, metadata, is_file: true },
            None => Self { link, metadata, is_file: false },
        }
    }
}

/// Why an ECU does not hold its image yet.
enum Delay {
    /// The network.
    Network(FetchError),
    /// The ECU does not answer.
    Silent(Reason),
    /// It will not.
    Failed(Reason, Option<Attack>),
}

impl Worker {
    /// Brings what the assigned release needs to the other ECUs, before its own bytes: what they refuse need not be downloaded.
    /// False when that goes on later, or not at all.
    pub(super) fn prepare_secondaries(&mut self, release: Sha256Digest) -> bool {
        if self.secondaries.images.is_empty() || self.secondaries.staged_for == Some(release) {
            return true;
        }
        let (offline, now) = (self.is_offline(), self.now());
        let file = self.offline.as_mut().filter(|_| offline).and_then(OfflineSource::contents);
        let supply = Supply::new(file, &mut self.link, &self.cache);
        let key = RequestKey { signer: &*self.key as &dyn Signer, now };
        let delay = match self.secondaries.stage(supply, key) {
            Ok(()) => {
                self.secondaries.staged_for = Some(release);
                return true;
            }
            Err(delay) => delay,
        };
        match delay {
            Delay::Network(error) => self.download_failed(Setback::Network(error)),
            Delay::Silent(reason) => self.pause_download(None, reason),
            Delay::Failed(reason, attack) => self.download_failed(Setback::Failed(reason, Blame::Circumstances, attack)),
        }
        false
    }

    /// Before a model may be ordered to take over: the other ECUs run what it needs, all or none of them.
    pub(super) fn activate_secondaries(&mut self, release: Sha256Digest) -> Result<(), Reason> {
        let result = self.secondaries.activate(release);
        if result.is_err() {
            // Whoever lacks it is given it again with the next try.
            self.secondaries.staged_for = None;
            self.settle_secondaries();
        }
        result
    }

    /// Tells them which release drives for good: what is on trial beside it stays, everything else goes back.
    pub(super) fn settle_secondaries(&mut self) {
        let state = self.store.state();
        let confirmed = state.confirmed().and_then(|slot| state.slot(slot).occupant()).map(|occupant| occupant.index_sha256);
        self.secondaries.settle(confirmed);
    }

    /// A trial that has ended on this ECU ends on the others.
    pub(super) fn end_secondaries_trial(&mut self, stage: UpdateState) {
        if self.secondaries.trying && !matches!(stage, UpdateState::Armed | UpdateState::Trial) {
            self.settle_secondaries();
        }
    }

    /// The release stays, and an ECU lacks what it needs beside it: one that was exchanged, for instance. Only while the vehicle is not
    /// driven by the model; otherwise at a later check. Whether they all run it now.
    pub(super) fn repair_secondaries(&mut self, file: Option<&mut Contents>) -> bool {
        let state = self.store.state();
        let confirmed = state.confirmed().and_then(|slot| state.slot(slot).occupant()).map(|occupant| occupant.index_sha256);
        let release = confirmed.filter(|_| !self.secondaries.images.is_empty() && !self.update.is_under_way());
        let Some(release) = release else { return false };
        let policy = match self.config.activation {
            ActivationPolicy::Manual | ActivationPolicy::Now => ActivationPolicy::NextDisengaged,
            policy => policy,
        };
        if !policy.permits(&self.vehicle_state()) {
            return false;
        }
        let now = self.now();
        let supply = Supply::new(file, &mut self.link, &self.cache);
        let key = RequestKey { signer: &*self.key as &dyn Signer, now };
        let result = self.secondaries.stage(supply, key);
        let result = result.and_then(|()| self.activate_secondaries(release).map_err(|reason| Delay::Failed(reason, None)));
        self.settle_secondaries();
        let done = result.is_ok();
        match result {
            Ok(()) => tracing::info!("the other ECUs run what the release needs"),
            Err(Delay::Network(error)) => self.suspect(&error),
            Err(Delay::Silent(reason)) => tracing::warn!(reason.text, "an ECU lacks what the release needs"),
            Err(Delay::Failed(reason, attack)) => {
                tracing::warn!(reason.text, "an ECU lacks what the release needs");
                self.detected(attack, &reason);
            }
        }
        self.report.after(Duration::ZERO);
        done
    }
}

impl Member {
    fn delay(&self, error: &SecondaryError) -> Delay {
        match error {
            SecondaryError::Silent { .. } => Delay::Silent(self.reason(error)),
            SecondaryError::Refused { .. } => Delay::Failed(self.reason(error), None),
        }
    }
}

/// Answers a Secondary as the repositories would: from what this Primary has verified, and never with anything newer. The roots in
/// between, which it does not keep, it fetches.
fn hand_over(cache: &MetadataCache, link: &mut Link, key: RequestKey<'_>, request: &FetchRequest) -> Result<Vec<u8>, FetchFailure> {
    let FetchRequest { repository, file_name, length_max, .. } = request;
    let (version, name) = match file_name.split_once('.').and_then(|(digits, name)| Some((digits.parse::<u64>().ok()?, name))) {
        Some((version, name)) => (Some(version), name),
        None => (None, file_name.as_str()),
    };
    let held = cache.get(*repository, file_name).or_else(|| cache.get(*repository, name));
    let bytes = match (held, version) {
        (Some(root), Some(version)) if name == "root.json" => match root_version(root) {
            Some(held) if version > held => return Err(FetchFailure::NotFound),
            Some(held) if version == held => root.to_vec(),
            _ => link.metadata(request, key).map_err(|error| failure(&error))?,
        },
        (Some(held), _) => held.to_vec(),
        (None, _) => return Err(FetchFailure::NotFound),
    };
    if bytes.len() as u64 > *length_max { Err(FetchFailure::TooLong) } else { Ok(bytes) }
}

/// The version of a root whose signatures were verified.
pub(super) fn root_version(root: &[u8]) -> Option<u64> {
    serde_json::from_slice::<serde_json::Value>(root).ok()?.pointer("/signed/version")?.as_u64()
}
