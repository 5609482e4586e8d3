//! The server's routes.

use std::{ops::Range, sync::Arc};

use serde::Deserialize;
use switchback_signing::{
    metadata::{
        DeltaRef, Nonce,
        vehicle::{ENROLLMENT_BYTES_MAX, EnrollmentRequest, EnrollmentResponse},
    },
    trust::{FetchFailure, FetchRequest, Repository, VerifiedImage, VerifiedTarget},
};

use crate::fetch::{
    BaseUrl, Cancel, Client, Download, DownloadRequest, FetchError, Fetched, HttpTransport, Method, OfflineFile, RequestKey, Traffic,
};

use super::{VehicleConfig, VehicleError};

/// Bytes of the server's answer to a report.
const ANSWER_BYTES_MAX: u64 = 4096;

const JSON: &str = "application/json";

/// The Director and the Image repository, as this vehicle reaches them.
pub(super) struct Link {
    director: Client,
    image: Client,
    /// Who has the bundles, in the order in which they are asked; the Image repository itself last.
    bundles: Vec<Client>,
    /// What comes from the Image repository and its mirrors.
    traffic: Arc<Traffic>,
    /// Where the Director keeps what is for this vehicle.
    director_path: String,
    /// The Director's timestamp as it was fetched last: while nothing is new, it is all that a check asks for.
    timestamp: Option<(String, Vec<u8>)>,
}

/// A large file of the Image repository.
#[derive(Clone, Copy)]
pub(super) struct RemoteFile<'a> {
    /// Its path among the targets.
    pub(super) path: &'a str,
    /// Its signed length.
    pub(super) length: u64,
    /// By which the server that is asked recognizes it.
    pub(super) etag: Option<&'a str>,
}

/// What the server says to a report.
#[derive(Debug, Deserialize)]
pub(super) struct ReportAnswer {
    /// Seconds until the server wants to hear from the vehicle again.
    pub(super) poll_after_s: u64,
}

impl Link {
    pub(super) fn new(config: &VehicleConfig, cancel: &Cancel) -> Result<Self, VehicleError> {
        let server: BaseUrl = config.server_url.parse()?;
        let image: BaseUrl = config.image_url.as_ref().map_or_else(|| Ok(server.clone()), |url| url.parse())?;
        let mirrors = config.mirror_urls.iter().map(|url| url.parse()).collect::<Result<Vec<BaseUrl>, _>>()?;
        let mirrors_named = mirrors.iter().map(|url| ("mirror_urls", url));
        for (field, url) in [("server_url", &server), ("image_url", &image)].into_iter().chain(mirrors_named) {
            if !url.is_https() && !url.is_loopback() && !config.allow_plain_http {
                let problem = format!("{url} is not encrypted and leads out of this computer; use https, or say allow_plain_http");
                return Err(VehicleError::Config { field, problem });
            }
        }
        let transport = match &config.transport {
            Some(transport) => Arc::clone(transport),
            None => {
                let servers: Vec<_> = [&server, &image].into_iter().chain(&mirrors).collect();
                Arc::new(HttpTransport::new(&servers, config.tls_roots_pem.as_deref(), config.patience)?)
            }
        };
        let traffic = Arc::new(Traffic::new(config.download_bytes_per_s_max));
        let client = |base| Client::new(base, Arc::clone(&transport), cancel.clone(), config.patience);
        let releases = |base| client(base).with_traffic(Arc::clone(&traffic));
        let bundles = mirrors.into_iter().chain([image.clone()]).map(releases).collect();
        let director_path = format!("/v1/director/{}", config.identity.vehicle_id);
        Ok(Self { director: client(server), image: releases(image), bundles, director_path, timestamp: None, traffic })
    }

    /// An offline update in the place of both: whatever is asked is asked of the file.
    pub(super) fn of_file(&self, file: &Arc<OfflineFile>) -> Self {
        // For whom the Director's files are is written in them.
        let director_path = "/v1/director".to_owned();
        let [director, image, bundle] = [&self.director, &self.image, &self.image].map(|client| client.of_file(file));
        Self { director, image, bundles: vec![bundle], director_path, timestamp: None, traffic: Arc::default() }
    }

    /// Fetches a metadata file.
    pub(super) fn metadata(&mut self, request: &FetchRequest, key: RequestKey<'_>) -> Result<Vec<u8>, FetchError> {
        let FetchRequest { repository, file_name, length_max, nonce } = request;
        match repository {
            Repository::Director if file_name == "timestamp.json" => self.timestamp(*length_max, *nonce, key),
            Repository::Director => {
                let path = format!("{}/metadata/{file_name}", self.director_path);
                content(self.director.get(&path, *length_max, Some(key), None)?)
            }
            Repository::Image => content(self.image.get(&format!("/v1/image/metadata/{file_name}"), *length_max, None, None)?),
        }
    }

    fn timestamp(&mut self, length_max: u64, nonce: Option<Nonce>, key: RequestKey<'_>) -> Result<Vec<u8>, FetchError> {
        // In the address, so that the vehicle's signature covers it, no cache has the answer, and a server from before takes no notice.
        let question = nonce.map(|nonce| format!("?nonce={nonce}")).unwrap_or_default();
        let path = format!("{}/metadata/timestamp.json{question}", self.director_path);
        let etag = self.timestamp.as_ref().filter(|_| nonce.is_none()).map(|(etag, _)| etag.as_str());
        match (self.director.get(&path, length_max, Some(key), etag)?, &self.timestamp) {
            (Fetched::New { bytes, etag }, _) => {
                self.timestamp = etag.map(|etag| (etag, bytes.clone()));
                Ok(bytes)
            }
            (Fetched::NotModified, Some((_, bytes))) => Ok(bytes.clone()),
            (Fetched::NotModified, None) => Ok(Vec::new()),
        }
    }

    /// Asks for the Director's timestamp anew next time. What was not believed must not be kept by its entity tag: the server would
    /// say that nothing has changed, and one altered byte would lock the vehicle out for ever.
    pub(super) fn forget_timestamp(&mut self) {
        self.timestamp = None;
    }

    /// Fetches a release's chunk index.
    pub(super) fn index(&self, target: &VerifiedTarget) -> Result<Vec<u8>, FetchError> {
        self.target(&target.fetch_path(), target.length())
    }

    /// Fetches the index of a delta.
    pub(super) fn delta_index(&self, target: &VerifiedTarget, delta: &DeltaRef) -> Result<Vec<u8>, FetchError> {
        self.target(&target.delta_index_fetch_path(delta), delta.length)
    }

    /// Fetches an image for a Secondary.
    pub(super) fn image(&self, image: &VerifiedImage) -> Result<Vec<u8>, FetchError> {
        // The server keeps an image under its SHA-256, which comes first and is always there: the release that needs the image names it.
        let path = image.fetch_paths().into_iter().next().unwrap_or_default();
        self.target(&path, image.length())
    }

    fn target(&self, path: &str, length: u64) -> Result<Vec<u8>, FetchError> {
        content(self.image.get(&format!("/v1/image/targets/{path}"), length, None, None)?)
    }

    /// Number of servers that have the bundles.
    pub(super) fn bundle_servers(&self) -> usize {
        self.bundles.len()
    }

    /// Begins or continues the download of a bundle from one of the servers that have it. Nothing that is signed goes there.
    pub(super) fn bundle(&self, server: usize, file: &RemoteFile<'_>, range: Range<u64>) -> Result<Download, FetchError> {
        let RemoteFile { path, length, etag } = *file;
        let client = self.bundles.get(server).unwrap_or(&self.image);
        client.download(&DownloadRequest { path: &format!("/v1/image/targets/{path}"), length, range, etag })
    }

    /// Bytes that came from the Image repository and its mirrors so far.
    pub(super) fn received(&self) -> u64 {
        self.traffic.received()
    }

    /// Makes the vehicle known to the Director. The signature, with the key that is enrolled, proves that the vehicle holds it.
    pub(super) fn enroll(&self, request: &EnrollmentRequest, key: RequestKey<'_>) -> Result<(), FetchError> {
        let content = (JSON, &*request.to_bytes());
        let path = "/v1/vehicles/enroll";
        let answer = self.director.submit(Method::Post, path, content, ENROLLMENT_BYTES_MAX as u64, Some(key))?;
        match EnrollmentResponse::parse(&answer.bytes) {
            Ok(response) if response.vehicle_id == request.vehicle_id => Ok(()),
            _ => Err(FetchError::Refused { url: path.into(), status: answer.status, text: "an answer about another vehicle".into() }),
        }
    }

    /// Sends a signed vehicle version manifest; when this returns, the server has it on its disk.
    pub(super) fn report(&self, manifest: &[u8], key: RequestKey<'_>) -> Result<ReportAnswer, FetchError> {
        let path = format!("{}/manifest", self.director_path);
        let answer = self.director.submit(Method::Put, &path, (JSON, manifest), ANSWER_BYTES_MAX, Some(key))?;
        // A captive portal answers everything with its page and status 200; only the server's own words say that it has the report.
        serde_json::from_slice(&answer.bytes).map_err(|error| FetchError::Unreachable {
            url: path,
            reason: format!("somebody else answered, or the answer is not JSON with `poll_after_s`: {error}"),
        })
    }
}

fn content(fetched: Fetched) -> Result<Vec<u8>, FetchError> {
    match fetched {
        Fetched::New { bytes, .. } => Ok(bytes),
        // Not asked with an etag, so there is nothing that could be unchanged; verification refuses empty bytes.
        Fetched::NotModified => Ok(Vec::new()),
    }
}

/// What a failed fetch means to the trust checks.
pub(super) fn failure(error: &FetchError) -> FetchFailure {
    match error {
        FetchError::NotFound { .. } => FetchFailure::NotFound,
        FetchError::TooLong { .. } => FetchFailure::TooLong,
        other => FetchFailure::Unreachable { reason: super::reason::story(other) },
    }
}
