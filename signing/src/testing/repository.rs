use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{NOW, key, public};
use crate::{
    keys::{Ed25519Signer, Signer},
    metadata::{Document, Freshness, MetaFile, Nonce, Root, RootRole, Snapshot, Targets, Timestamp, sign},
    time::UnixTime,
    trust::Repository,
};

/// One repository whose metadata a test may change before it is signed, and whose files it may change afterwards.
#[derive(Clone)]
pub struct TestRepository {
    /// The root that is signed next.
    pub root: Root,
    /// The timestamp that is signed next.
    pub timestamp: Timestamp,
    /// The snapshot that is signed next.
    pub snapshot: Snapshot,
    /// The top-level targets that are signed next.
    pub targets: Targets,
    /// What is served, by file name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Names of the keys that sign each role.
    pub signers: BTreeMap<String, Vec<String>>,
    prefix: &'static str,
    delegated: BTreeMap<String, Targets>,
}

impl TestRepository {
    /// A repository whose four roles each have one key, named such as `director-timestamp`; its root is published.
    pub fn new(repository: Repository) -> Self {
        let prefix = match repository {
            Repository::Director => "director",
            Repository::Image => "image",
        };
        let expires = NOW.plus_days(365);
        let mut root = Root::new(1, expires);
        let mut signers = BTreeMap::new();
        for role in RootRole::ALL {
            let name = format!("{prefix}-{}", role.name());
            root.set_role(role, 1, &[public(&name)]);
            signers.insert(role.name().to_string(), Vec::from([name]));
        }
        let snapshot = Snapshot::new(0, NOW.plus_days(30));
        let mut repository = Self {
            root,
            timestamp: Timestamp::new(0, NOW.plus_days(1), MetaFile::of(1, b"")),
            snapshot,
            targets: Targets::new(0, NOW.plus_days(90)),
            files: BTreeMap::new(),
            signers,
            prefix,
            delegated: BTreeMap::new(),
        };
        repository.publish_root();
        repository
    }

    /// Adds the metadata of a delegated role, signed by these keys; the delegation is the test's to write.
    pub fn add_role(&mut self, role: &str, signers: &[&str]) {
        self.delegated.insert(role.into(), Targets::new(0, NOW.plus_days(30)));
        self.signers.insert(role.into(), signers.iter().map(ToString::to_string).collect());
    }

    /// The metadata of a delegated role that is signed next.
    pub fn role(&mut self, role: &str) -> &mut Targets {
        self.delegated.get_mut(role).expect("the role was added")
    }

    /// Publishes all roles but root with the next version of each.
    pub fn publish(&mut self) {
        let mut listed = Vec::new();
        for (role, targets) in &mut self.delegated {
            targets.version += 1;
            listed.push((role.clone(), targets.clone()));
        }
        self.targets.version += 1;
        listed.push(("targets".into(), self.targets.clone()));
        for (role, targets) in listed {
            let bytes = self.sign(&role, &targets);
            self.snapshot.meta.insert(format!("{role}.json"), MetaFile::of(targets.version, &bytes));
            self.files.insert(format!("{}.{role}.json", targets.version), bytes);
        }
        self.publish_snapshot();
    }

    /// Publishes the next snapshot as it stands, and the timestamp of it.
    pub fn publish_snapshot(&mut self) {
        self.snapshot.version += 1;
        let bytes = self.sign("snapshot", &self.snapshot);
        self.timestamp.snapshot = MetaFile::of(self.snapshot.version, &bytes);
        self.files.insert(format!("{}.snapshot.json", self.snapshot.version), bytes);
        self.publish_timestamp();
    }

    /// Publishes the next timestamp as it stands.
    pub fn publish_timestamp(&mut self) {
        self.timestamp.version += 1;
        let bytes = self.sign("timestamp", &self.timestamp);
        self.files.insert("timestamp.json".into(), bytes);
    }

    /// Publishes the next timestamp as a Director that answers nonces does.
    pub fn sign_freshness(&mut self, signed_at: UnixTime, nonce: Option<Nonce>) {
        self.timestamp = self.timestamp.clone().with_freshness(&Freshness { signed_at, nonce });
        self.publish_timestamp();
    }

    /// Publishes the root as it stands, signed by the keys of the root role.
    pub fn publish_root(&mut self) {
        let bytes = self.sign("root", &self.root);
        self.files.insert(format!("{}.root.json", self.root.version), bytes);
    }

    /// Publishes the next root, in which `role` has a new key; root keys old and new sign it.
    pub fn rotate(&mut self, role: RootRole) {
        self.root.version += 1;
        let name = format!("{}-{}-{}", self.prefix, role.name(), self.root.version);
        self.root.set_role(role, 1, &[public(&name)]);
        let old = self.signers.insert(role.name().into(), Vec::from([name.clone()])).unwrap_or_default();
        if role == RootRole::Root {
            self.signers.insert("root".into(), old.into_iter().chain([name.clone()]).collect());
        }
        self.publish_root();
        self.signers.insert(role.name().into(), Vec::from([name]));
    }

    /// Signs a document with the keys of a role.
    pub fn sign<T: Document>(&self, role: &str, document: &T) -> Vec<u8> {
        let keys: Vec<Ed25519Signer> = self.signers[role].iter().map(|name| key(name)).collect();
        let signers: Vec<&dyn Signer> = keys.iter().map(|key| key as &dyn Signer).collect();
        sign(document, &signers).expect("a key in memory signs")
    }
}
