//! Two repositories and a vehicle in memory, for tests: nothing here is secret, and keys come from names.
//!
//! ```
//! use switchback_signing::{testing::{NOW, TestRepositories, TestVehicle}, trust::Outcome};
//! let mut repositories = TestRepositories::new();
//! repositories.publish_release("ultra/vla-2-2.0.0.index", b"index");
//! repositories.assign("ultra/vla-2-2.0.0.index");
//! let mut vehicle = TestVehicle::new(&repositories);
//! assert!(matches!(vehicle.check(&repositories, NOW), Outcome::Install(_)));
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's mistake should stop the test")]

mod repository;
mod vehicle;

use alloc::{vec, vec::Vec};

pub use self::{repository::TestRepository, vehicle::TestVehicle};
use crate::{
    digest::Sha256Digest,
    keys::{Ed25519Signer, PublicKey, Signer},
    metadata::{
        BundleRef, Custom, DelegatedRole, Delegations, EcuAssignment, EcuSerial, HardwareId, Region, TargetMeta, Tier, VehicleId, Version,
    },
    time::UnixTime,
    trust::{FetchFailure, FetchRequest, Repository, TrustAnchors, VehicleIdentity},
};

/// The time at which the tests take place.
pub const NOW: UnixTime = UnixTime::from_seconds(1_800_000_000);

/// The key that belongs to a name.
pub fn key(name: &str) -> Ed25519Signer {
    Ed25519Signer::from_seed(*Sha256Digest::of(name.as_bytes()).as_bytes())
}

/// The public half of the key that belongs to a name.
pub fn public(name: &str) -> PublicKey {
    key(name).public_key()
}

/// What is said alike about a release for hardware `thor`, tier `ultra`, every region.
pub fn custom(release_counter: u64) -> Custom {
    Custom {
        release_counter,
        hardware_ids: vec![HardwareId::new("thor").unwrap()],
        tier: Tier::new("ultra").unwrap(),
        regions: Vec::new(),
        contract_version: 1,
        sdk_min: Version::new(0, 1, 0),
        onnxruntime_min: Version::new(1, 23, 0),
        model: "vla-2".into(),
        version: alloc::format!("{release_counter}.0.0"),
        bundle: BundleRef { path: "ultra/vla-2.tar.zst".into(), length: 6, sha256: Sha256Digest::of(b"bundle"), encryption: None },
        companions: Vec::new(),
        extra: Default::default(),
    }
}

/// Vehicle `v-1`: hardware `thor`, tier `ultra`, region `eu`.
pub fn identity() -> VehicleIdentity {
    VehicleIdentity {
        vehicle_id: VehicleId::new("v-1").unwrap(),
        ecu_serial: EcuSerial::new("ecu-1").unwrap(),
        hardware_id: HardwareId::new("thor").unwrap(),
        tier: Tier::new("ultra").unwrap(),
        region: Region::new("eu").unwrap(),
        sdk_version: Version::new(0, 1, 0),
        onnxruntime_version: Version::new(1, 23, 0),
        contract_versions: vec![1],
    }
}

/// A Director for vehicle `v-1` and an Image repository with a role `vla-ultra` for `ultra/*`, signed by two of three engineers.
#[derive(Clone)]
pub struct TestRepositories {
    /// The Director.
    pub director: TestRepository,
    /// The Image repository.
    pub image: TestRepository,
}

impl Default for TestRepositories {
    fn default() -> Self {
        Self::new()
    }
}

impl TestRepositories {
    /// Both repositories, published, without a release.
    pub fn new() -> Self {
        let mut director = TestRepository::new(Repository::Director);
        director.targets.vehicle_id = Some(identity().vehicle_id);
        let mut image = TestRepository::new(Repository::Image);
        let mut delegations = Delegations::default();
        let engineers = ["alice", "bob", "carol"].map(public);
        delegations.add(DelegatedRole::new("vla-ultra", 2, &engineers, &["ultra/*"]), &engineers);
        image.targets.delegations = Some(delegations);
        image.add_role("vla-ultra", &["alice", "bob"]);
        let mut repositories = Self { director, image };
        repositories.director.publish();
        repositories.image.publish();
        repositories
    }

    /// The roots that a vehicle is provisioned with.
    pub fn anchors(&self) -> TrustAnchors {
        let root = |repository: &TestRepository| repository.files["1.root.json"].clone();
        TrustAnchors { director_root: root(&self.director), image_root: root(&self.image) }
    }

    /// Lists a release in the Image repository and publishes it. The counter is 5.
    pub fn publish_release(&mut self, path: &str, index: &[u8]) {
        self.publish_target(path, TargetMeta::of_release(index, &custom(5)));
    }

    /// Lists a target in the Image repository and publishes it.
    pub fn publish_target(&mut self, path: &str, target: TargetMeta) {
        self.image.role("vla-ultra").targets.insert(path.into(), target);
        self.image.publish();
    }

    /// Lets the Director assign a target of the Image repository to the vehicle, and nothing else.
    pub fn assign(&mut self, path: &str) {
        let target = self.image.role("vla-ultra").targets[path].clone();
        self.assign_target(path, target);
    }

    /// Lets the Director assign a target of its own choice to the vehicle, and nothing else.
    pub fn assign_target(&mut self, path: &str, target: TargetMeta) {
        let ecu = EcuAssignment { ecu_serial: identity().ecu_serial, hardware_id: identity().hardware_id };
        self.director.targets.targets.clear();
        self.director.targets.targets.insert(path.into(), target.assigned_to(&ecu));
        self.director.publish();
    }

    /// Answers a request as the repositories would over HTTP.
    ///
    /// # Errors
    /// [`FetchFailure`] when there is no such file or it is too long.
    pub fn fetch(&self, request: &FetchRequest) -> Result<Vec<u8>, FetchFailure> {
        let repository = match request.repository {
            Repository::Director => &self.director,
            Repository::Image => &self.image,
        };
        let bytes = repository.files.get(&request.file_name).ok_or(FetchFailure::NotFound)?;
        if bytes.len() as u64 > request.length_max { Err(FetchFailure::TooLong) } else { Ok(bytes.clone()) }
    }
}
