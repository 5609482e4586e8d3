//! What a vehicle is opened with.

use std::{collections::BTreeSet, fmt, num::NonZeroU64, path::PathBuf, sync::Arc, time::Duration};

use switchback_signing::{
    bundle::contract::CONTRACT_VERSION,
    keys::Signer,
    metadata::{
        EcuSerial, HardwareId, Region, Tier, VehicleId,
        vehicle::{EnrolledSecondary, SECONDARIES_MAX},
    },
    trust::{RepositoryMap, TrustAnchors, VehicleIdentity},
};

use super::{NetworkUse, Provisioned, SecondaryEcu, Transfer, VehicleError};
use crate::{
    engine::EngineConfig,
    fetch::{Patience, Transport},
    store::CHECKPOINT_BYTES,
    update::{ActivationPolicy, Consent, VehicleState},
};

/// Time between two questions to the server as long as it names no other.
pub const POLL_INTERVAL_DEFAULT: Duration = Duration::from_secs(300);

/// How old the Director's Timestamp may be before the vehicle asks whether it is still the newest. Whoever replays an old answer is noticed
/// after this time. A question costs the server a signature and a row: at 4 hours six a day and vehicle, 70 a second for a million.
pub const TIMESTAMP_AGE_MAX_DEFAULT: Duration = Duration::from_secs(4 * 3600);

/// What a vehicle is opened with. [`VehicleConfig::new`] fills in the defaults.
#[derive(Clone)]
pub struct VehicleConfig {
    /// Directory of the vehicle's models and state, made when missing. One process at a time.
    pub store_dir: PathBuf,
    /// Address of the server, such as `https://ota.example`.
    pub server_url: String,
    /// Address of the Image repository, when a CDN serves it. Absent: the server.
    pub image_url: Option<String>,
    /// Addresses of mirrors of the Image repository, asked for bundles in this order and before it: where one fails, the next goes on. They
    /// are believed nothing and told nothing but which bytes are wanted. Default: none.
    pub mirror_urls: Vec<String>,
    /// Most bytes per second that downloads of releases take of the link, all together. Absent: as many as come.
    pub download_bytes_per_s_max: Option<NonZeroU64>,
    /// Most bytes that are downloaded between two checkpoints, and so the most that a power cut costs again, with the chunk that was on its
    /// way. Each costs a sync: a small number is for links whose bytes cost more than the disk's time. Default: [`CHECKPOINT_BYTES`].
    pub checkpoint_bytes: u64,
    /// The root metadata that the vehicle was provisioned with. Used at the first start; later ones have newer roots in the store.
    pub anchors: TrustAnchors,
    /// Which repositories must sign for which images, and which images may be installed at all. Its addresses are not used. Default: both
    /// repositories for everything.
    pub repository_map: RepositoryMap,
    /// What else the vehicle left the factory with. Default: nothing.
    pub provisioned: Provisioned,
    /// What the vehicle is.
    pub identity: Identity,
    /// One-time token of the first enrollment. Absent when the vehicle has enrolled before, or was enrolled otherwise.
    pub enrollment_token: Option<String>,
    /// The vehicle's key, for instance in a hardware security module. Absent: a key made at the first start, in the store.
    pub signing_key: Option<Arc<dyn Signer + Send + Sync>>,
    /// Time between two questions to the server, as long as it names no other.
    pub poll_interval: Duration,
    /// The Director is asked with a nonce when its Timestamp was signed longer ago, or when nobody was asked for as long: what was recorded
    /// before carries another one, and is refused. A Director that does not say that it answers nonces is not asked.
    pub timestamp_age_max: Duration,
    /// When a model that passed its tests takes over.
    pub activation: ActivationPolicy,
    /// How models are run.
    pub engine: EngineConfig,
    /// Whether addresses without encryption are taken that lead out of this computer. Only for a network that nobody else is on, such
    /// as a test bench: whoever is on it reads the enrollment token and can enroll in the vehicle's place. What is installed is
    /// verified all the same.
    pub allow_plain_http: bool,
    /// Certificates of the authorities that the server's certificate may come from, PEM. Absent: those that the system trusts.
    pub tls_roots_pem: Option<Vec<u8>>,
    /// How long the network may take.
    pub patience: Patience,
    /// Sends the requests, in place of our own HTTP library.
    pub transport: Option<Arc<dyn Transport>>,
    /// Name of the update thread, at most 15 bytes.
    pub thread_name: String,
}

/// What the vehicle is; given at manufacture, never by the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Pseudonym of the vehicle; not its VIN.
    pub vehicle_id: String,
    /// Serial number of the ECU that runs this library: the Primary.
    pub ecu_serial: String,
    /// Hardware id of that ECU.
    pub hardware_id: String,
    /// Product level, such as `ultra`.
    pub tier: String,
    /// Region in which the vehicle is approved, such as `eu`.
    pub region: String,
}

impl VehicleConfig {
    /// A configuration with every default.
    pub fn new(store_dir: impl Into<PathBuf>, server_url: impl Into<String>, anchors: TrustAnchors, identity: Identity) -> Self {
        Self {
            store_dir: store_dir.into(),
            server_url: server_url.into(),
            image_url: None,
            mirror_urls: Vec::new(),
            download_bytes_per_s_max: None,
            checkpoint_bytes: CHECKPOINT_BYTES,
            anchors,
            repository_map: RepositoryMap::default(),
            provisioned: Provisioned::default(),
            identity,
            enrollment_token: None,
            signing_key: None,
            poll_interval: POLL_INTERVAL_DEFAULT,
            timestamp_age_max: TIMESTAMP_AGE_MAX_DEFAULT,
            activation: ActivationPolicy::default(),
            engine: EngineConfig::default(),
            allow_plain_http: false,
            tls_roots_pem: None,
            patience: Patience::default(),
            transport: None,
            thread_name: "swb-update".to_owned(),
        }
    }
}

impl fmt::Debug for VehicleConfig {
    /// Without the token, which is a secret until it is used.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VehicleConfig")
            .field("store_dir", &self.store_dir)
            .field("server_url", &self.server_url)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// The identity as the trust checks know it.
    pub(super) fn verified(&self, runtime_version: &str) -> Result<VehicleIdentity, VehicleError> {
        Ok(VehicleIdentity {
            vehicle_id: parsed("identity.vehicle_id", VehicleId::new(self.vehicle_id.as_str()))?,
            ecu_serial: parsed("identity.ecu_serial", EcuSerial::new(self.ecu_serial.as_str()))?,
            hardware_id: parsed("identity.hardware_id", HardwareId::new(self.hardware_id.as_str()))?,
            tier: parsed("identity.tier", Tier::new(self.tier.as_str()))?,
            region: parsed("identity.region", Region::new(self.region.as_str()))?,
            sdk_version: parsed("the version of this library", env!("CARGO_PKG_VERSION").parse())?,
            onnxruntime_version: parsed("the version of ONNX Runtime", runtime_version.parse())?,
            contract_versions: vec![CONTRACT_VERSION],
        })
    }
}

/// That the provisioned roots are roots. (That they are not exchanged is seen before the token is used.) Found here it is an error of whoever built the vehicle; found later it is a vehicle that has
/// used up its token and can never update.
pub(super) fn verify_anchors(anchors: &TrustAnchors) -> Result<(), VehicleError> {
    parsed("anchors", anchors.verify())
}

/// That each ECU is another one, and that an enrollment has room for all.
pub(super) fn check_secondaries(primary: &VehicleIdentity, secondaries: &[EnrolledSecondary]) -> Result<(), VehicleError> {
    let wrong = |problem| Err(VehicleError::Config { field: "callbacks.secondaries", problem });
    if secondaries.len() > SECONDARIES_MAX {
        return wrong(format!("{} ECUs are more than {SECONDARIES_MAX}", secondaries.len()));
    }
    let mut serials = BTreeSet::from([&primary.ecu_serial]);
    match secondaries.iter().find(|ecu| !serials.insert(&ecu.ecu_serial)) {
        Some(twice) => wrong(format!("two ECUs of the vehicle have the serial {}", twice.ecu_serial)),
        None => Ok(()),
    }
}

pub(super) fn parsed<T, E: fmt::Display>(field: &'static str, result: Result<T, E>) -> Result<T, VehicleError> {
    result.map_err(|error| VehicleError::Config { field, problem: error.to_string() })
}

/// Tells the time, seconds since 1970-01-01 UTC.
pub type ClockCallback = Box<dyn Fn() -> i64 + Send>;
/// Decides about an offer.
pub type ConsentCallback = Box<dyn Fn(&Offer) -> Consent + Send>;
/// Says what the network may be used for.
pub type NetworkCallback = Box<dyn Fn(&Transfer) -> NetworkUse + Send>;
/// Tells the state of the vehicle.
pub type VehicleStateCallback = Box<dyn Fn() -> VehicleState + Send>;

/// What the library asks of the program that it lives in. Called from the update thread, which waits.
#[derive(Default)]
pub struct VehicleCallbacks {
    /// The time now, as far as the program trusts it; the expiry of metadata is judged by it. Absent: the system's clock.
    pub clock: Option<ClockCallback>,
    /// Whether a release may be downloaded and installed. Return at once; answer `Later` while the driver is being asked, and
    /// be asked again every few seconds. Absent: every verified release is welcome.
    pub consent: Option<ConsentCallback>,
    /// The state of the vehicle. Absent: known only from the modes and speeds of the steps.
    pub vehicle_state: Option<VehicleStateCallback>,
    /// What the network that the vehicle is on may be used for: asked before a download begins and before each of its chunks, and every half
    /// minute while nothing is allowed. Return at once. Absent: whatever is to be downloaded.
    pub network: Option<NetworkCallback>,
    /// The vehicle's other ECUs, as the program reaches them. They enroll with the vehicle, so that one that is exchanged needs another
    /// enrollment token.
    pub secondaries: Vec<Box<dyn SecondaryEcu>>,
}

impl fmt::Debug for VehicleCallbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VehicleCallbacks")
            .field("clock", &self.clock.is_some())
            .field("consent", &self.consent.is_some())
            .field("vehicle_state", &self.vehicle_state.is_some())
            .field("network", &self.network.is_some())
            .field("secondaries", &self.secondaries.len())
            .finish()
    }
}

/// A verified release that the Director assigned to this vehicle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Name of the model.
    pub model: String,
    /// Version of the model.
    pub version: String,
    /// Release counter of the model.
    pub release_counter: u64,
    /// Bytes to download, compressed, when nothing can be reused.
    pub download_bytes: u64,
}
