//! A Secondary in this process: what the software of a camera unit does, without the camera unit.

use std::{fmt, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};
use switchback_signing::{
    digest::Sha256Digest,
    keys::Signer,
    metadata::{
        EcuSerial, HardwareId, OfflineScope, Region, Tier, VehicleId, json,
        vehicle::{EcuReport, EnrolledSecondary, InstalledImage, Reason, ReportPayload, UpdateState, sign_report},
    },
    time::UnixTime,
    trust::{
        Action, AskImages, Attack, Ecu, Installed, MetadataCache, OtherEcus, ReleaseFloor, TrustAnchors, TrustError, UptaneCheck,
        UptaneOutcome, VehicleEcus, VerifiedImage,
    },
};

use super::{
    super::{
        VehicleError, check,
        clock::Ratchet,
        config::{parsed, verify_anchors},
        key,
        reason::{self, SECONDARY_NOT_STAGED},
        report::Counters,
    },
    MetadataSource, SecondaryEcu, SecondaryError,
};
use crate::store::{Finding, Folder, Store, StoreError};

#[cfg(test)]
mod tests;

/// Document that holds what the ECU runs and has beside it.
const RECORD_FILE: &str = "secondary.json";

/// What the names of documents with images begin with; their SHA-256 follows.
const IMAGE_PREFIX: &str = "image.";

/// What a Secondary is; given at manufacture, never by the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecondaryIdentity {
    /// The vehicle that it is built into.
    pub vehicle_id: String,
    /// Its serial number.
    pub ecu_serial: String,
    /// Its kind of computer.
    pub hardware_id: String,
    /// The vehicle's tier, for offline updates that are for all vehicles of a tier in a region.
    pub tier: String,
    /// The vehicle's region.
    pub region: String,
}

/// A Secondary with full verification (Uptane Standard, 5.4.4.2), in this process: for tests, for simulators, and to show what the
/// software of an ECU has to do.
///
/// It has a directory of its own, with its own key, its own metadata and two places for images, and believes its Primary nothing: what
/// the repositories did not sign for this ECU it does not take, whoever hands it over. Every write leaves a state from which it starts.
pub struct ModelledSecondary {
    store: Store,
    key: Arc<dyn Signer + Send + Sync>,
    vehicle_id: VehicleId,
    ecu_serial: EcuSerial,
    hardware_id: HardwareId,
    scope: OfflineScope,
    cache: MetadataCache,
    ratchet: Ratchet,
    counters: Counters,
    record: Record,
    /// What the metadata that was verified last assigns to this ECU and it does not run.
    wanted: Option<VerifiedImage>,
    /// Why it refused what it was handed last.
    trouble: Option<Reason>,
    /// The attack that this would be.
    attack: Option<Reason>,
}

/// What survives a power cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// What it runs for good.
    installed: Option<Image>,
    /// What it has beside it.
    next: Option<Image>,
    /// The release beside which `next` runs on trial.
    trial_of: Option<String>,
    /// Smallest acceptable release counter.
    floor: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    path: String,
    length: u64,
    sha256: String,
    release_counter: u64,
}

impl ModelledSecondary {
    /// Opens the ECU's directory, which is made when missing: with a new key then, and the roots of the manufacture.
    ///
    /// # Errors
    /// [`VehicleError`]: a name or a root that cannot be used, a directory that cannot be opened or is in use.
    pub fn open(directory: impl AsRef<Path>, identity: &SecondaryIdentity, anchors: &TrustAnchors) -> Result<Self, VehicleError> {
        Self::on(|| Store::open_dir(directory.as_ref()), identity, anchors)
    }

    fn on(
        store: impl FnOnce() -> Result<(Store, Vec<Finding>), StoreError>,
        identity: &SecondaryIdentity,
        anchors: &TrustAnchors,
    ) -> Result<Self, VehicleError> {
        verify_anchors(anchors)?;
        let vehicle_id = parsed("identity.vehicle_id", VehicleId::new(identity.vehicle_id.as_str()))?;
        let ecu_serial = parsed("identity.ecu_serial", EcuSerial::new(identity.ecu_serial.as_str()))?;
        let hardware_id = parsed("identity.hardware_id", HardwareId::new(identity.hardware_id.as_str()))?;
        let tier = parsed("identity.tier", Tier::new(identity.tier.as_str()))?;
        let region = parsed("identity.region", Region::new(identity.region.as_str()))?;
        let (mut store, findings) = store()?;
        if !findings.is_empty() {
            tracing::info!(ecu = %ecu_serial, ?findings, "the start found what an orderly end would not have left");
        }
        let key = key::load_or_make(&mut store)?;
        let cache = check::load_cache(&store, anchors, &[])?;
        let ratchet = Ratchet::open(&store, None);
        let record = match store.read_document(Folder::Keys, RECORD_FILE)? {
            Some(bytes) => parsed("the record of what the ECU runs", serde_json::from_slice(&bytes))?,
            None => Record::default(),
        };
        let counters = Counters::new();
        let mut ecu = Self {
            store,
            key,
            vehicle_id,
            ecu_serial,
            hardware_id,
            scope: OfflineScope { tier, region },
            cache,
            ratchet,
            counters,
            record,
            wanted: None,
            trouble: None,
            attack: None,
        };
        ecu.remove_others()?;
        Ok(ecu)
    }

    /// The image that it runs now: the one on trial, or else the one that it runs for good.
    ///
    /// # Errors
    /// [`VehicleError`] when the disk does not give it.
    pub fn running(&self) -> Result<Option<Vec<u8>>, VehicleError> {
        let image = if self.record.trial_of.is_some() { &self.record.next } else { &self.record.installed };
        match image {
            Some(image) => Ok(self.store.read_document(Folder::Keys, &image.file_name())?),
            None => Ok(None),
        }
    }

    /// One verification of both repositories, for this ECU alone; `offline` for metadata that came in a file.
    fn check(
        &mut self,
        now: UnixTime,
        metadata: &mut MetadataSource<'_>,
        offline: Option<OfflineScope>,
    ) -> Result<UptaneOutcome, StoreError> {
        let installed = Installed {
            floor: ReleaseFloor(self.record.floor),
            image_sha256: self.record.installed.as_ref().and_then(|image| Sha256Digest::from_hex(&image.sha256)),
        };
        let own = Ecu { ecu_serial: self.ecu_serial.clone(), hardware_id: self.hardware_id.clone(), installed };
        let vehicle = VehicleEcus { vehicle_id: Some(self.vehicle_id.clone()), ecus: vec![own], others: OtherEcus::Ignored, offline };
        let mut check = UptaneCheck::start(self.cache.clone(), vehicle, AskImages::WhenNew, now);
        let outcome = loop {
            match check.next() {
                Action::Fetch(request) => check.fetched(metadata(&request)),
                Action::Persist { repository, file_name, bytes } => {
                    self.store.write_document(check::folder(repository), &file_name, &bytes)?;
                    check.persisted();
                }
                Action::Remove { repository, file_name } => {
                    self.store.remove_document(check::folder(repository), &file_name)?;
                    check.persisted();
                }
                Action::Finished(outcome) => break outcome,
            }
        };
        self.cache = check.into_cache();
        Ok(outcome)
    }

    /// The image first: what the record names is there.
    fn put_beside(&mut self, next: Image, image: &[u8]) -> Result<(), SecondaryError> {
        self.store.write_document(Folder::Keys, &next.file_name(), image).map_err(|error| silent(&error))?;
        self.commit(Record { next: Some(next), trial_of: None, ..self.record.clone() })
    }

    /// Writes the next state down, and only then has it.
    fn commit(&mut self, record: Record) -> Result<(), SecondaryError> {
        let bytes = serde_json::to_vec(&record).map_err(|error| silent(&error))?;
        self.store.write_document(Folder::Keys, RECORD_FILE, &bytes).map_err(|error| silent(&error))?;
        self.record = record;
        self.remove_others().map_err(|error| silent(&error))
    }

    /// Removes images that the record does not name, also those that a power cut left.
    fn remove_others(&mut self) -> Result<(), StoreError> {
        let named: Vec<String> = self.record.installed.iter().chain(&self.record.next).map(Image::file_name).collect();
        for name in self.store.documents(Folder::Keys)? {
            if name.starts_with(IMAGE_PREFIX) && !named.contains(&name) {
                self.store.remove_document(Folder::Keys, &name)?;
            }
        }
        Ok(())
    }

    fn verify_from(
        &mut self,
        now: UnixTime,
        metadata: &mut MetadataSource<'_>,
        offline: Option<OfflineScope>,
    ) -> Result<(), SecondaryError> {
        // It has no clock of its own; what it has seen holds against a Primary that sets time back.
        let now = self.ratchet.time(now.seconds());
        self.wanted = None;
        match self.check(now, metadata, offline).map_err(|error| silent(&error))? {
            UptaneOutcome::Verified(verified) => {
                self.ratchet.verified(now, &mut self.store).map_err(|error| silent(&error))?;
                (self.trouble, self.attack) = (None, None);
                self.wanted = verified.images.into_iter().find(|image| image.ecus().contains(&self.ecu_serial));
                Ok(())
            }
            UptaneOutcome::Refused(error) => Err(self.refuse(&error)),
        }
    }

    fn refuse(&mut self, error: &TrustError) -> SecondaryError {
        let found = reason::of_trust(error);
        // A file that cannot be had is what every bus does now and then.
        let attack = error.attack().filter(|attack| *attack != Attack::DropRequest);
        self.attack = attack.map(|attack| reason::reason(found.number, &found.name, format!("{attack}: {}", found.text)));
        self.trouble = Some(found.clone());
        SecondaryError::Refused { reason: found }
    }

    fn state(&self) -> UpdateState {
        match &self.record {
            _ if self.trouble.is_some() => UpdateState::Refused,
            Record { trial_of: Some(_), .. } => UpdateState::Trial,
            Record { next: Some(_), .. } => UpdateState::Staged,
            Record { installed: Some(_), .. } => UpdateState::Confirmed,
            Record { .. } => UpdateState::Idle,
        }
    }
}

impl SecondaryEcu for ModelledSecondary {
    fn identity(&self) -> EnrolledSecondary {
        EnrolledSecondary { ecu_serial: self.ecu_serial.clone(), hardware_id: self.hardware_id.clone(), public_key: self.key.public_key() }
    }

    fn installed(&mut self) -> Result<Option<Sha256Digest>, SecondaryError> {
        Ok(self.record.installed.as_ref().and_then(|image| Sha256Digest::from_hex(&image.sha256)))
    }

    fn verify(&mut self, now: UnixTime, metadata: &mut MetadataSource<'_>) -> Result<(), SecondaryError> {
        self.verify_from(now, metadata, None)
    }

    fn verify_offline(&mut self, now: UnixTime, metadata: &mut MetadataSource<'_>) -> Result<(), SecondaryError> {
        self.verify_from(now, metadata, Some(self.scope.clone()))
    }

    fn stage(&mut self, image: &[u8]) -> Result<(), SecondaryError> {
        let Some(wanted) = self.wanted.take() else {
            return Err(self.not_staged("no image is assigned to this ECU that it does not run"));
        };
        let mut check = wanted.check();
        if let Err(error) = check.update(image).and_then(|()| check.finish()) {
            return Err(self.refuse(&error));
        }
        let next = Image {
            path: wanted.path().to_owned(),
            length: wanted.length(),
            sha256: Sha256Digest::of(image).to_hex(),
            release_counter: wanted.release_counter().unwrap_or_default(),
        };
        // Asked for again when it is staged already.
        self.wanted = Some(wanted);
        if self.record.next.as_ref() == Some(&next) {
            return Ok(());
        }
        self.put_beside(next, image)
    }

    fn activate(&mut self, image: Sha256Digest, release: Sha256Digest) -> Result<(), SecondaryError> {
        let Some(next) = self.record.next.as_ref().filter(|next| next.sha256 == image.to_hex()) else {
            return Err(self.not_staged(&format!("image {image} is not staged")));
        };
        // What was staged when it was newest may have been overtaken since.
        if next.release_counter < self.record.floor {
            let (path, found, floor) = (next.path.clone(), next.release_counter, self.record.floor);
            return Err(self.refuse(&TrustError::ReleaseBelowFloor { path, found, floor }));
        }
        self.commit(Record { trial_of: Some(release.to_hex()), ..self.record.clone() })
    }

    fn settle(&mut self, release: Option<Sha256Digest>) -> Result<(), SecondaryError> {
        let Record { next: Some(next), trial_of: Some(trial_of), floor, .. } = self.record.clone() else { return Ok(()) };
        if release.map(|release| release.to_hex()) == Some(trial_of) {
            let floor = floor.max(next.release_counter);
            return self.commit(Record { installed: Some(next), next: None, trial_of: None, floor });
        }
        self.commit(Record { trial_of: None, ..self.record.clone() })
    }

    fn report(&mut self, now: UnixTime) -> Result<Vec<u8>, SecondaryError> {
        let counter = self.counters.next(&mut self.store).map_err(|error| silent(&error))?;
        let installed = self.record.installed.as_ref().and_then(|image| {
            Some(InstalledImage { path: image.path.clone(), length: image.length, sha256: Sha256Digest::from_hex(&image.sha256)? })
        });
        let report = EcuReport {
            ecu_serial: self.ecu_serial.clone(),
            installed,
            attack_detected: self.attack.clone(),
            time: self.ratchet.time(now.seconds()),
            counter,
            payload: ReportPayload { update: self.state(), reason: self.trouble.clone(), ..ReportPayload::idle() },
        };
        Ok(json::to_bytes(&sign_report(&report, &*self.key).map_err(|error| silent(&error))?))
    }
}

impl ModelledSecondary {
    fn not_staged(&mut self, text: &str) -> SecondaryError {
        let reason = reason::reason(SECONDARY_NOT_STAGED, "secondary_not_staged", text);
        self.trouble = Some(reason.clone());
        SecondaryError::Refused { reason }
    }
}

impl fmt::Debug for ModelledSecondary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelledSecondary").field("ecu_serial", &self.ecu_serial).field("record", &self.record).finish_non_exhaustive()
    }
}

impl Image {
    fn file_name(&self) -> String {
        format!("{IMAGE_PREFIX}{}", self.sha256)
    }
}

/// An ECU whose own disk or key fails gives no answer.
fn silent(error: &dyn std::error::Error) -> SecondaryError {
    SecondaryError::Silent { reason: reason::story(error) }
}
