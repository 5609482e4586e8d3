//! What trust costs a vehicle: one whole Uptane verification of what a real server serves after a real ceremony, and the signature
//! checks that it is made of.

use std::collections::BTreeMap;

use switchback_signing::{
    keys::{Ed25519Signer, P256Signer, Signer},
    metadata::{HardwareId, Region, Tier, Version},
    trust::{
        Action, FetchFailure, FetchRequest, Installed, MetadataCache, MetadataCheck, Outcome, Repository, TrustAnchors, VehicleIdentity,
    },
};
use switchback_tests::{
    desk::{Desk, HARDWARE, Named},
    model::Straight,
    server::Server,
};

use crate::{
    report::{Report, thread_cpu_ns},
    wire::{Vehicle, now},
};

const RELEASE: Named<'static> = Named { model: "vla-1", version: "1.0.0", counter: 1, tier: "ultra" };
const CHECKS: usize = 400;
const SIGNATURES: usize = 4_000;
/// As long as the Director's targets for one vehicle.
const MESSAGE_BYTES: usize = 600;

pub(crate) fn run(report: &mut Report) {
    let world = World::record();
    let note = format!(
        "{} files of both repositories, {} bytes, from the provisioned roots to a release to install; nothing held before; no network",
        world.served.len(),
        world.served.values().map(Vec::len).sum::<usize>()
    );
    report.add("vehicle_verify_ms", world.verify_ms(), "ms", &note);
    let director = world.served.iter().filter(|((repository, file), _)| *repository == Repository::Director && !file.contains("root"));
    let sizes: Vec<String> = director.clone().map(|((_, file), bytes)| format!("{file} {}", bytes.len())).collect();
    report.add("director_metadata_bytes", director.map(|(_, bytes)| bytes.len()).sum::<usize>() as f64, "B", &sizes.join(", "));

    let note = format!("one core, {MESSAGE_BYTES} bytes, through `PublicKey::verify` as the metadata checks call it");
    report.add("ed25519_verify_per_s", verifications_per_s(&Ed25519Signer::from_seed([7; 32])), "1/s", &note);
    report.add("p256_verify_per_s", verifications_per_s(&P256Signer::from_scalar(&[7; 32]).unwrap()), "1/s", &note);
}

fn verifications_per_s(signer: &dyn Signer) -> f64 {
    let (key, message) = (signer.public_key(), [42; MESSAGE_BYTES]);
    let signature = signer.sign(&message).unwrap();
    let before = thread_cpu_ns();
    (0..SIGNATURES).for_each(|_| key.verify(&message, signature.as_bytes()).unwrap());
    SIGNATURES as f64 / (thread_cpu_ns() - before) as f64 * 1e9
}

/// What one vehicle was served, and what it is.
struct World {
    served: BTreeMap<(Repository, String), Vec<u8>>,
    anchors: TrustAnchors,
    identity: VehicleIdentity,
}

impl World {
    /// Lets a release reach one vehicle's metadata and keeps every file that its check asked for.
    fn record() -> Self {
        let server = Server::start();
        let desk = Desk::open(&server);
        desk.release(&Straight::new(0.001).write(), RELEASE);
        desk.roll_out(RELEASE.model, RELEASE.version);
        let mut vehicle = Vehicle::enroll(&server, &desk, 1);
        let read = |path| std::fs::read(path).unwrap();
        let anchors = TrustAnchors { director_root: read(desk.director_root()), image_root: read(desk.image_root()) };
        let identity = VehicleIdentity {
            vehicle_id: vehicle.id.clone(),
            ecu_serial: vehicle.ecu_serial.clone(),
            hardware_id: HardwareId::new(HARDWARE).unwrap(),
            tier: Tier::new(RELEASE.tier).unwrap(),
            region: Region::new("eu").unwrap(),
            sdk_version: Version::new(0, 1, 0),
            onnxruntime_version: Version::new(1, 23, 0),
            contract_versions: vec![1],
        };
        let mut world = Self { served: BTreeMap::new(), anchors, identity };
        let mut served = BTreeMap::new();
        world.check(|request| {
            let path = match request.repository {
                Repository::Director => vehicle.director(&request.file_name),
                Repository::Image => format!("/v1/image/metadata/{}", request.file_name),
            };
            let request_bytes = vehicle.get(&path, None);
            let answer = vehicle.ask(&request_bytes);
            match answer.status {
                200 => {
                    served.insert((request.repository, request.file_name.clone()), answer.body.clone());
                    Ok(answer.body)
                }
                404 => Err(FetchFailure::NotFound),
                other => panic!("{path} was answered with {other}"),
            }
        });
        world.served = served;
        world
    }

    /// Processor time of one check, mean: the kernel brings a thread's time up to date every few milliseconds, so that one check alone takes none.
    fn verify_ms(&self) -> f64 {
        let before = thread_cpu_ns();
        for _ in 0..CHECKS {
            self.check(|request| self.served.get(&(request.repository, request.file_name.clone())).cloned().ok_or(FetchFailure::NotFound));
        }
        (thread_cpu_ns() - before) as f64 / 1e6 / CHECKS as f64
    }

    /// Runs a check of a vehicle that holds nothing but its roots; it must end in the release.
    fn check(&self, mut fetch: impl FnMut(&FetchRequest) -> Result<Vec<u8>, FetchFailure>) {
        let cache = MetadataCache::provision(&self.anchors);
        let mut check = MetadataCheck::start(cache, self.identity.clone(), Installed::default(), now());
        loop {
            match check.next() {
                Action::Fetch(request) => check.fetched(fetch(&request)),
                Action::Persist { .. } | Action::Remove { .. } => check.persisted(),
                Action::Finished(Outcome::Install(_)) => return,
                Action::Finished(other) => panic!("the check ended with {other:?}"),
            }
        }
    }
}
