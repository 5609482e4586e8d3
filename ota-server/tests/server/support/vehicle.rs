//! A vehicle: it signs what it sends and verifies all that it gets.

use std::collections::BTreeMap;

use serde_json::json;
use switchback_signing::{
    keys::{
        Ed25519Signer, PublicKey, Sha256Digest, Signer,
        http::{CONTENT_DIGEST, Request, SIGNATURE, SIGNATURE_INPUT, sign_request},
        sealing::{DecryptionKey, EncryptionKey},
    },
    metadata::{
        EcuSerial, HardwareId, Region, Tier, VehicleId, Version,
        vehicle::{
            EcuReport, EnrolledSecondary, EnrollmentRequest, InstalledImage, Reason, ReleaseRef, ReportPayload, SilentEcu, UpdateState,
            VehicleVersionManifest, sign_manifest, sign_report,
        },
    },
    time::UnixTime,
    trust::{
        Action, FetchFailure, FetchRequest, Installed, MetadataCache, MetadataCheck, Outcome, Repository, TrustAnchors, VehicleIdentity,
    },
};

use super::{Ceremony, Control, Response, http};

/// One vehicle.
pub(crate) struct TestVehicle {
    pub(crate) id: String,
    pub(crate) key: Ed25519Signer,
    pub(crate) tier: String,
    pub(crate) region: String,
    pub(crate) counter: u64,
    pub(crate) cache: Option<MetadataCache>,
    /// Serials of its other ECUs, camera units each.
    pub(crate) cameras: Vec<String>,
    /// What opens content keys; a vehicle of before there were any has none.
    pub(crate) decryption_key: Option<DecryptionKey>,
}

/// What a camera unit says in a manifest.
pub(crate) enum Said {
    /// That it runs these bytes; signed with its own key.
    Runs(&'static [u8]),
    /// The same, signed by somebody else.
    Forged,
    /// Nothing, as the Primary says.
    Nothing,
    /// Nothing, and the Primary does not mention it.
    LeftOut,
}

impl TestVehicle {
    /// A vehicle of tier `ultra`, line `P7`, region `eu`, enrolled.
    pub(crate) fn enroll(server: &impl Control, id: &str) -> Self {
        Self::enroll_as(server, id, "ultra", "P7", "eu")
    }

    pub(crate) fn enroll_as(server: &impl Control, id: &str, tier: &str, model_line: &str, region: &str) -> Self {
        let token = Self::token(server, id, tier, model_line, region);
        let vehicle = Self::new(id, tier, region);
        let response = vehicle.enroll_with(server, &token);
        assert_eq!(response.status, 200, "{}", response.text());
        vehicle
    }

    /// A vehicle that has not enrolled.
    pub(crate) fn new(id: &str, tier: &str, region: &str) -> Self {
        Self {
            id: id.to_owned(),
            key: Ed25519Signer::from_seed(*Sha256Digest::of(id.as_bytes()).as_bytes()),
            tier: tier.to_owned(),
            region: region.to_owned(),
            counter: 0,
            cache: None,
            cameras: Vec::new(),
            decryption_key: None,
        }
    }

    pub(crate) fn camera_key(serial: &str) -> Ed25519Signer {
        Ed25519Signer::from_seed(*Sha256Digest::of(serial.as_bytes()).as_bytes())
    }

    pub(crate) fn token(server: &impl Control, id: &str, tier: &str, model_line: &str, region: &str) -> String {
        let request = json!({
            "vehicle_id": id, "tenant": "oem", "tier": tier, "hardware_id": "orin",
            "model_line": model_line, "region": region,
        });
        server.ask("POST", "/v1/enrollment-tokens", Some(&request))["token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn enroll_with(&self, server: &impl Control, token: &str) -> Response {
        self.enroll_key(server, token, &self.key.public_key(), server.now())
    }

    /// As [`Self::enroll_with`], with any key in the request and any time on the vehicle's clock.
    pub(crate) fn enroll_key(&self, server: &impl Control, token: &str, key: &PublicKey, now: UnixTime) -> Response {
        let request = EnrollmentRequest {
            token: token.to_owned(),
            vehicle_id: VehicleId::new(&self.id).unwrap(),
            ecu_serial: self.ecu(),
            hardware_id: HardwareId::new("orin").unwrap(),
            public_key: key.clone(),
            sdk_version: Version::new(0, 1, 0),
            secondaries: self
                .cameras
                .iter()
                .map(|serial| EnrolledSecondary {
                    ecu_serial: EcuSerial::new(serial).unwrap(),
                    hardware_id: HardwareId::new("cam-a").unwrap(),
                    public_key: Self::camera_key(serial).public_key(),
                })
                .collect(),
            encryption_key: self.encryption_key(),
        };
        self.request(server, now, "POST", "/v1/vehicles/enroll", &[], &request.to_bytes())
    }

    pub(crate) fn encryption_key(&self) -> Option<EncryptionKey> {
        self.decryption_key.as_ref().map(DecryptionKey::encryption_key)
    }

    pub(crate) fn ecu(&self) -> EcuSerial {
        EcuSerial::new(format!("ecu-{}", self.id)).unwrap()
    }

    /// A signed request.
    pub(crate) fn request(
        &self,
        server: &impl Control,
        now: UnixTime,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let digest = (!body.is_empty()).then(|| Sha256Digest::of(body));
        let signed = sign_request(&self.key, &Request { method, target: path, body: digest }, now).unwrap();
        let mut all = vec![(SIGNATURE_INPUT, signed.signature_input.as_str()), (SIGNATURE, signed.signature.as_str())];
        all.extend(signed.content_digest.as_deref().map(|digest| (CONTENT_DIGEST, digest)));
        all.extend(headers);
        http::request(server.address(), method, path, &all, body)
    }

    /// One file of the Director.
    pub(crate) fn director(&self, server: &impl Control, now: UnixTime, file: &str, headers: &[(&str, &str)]) -> Response {
        let path = format!("/v1/director/{}/metadata/{file}", self.id);
        self.request(server, now, "GET", &path, headers, &[])
    }

    /// Verifies everything as a Primary does.
    pub(crate) fn check(&mut self, server: &impl Control, ceremony: &Ceremony, now: UnixTime, installed: Installed) -> Outcome {
        let anchors = TrustAnchors { director_root: ceremony.director_root(), image_root: ceremony.image_root() };
        self.cache.get_or_insert_with(|| MetadataCache::provision(&anchors));
        self.check_by(now, installed, |vehicle, request| vehicle.fetch(server, now, request))
    }

    /// As [`Self::check`] of a vehicle that somebody shows what was signed for its neighbor.
    pub(crate) fn check_as(&mut self, server: &impl Control, neighbor: &Self, now: UnixTime) -> Outcome {
        self.check_by(now, Installed::default(), |_, request| neighbor.fetch(server, now, request))
    }

    fn check_by(
        &mut self,
        now: UnixTime,
        installed: Installed,
        fetch: impl Fn(&Self, &FetchRequest) -> Result<Vec<u8>, FetchFailure>,
    ) -> Outcome {
        let cache = self.cache.take().expect("it was provisioned");
        let mut check = MetadataCheck::start(cache, self.identity(), installed, now);
        let outcome = loop {
            match check.next() {
                Action::Fetch(request) => check.fetched(fetch(self, &request)),
                Action::Persist { .. } | Action::Remove { .. } => check.persisted(),
                Action::Finished(outcome) => break outcome,
            }
        };
        self.cache = Some(check.into_cache());
        outcome
    }

    pub(crate) fn identity(&self) -> VehicleIdentity {
        VehicleIdentity {
            vehicle_id: VehicleId::new(&self.id).unwrap(),
            ecu_serial: self.ecu(),
            hardware_id: HardwareId::new("orin").unwrap(),
            tier: Tier::new(&self.tier).unwrap(),
            region: Region::new(&self.region).unwrap(),
            sdk_version: Version::new(0, 1, 0),
            onnxruntime_version: Version::new(1, 23, 0),
            contract_versions: vec![1],
        }
    }

    /// The release that the Director and the Image repository agree on for this vehicle.
    pub(crate) fn offered(&mut self, server: &impl Control, ceremony: &Ceremony, now: UnixTime) -> Option<String> {
        match self.check(server, ceremony, now, Installed::default()) {
            Outcome::NothingNew => None,
            Outcome::Install(target) => Some(target.release().version.clone()),
            Outcome::Refused(error) => panic!("{error}"),
        }
    }

    fn fetch(&self, server: &impl Control, now: UnixTime, request: &FetchRequest) -> Result<Vec<u8>, FetchFailure> {
        let response = match request.repository {
            Repository::Director => self.director(server, now, &request.file_name, &[]),
            Repository::Image => {
                let path = format!("/v1/image/metadata/{}", request.file_name);
                http::request(server.address(), "GET", &path, &[], &[])
            }
        };
        match response.status {
            200 => Ok(response.body),
            404 => Err(FetchFailure::NotFound),
            status => Err(FetchFailure::Unreachable { reason: status.to_string() }),
        }
    }

    /// The next report about a release, signed.
    pub(crate) fn manifest(&mut self, now: UnixTime, update: UpdateState, version: &str, release_counter: u64) -> Vec<u8> {
        let release = ReleaseRef { model: "vla".to_owned(), version: version.to_owned(), release_counter };
        let failed = matches!(update, UpdateState::Refused | UpdateState::RolledBack);
        let drives = matches!(update, UpdateState::Confirmed | UpdateState::Trial);
        let payload = ReportPayload {
            release: drives.then(|| release.clone()),
            candidate: (!drives).then_some(release),
            update,
            reason: failed.then(|| reason(4136, "self_test_failed")),
            counters: BTreeMap::from([("steps".to_owned(), 20)]),
            ..ReportPayload::idle()
        };
        self.sign(now, payload)
    }

    fn sign(&mut self, now: UnixTime, payload: ReportPayload) -> Vec<u8> {
        self.sign_attacked(now, payload, None)
    }

    /// Reports that somebody has attacked it, and expects to be heard.
    pub(crate) fn report_attack(&mut self, server: &impl Control, now: UnixTime, number: u32, name: &str) {
        let manifest = self.sign_attacked(now, ReportPayload::idle(), Some(reason(number, name)));
        self.send_heard(server, now, &manifest);
    }

    fn sign_attacked(&mut self, now: UnixTime, payload: ReportPayload, attack_detected: Option<Reason>) -> Vec<u8> {
        self.counter += 1;
        let payload = ReportPayload { encryption_key: self.encryption_key(), ..payload };
        let report = EcuReport { ecu_serial: self.ecu(), installed: None, attack_detected, time: now, counter: self.counter, payload };
        let manifest = VehicleVersionManifest {
            vehicle_id: VehicleId::new(&self.id).unwrap(),
            primary_ecu_serial: self.ecu(),
            ecu_reports: vec![sign_report(&report, &self.key).unwrap()],
            silent_ecus: Vec::new(),
        };
        sign_manifest(&manifest, &self.key).unwrap()
    }

    /// A manifest of an idle vehicle with a report of its camera under the counter.
    pub(crate) fn manifest_with_camera(&mut self, now: UnixTime, serial: &str, counter: u64, said: &Said) -> Vec<u8> {
        self.counter += 1;
        let report = |ecu_serial: &EcuSerial, counter| EcuReport {
            ecu_serial: ecu_serial.clone(),
            installed: None,
            attack_detected: None,
            time: now,
            counter,
            payload: ReportPayload::idle(),
        };
        let (own, camera) = (self.ecu(), EcuSerial::new(serial).unwrap());
        let runs = |bytes: &[u8]| EcuReport {
            installed: Some(InstalledImage { path: "ultra/cam.cal".into(), length: bytes.len() as u64, sha256: Sha256Digest::of(bytes) }),
            ..report(&camera, counter)
        };
        let mut ecu_reports = vec![sign_report(&report(&own, self.counter), &self.key).unwrap()];
        let mut silent_ecus = Vec::new();
        match said {
            Said::Runs(bytes) => ecu_reports.push(sign_report(&runs(bytes), &Self::camera_key(serial)).unwrap()),
            Said::Forged => ecu_reports.push(sign_report(&runs(b"forged"), &self.key).unwrap()),
            Said::Nothing => silent_ecus.push(SilentEcu { ecu_serial: camera, reason: reason(615, "secondary_silent") }),
            Said::LeftOut => {}
        }
        let vehicle_id = VehicleId::new(&self.id).unwrap();
        let manifest = VehicleVersionManifest { vehicle_id, primary_ecu_serial: own, ecu_reports, silent_ecus };
        sign_manifest(&manifest, &self.key).unwrap()
    }

    /// Sends a manifest.
    pub(crate) fn send(&self, server: &impl Control, now: UnixTime, manifest: &[u8]) -> Response {
        let path = format!("/v1/director/{}/manifest", self.id);
        self.request(server, now, "PUT", &path, &[], manifest)
    }

    /// Reports that nothing is new, and expects to be heard.
    pub(crate) fn report_idle(&mut self, server: &impl Control, now: UnixTime) {
        let manifest = self.sign(now, ReportPayload::idle());
        self.send_heard(server, now, &manifest);
    }

    /// Reports, and expects to be heard.
    pub(crate) fn report(&mut self, server: &impl Control, now: UnixTime, update: UpdateState, version: &str, counter: u64) {
        let manifest = self.manifest(now, update, version, counter);
        self.send_heard(server, now, &manifest);
    }

    /// Reports that version 1.0.0 drives and that `candidate` was refused, and expects to be heard.
    pub(crate) fn refuse(&mut self, server: &impl Control, now: UnixTime, candidate: Option<&str>, number: u32, name: &str) {
        let release = |version: &str, release_counter| ReleaseRef { model: "vla".to_owned(), version: version.to_owned(), release_counter };
        let payload = ReportPayload {
            release: Some(release("1.0.0", 1)),
            candidate: candidate.map(|version| release(version, 2)),
            update: UpdateState::Refused,
            reason: Some(reason(number, name)),
            ..ReportPayload::idle()
        };
        let manifest = self.sign(now, payload);
        self.send_heard(server, now, &manifest);
    }

    fn send_heard(&self, server: &impl Control, now: UnixTime, manifest: &[u8]) {
        let response = self.send(server, now, manifest);
        assert_eq!(response.status, 200, "{}", response.text());
        assert!(response.json()["poll_after_s"].as_u64().unwrap() >= 1);
    }
}

fn reason(number: u32, name: &str) -> Reason {
    Reason { number, name: name.to_owned(), text: format!("{name}, in words") }
}
