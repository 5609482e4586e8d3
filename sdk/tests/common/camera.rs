//! A camera unit that a test can look at and put out of order while the vehicle has it.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use switchback_sdk::vehicle::{
    EnrolledSecondary, MetadataSource, ModelledSecondary, Reason, SecondaryEcu, SecondaryError, SecondaryIdentity, Sha256Digest, UnixTime,
};
use switchback_signing::metadata::{EcuAssignment, EcuSerial, HardwareId};
use switchback_signing::testing::identity;
use switchback_signing::trust::TrustAnchors;

/// A camera unit; clones are the same one.
#[derive(Clone)]
pub(crate) struct Camera {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    ecu: ModelledSecondary,
    broken: Vec<Broken>,
}

/// What does not work.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It answers nothing.
    Silent,
    /// It does not take images.
    Stage,
    /// It does not start images.
    Activate,
    /// It does not hear which release drives.
    Settle,
    /// Its reports are signed by somebody else.
    Report,
}

impl Camera {
    pub(crate) fn open(directory: &Path, anchors: &TrustAnchors) -> Self {
        let ecu = ModelledSecondary::open(directory, &Self::identity(), anchors).unwrap();
        Self { inner: Arc::new(Mutex::new(Inner { ecu, broken: Vec::new() })) }
    }

    /// What it is, from manufacture.
    pub(crate) fn identity() -> SecondaryIdentity {
        let vehicle = identity();
        SecondaryIdentity {
            vehicle_id: vehicle.vehicle_id.to_string(),
            ecu_serial: "cam-1".into(),
            hardware_id: "cam-a".into(),
            tier: vehicle.tier.to_string(),
            region: vehicle.region.to_string(),
        }
    }

    /// The camera as the Director names it.
    pub(crate) fn assignment() -> EcuAssignment {
        EcuAssignment { ecu_serial: EcuSerial::new("cam-1").unwrap(), hardware_id: HardwareId::new("cam-a").unwrap() }
    }

    pub(crate) fn set_broken(&self, broken: &[Broken]) {
        self.lock().broken = broken.to_vec();
    }

    /// The calibration that it runs now.
    pub(crate) fn running(&self) -> Option<String> {
        self.lock().ecu.running().unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn with<T>(
        &self,
        refuses: Option<Broken>,
        call: impl FnOnce(&mut ModelledSecondary) -> Result<T, SecondaryError>,
    ) -> Result<T, SecondaryError> {
        let mut inner = self.lock();
        if inner.broken.contains(&Broken::Silent) {
            return Err(SecondaryError::Silent { reason: "nobody on the bus (in a test)".into() });
        }
        if refuses.is_some_and(|refuses| inner.broken.contains(&refuses)) {
            return Err(SecondaryError::Refused { reason: Reason { number: 900, name: "flash".into(), text: "flash worn out".into() } });
        }
        call(&mut inner.ecu)
    }
}

impl SecondaryEcu for Camera {
    fn identity(&self) -> EnrolledSecondary {
        self.lock().ecu.identity()
    }

    fn installed(&mut self) -> Result<Option<Sha256Digest>, SecondaryError> {
        self.with(None, SecondaryEcu::installed)
    }

    fn verify(&mut self, now: UnixTime, metadata: &mut MetadataSource<'_>) -> Result<(), SecondaryError> {
        self.with(None, |ecu| ecu.verify(now, metadata))
    }

    fn verify_offline(&mut self, now: UnixTime, metadata: &mut MetadataSource<'_>) -> Result<(), SecondaryError> {
        self.with(None, |ecu| ecu.verify_offline(now, metadata))
    }

    fn stage(&mut self, image: &[u8]) -> Result<(), SecondaryError> {
        self.with(Some(Broken::Stage), |ecu| ecu.stage(image))
    }

    fn activate(&mut self, image: Sha256Digest, release: Sha256Digest) -> Result<(), SecondaryError> {
        self.with(Some(Broken::Activate), |ecu| ecu.activate(image, release))
    }

    fn settle(&mut self, release: Option<Sha256Digest>) -> Result<(), SecondaryError> {
        self.with(Some(Broken::Settle), |ecu| ecu.settle(release))
    }

    fn report(&mut self, now: UnixTime) -> Result<Vec<u8>, SecondaryError> {
        let forged = self.lock().broken.contains(&Broken::Report);
        let report = self.with(None, |ecu| ecu.report(now))?;
        // Another word under the same signature.
        Ok(if forged { String::from_utf8(report).unwrap().replace("\"counter\":", "\"counter\":1").into_bytes() } else { report })
    }
}
