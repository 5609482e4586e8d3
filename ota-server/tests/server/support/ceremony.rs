//! The people: their keys, and what they sign and upload.

use std::collections::BTreeMap;

use switchback_signing::{
    keys::{Ed25519Signer, PublicKey, Sha256Digest, Signer, file::parse_public},
    metadata::{
        BundleRef, Companion, Custom, DelegatedRole, Delegations, EcuImage, EncryptionMethod, HardwareId, Root, RootRole, TargetMeta,
        Targets, Tier, Version, sign,
    },
    time::UnixTime,
};

use super::{Control, Response, START};

/// Keys of a small vendor.
pub(crate) struct Ceremony {
    pub(crate) root: Ed25519Signer,
    pub(crate) targets: Ed25519Signer,
    pub(crate) engineers: [Ed25519Signer; 2],
    pub(crate) director_root: Ed25519Signer,
    pub(crate) online: serde_json::Value,
    pub(crate) expires: UnixTime,
    /// When the tiers' roles expire.
    pub(crate) release_expires: UnixTime,
    /// What the releases that are signed next need on other ECUs, with its bytes.
    pub(crate) companions: Vec<(Companion, Vec<u8>)>,
    /// How the bundles of the releases that are signed next are encrypted.
    pub(crate) encryption: Option<EncryptionMethod>,
    role_versions: BTreeMap<String, u64>,
    listed: BTreeMap<String, BTreeMap<String, TargetMeta>>,
}

impl Ceremony {
    /// Makes keys and learns the server's.
    pub(crate) fn new(server: &impl Control) -> Self {
        let key = |byte| Ed25519Signer::from_seed([byte; 32]);
        Self {
            root: key(1),
            targets: key(2),
            engineers: [key(3), key(4)],
            director_root: key(5),
            online: server.ask("GET", "/v1/online-keys", None),
            expires: START.plus_days(3650),
            release_expires: START.plus_days(3650),
            companions: Vec::new(),
            encryption: None,
            role_versions: BTreeMap::new(),
            listed: BTreeMap::new(),
        }
    }

    /// Publishes both roots and the delegations.
    pub(crate) fn begin(server: &impl Control) -> Self {
        let ceremony = Self::new(server);
        let uploads = [
            ("/v1/director/root/1.root.json", ceremony.director_root()),
            ("/v1/image/metadata/1.root.json", ceremony.image_root()),
            ("/v1/image/metadata/1.targets.json", ceremony.targets(1)),
        ];
        for (path, bytes) in uploads {
            let response = server.control_bytes("PUT", path, &bytes);
            assert_eq!(response.status, 200, "{path}: {}", response.text());
        }
        ceremony
    }

    fn online_key(&self, repository: &str, role: &str) -> PublicKey {
        parse_public(self.online[repository][role].to_string().as_bytes()).unwrap()
    }

    /// The online keys that the next roots name are those that the server has now.
    pub(crate) fn learn_online_keys(&mut self, server: &impl Control) {
        self.online = server.ask("GET", "/v1/online-keys", None);
    }

    pub(crate) fn image_root(&self) -> Vec<u8> {
        self.image_root_at(1)
    }

    pub(crate) fn image_root_at(&self, version: u64) -> Vec<u8> {
        let online = |role: &str| self.online_key("image", role);
        self.signed_image_root(version, &online("snapshot"), &online("timestamp"), self.expires)
    }

    pub(crate) fn signed_image_root(&self, version: u64, snapshot: &PublicKey, timestamp: &PublicKey, expires: UnixTime) -> Vec<u8> {
        let mut root = Root::new(version, expires);
        root.set_role(RootRole::Root, 1, &[self.root.public_key()]);
        root.set_role(RootRole::Targets, 1, &[self.targets.public_key()]);
        root.set_role(RootRole::Snapshot, 1, std::slice::from_ref(snapshot));
        root.set_role(RootRole::Timestamp, 1, std::slice::from_ref(timestamp));
        sign(&root, &[&self.root]).unwrap()
    }

    pub(crate) fn director_root(&self) -> Vec<u8> {
        self.director_root_at(1)
    }

    pub(crate) fn director_root_at(&self, version: u64) -> Vec<u8> {
        let mut root = Root::new(version, self.expires);
        root.set_role(RootRole::Root, 1, &[self.director_root.public_key()]);
        for role in [RootRole::Targets, RootRole::Snapshot, RootRole::Timestamp] {
            root.set_role(role, 1, &[self.online_key("director", role.name())]);
        }
        sign(&root, &[&self.director_root]).unwrap()
    }

    /// Top-level Targets: both engineers sign for each tier.
    pub(crate) fn targets(&self, version: u64) -> Vec<u8> {
        let keys = self.engineers.each_ref().map(Signer::public_key);
        let mut delegations = Delegations::default();
        for tier in ["ultra", "ultra-se"] {
            let role = DelegatedRole::new(format!("vla-{tier}"), 2, &keys, &[&format!("{tier}/*")]);
            delegations.add(role, &keys);
        }
        let mut targets = Targets::new(version, self.expires);
        targets.delegations = Some(delegations);
        sign(&targets, &[&self.targets]).unwrap()
    }

    /// Bytes of the chunk index that stands for a release.
    pub(crate) fn index(version: &str, tier: &str) -> Vec<u8> {
        format!("index of vla {version} for {tier}").into_bytes()
    }

    /// Bytes that stand for the bundle of a release.
    pub(crate) fn bundle(version: &str, tier: &str) -> Vec<u8> {
        format!("bundle of vla {version} for {tier}").into_bytes()
    }

    /// Uploads target bytes under their consistent name.
    pub(crate) fn upload(server: &impl Control, path: &str, bytes: &[u8]) -> Response {
        let (folder, name) = path.split_once('/').unwrap();
        server.control_bytes("PUT", &format!("/v1/image/targets/{folder}/{}.{name}", Sha256Digest::of(bytes)), bytes)
    }

    /// Adds a release to its tier's role and returns the role's next file, signed by `engineers`.
    pub(crate) fn sign_release(&mut self, version: &str, tier: &str, counter: u64, engineers: &[usize]) -> (String, Vec<u8>) {
        self.sign_content(version, tier, counter, engineers, &Self::index(version, tier))
    }

    /// As [`Self::sign_release`], with any chunk index.
    pub(crate) fn sign_content(&mut self, version: &str, tier: &str, counter: u64, engineers: &[usize], index: &[u8]) -> (String, Vec<u8>) {
        let bundle = Self::bundle(version, tier);
        let bundle_path = format!("{tier}/vla-{version}.tar.zst");
        let custom = Custom {
            release_counter: counter,
            hardware_ids: vec![HardwareId::new("orin").unwrap()],
            tier: Tier::new(tier).unwrap(),
            regions: Vec::new(),
            contract_version: 1,
            sdk_min: Version::new(0, 1, 0),
            onnxruntime_min: Version::new(1, 23, 0),
            model: "vla".to_owned(),
            version: version.to_owned(),
            bundle: BundleRef {
                path: bundle_path.clone(),
                length: bundle.len() as u64,
                sha256: Sha256Digest::of(&bundle),
                encryption: self.encryption,
            },
            companions: self.companions.iter().map(|(companion, _)| companion.clone()).collect(),
            extra: BTreeMap::new(),
        };
        let role = format!("vla-{tier}");
        let role_version = self.role_versions.entry(role.clone()).or_default();
        *role_version += 1;
        let listed = self.listed.entry(role.clone()).or_default();
        let target = TargetMeta::of_release(index, &custom);
        listed.insert(format!("{tier}/vla-{version}.index"), target);
        for (companion, image) in &self.companions {
            let block = EcuImage { release_counter: companion.release_counter, hardware_ids: vec![companion.hardware_id.clone()] };
            listed.insert(companion.path.clone(), TargetMeta::of_image(image, &block));
        }
        listed.insert(bundle_path, TargetMeta::of_digest(bundle.len() as u64, Sha256Digest::of(&bundle)));
        let mut targets = Targets::new(*role_version, self.release_expires);
        targets.targets = listed.clone();
        let signers: Vec<&dyn Signer> = engineers.iter().map(|engineer| &self.engineers[*engineer] as &dyn Signer).collect();
        (format!("/v1/image/metadata/{role_version}.{role}.json"), sign(&targets, &signers).unwrap())
    }

    /// Uploads the bytes of a release and publishes its metadata.
    pub(crate) fn publish(&mut self, server: &impl Control, version: &str, tier: &str, counter: u64) {
        let (path, bytes) = self.upload_release(server, version, tier, counter);
        let response = server.control_bytes("PUT", &path, &bytes);
        assert_eq!(response.status, 200, "{path}: {}", response.text());
    }

    /// Uploads the bytes of a release and returns its metadata, to be published.
    pub(crate) fn upload_release(&mut self, server: &impl Control, version: &str, tier: &str, counter: u64) -> (String, Vec<u8>) {
        let index = Self::upload(server, &format!("{tier}/vla-{version}.index"), &Self::index(version, tier));
        let bundle = Self::upload(server, &format!("{tier}/vla-{version}.tar.zst"), &Self::bundle(version, tier));
        assert_eq!((index.status, bundle.status), (201, 201), "{} {}", index.text(), bundle.text());
        self.sign_release(version, tier, counter, &[0, 1])
    }
}
