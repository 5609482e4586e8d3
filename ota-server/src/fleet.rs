//! The vehicles in memory: what a poll needs, so that "nothing new" costs no SQL statement.

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use arc_swap::ArcSwap;
use switchback_signing::{
    keys::{PublicKey, http::RequestVerifier},
    metadata::{EcuSerial, vehicle::EnrolledSecondary},
    time::UnixTime,
};

use crate::{
    director::{Addressee, Held, Installed},
    rollout::Vehicle,
};

/// Locks that enrollments and polls share; enough that two cores rarely meet.
const SHARDS: usize = 64;

/// Reports that a vehicle may send in a row; then one a second. An update takes about twelve, and a workshop tries several.
const REPORTS: Limit = Limit { in_a_row: 120, every_s: 1, wait_s: 60 };
/// Nonces that a vehicle may ask with in a row; then one in five minutes, which is how often one polls that gets no answer it believes. Each is
/// a signature and a row: a stolen key of a vehicle shall not keep the Director busy.
const QUESTIONS: Limit = Limit { in_a_row: 32, every_s: 300, wait_s: 300 };

/// How often something may be done.
struct Limit {
    /// So often at once, when it was not done for long.
    in_a_row: i64,
    /// And so often for ever: once in so many seconds.
    every_s: i64,
    /// How long somebody waits who did it too often.
    wait_s: u64,
}

/// What is left of a limit: when all of it is there again, seconds.
#[derive(Debug, Default)]
struct Budget(AtomicI64);

impl Budget {
    /// Takes one; when there is none left, the error is how long to wait, seconds.
    fn take(&self, Limit { in_a_row, every_s, wait_s }: &Limit, now: UnixTime) -> Result<(), u64> {
        let (now, full) = (now.seconds(), now.seconds().saturating_add(in_a_row * every_s));
        let take = |due: i64| {
            // Beyond what anybody could have used up, the clock was set back.
            let due = if (now..=full).contains(&due) { due } else { now };
            (due <= full - every_s).then_some(due + every_s)
        };
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).map(drop).map_err(|_| *wait_s)
    }
}

/// One enrolled vehicle.
#[derive(Debug)]
pub struct FleetVehicle {
    /// Vehicle, Primary and hardware as signed metadata names them.
    pub addressee: Addressee,
    /// Verifies its requests, and holds the key that verifies its reports.
    pub requests: RequestVerifier,
    /// SDK version at enrollment.
    pub sdk_version: String,
    /// When it enrolled.
    pub enrolled_at: UnixTime,
    /// What changes; replaced as a whole by the one writer, after the change is durable.
    pub state: ArcSwap<VehicleState>,
    last_seen: AtomicI64,
    unsaved: AtomicBool,
    reports: Budget,
    questions: Budget,
}

/// One of a vehicle's other ECUs.
#[derive(Clone, Debug)]
pub struct Secondary {
    /// What enrolled.
    pub ecu: EnrolledSecondary,
    /// What changes.
    pub state: SecondaryState,
}

/// What changes about a Secondary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecondaryState {
    /// Counter of its last accepted report.
    pub report_counter: u64,
    /// What it reported as installed.
    pub installed: Option<Installed>,
    /// Why it refused an image, or gave no report.
    pub trouble: Option<String>,
}

/// What changes about a vehicle.
#[derive(Clone, Debug)]
pub struct VehicleState {
    /// What the rules look at.
    pub vehicle: Vehicle,
    /// Counter of the last accepted vehicle version manifest.
    pub report_counter: u64,
    /// What it reported as installed.
    pub installed: Option<Installed>,
    /// Its other ECUs, as they reported.
    pub secondaries: BTreeMap<EcuSerial, SecondaryState>,
    /// What the Director last signed for it.
    pub held: Option<Held>,
}

impl FleetVehicle {
    /// A vehicle as it stands in the database.
    #[must_use]
    pub fn new(
        addressee: Addressee,
        public_key: PublicKey,
        sdk_version: String,
        enrolled_at: UnixTime,
        last_seen: UnixTime,
        state: VehicleState,
    ) -> Self {
        Self {
            addressee,
            requests: RequestVerifier::new(public_key),
            sdk_version,
            enrolled_at,
            state: ArcSwap::from_pointee(state),
            last_seen: AtomicI64::new(last_seen.seconds()),
            unsaved: AtomicBool::new(false),
            reports: Budget::default(),
            questions: Budget::default(),
        }
    }

    /// Takes one report from the vehicle's budget; when there is none left, the error is how long it waits, seconds.
    ///
    /// Per vehicle and not per address: a carrier's gateway is one address for a hundred thousand vehicles.
    pub fn take_report(&self, now: UnixTime) -> Result<(), u64> {
        self.reports.take(&REPORTS, now)
    }

    /// Takes one question with a nonce from the vehicle's budget, likewise.
    pub fn take_question(&self, now: UnixTime) -> Result<(), u64> {
        self.questions.take(&QUESTIONS, now)
    }

    /// When the vehicle was last heard of.
    #[must_use]
    pub fn last_seen(&self) -> UnixTime {
        UnixTime::from_seconds(self.last_seen.load(Ordering::Relaxed))
    }
}

/// All enrolled vehicles.
#[derive(Debug)]
pub struct Fleet {
    shards: Vec<RwLock<HashMap<Arc<str>, Arc<FleetVehicle>>>>,
    hasher: std::hash::RandomState,
    words: Mutex<HashMap<Box<str>, Arc<str>>>,
    unsaved: Mutex<Vec<Arc<FleetVehicle>>>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher: std::hash::RandomState::new(),
            words: Mutex::default(),
            unsaved: Mutex::default(),
        }
    }
}

impl Fleet {
    /// Adds a vehicle, or replaces the one of the same id.
    pub fn insert(&self, vehicle: Arc<FleetVehicle>) {
        let id = Arc::clone(&vehicle.state.load().vehicle.id);
        let mut shard = self.shard(&id).write().unwrap_or_else(PoisonError::into_inner);
        shard.insert(id, vehicle);
    }

    /// The vehicle with this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<Arc<FleetVehicle>> {
        self.shard(id).read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All vehicles, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<FleetVehicle>> {
        let shards = self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner));
        shards.flat_map(|shard| shard.values().cloned().collect::<Vec<_>>()).collect()
    }

    /// One copy of a word that many vehicles share, such as a tier.
    #[must_use]
    pub fn word(&self, text: &str) -> Arc<str> {
        let mut words = lock(&self.words);
        if let Some(word) = words.get(text) {
            return Arc::clone(word);
        }
        let word: Arc<str> = text.into();
        words.insert(text.into(), Arc::clone(&word));
        word
    }

    /// Notes that a vehicle was heard of. Written to the database later, many at once.
    pub fn note_seen(&self, vehicle: &Arc<FleetVehicle>, now: UnixTime) {
        vehicle.last_seen.store(now.seconds(), Ordering::Relaxed);
        if !vehicle.unsaved.swap(true, Ordering::AcqRel) {
            lock(&self.unsaved).push(Arc::clone(vehicle));
        }
    }

    /// Takes at most `count_max` of the vehicles whose last-seen time is not in the database yet.
    #[must_use]
    pub fn take_unsaved(&self, count_max: usize) -> Vec<Arc<FleetVehicle>> {
        let mut unsaved = lock(&self.unsaved);
        let kept = unsaved.len().saturating_sub(count_max);
        let taken = unsaved.split_off(kept);
        drop(unsaved);
        for vehicle in &taken {
            // Cleared before the time is read: a poll in between is noted again rather than lost.
            vehicle.unsaved.store(false, Ordering::Release);
        }
        taken
    }

    fn shard(&self, id: &str) -> &RwLock<HashMap<Arc<str>, Arc<FleetVehicle>>> {
        // The remainder is below SHARDS, which is the length.
        &self.shards[(self.hasher.hash_one(id) % SHARDS as u64) as usize]
    }
}

/// The data behind these locks is valid after every statement, so that a panic elsewhere need not stop the server.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
