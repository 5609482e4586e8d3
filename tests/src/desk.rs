//! The release engineer's desk: a base directory and the `switchback` program.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use serde_json::Value;
use switchback_signing::{
    keys::pem::SecretKey,
    metadata::{Custom, Signed, TargetMeta, Targets, sign},
};
use tempfile::TempDir;

use crate::{
    PATIENCE,
    model::ModelFolder,
    programs::{fail, program, succeed},
    server::Server,
};

/// Hardware id of every vehicle in the scenarios.
pub const HARDWARE: &str = "drive-a";

/// Where releases are made and signed: two of alice, bob and carol must sign, for the tiers `ultra` and `ultra-se`.
pub struct Desk {
    folder: TempDir,
    server: String,
    token_file: PathBuf,
}

/// A packed release.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The `.tar.zst`.
    pub bundle: PathBuf,
    /// Its chunk index.
    pub index: PathBuf,
}

/// What a release is called and for whom it is.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// Name of the model.
    pub model: &'a str,
    /// Version of the model.
    pub version: &'a str,
    /// Release counter.
    pub counter: u64,
    /// Tier of the vehicles.
    pub tier: &'a str,
}

impl Desk {
    /// Holds the ceremony with the online keys of a server, and publishes the roots.
    pub fn open(server: &Server) -> Self {
        Self::open_with(server, &[])
    }

    /// The same, with more words for `init`.
    pub fn open_with(server: &Server, words: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let desk = Self { folder, server: server.url().to_owned(), token_file: server.token_file() };
        desk.succeed(
            &[&["init", "--unencrypted", "--signers", "alice,bob,carol", "--threshold", "2", "--tiers", "ultra,ultra-se"], words].concat(),
            &[("--base", &desk.base())],
        );
        desk.publish();
        desk
    }

    /// The base directory.
    pub fn base(&self) -> PathBuf {
        self.folder.path().join("base")
    }

    /// The Director's root that vehicles are provisioned with.
    pub fn director_root(&self) -> PathBuf {
        self.base().join("director/1.root.json")
    }

    /// The Image repository's root that vehicles are provisioned with.
    pub fn image_root(&self) -> PathBuf {
        self.base().join("image/1.root.json")
    }

    /// Packs a model folder.
    pub fn pack(&self, model: &ModelFolder, named: Named<'_>) -> Bundle {
        pack(model, named, self.folder.path())
    }

    /// Packs a model folder, encrypted, signs it with alice and bob, publishes and approves it; returns it and the file of its content key.
    pub fn release_encrypted(&self, model: &ModelFolder, named: Named<'_>) -> (Bundle, PathBuf) {
        let printed = succeed(pack_command(model, named, self.folder.path()).arg("--encrypt"));
        let packed: Value = serde_json::from_str(&printed).unwrap();
        let bundle = Bundle::of(&packed);
        self.release_packed(&bundle, ["alice", "bob"], named);
        (bundle, PathBuf::from(packed["content_key"].as_str().unwrap()))
    }

    /// Tries to pack a model folder that must be refused; returns why it was.
    pub fn pack_refused(&self, model: &ModelFolder, named: Named<'_>) -> String {
        fail(&mut pack_command(model, named, self.folder.path()))
    }

    /// One keyholder signs a bundle.
    pub fn sign(&self, key: &str, bundle: &Bundle) {
        self.succeed(&["sign", "--key", key], &[("--base", &self.base()), ("", &bundle.bundle)]);
    }

    /// Alice and bob sign a release with something in its metadata that `switchback sign` would not write.
    pub fn sign_altered(&self, bundle: &Bundle, named: Named<'_>, alter: impl FnOnce(&mut Custom)) {
        self.sign("alice", bundle);
        let draft = self.base().join(format!("drafts/vla-{}.json", named.tier));
        let bytes = std::fs::read(&draft).unwrap();
        let mut targets = Signed::<Targets>::parse(&bytes, bytes.len()).unwrap().signed;
        let path = format!("{}/{}-{}.index", named.tier, named.model, named.version);
        let mut release = targets.targets[&path].release().unwrap();
        alter(&mut release);
        targets.targets.insert(path, TargetMeta::of_release(&std::fs::read(&bundle.index).unwrap(), &release));
        let [alice, bob] = ["alice", "bob"].map(|name| self.base().join(format!("keys/release-{name}.pem")));
        let [alice, bob] = [alice, bob].map(|path| SecretKey::from_pem(&std::fs::read_to_string(path).unwrap(), None).unwrap());
        std::fs::write(&draft, sign(&targets, &[&alice, &bob]).unwrap()).unwrap();
    }

    /// Sends to the server what was signed.
    pub fn publish(&self) {
        self.succeed(&["publish"], &[("--base", &self.base())]);
    }

    /// Packs, signs with alice and bob, publishes and approves for the region `eu`.
    pub fn release(&self, model: &ModelFolder, named: Named<'_>) -> Bundle {
        self.release_signed_by(["alice", "bob"], model, named)
    }

    /// As [`Desk::release`], with the signatures of these two.
    pub fn release_signed_by(&self, keyholders: [&str; 2], model: &ModelFolder, named: Named<'_>) -> Bundle {
        let bundle = self.pack(model, named);
        self.release_packed(&bundle, keyholders, named);
        bundle
    }

    fn release_packed(&self, bundle: &Bundle, keyholders: [&str; 2], named: Named<'_>) {
        for keyholder in keyholders {
            self.sign(keyholder, bundle);
        }
        self.publish();
        self.approve(named.model, named.version, "eu");
    }

    /// As [`Desk::release`], with images that other ECUs must run beside it, by their hardware.
    pub fn release_with(&self, model: &ModelFolder, named: Named<'_>, companions: &[(&str, &Path)]) -> Bundle {
        let bundle = self.pack(model, named);
        let named_files = companions.iter().map(|(hardware, file)| format!("--companion={hardware}={}", file.display()));
        let named_files: Vec<String> = named_files.collect();
        for key in ["alice", "bob"] {
            let words: Vec<&str> = ["sign", "--key", key].into_iter().chain(named_files.iter().map(String::as_str)).collect();
            self.succeed(&words, &[("--base", &self.base()), ("", &bundle.bundle)]);
        }
        self.publish();
        self.approve(named.model, named.version, "eu");
        bundle
    }

    /// Both roots name new online keys of the server. Two keyholders of three sign, and it is published.
    ///
    /// `more` goes to the order for new keys, such as `--replace`.
    pub fn rotate_online_keys(&self, more: &[&str]) {
        let base = self.base();
        self.succeed(&[&["root", "online-keys", "--repository", "image", "--new"], more].concat(), &[("--base", &base)]);
        self.succeed(&["root", "online-keys", "--repository", "director"], &[("--base", &base)]);
        self.sign_roots(&["alice", "bob"]);
        self.publish();
    }

    /// These keyholders sign the drafts of both roots.
    pub fn sign_roots(&self, keyholders: &[&str]) {
        for repository in ["image", "director"] {
            for keyholder in keyholders {
                self.succeed(&["root", "sign", "--repository", repository, "--key", keyholder], &[("--base", &self.base())]);
            }
        }
    }

    /// Records an approval.
    pub fn approve(&self, model: &str, version: &str, region: &str) {
        let words =
            ["approval", "add", "--model", model, "--version", version, "--region", region, "--authority", "KBA", "--number", "E1-1"];
        self.succeed(&words, &[]);
    }

    /// Creates and starts a rollout in one wave over everybody, which pauses at the first failure; returns its number.
    pub fn roll_out(&self, model: &str, version: &str) -> u64 {
        self.roll_out_until(model, version, 1)
    }

    /// As [`Desk::roll_out`], but it pauses only after so many failures.
    pub fn roll_out_until(&self, model: &str, version: &str, failures: u32) -> u64 {
        let failures = failures.to_string();
        let words =
            ["rollout", "create", "--name", model, "--model", model, "--version", version, "--wave", "percent=100", "--failure-count"];
        let id = self.succeed(&[&words[..], &[&failures]].concat(), &[])["id"].as_u64().unwrap();
        self.succeed(&["rollout", "start", &id.to_string()], &[]);
        id
    }

    /// What the server says about a rollout.
    pub fn rollout(&self, id: u64) -> Value {
        self.succeed(&["rollout", "status", &id.to_string()], &[])
    }

    /// What the server says about a rollout as soon as `wanted` accepts it: what vehicles report arrives when it arrives.
    pub fn rollout_until(&self, id: u64, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let rollout = self.rollout(id);
            if wanted(&rollout) {
                return rollout;
            }
            assert!(Instant::now() < end, "the rollout came to nothing else than {rollout:#}");
        }
    }

    /// What the server says about a vehicle.
    pub fn vehicle(&self, id: &str) -> Value {
        self.succeed(&["vehicle", "show", id], &[])
    }

    /// What the server says about a vehicle as soon as `wanted` accepts it.
    pub fn vehicle_until(&self, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let vehicle = self.vehicle(id);
            if wanted(&vehicle) {
                return vehicle;
            }
            assert!(Instant::now() < end, "of the vehicle there is nothing else than {vehicle:#}");
        }
    }

    /// Makes the one-time token of a vehicle.
    pub fn enroll(&self, id: &str, tier: &str, region: &str) -> String {
        let words =
            ["vehicle", "enroll", id, "--tenant", "acme", "--tier", tier, "--hardware", HARDWARE, "--model-line", "P7", "--region", region];
        self.succeed(&words, &[])["token"].as_str().unwrap().to_owned()
    }

    /// Runs `switchback` with words and with options whose values are paths; returns the JSON that it printed.
    pub fn succeed(&self, words: &[&str], paths: &[(&str, &Path)]) -> Value {
        let printed = succeed(&mut self.command(words, paths));
        serde_json::from_str(&printed).unwrap_or(Value::Null)
    }

    /// As [`Desk::succeed`], for what must fail; returns the error text.
    pub fn fail(&self, words: &[&str], paths: &[(&str, &Path)]) -> String {
        fail(&mut self.command(words, paths))
    }

    fn command(&self, words: &[&str], paths: &[(&str, &Path)]) -> Command {
        let mut command = self.switchback();
        command.args(words).arg("--json");
        for (option, path) in paths {
            if !option.is_empty() {
                command.arg(option);
            }
            command.arg(path);
        }
        command
    }

    fn switchback(&self) -> Command {
        let mut command = Command::new(program("switchback"));
        command.env("SWITCHBACK_SERVER", &self.server).env("SWITCHBACK_TOKEN_FILE", &self.token_file);
        command
    }
}

/// Packs a model folder into `folder`; needs no keys.
pub fn pack(model: &ModelFolder, named: Named<'_>, folder: &Path) -> Bundle {
    let printed = succeed(&mut pack_command(model, named, folder));
    Bundle::of(&serde_json::from_str(&printed).unwrap())
}

impl Bundle {
    fn of(packed: &Value) -> Self {
        let path = |name: &str| PathBuf::from(packed[name].as_str().unwrap());
        Self { bundle: path("bundle"), index: path("index") }
    }
}

fn pack_command(model: &ModelFolder, named: Named<'_>, folder: &Path) -> Command {
    let mut command = Command::new(program("switchback"));
    command.args(["pack", "--json", "--name", named.model, "--version", named.version, "--tier", named.tier, "--hardware", HARDWARE]);
    command.args(["--release-counter", &named.counter.to_string()]).arg("--out").arg(folder.join("bundles"));
    command.arg("--model").arg(model.graph()).arg("--contract").arg(model.contract());
    for data in model.data() {
        command.arg("--data").arg(data);
    }
    if let Some(inputs) = model.inputs() {
        command.arg("--self-test-inputs").arg(inputs);
    }
    command
}
