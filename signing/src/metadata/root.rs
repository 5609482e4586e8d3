use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

use super::{
    Document, MetadataError, Role, SPEC_VERSION,
    envelope::check_spec_version,
    json::Json,
    object::{Fields, ObjectWriter, integer, strings, wrong},
};
use crate::{
    keys::{KeyId, KeyObject, PublicKey},
    time::UnixTime,
};

/// Root metadata: which keys may sign for which role (TUF specification, section 4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    /// Version, from 1 on; each root is followed by exactly the next.
    pub version: u64,
    /// When this root expires.
    pub expires: UnixTime,
    /// Whether file names carry the version. We always write true; others' repositories may not.
    pub consistent_snapshot: bool,
    /// Every key by its declared id.
    pub keys: BTreeMap<KeyId, KeyObject>,
    /// Keys and thresholds of the four top-level roles.
    pub roles: BTreeMap<RootRole, RoleKeys>,
    /// Unknown fields.
    pub extra: BTreeMap<String, Json>,
    unknown_roles: BTreeMap<String, Json>,
}

/// A top-level role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RootRole {
    /// Says which keys to believe.
    Root,
    /// Says what the newest snapshot is.
    Timestamp,
    /// Says which versions of all Targets metadata belong together.
    Snapshot,
    /// Says which files there are, or who may say so.
    Targets,
}

/// The keys of a role and how many of them must sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleKeys {
    /// Declared ids of the keys.
    pub key_ids: Vec<KeyId>,
    /// How many distinct keys must sign, from 1 on.
    pub threshold: u64,
    /// Unknown fields; those of a delegated role are kept by [`super::DelegatedRole`].
    pub extra: BTreeMap<String, Json>,
}

impl RootRole {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Root, Self::Timestamp, Self::Snapshot, Self::Targets];

    /// The role's name in metadata and in file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
        }
    }
}

impl Root {
    /// A root without keys yet.
    pub fn new(version: u64, expires: UnixTime) -> Self {
        Self {
            version,
            expires,
            consistent_snapshot: true,
            keys: BTreeMap::new(),
            roles: BTreeMap::new(),
            extra: BTreeMap::new(),
            unknown_roles: BTreeMap::new(),
        }
    }

    /// Gives `role` these keys, replacing those it had; `threshold` of them must sign. Keys that no role names any more are removed.
    pub fn set_role(&mut self, role: RootRole, threshold: u64, keys: &[PublicKey]) {
        let mut key_ids = Vec::new();
        for key in keys {
            let key_id = key.key_id();
            self.keys.insert(key_id.clone(), KeyObject::from(key));
            key_ids.push(key_id);
        }
        self.roles.insert(role, RoleKeys::new(key_ids, threshold));
        self.forget_unnamed_keys();
    }

    /// Lets one more key sign for `role`; whether anything changed. The ids that others declared for their keys stay.
    pub fn add_key(&mut self, role: RootRole, key: &PublicKey) -> bool {
        self.roles.get_mut(&role).is_some_and(|role| role.add(&mut self.keys, key))
    }

    /// Lets a key no longer sign for `role`, under whatever ids; whether anything changed.
    pub fn remove_key(&mut self, role: RootRole, key: &PublicKey) -> bool {
        let changed = self.roles.get_mut(&role).is_some_and(|role| role.remove(&self.keys, key));
        self.forget_unnamed_keys();
        changed
    }

    fn forget_unnamed_keys(&mut self) {
        let named: BTreeSet<&KeyId> = self.roles.values().flat_map(|role| &role.key_ids).collect();
        self.keys.retain(|key_id, _| named.contains(key_id));
    }
}

impl Document for Root {
    const TYPE: &'static str = "root";

    fn from_json(signed: Json) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(signed, "signed")?;
        check_spec_version(&mut fields)?;
        let keys = read_keys(fields.fields("keys")?)?;
        let mut role_fields = fields.fields("roles")?;
        let mut roles = BTreeMap::new();
        for role in RootRole::ALL {
            let mut fields = role_fields.fields(role.name())?;
            let keys = RoleKeys::read(&mut fields)?;
            roles.insert(role, RoleKeys { extra: fields.rest(), ..keys });
        }
        Ok(Self {
            version: fields.positive("version")?,
            expires: fields.time("expires")?,
            consistent_snapshot: fields.optional_boolean("consistent_snapshot")?.unwrap_or(false),
            keys,
            roles,
            unknown_roles: role_fields.rest(),
            extra: fields.rest(),
        })
    }

    fn to_json(&self) -> Json {
        let roles = self.roles.iter().fold(ObjectWriter::new(&self.unknown_roles), |writer, (role, keys)| {
            writer.put(role.name(), keys.write(ObjectWriter::new(&keys.extra)).finish())
        });
        ObjectWriter::new(&self.extra)
            .put("spec_version", Json::string(SPEC_VERSION))
            .put("version", integer(self.version))
            .put("expires", Json::string(alloc::format!("{}", self.expires)))
            .put("consistent_snapshot", Json::Bool(self.consistent_snapshot))
            .put("keys", write_keys(&self.keys))
            .put("roles", roles.finish())
            .finish()
    }
}

impl Role for Root {
    fn version(&self) -> u64 {
        self.version
    }

    fn expires(&self) -> UnixTime {
        self.expires
    }
}

impl RoleKeys {
    /// These keys, `threshold` of which must sign.
    pub fn new(key_ids: Vec<KeyId>, threshold: u64) -> Self {
        Self { key_ids, threshold, extra: BTreeMap::new() }
    }

    /// Lists one more key, `known` being where the file keeps them. Nothing changes when the role has the key already, or when the
    /// file calls another key so.
    pub(super) fn add(&mut self, known: &mut BTreeMap<KeyId, KeyObject>, key: &PublicKey) -> bool {
        let key_id = key.key_id();
        let taken = known.get(&key_id).is_some_and(|object| object.public_key() != Some(key));
        if taken || self.key_ids.iter().any(|id| is_key(known, id, key)) {
            return false;
        }
        known.insert(key_id.clone(), KeyObject::from(key));
        self.key_ids.push(key_id);
        true
    }

    /// Lists a key no longer.
    pub(super) fn remove(&mut self, known: &BTreeMap<KeyId, KeyObject>, key: &PublicKey) -> bool {
        let before = self.key_ids.len();
        self.key_ids.retain(|id| !is_key(known, id, key));
        self.key_ids.len() < before
    }

    pub(super) fn read(fields: &mut Fields) -> Result<Self, MetadataError> {
        let place = fields.place_of("keyids");
        let key_ids: Vec<KeyId> = fields.strings("keyids")?.into_iter().map(KeyId::new).collect();
        let distinct: BTreeSet<&KeyId> = key_ids.iter().collect();
        if distinct.len() != key_ids.len() {
            return Err(wrong(&place, "a list of distinct key ids"));
        }
        Ok(Self::new(key_ids, fields.positive("threshold")?))
    }

    pub(super) fn write(&self, writer: ObjectWriter) -> ObjectWriter {
        let key_ids: Vec<&str> = self.key_ids.iter().map(KeyId::as_str).collect();
        writer.put("keyids", strings(&key_ids)).put("threshold", integer(self.threshold))
    }
}

fn is_key(known: &BTreeMap<KeyId, KeyObject>, id: &KeyId, key: &PublicKey) -> bool {
    known.get(id).and_then(KeyObject::public_key) == Some(key)
}

pub(super) fn read_keys(fields: Fields) -> Result<BTreeMap<KeyId, KeyObject>, MetadataError> {
    fields.entries().map(|(place, id, json)| Ok((KeyId::new(id), KeyObject::from_json(json, &place)?))).collect()
}

pub(super) fn write_keys(keys: &BTreeMap<KeyId, KeyObject>) -> Json {
    Json::Object(keys.iter().map(|(id, key)| (String::from(id.as_str()), key.to_json().clone())).collect())
}
