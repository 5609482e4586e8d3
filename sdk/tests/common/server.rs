//! A server in memory, behind the SDK's own transport: two repositories, bundles, enrollment, reports, and faults on demand.

#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;
use switchback_sdk::fetch::{Body, Cancel, HttpRequest, HttpResponse, Method, Transport, TransportError};
use switchback_signing::bundle::contract::limits::STEP_MS_MAX;
use switchback_signing::bundle::manifest::FileEntry;
use switchback_signing::bundle::{BundleWriter, ChunkIndex, ContentKey};
use switchback_signing::digest::Sha256Digest;
use switchback_signing::keys::PublicKey;
use switchback_signing::keys::http::{self, Headers, HttpSignatureError, Request};
use switchback_signing::keys::sealing::EncryptionKey;
use switchback_signing::metadata::vehicle::{EcuReport, EnrolledSecondary, EnrollmentRequest, EnrollmentResponse, SilentEcu};
use switchback_signing::metadata::{BundleRef, Companion, Custom, EcuImage, TargetMeta};
use switchback_signing::testing::{NOW, TestRepositories, custom, identity};
use switchback_signing::time::UnixTime;
use switchback_signing::trust::report::{ReportError, VehicleInventory, verify_manifest};

use super::Road;
use super::camera::Camera;
use switchback_sdk::engine::Entry;

/// A server; clones are the same one.
#[derive(Clone)]
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
}

pub(crate) struct State {
    pub(crate) repositories: TestRepositories,
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    pub(crate) vehicle_key: Option<PublicKey>,
    /// The key to seal to, by the enrollment.
    pub(crate) encryption_key: Option<EncryptionKey>,
    /// What the server's clock shows.
    pub(crate) now: UnixTime,
    pub(crate) token: String,
    pub(crate) reports: Vec<EcuReport>,
    /// The vehicle's other ECUs, as they enrolled.
    pub(crate) secondaries: Vec<EnrolledSecondary>,
    /// Their reports, oldest first.
    pub(crate) secondary_reports: Vec<EcuReport>,
    /// Those that gave no report, by each manifest that says so.
    pub(crate) silent: Vec<SilentEcu>,
    /// Nobody answers.
    pub(crate) down: bool,
    /// The connection breaks after so many bytes of a bundle, and then nobody answers.
    pub(crate) breaks_after: Option<usize>,
    /// One byte of every bundle is changed on the way.
    pub(crate) tampers: bool,
    /// A captive portal answers reports with its own page.
    pub(crate) portal: bool,
    /// Pages that it has answered with.
    pub(crate) portal_pages: usize,
    /// What vehicles are told about the time until they ask again.
    pub(crate) poll_after_s: u64,
    /// Bytes of bundles that were sent.
    pub(crate) bundle_bytes: usize,
    /// First byte of each request for a bundle.
    pub(crate) ranges: Vec<usize>,
}

impl Default for Server {
    fn default() -> Self {
        let state = State {
            repositories: TestRepositories::new(),
            blobs: BTreeMap::new(),
            vehicle_key: None,
            encryption_key: None,
            now: NOW,
            token: "one-time".into(),
            reports: Vec::new(),
            secondaries: Vec::new(),
            secondary_reports: Vec::new(),
            silent: Vec::new(),
            down: false,
            breaks_after: None,
            tampers: false,
            portal: false,
            portal_pages: 0,
            poll_after_s: 3600,
            bundle_bytes: 0,
            ranges: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Server")
    }
}

impl Server {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Packs a model as a release with this counter, publishes it and assigns it to the vehicle. `weight_bytes` are added as external
    /// data that the graph does not use.
    pub(crate) fn release(&self, model: &Road, counter: u64, weight_bytes: usize) -> ChunkIndex {
        self.release_as(model, counter, weight_bytes, |_| {})
    }

    /// As [`Server::release`], with other words in the metadata.
    pub(crate) fn release_as(&self, model: &Road, counter: u64, weight_bytes: usize, change: impl FnOnce(&mut Custom)) -> ChunkIndex {
        self.publish(pack(model, counter, weight_bytes, None), counter, change)
    }

    /// As [`Server::release`], encrypted under this key.
    pub(crate) fn release_encrypted(&self, model: &Road, counter: u64, weight_bytes: usize, key: &ContentKey) -> ChunkIndex {
        self.publish(pack(model, counter, weight_bytes, Some(key)), counter, |_| {})
    }

    fn publish(&self, (index, bundle): (ChunkIndex, Vec<u8>), counter: u64, change: impl FnOnce(&mut Custom)) -> ChunkIndex {
        let stem = format!("ultra/vla-{counter}-{counter}.0.0");
        let mut custom = custom(counter);
        custom.model = format!("vla-{counter}");
        custom.bundle = BundleRef {
            path: format!("{stem}.tar.zst"),
            length: bundle.len() as u64,
            sha256: Sha256Digest::of(&bundle),
            encryption: index.encryption(),
        };
        change(&mut custom);
        let index_path = format!("{stem}.index");
        let bytes = index.to_bytes();
        let mut state = self.lock();
        state.add_blob(&index_path, &bytes);
        state.add_blob(&custom.bundle.path, &bundle);
        state.repositories.publish_target(&index_path, TargetMeta::of_release(&bytes, &custom));
        state.repositories.assign(&index_path);
        index
    }

    /// As [`Server::release`], with a calibration that the camera unit must run beside it.
    pub(crate) fn release_with(&self, model: &Road, counter: u64, calibration: &[u8]) -> ChunkIndex {
        let camera = Camera::assignment();
        let path = format!("ultra/cam-{counter}.cal");
        let companion = Companion {
            hardware_id: camera.hardware_id.clone(),
            path: path.clone(),
            length: calibration.len() as u64,
            sha256: Sha256Digest::of(calibration),
            release_counter: counter,
        };
        let block = EcuImage { release_counter: counter, hardware_ids: vec![camera.hardware_id.clone()] };
        let image = TargetMeta::of_image(calibration, &block);
        let mut state = self.lock();
        state.add_blob(&path, calibration);
        state.repositories.publish_target(&path, image.clone());
        drop(state);
        let index = self.release_as(model, counter, 0, |custom| custom.companions = vec![companion]);
        let director = &mut self.lock().repositories.director;
        director.targets.targets.insert(path, image.assigned_to(&camera));
        director.publish();
        index
    }

    /// Reports as the Director's inventory would keep them, oldest first.
    pub(crate) fn reports(&self) -> Vec<EcuReport> {
        self.lock().reports.clone()
    }
}

impl State {
    /// Serves a target under its consistent name.
    pub(crate) fn add_blob(&mut self, path: &str, bytes: &[u8]) {
        let (folder, name) = path.rsplit_once('/').unwrap();
        self.blobs.insert(format!("{folder}/{}.{name}", Sha256Digest::of(bytes)), bytes.to_vec());
    }
}

fn pack(model: &Road, counter: u64, weight_bytes: usize, key: Option<&ContentKey>) -> (ChunkIndex, Vec<u8>) {
    // A vehicle's clock is the machine's, and a machine may stall: deadlines are a subject of the engine's tests, which have their own.
    let model = model.clone().with("/deadline_ms", json!(STEP_MS_MAX));
    let files = model.files(counter, Entry::Candidate);
    if weight_bytes > 0 {
        // Bytes that do not compress, so that the bundle is as long as the weights.
        let mut state = counter | 1;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        });
        std::fs::write(files.path("weights.bin"), noise.take(weight_bytes).collect::<Vec<u8>>()).unwrap();
    }
    let mut manifest = files.files.manifest.clone();
    manifest.release.model = format!("vla-{counter}");
    manifest.release.version = format!("{counter}.0.0");
    manifest.release.hardware_ids = vec!["thor".into()];
    let mut paths = vec!["model.onnx", super::INPUTS, super::OUTPUTS];
    if weight_bytes > 0 {
        paths.push("weights.bin");
    }
    let contents: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(files.path(path)).unwrap()).collect();
    manifest.files = paths
        .iter()
        .zip(&contents)
        .map(|(path, content)| FileEntry { path: (*path).into(), length: content.len() as u64, sha256: Sha256Digest::of(content) })
        .collect();
    let writer = match key {
        None => BundleWriter::new(Vec::new(), manifest),
        Some(key) => BundleWriter::encrypted(Vec::new(), manifest, key),
    };
    let mut writer = writer.unwrap();
    for content in &contents {
        writer.file(content.as_slice()).unwrap();
    }
    let (bundle, index) = writer.finish().unwrap();
    (index, bundle)
}

impl Transport for Server {
    fn send(&self, request: &HttpRequest<'_>, cancel: &Cancel) -> Result<HttpResponse, TransportError> {
        if cancel.is_canceled() {
            return Err(TransportError::Canceled);
        }
        let mut state = self.lock();
        if state.down {
            return Err(TransportError::Broken { reason: "Connection refused (in a test)".into() });
        }
        let target = request.url.strip_prefix("https://server").unwrap();
        let header = |name: &str| request.headers.iter().find(|(found, _)| *found == name).map(|(_, value)| value.clone());
        if let Some(name) = target.strip_prefix("/v1/image/metadata/") {
            let name = name.to_owned();
            return Ok(answer(state.repositories.image.files.get(&name).cloned()));
        }
        if let Some(path) = target.strip_prefix("/v1/image/targets/") {
            let range = header("range").map(|range| {
                let (start, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
                (start.parse().unwrap(), last.parse().ok())
            });
            return Ok(state.blob(path, range));
        }
        if (request.method, target) == (Method::Post, "/v1/vehicles/enroll") {
            let request = EnrollmentRequest::parse(request.body).unwrap();
            if request.token != state.token {
                return Ok(HttpResponse { status: 403, headers: Vec::new(), body: Box::new(Bytes::new(b"used".to_vec())) });
            }
            state.vehicle_key = Some(request.public_key);
            state.encryption_key = request.encryption_key;
            state.secondaries = request.secondaries;
            return Ok(answer(Some(EnrollmentResponse { vehicle_id: request.vehicle_id }.to_bytes())));
        }
        let Some(key) = state.vehicle_key.clone() else {
            return Ok(HttpResponse { status: 401, headers: Vec::new(), body: Box::new(Bytes::new(Vec::new())) });
        };
        let signed =
            Request { method: request.method.name(), target, body: (!request.body.is_empty()).then(|| Sha256Digest::of(request.body)) };
        let headers = Headers {
            signature_input: header(http::SIGNATURE_INPUT).unwrap(),
            signature: header(http::SIGNATURE).unwrap(),
            content_digest: header(http::CONTENT_DIGEST),
        };
        match http::verify_request(&key, &signed, &headers, state.now) {
            // Somebody has set one of the clocks.
            Err(HttpSignatureError::TimeDiffers { .. }) => {
                return Ok(HttpResponse { status: 401, headers: Vec::new(), body: Box::new(Bytes::new(Vec::new())) });
            }
            verified => verified.expect("the request is signed"),
        }
        if (request.method, target) == (Method::Put, "/v1/director/v-1/manifest") {
            if state.portal {
                state.portal_pages += 1;
                return Ok(answer(Some(b"<html>Welcome! Please log in.</html>".to_vec())));
            }
            return Ok(state.take_report(request.body, key));
        }
        let name = target.strip_prefix("/v1/director/v-1/metadata/").unwrap();
        let (name, nonce) = name.split_once("?nonce=").map_or((name, None), |(name, nonce)| (name, Some(nonce.parse().unwrap())));
        let now = state.now;
        let director = &mut state.repositories.director;
        // A Director that answers nonces says so in each Timestamp; another one takes no notice.
        if nonce.is_some() && director.timestamp.freshness().unwrap().is_some() {
            director.sign_freshness(now, nonce);
        }
        Ok(answer(director.files.get(name).cloned()))
    }
}

impl State {
    fn take_report(&mut self, manifest: &[u8], key: PublicKey) -> HttpResponse {
        let identity = identity();
        let last = self.reports.iter().chain(&self.secondary_reports).map(|report| (report.ecu_serial.clone(), report.counter));
        let others = self.secondaries.iter().map(|ecu| (ecu.ecu_serial.clone(), ecu.public_key.clone()));
        let inventory = VehicleInventory {
            vehicle_id: identity.vehicle_id,
            primary_ecu_serial: identity.ecu_serial.clone(),
            ecu_keys: [(identity.ecu_serial.clone(), key)].into_iter().chain(others).collect(),
            counters: last.collect(),
        };
        let verified = match verify_manifest(manifest, &inventory, self.now) {
            // A disk that came back from the past counts from there.
            Err(ReportError::Replayed { .. }) => {
                return HttpResponse { status: 409, headers: Vec::new(), body: Box::new(Bytes::new(b"replayed".to_vec())) };
            }
            verified => verified.expect("the report is believed"),
        };
        self.reports.push(verified.primary().clone());
        self.secondary_reports.extend(verified.secondaries().iter().cloned());
        self.silent.extend(verified.silent().iter().cloned());
        answer(Some(format!(r#"{{"poll_after_s":{}}}"#, self.poll_after_s).into_bytes()))
    }

    fn blob(&mut self, path: &str, range: Option<(usize, Option<usize>)>) -> HttpResponse {
        let Some(mut bytes) = self.blobs.get(path).cloned() else { return answer(None) };
        let Some((start, last)) = range else { return answer(Some(bytes)) };
        let length = bytes.len();
        let last = last.unwrap_or(length - 1);
        self.ranges.push(start);
        if self.tampers {
            bytes[length / 2] ^= 1;
        }
        bytes.truncate(last + 1);
        let rest = bytes.split_off(start);
        let (sent, broken) = match self.breaks_after.take() {
            None => (rest, false),
            Some(after) => {
                self.down = true;
                (rest[..after.min(rest.len())].to_vec(), true)
            }
        };
        self.bundle_bytes += sent.len();
        let headers = vec![("content-range".to_owned(), format!("bytes {start}-{last}/{length}"))];
        HttpResponse { status: 206, headers, body: Box::new(Bytes { bytes: sent, taken: 0, broken }) }
    }
}

pub(crate) fn answer(bytes: Option<Vec<u8>>) -> HttpResponse {
    let status = if bytes.is_some() { 200 } else { 404 };
    HttpResponse { status, headers: Vec::new(), body: Box::new(Bytes::new(bytes.unwrap_or_default())) }
}

pub(crate) struct Bytes {
    bytes: Vec<u8>,
    taken: usize,
    broken: bool,
}

impl Bytes {
    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, taken: 0, broken: false }
    }
}

impl Body for Bytes {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, TransportError> {
        let rest = &self.bytes[self.taken..];
        if rest.is_empty() && self.broken {
            return Err(TransportError::Broken { reason: "Connection reset (in a test)".into() });
        }
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        Ok(count)
    }
}
