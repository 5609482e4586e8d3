//! What is remembered between two updates: the vehicle, for each ECU the image that it has, and when metadata was verified last.

use std::{collections::BTreeMap, fs, io::ErrorKind, path::Path};

use anyhow::Context as _;
use switchback_signing::{
    metadata::{
        EcuSerial, Hashes, VehicleId,
        json::{self, Json},
    },
    time::UnixTime,
    trust::{ReleaseFloor, VerifiedImage},
};

use super::failure::Failure;
use crate::disk;

/// Its file. Not `.json`: it is no metadata.
const FILE: &str = "installed";

/// Longest file, bytes: some ten thousand ECUs.
const BYTES_MAX: usize = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) vehicle_id: Option<VehicleId>,
    /// The time of the last update that succeeded: a clock that is behind it was set back, and makes nothing fresh that has expired.
    pub(super) verified_at: Option<UnixTime>,
    ecus: BTreeMap<EcuSerial, BTreeMap<String, Json>>,
}

impl State {
    pub(super) fn load(base: &Path) -> Result<Self, Failure> {
        let path = base.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::Disk { path, problem: error.into() }),
        };
        // Not to know what is installed would be to take anything older for new.
        Self::parse(&bytes).context("what is installed cannot be read").map_err(|problem| Failure::Disk { path, problem })
    }

    fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let state = json::parse(bytes, BYTES_MAX)?;
        let vehicle_id = state.member("vehicleId").map(|id| id.as_str().context("vehicleId")?.parse::<VehicleId>().context("vehicleId"));
        let Some(Json::Object(ecus)) = state.member("ecus") else { anyhow::bail!("ecus is no object") };
        let ecu = |(serial, said): (&String, &Json)| match said {
            Json::Object(said) if matches!(said.get("releaseCounter"), Some(Json::Integer(0..))) => Ok((serial.parse()?, said.clone())),
            _ => anyhow::bail!("ECU {serial} has no release counter"),
        };
        let verified_at = match state.member("verifiedAt") {
            Some(Json::Integer(seconds)) => Some(UnixTime::from_seconds(*seconds)),
            Some(_) => anyhow::bail!("verifiedAt is no time"),
            None => None,
        };
        Ok(Self { vehicle_id: vehicle_id.transpose()?, verified_at, ecus: ecus.iter().map(ecu).collect::<anyhow::Result<_>>()? })
    }

    pub(super) fn write(&self, base: &Path) -> Result<(), Failure> {
        let ecus = self.ecus.iter().map(|(serial, said)| (serial.to_string(), Json::Object(said.clone()))).collect();
        let mut state = BTreeMap::from([("ecus".to_owned(), Json::Object(ecus))]);
        state.extend(self.vehicle_id.as_ref().map(|id| ("vehicleId".to_owned(), Json::string(id.as_str()))));
        state.extend(self.verified_at.map(|time| ("verifiedAt".to_owned(), Json::Integer(time.seconds()))));
        let bytes = json::to_bytes(&Json::Object(state));
        disk::write(base, FILE, &bytes).map_err(|problem| Failure::Disk { path: base.join(FILE), problem })
    }

    /// The smallest release counter that an ECU takes.
    pub(super) fn floor(&self, ecu: &EcuSerial) -> ReleaseFloor {
        let counter = self.ecus.get(ecu).and_then(|said| said.get("releaseCounter"));
        let counter = counter.and_then(|counter| if let Json::Integer(counter) = counter { u64::try_from(*counter).ok() } else { None });
        ReleaseFloor(counter.unwrap_or_default())
    }

    /// The ECUs that the image is for have it now.
    pub(super) fn remember(&mut self, image: &VerifiedImage) {
        let integer = |value: u64| Json::Integer(i64::try_from(value).unwrap_or(i64::MAX));
        for ecu in image.ecus() {
            // An image without a counter does not lower the floor: it was taken because the floor was 0.
            let counter = image.release_counter().unwrap_or_default().max(self.floor(ecu).0);
            let Hashes { sha256, sha512, .. } = image.hashes();
            let mut said = BTreeMap::from([
                ("path".to_owned(), Json::string(image.path())),
                ("length".to_owned(), integer(image.length())),
                ("releaseCounter".to_owned(), integer(counter)),
            ]);
            said.extend(sha256.map(|digest| ("sha256".to_owned(), Json::String(digest.to_hex()))));
            said.extend(sha512.map(|digest| ("sha512".to_owned(), Json::String(digest.to_hex()))));
            self.ecus.insert(ecu.clone(), said);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_remembered_is_read_again_and_damage_is_not_forgetting() {
        let text = r#"{"ecus":{"ecu-1":{"path":"a","releaseCounter":3}},"vehicleId":"v-1","verifiedAt":1800000000}"#;
        let folder = tempfile::tempdir().unwrap();
        State::parse(text.as_bytes()).unwrap().write(folder.path()).unwrap();
        let state = State::load(folder.path()).unwrap();
        assert_eq!((state.floor(&"ecu-1".parse().unwrap()), state.vehicle_id.as_ref().unwrap().as_str()), (ReleaseFloor(3), "v-1"));
        assert_eq!(state.verified_at, Some(UnixTime::from_seconds(1_800_000_000)));
        assert_eq!(state.floor(&"ecu-2".parse().unwrap()), ReleaseFloor(0));
        for damaged in [
            "",
            "{}",
            r#"{"ecus":{"ecu-1":{}}}"#,
            r#"{"ecus":{"ecu-1":{"releaseCounter":-1}}}"#,
            r#"{"ecus":{},"vehicleId":7}"#,
            r#"{"ecus":{},"verifiedAt":"now"}"#,
        ] {
            fs::write(folder.path().join(FILE), damaged).unwrap();
            assert!(State::load(folder.path()).is_err(), "{damaged}");
        }
    }
}
