//! A vehicle that drives a release of the real server, with an attacker on the network between them or at the server's own door.

use std::collections::BTreeMap;

use switchback_signing::{
    keys::{Ed25519Signer, file::parse_secret},
    metadata::{MetaFile, Role, RootRole, Signed, Snapshot, TargetMeta, Targets, Timestamp, VehicleId, sign},
    time::UnixTime,
    trust::Attack,
};
use switchback_tests::{
    car::{Car, Garage},
    desk::{Desk, Named},
    model::{ModelFolder, Straight},
    paper::{self, ask},
    proxy::{Fate, Proxy, Request},
    server::Server,
};

/// The vehicle.
pub(super) const ID: &str = "p7-1";
/// Where its Director's metadata is.
pub(super) const DIRECTOR: &str = "/v1/director/p7-1/metadata/";
/// Where the Image repository's metadata is.
pub(super) const IMAGE: &str = "/v1/image/metadata/";

const NAMES: [(&str, &str); 4] = [("vla-1", "1.0.0"), ("vla-2", "2.0.0"), ("vla-3", "3.0.0"), ("vla-4", "4.0.0")];

/// Release number `counter`.
pub(super) fn named(counter: u64) -> Named<'static> {
    let (model, version) = NAMES[counter as usize - 1];
    Named { model, version, counter, tier: "ultra" }
}

/// Its model. The curvature tells who drives.
pub(super) fn model(counter: u64) -> ModelFolder {
    Straight::new(0.001 * counter as f32).write()
}

/// The target path of its chunk index.
pub(super) fn index_path(counter: u64) -> String {
    let Named { model, version, .. } = named(counter);
    format!("ultra/{model}-{version}.index")
}

/// A vehicle that drives release 1.
pub(super) struct Field {
    pub(super) server: Server,
    pub(super) desk: Desk,
    pub(super) proxy: Proxy,
    pub(super) car: Car,
    /// What the vehicle has complained of so far; it may do so again before it meets what comes next.
    met: Vec<String>,
    garage: Garage,
}

impl Field {
    pub(super) fn new() -> Self {
        Self::on(Server::start())
    }

    pub(super) fn on(server: Server) -> Self {
        Self::with(server, |garage| garage)
    }

    /// With a vehicle that is not the usual one.
    pub(super) fn with(server: Server, configure: impl FnOnce(Garage) -> Garage) -> Self {
        let desk = Desk::open(&server);
        desk.release(&model(1), named(1));
        desk.roll_out_until("vla-1", "1.0.0", 100);
        let proxy = Proxy::start(server.url()).unwrap();
        let garage = configure(Garage::new(&desk, ID, "ultra", "eu"));
        let mut car = garage.start(proxy.url());
        assert_eq!(car.until_confirmed(), "vla-1 1.0.0");
        car.until_checked();
        Self { server, desk, proxy, car, met: Vec::new(), garage }
    }

    /// What the vehicle is built from.
    pub(super) fn garage(&self) -> &Garage {
        &self.garage
    }

    /// Publishes a release and offers it to everybody.
    pub(super) fn offer(&self, counter: u64) {
        self.desk.release(&model(counter), named(counter));
        self.roll_out(counter);
    }

    pub(super) fn roll_out(&self, counter: u64) {
        let Named { model, version, .. } = named(counter);
        self.desk.roll_out_until(model, version, 100);
    }

    /// The attacker answers these requests.
    pub(super) fn answer(&self, files: Files) {
        self.proxy.set_rule(move |request| match files.get(&request.path) {
            Some(bytes) if request.method == "GET" => Fate::Answer(200, bytes.clone()),
            _ => Fate::Pass,
        });
    }

    /// The vehicle refuses what it is shown by this name. Nothing of it drives, the next report tells of it, and so does the server.
    #[track_caller]
    pub(super) fn refuses(&mut self, number: u32, name: &str, attack: Attack) {
        let (drives, seen) = (self.car.active(), self.proxy.requests().len());
        self.complains(number, name);
        let report = self.car.until_reported(&self.proxy, seen, |report| report["attack_detected"]["name"] == name);
        let text = report["attack_detected"]["text"].as_str().unwrap();
        assert!(text.starts_with(&format!("{attack}: ")), "{text}");
        let told = format!("{name} ({number}): {attack}: ");
        self.desk.vehicle_until(ID, |vehicle| {
            let mut attacks = vehicle["attacks"].as_array().unwrap().iter();
            attacks.any(|attack| attack["text"].as_str().unwrap().starts_with(&told))
        });
        assert_eq!((self.car.active(), self.car.frames_lost), (drives, 0));
    }

    /// The vehicle complains of this, which is no attack: every network does it. Nothing changes.
    #[track_caller]
    pub(super) fn meets(&mut self, number: u32, name: &str) {
        let drives = self.car.active();
        self.complains(number, name);
        assert_eq!((self.car.active(), self.car.frames_lost), (drives, 0));
    }

    #[track_caller]
    fn complains(&mut self, number: u32, name: &str) {
        let met = &self.met;
        let is_new = |found: &String| found == name || !met.contains(found);
        let event = self.car.until(|event| event.reason.as_ref().is_some_and(|reason| is_new(&reason.name)));
        let reason = event.reason.unwrap();
        assert_eq!((reason.number, reason.name.as_str()), (number, name), "{reason:?}");
        self.met.push(reason.name);
    }

    /// Nobody is in between any more, and the vehicle takes this release.
    #[track_caller]
    pub(super) fn takes(&mut self, counter: u64) {
        self.proxy.set_rule(|_| Fate::Pass);
        self.car.check_now();
        let Named { model, version, .. } = named(counter);
        assert_eq!(self.car.until_confirmed(), format!("{model} {version}"));
        assert_eq!((self.car.frames_lost, self.car.output.control.curvature_1pm), (0, 0.001 * counter as f32));
    }

    /// A file of the server that everybody can have.
    pub(super) fn image_file(&self, file: &str) -> Vec<u8> {
        let answer = ask(self.server.url(), "GET", &format!("{IMAGE}{file}"), &[], &[]);
        assert_eq!(answer.status, 200, "{file}: {answer:?}");
        answer.body
    }

    fn image_snapshot(&self) -> Snapshot {
        let timestamp = parse::<Timestamp>(&self.image_file("timestamp.json"));
        parse(&self.image_file(&format!("{}.snapshot.json", timestamp.snapshot.version)))
    }

    /// What the engineers have signed about a release.
    pub(super) fn listed(&self, counter: u64) -> TargetMeta {
        let version = self.image_snapshot().meta["vla-ultra.json"].version;
        parse::<Targets>(&self.image_file(&format!("{version}.vla-ultra.json"))).targets[&index_path(counter)].clone()
    }
}

/// Whether a request is for the vehicle's own metadata.
pub(super) fn of_director(request: &Request) -> bool {
    request.path.starts_with(DIRECTOR)
}

fn parse<T: Role>(bytes: &[u8]) -> T {
    Signed::<T>::parse(bytes, bytes.len()).unwrap().signed
}

/// What is answered for a path.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Who has copied the server's online keys.
pub(super) struct Thief {
    keys: BTreeMap<(&'static str, RootRole), Ed25519Signer>,
    expires: UnixTime,
}

impl Thief {
    pub(super) fn of(server: &Server) -> Self {
        let roles = [
            ("image", RootRole::Snapshot),
            ("image", RootRole::Timestamp),
            ("director", RootRole::Targets),
            ("director", RootRole::Snapshot),
            ("director", RootRole::Timestamp),
        ];
        let stolen = |(repository, role): (&'static str, RootRole)| {
            let path = server.data().join(format!("keys/{repository}-{}.json", role.name()));
            ((repository, role), parse_secret(&std::fs::read(path).unwrap()).unwrap())
        };
        Self { keys: roles.map(stolen).into(), expires: paper::now().plus_days(1) }
    }

    /// Director's metadata for the vehicle in which everything has this version.
    pub(super) fn director(&self, version: u64, targets: &[(String, TargetMeta)]) -> Files {
        let mut role = Targets::new(version, self.expires);
        role.vehicle_id = Some(VehicleId::new(ID).unwrap());
        role.targets.extend(targets.iter().cloned());
        let targets = sign(&role, &[&self.keys[&("director", RootRole::Targets)]]).unwrap();
        let mut snapshot = Snapshot::new(version, self.expires);
        snapshot.meta.insert("targets.json".to_owned(), MetaFile::of(version, &targets));
        let mut files = self.online("director", DIRECTOR, snapshot);
        files.insert(format!("{DIRECTOR}{version}.targets.json"), targets);
        files
    }

    /// Image repository's Snapshot and Timestamp of this version, of which some files are the thief's own.
    pub(super) fn image(&self, field: &Field, version: u64, own: &[(&str, u64, Vec<u8>)]) -> Files {
        let mut snapshot = Snapshot::new(version, self.expires);
        snapshot.meta = field.image_snapshot().meta;
        for (role, version, bytes) in own {
            snapshot.meta.insert(format!("{role}.json"), MetaFile::of(*version, bytes));
        }
        let mut files = self.online("image", IMAGE, snapshot);
        files.extend(own.iter().map(|(role, version, bytes)| (format!("{IMAGE}{version}.{role}.json"), bytes.clone())));
        files
    }

    fn online(&self, repository: &'static str, folder: &str, snapshot: Snapshot) -> Files {
        let version = snapshot.version;
        let snapshot = sign(&snapshot, &[&self.keys[&(repository, RootRole::Snapshot)]]).unwrap();
        let timestamp = Timestamp::new(version, self.expires, MetaFile::of(version, &snapshot));
        let timestamp = sign(&timestamp, &[&self.keys[&(repository, RootRole::Timestamp)]]).unwrap();
        [(format!("{folder}{version}.snapshot.json"), snapshot), (format!("{folder}timestamp.json"), timestamp)].into()
    }
}
