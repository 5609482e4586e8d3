//! A vehicle on paper: an id, a key and plain requests, for what no honest vehicle would send.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use switchback_signing::{
    keys::{
        Ed25519Signer, Sha256Digest, Signer,
        http::{CONTENT_DIGEST, Request, SIGNATURE, SIGNATURE_INPUT, sign_request},
    },
    metadata::{
        EcuSerial, HardwareId, VehicleId, Version,
        vehicle::{EcuReport, EnrollmentRequest, ReportPayload, VehicleVersionManifest, sign_manifest, sign_report},
    },
    time::UnixTime,
};

use crate::{
    desk::{Desk, HARDWARE},
    http,
};

/// A vehicle that has enrolled.
pub struct PaperVehicle {
    /// Its id.
    pub id: String,
    /// Its key.
    pub key: Ed25519Signer,
    /// Secret half of the key.
    pub seed: [u8; 32],
    address: String,
}

/// What the server answered.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The code at the end of a problem's type.
    pub fn problem(&self) -> String {
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        json["type"].as_str().unwrap_or_default().rsplit(':').next().unwrap_or_default().to_owned()
    }
}

/// A request without any signature.
pub fn ask(url: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let response = http::request(url.trim_start_matches("http://"), method, path, headers, body);
    Answer { status: response.status, body: response.body }
}

/// The time of the system's clock.
pub fn now() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixTime::from_seconds(since.as_secs().try_into().unwrap())
}

impl PaperVehicle {
    /// Enrolls a vehicle.
    pub fn enroll(desk: &Desk, url: &str, id: &str) -> Self {
        let seed = *Sha256Digest::of(id.as_bytes()).as_bytes();
        let vehicle = Self { id: id.to_owned(), key: Ed25519Signer::from_seed(seed), seed, address: url.to_owned() };
        let request = EnrollmentRequest {
            token: desk.enroll(id, "ultra", "eu"),
            vehicle_id: vehicle.vehicle_id(),
            ecu_serial: vehicle.ecu(),
            hardware_id: HardwareId::new(HARDWARE).unwrap(),
            public_key: vehicle.key.public_key(),
            sdk_version: Version::new(0, 1, 0),
            secondaries: Vec::new(),
            encryption_key: None,
        };
        let answer = vehicle.send("POST", "/v1/vehicles/enroll", &request.to_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        vehicle
    }

    /// As the metadata names it.
    pub fn vehicle_id(&self) -> VehicleId {
        VehicleId::new(&self.id).unwrap()
    }

    /// Its Primary.
    pub fn ecu(&self) -> EcuSerial {
        EcuSerial::new(format!("ecu-{}", self.id)).unwrap()
    }

    /// A request that it signs.
    pub fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        self.send_signed_at(method, path, body, now())
    }

    /// A request that it signed at another time.
    pub fn send_signed_at(&self, method: &str, path: &str, body: &[u8], created: UnixTime) -> Answer {
        let digest = (!body.is_empty()).then(|| Sha256Digest::of(body));
        let signed = sign_request(&self.key, &Request { method, target: path, body: digest }, created).unwrap();
        let mut headers = vec![(SIGNATURE_INPUT, signed.signature_input.as_str()), (SIGNATURE, signed.signature.as_str())];
        headers.extend(signed.content_digest.as_deref().map(|digest| (CONTENT_DIGEST, digest)));
        ask(&self.address, method, path, &headers, body)
    }

    /// Sends a manifest as that of any vehicle.
    pub fn send_manifest_of(&self, id: &str, manifest: &[u8]) -> Answer {
        self.send("PUT", &format!("/v1/director/{id}/manifest"), manifest)
    }

    /// A manifest in which each report is signed by the key beside it.
    pub fn manifest(&self, reports: &[(EcuReport, &Ed25519Signer)], signer: &Ed25519Signer) -> Vec<u8> {
        let manifest = VehicleVersionManifest {
            vehicle_id: self.vehicle_id(),
            primary_ecu_serial: self.ecu(),
            ecu_reports: reports.iter().map(|(report, key)| sign_report(report, *key).unwrap()).collect(),
            silent_ecus: Vec::new(),
        };
        sign_manifest(&manifest, signer).unwrap()
    }

    /// What its Primary reports when nothing happens.
    pub fn report(&self, counter: u64, time: UnixTime) -> EcuReport {
        EcuReport { ecu_serial: self.ecu(), installed: None, attack_detected: None, time, counter, payload: ReportPayload::idle() }
    }
}
