//! The shell: joins decisions, memory and database.
//!
//! Reads go to memory: the rules, the fleet and the Image repository's newest files are immutable values that a writer replaces as a
//! whole. Every change takes the lock `control`, is made durable first and becomes visible then, so that what a vehicle or an
//! operator was told survives a power cut, and a pause holds for every poll after it was acknowledged.

mod content_keys;
mod deltas;
mod enrollment;
mod offline;
mod online;
mod polls;
mod publication;
mod refusals;
mod reports;
mod rollouts;
mod secondaries;
mod words;

pub use content_keys::ContentKeyError;
pub use deltas::{DeltaError, Deltas};
pub use enrollment::{EnrollError, IssuedToken};
pub use offline::{OfflineError, OfflineFor, OfflineOrder, OfflineUpdate};
pub use online::{KeyUse, KeysView, NewKeysError, RepositoryKeysView, RoleKeysView, SetsView};
pub use polls::{DirectorFile, PollError};
pub use publication::{METADATA_BYTES_MAX, PublishError, Published, Uncertified};
pub use refusals::Sender;
pub use reports::{ReportError, Work as WriterWork};
pub use rollouts::{RolloutError, RolloutView, VehicleView, WaveProgress};

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use switchback_signing::{
    keys::{Sha256Digest, file::parse_public},
    metadata::{EcuSerial, HardwareId, MetadataError, VehicleId},
    time::UnixTime,
};
use tokio::sync::{Mutex, mpsc};

use online::{Signing, parse_root};
use refusals::Refusals;

use crate::{
    content_keys::ContentKeys,
    director::{Addressee, Lifetimes},
    fleet::{Fleet, FleetVehicle, VehicleState},
    image::ImageRepository,
    keys::{KeyError, OnlineKeys, write_secret},
    metadata_cache::MetadataCache,
    registry::{Registry, RegistryError, StoredRoot, VehicleRow},
    rollout::{Rules, Vehicle},
    storage::{Storage, StorageError},
};

/// Reports and signatures that may wait for the writer; beyond that a vehicle waits in its connection.
const WRITER_QUEUE: usize = 4_096;
/// Bytes of randomness in tokens.
const TOKEN_BYTES: usize = 32;

/// How the server is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything that the server keeps.
    pub data_dir: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// How long a vehicle waits between two polls, seconds.
    pub poll_after_s: u32,
    /// How long signed metadata lives.
    pub lifetimes: Lifetimes,
    /// Reports of one vehicle that are kept as evidence, the newest ones.
    pub reports_per_vehicle: u32,
    /// How long reports are kept, and events that vehicles brought about; what people and gates decided is kept for ever.
    pub records_days: u32,
    /// Longest target, bytes.
    pub target_bytes_max: u64,
    /// What time it is.
    pub clock: Clock,
}

impl Config {
    /// A server with all its data in `data_dir`, on a loopback port.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            listen: SocketAddr::from(([127, 0, 0, 1], 8470)),
            poll_after_s: 60,
            lifetimes: Lifetimes::default(),
            reports_per_vehicle: 1_000,
            // Ten years: what GB 44496-2024 asks for after a model line has ended, and as much as a daily report fills.
            records_days: 3_653,
            target_bytes_max: 16 << 30,
            clock: Clock::system(),
        }
    }
}

/// The time, as the whole server sees it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> UnixTime + Send + Sync>);

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::of(|| {
            let seconds = match SystemTime::now().duration_since(UNIX_EPOCH) {
                Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                Err(before) => i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX).saturating_neg(),
            };
            UnixTime::from_seconds(seconds)
        })
    }

    /// Another source of time: a test's.
    pub fn of(source: impl Fn() -> UnixTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        (self.0)()
    }
}

impl core::fmt::Debug for Clock {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Clock")
    }
}

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The data folder cannot be used.
    #[error("{path}: {source}")]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Another server has the data folder.
    #[error("another switchback-server is using {path}")]
    InUse {
        /// The lock file.
        path: PathBuf,
    },
    /// The online keys cannot be read or made.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The database cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The folder for bundles cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The database holds a document that we never write.
    #[error("{what} in the database cannot be read: {detail}")]
    Corrupt {
        /// Which document.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
}

/// The server without its sockets.
#[derive(Debug)]
pub struct Server {
    /// How it is set up.
    pub config: Config,
    /// SHA-256 of the control plane's token.
    pub admin_token_sha256: [u8; 32],
    /// The bytes of targets.
    pub storage: Storage,
    /// The vehicles in memory.
    pub fleet: Fleet,
    pub(crate) registry: Registry,
    pub(crate) rules: ArcSwap<Rules>,
    pub(crate) image: ArcSwap<ImageRepository>,
    pub(crate) signing: ArcSwap<Signing>,
    pub(crate) director_roots: ArcSwap<Vec<StoredRoot>>,
    pub(crate) director_cache: MetadataCache,
    pub(crate) content_keys: ContentKeys,
    pub(crate) deltas: ArcSwap<Deltas>,
    pub(crate) refusals: Refusals,
    pub(crate) writer: mpsc::Sender<WriterWork>,
    /// Held by whoever changes something, from its first look at the state until the change is visible.
    pub(crate) control: Mutex<()>,
    _lock: std::fs::File,
}

impl Server {
    /// Opens the data folder, makes what is missing, and reads into memory what polls need. The receiver belongs to `jobs::writer`.
    pub async fn open(config: Config) -> Result<(Arc<Self>, mpsc::Receiver<WriterWork>), OpenError> {
        let data = &config.data_dir;
        create_private(data).map_err(|source| OpenError::Folder { path: data.clone(), source })?;
        let lock = lock_folder(data)?;
        let keys = OnlineKeys::open(&data.join("keys"))?;
        let content_keys = ContentKeys::open(&data.join("keys"))?;
        let admin_token_sha256 = admin_token(&data.join("admin.token"))?;
        let storage = Storage::local(&data.join("objects"))?;
        let registry = Registry::open(&data.join("switchback.sqlite")).await?;
        let image = ImageRepository::load(registry.image_metadata_newest().await?)
            .map_err(|(what, error)| OpenError::Corrupt { what, detail: error.to_string() })?;
        let director_roots = registry.director_roots().await?;
        content_keys.load(&registry.content_keys().await?);
        let deltas = Deltas::of(registry.deltas().await?);
        let newest = |bytes: Option<&[u8]>, what: &str| {
            let corrupt = |error: MetadataError| OpenError::Corrupt { what: what.to_owned(), detail: error.to_string() };
            bytes.map(|bytes| parse_root(bytes).map_err(corrupt)).transpose()
        };
        let image_root = newest(image.newest("root").map(|file| &*file.bytes), "the Image repository's root")?;
        let director_root = newest(director_roots.last().map(|root| root.bytes.as_slice()), "the Director's root")?;
        let fleet = Fleet::default();
        for row in registry.vehicles().await? {
            let id = row.vehicle_id.clone();
            let vehicle = fleet_vehicle(&fleet, row).map_err(|detail| OpenError::Corrupt { what: format!("vehicle {id}"), detail })?;
            fleet.insert(Arc::new(vehicle));
        }
        let rules =
            Rules { rollouts: registry.rollouts().await?, approvals: registry.approvals().await?, releases: image.releases().to_vec() };
        let (writer, work) = mpsc::channel(WRITER_QUEUE);
        let server = Self {
            config,
            signing: ArcSwap::from_pointee(Signing::new(keys, image_root, director_root).settled()),
            admin_token_sha256,
            storage,
            fleet,
            registry,
            rules: ArcSwap::from_pointee(rules),
            image: ArcSwap::from_pointee(image),
            director_roots: ArcSwap::from_pointee(director_roots),
            director_cache: MetadataCache::default(),
            content_keys,
            deltas: ArcSwap::from_pointee(deltas),
            refusals: Refusals::default(),
            writer,
            control: Mutex::new(()),
            _lock: lock,
        };
        Ok((Arc::new(server), work))
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        self.config.clock.now()
    }

    /// Whether the database answers.
    pub async fn is_ready(&self) -> bool {
        self.registry.ping().await.is_ok()
    }

    /// Writes at most `count_max` last-seen times that are not in the database yet. Nothing when there are none.
    pub async fn save_last_seen(&self, count_max: usize) -> Result<Option<usize>, RegistryError> {
        let vehicles = self.fleet.take_unsaved(count_max);
        if vehicles.is_empty() {
            return Ok(None);
        }
        let mut change = self.registry.change().await?;
        for vehicle in &vehicles {
            change.save_last_seen(vehicle.addressee.vehicle_id.as_str(), vehicle.last_seen()).await?;
        }
        change.commit().await?;
        Ok(Some(vehicles.len()))
    }

    /// Forgets at most `count_max` of the reports and of the vehicles' events that are older than they are kept. Returns whether
    /// there may be more.
    ///
    /// Their age is looked at from the newest report: a clock that jumps ahead must not delete all evidence, and while it is wrong no
    /// report is accepted.
    pub async fn forget_old_records(&self, count_max: u32) -> Result<bool, RegistryError> {
        let _control = self.control.lock().await;
        let mut change = self.registry.change().await?;
        let Some(newest) = change.newest_report().await? else { return Ok(false) };
        let before = newest.min(self.now()).plus_days(-i64::from(self.config.records_days));
        let forgotten = change.forget_before(before, count_max).await?;
        change.commit().await?;
        Ok(forgotten >= u64::from(count_max))
    }

    /// Closes the database. Afterwards every request fails.
    pub async fn close(&self) {
        self.registry.close().await;
    }

    /// What is in force now.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }
}

/// Runs a change to its end, also when whoever asked for it goes away.
///
/// The future of a request is dropped at any await when the client hangs up. Between the commit and the swap in memory that would
/// leave the two apart: a vehicle enrolled in the database and unknown here, a rollout paused there and running here.
pub(crate) async fn to_the_end<T: Send + 'static>(change: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(change).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(value) => value,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime is being torn down, and this future with it.
        Err(Err(_)) => std::future::pending().await,
    }
}

/// A new data folder is its owner's only; the rights of one that exists are left alone.
fn create_private(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Takes a data folder until the file is dropped. Two servers on one folder would each believe their own memory.
pub fn lock_folder(data: &Path) -> Result<std::fs::File, OpenError> {
    let path = data.join("lock");
    let wrong = |source| OpenError::Folder { path: path.clone(), source };
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(wrong)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse { path }),
        Err(std::fs::TryLockError::Error(source)) => Err(wrong(source)),
    }
}

/// Reads the control plane's token, or makes it. Only its hash stays in memory.
fn admin_token(path: &Path) -> Result<[u8; 32], OpenError> {
    let wrong = |source| OpenError::Folder { path: path.to_owned(), source };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(token_sha256(text.trim())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = random_token()?;
            write_secret(path, format!("{token}\n").as_bytes()).map_err(wrong)?;
            Ok(token_sha256(&token))
        }
        Err(error) => Err(wrong(error)),
    }
}

/// A token that nobody can guess.
pub(crate) fn random_token() -> Result<String, KeyError> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes)?;
    // Hexadecimal: a token that begins with a dash would be taken for an option wherever it is typed.
    Ok(Sha256Digest::from_bytes(bytes).to_hex())
}

/// Tokens are kept and compared as hashes.
#[must_use]
pub fn token_sha256(token: &str) -> [u8; 32] {
    *Sha256Digest::of(token.as_bytes()).as_bytes()
}

/// A row of the database as polls need it.
fn fleet_vehicle(fleet: &Fleet, row: VehicleRow) -> Result<FleetVehicle, String> {
    let public_key = parse_public(row.public_key.as_bytes()).map_err(|error| error.to_string())?;
    let addressee = Addressee {
        vehicle_id: VehicleId::new(&row.vehicle_id).map_err(|error| error.to_string())?,
        ecu_serial: EcuSerial::new(&row.ecu_serial).map_err(|error| error.to_string())?,
        hardware_id: HardwareId::new(&row.hardware_id).map_err(|error| error.to_string())?,
        secondaries: row.secondaries.iter().map(|secondary| secondary.ecu.clone()).collect(),
    };
    let secondaries = row.secondaries.into_iter().map(|secondary| (secondary.ecu.ecu_serial, secondary.state)).collect();
    let vehicle = Vehicle {
        id: row.vehicle_id.as_str().into(),
        tenant: fleet.word(&row.tenant),
        tier: fleet.word(&row.tier),
        hardware_id: fleet.word(&row.hardware_id),
        model_line: fleet.word(&row.model_line),
        region: fleet.word(&row.region),
        confirmed_counter: row.confirmed_counter,
        gave_up: row.gave_up,
        encryption_key: row.encryption_key,
    };
    let state = VehicleState { vehicle, report_counter: row.report_counter, installed: row.installed, secondaries, held: row.held };
    Ok(FleetVehicle::new(addressee, public_key, row.sdk_version, row.enrolled_at, row.last_seen, state))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use std::{future::poll_fn, pin::pin, task::Poll};

    use super::*;
    use crate::{
        gate::FailureLimit,
        registry::Token,
        rollout::{Act, ReleaseName, Selector, tests::release},
    };

    /// Drops `future` when it is woken for the `polls + 1`st time, if it is not complete by then.
    async fn hang_up_after(polls: usize, future: impl Future) {
        let (mut future, mut count) = (pin!(future), 0);
        poll_fn(|context| {
            count += 1;
            if count > polls { Poll::Ready(()) } else { future.as_mut().poll(context).map(|_| ()) }
        })
        .await;
    }

    async fn open(data: &Path) -> Arc<Server> {
        let (server, work) = Server::open(Config::new(data.to_owned())).await.unwrap();
        // Nothing here asks the writer for anything.
        drop(work);
        server.change_rules(|rules| rules.releases.push(Arc::new(release("vla", "1.0.0", "ultra", 1))));
        server
    }

    fn new_rollout() -> crate::registry::NewRollout {
        crate::registry::NewRollout {
            name: "x".to_owned(),
            release: ReleaseName { model: "vla".to_owned(), version: "1.0.0".to_owned() },
            selector: Selector::default(),
            waves: Vec::new(),
            salt: String::new(),
            failure_limit: FailureLimit { count: Some(1), percent: None, minimum_reports: 1 },
        }
    }

    #[tokio::test]
    async fn memory_and_database_agree_whenever_a_client_hangs_up() {
        for polls in 1..40 {
            let data = tempfile::tempdir().unwrap();
            let server = open(data.path()).await;
            hang_up_after(polls, server.create_rollout(new_rollout())).await;
            for rollout in server.rules().rollouts.clone() {
                hang_up_after(polls, server.act(rollout.id, Act::Start)).await;
            }
            // Whoever holds the lock has finished what it began; the queue of the lock is fair.
            let _control = server.control.lock().await;
            assert_eq!(server.registry.rollouts().await.unwrap(), server.rules().rollouts, "after {polls} polls");
        }
    }

    #[tokio::test]
    async fn a_vehicle_that_hangs_up_while_it_enrolls_can_enroll_again() {
        use switchback_signing::{
            keys::{Ed25519Signer, Signer},
            metadata::{Version, vehicle::EnrollmentRequest},
        };
        for polls in 1..40 {
            let data = tempfile::tempdir().unwrap();
            let server = open(data.path()).await;
            let word = |text: &str| text.to_owned();
            let token = Token {
                vehicle_id: word("v-1"),
                tenant: word("oem"),
                tier: word("ultra"),
                hardware_id: word("orin"),
                model_line: word("P7"),
                region: word("eu"),
                replaces: false,
                secondaries: None,
            };
            let token = server.issue_token(token).await.unwrap().token;
            let request = EnrollmentRequest {
                token,
                vehicle_id: VehicleId::new("v-1").unwrap(),
                ecu_serial: EcuSerial::new("ecu-1").unwrap(),
                hardware_id: HardwareId::new("orin").unwrap(),
                public_key: Ed25519Signer::from_seed([1; 32]).public_key(),
                sdk_version: Version::new(0, 1, 0),
                secondaries: Vec::new(),
                encryption_key: None,
            };
            hang_up_after(polls, server.enroll(&request)).await;
            server.enroll(&request).await.unwrap();
            assert!(server.fleet.find("v-1").is_some(), "after {polls} polls");
        }
    }
}
