use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    Custom, Document, EcuImage, EcuSerial, HardwareId, Hashes, MetadataError, Role, RoleKeys, RootRole, VehicleId,
    envelope::check_spec_version,
    json::Json,
    object::{Fields, ObjectWriter, integer, strings, wrong},
    root::{read_keys, write_keys},
    snapshot::write_header,
};
use crate::{
    keys::{KeyId, KeyObject, PublicKey, Sha256Digest},
    time::UnixTime,
};

/// What tells an entry of several roles from that of one.
const ROLES_MIN: &str = "min_roles_in_agreement";

/// Most roles of one agreement: each is asked for every file, and a search visits 32.
const AGREEMENT_ROLES_MAX: usize = 16;

/// Most patterns that the roles of an agreement can share. Each role has a copy, so that a long list for many roles would take a hundred
/// times the memory of its file.
const AGREEMENT_PATHS_MAX: usize = 1_000;

/// Targets metadata, top-level or delegated: which files there are, and who else may say so (TUF specification, section 4.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Version, from 1 on.
    pub version: u64,
    /// When this metadata expires.
    pub expires: UnixTime,
    /// Files by path.
    pub targets: BTreeMap<String, TargetMeta>,
    /// Who else may list files.
    pub delegations: Option<Delegations>,
    /// In a Director's metadata the vehicle that it is for (`custom.vehicleId`; Standard, 5.2.3.2: against replay to another vehicle).
    pub vehicle_id: Option<VehicleId>,
    /// Unknown fields of `custom`.
    pub custom: BTreeMap<String, Json>,
    /// Unknown fields.
    pub extra: BTreeMap<String, Json>,
}

/// What Targets metadata says about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetMeta {
    /// Length, bytes.
    pub length: u64,
    /// Digests of the file.
    pub hashes: Hashes,
    /// The `custom` object.
    pub custom: BTreeMap<String, Json>,
    /// Unknown fields.
    pub extra: BTreeMap<String, Json>,
}

/// One ECU that a Director's target is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EcuAssignment {
    /// The ECU.
    pub ecu_serial: EcuSerial,
    /// What kind of computer the Director takes it for.
    pub hardware_id: HardwareId,
}

/// Who else may list files, in order of priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delegations {
    /// Every key of the delegated roles by its declared id.
    pub keys: BTreeMap<KeyId, KeyObject>,
    /// The delegated roles; an earlier one wins.
    pub roles: Vec<DelegatedRole>,
    /// Which of the roles are believed only together.
    pub agreements: Vec<Agreement>,
    /// Many roles alike, in place of `roles`.
    pub bins: Option<SuccinctRoles>,
    /// Unknown fields.
    pub extra: BTreeMap<String, Json>,
}

/// A role that may list certain files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegatedRole {
    /// Name of the role, such as `vla-ultra`.
    pub name: String,
    /// Its keys and threshold.
    pub keys: RoleKeys,
    /// Whether a search that reaches this role ends here even when the role does not list the file.
    pub terminating: bool,
    /// Which files it may list.
    pub paths: PathSet,
    /// Hardware it may list files for (`hardwareIds`, an Uptane delegation's condition); empty means all.
    pub hardware_ids: Vec<HardwareId>,
    /// Unknown fields.
    pub extra: BTreeMap<String, Json>,
}

/// Roles that must list the same before any of them is believed (a multi-role delegation; Uptane, 5.1.2.2 and 5.4.4.7, TAP 3). They
/// share paths, hardware and whether they terminate; in the file they are one entry of `roles`, which readers that do not know it refuse,
/// so that nobody takes one role's word for that of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// Names of the roles; where two sets of them agree, the one with the earliest role wins.
    pub roles: Vec<String>,
    /// How many of them must list the same (`min_roles_in_agreement`), from 1 on.
    pub roles_min: u64,
    /// Unknown fields.
    pub extra: BTreeMap<String, Json>,
}

/// Hash bins that share their keys (`succinct_roles`; TUF specification 1.0.34, section 4.5 and TAP 15): every path belongs to the
/// one whose number begins the SHA-256 of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuccinctRoles {
    /// Their keys and threshold.
    pub keys: RoleKeys,
    /// How many bits of the digest number a bin, 1 to 32.
    pub bit_length: u32,
    /// What the bins' names begin with; `-` and the number in hexadecimal follow.
    pub name_prefix: String,
    /// Unknown fields.
    pub extra: BTreeMap<String, Json>,
}

/// A set of target paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathSet {
    /// Shell-style patterns: `*` and `?` stand for any characters but `/`; case counts.
    Patterns(Vec<String>),
    /// Beginnings of the hexadecimal SHA-256 of the path.
    HashPrefixes(Vec<String>),
}

impl Targets {
    /// Metadata that lists nothing yet.
    pub fn new(version: u64, expires: UnixTime) -> Self {
        Self {
            version,
            expires,
            targets: BTreeMap::new(),
            delegations: None,
            vehicle_id: None,
            custom: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }
}

impl TargetMeta {
    /// Describes a chunk index that belongs to a release.
    pub fn of_release(index: &[u8], custom: &Custom) -> Self {
        Self::of_digest(index.len() as u64, Sha256Digest::of(index)).with_shall_match(custom.to_json())
    }

    /// Describes an image for a Secondary.
    pub fn of_image(image: &[u8], block: &EcuImage) -> Self {
        Self::of_digest(image.len() as u64, Sha256Digest::of(image)).with_shall_match(block.to_json())
    }

    /// Describes a file by length and digest alone.
    pub fn of_digest(length: u64, sha256: Sha256Digest) -> Self {
        Self { length, hashes: Hashes::of_sha256(sha256), custom: BTreeMap::new(), extra: BTreeMap::new() }
    }

    /// The block that Director and Image repository must say alike.
    ///
    /// # Errors
    /// [`MetadataError`] when it is missing or a field of it is missing or wrong.
    pub fn release(&self) -> Result<Custom, MetadataError> {
        Custom::from_json(self.block()?)
    }

    /// Whether the file is the chunk index of a release. A block that names no bundle is that of a Secondary's image, and a file without
    /// a block is neither.
    pub fn is_release(&self) -> bool {
        matches!(self.shall_match(), Some(Json::Object(block)) if block.contains_key("bundle"))
    }

    /// The part of the block that every image has, a release's or a Secondary's.
    ///
    /// # Errors
    /// [`MetadataError`] when it is missing or a field of it is missing or wrong.
    pub fn ecu_image(&self) -> Result<EcuImage, MetadataError> {
        EcuImage::from_json(self.block()?)
    }

    fn block(&self) -> Result<Json, MetadataError> {
        self.shall_match().cloned().ok_or_else(|| MetadataError::Missing { place: "custom.shallMatch".to_string() })
    }

    fn read(json: Json, place: String) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(json, place)?;
        let length = fields.unsigned("length")?;
        let hashes = Hashes::read(fields.fields("hashes")?)?;
        let custom = fields.optional_fields("custom")?.map(Fields::rest).unwrap_or_default();
        Ok(Self { length, hashes, custom, extra: fields.rest() })
    }

    fn write(&self) -> Json {
        ObjectWriter::new(&self.extra)
            .put("length", integer(self.length))
            .put("hashes", self.hashes.write())
            .put_some("custom", some_object(&self.custom))
            .finish()
    }
}

impl Delegations {
    /// Adds a role at the lowest priority, with its keys.
    pub fn add(&mut self, role: DelegatedRole, keys: &[PublicKey]) {
        self.keys.extend(keys.iter().map(|key| (key.key_id(), KeyObject::from(key))));
        self.roles.push(role);
    }

    /// Lets one more key sign for the role `name`; whether anything changed.
    pub fn add_key(&mut self, name: &str, key: &PublicKey) -> bool {
        let role = self.roles.iter_mut().find(|role| role.name == name);
        role.is_some_and(|role| role.keys.add(&mut self.keys, key))
    }

    /// Lets a key no longer sign for the role `name`; whether anything changed.
    pub fn remove_key(&mut self, name: &str, key: &PublicKey) -> bool {
        let role = self.roles.iter_mut().find(|role| role.name == name);
        let changed = role.is_some_and(|role| role.keys.remove(&self.keys, key));
        self.forget_keys();
        changed
    }

    /// Delegates no longer to the role `name`, nor to those with which it must agree, which would otherwise be believed alone; forgets
    /// keys that are of no other role. Whether anything changed.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.roles.len();
        let together = self.agreement_of(name).map_or_else(|| Vec::from([name.to_string()]), |agreement| agreement.roles.clone());
        self.roles.retain(|role| !together.contains(&role.name));
        self.agreements.retain(|agreement| agreement.roles != together);
        self.forget_keys();
        self.roles.len() != before
    }

    /// Drops keys that sign for no role.
    fn forget_keys(&mut self) {
        let of_roles = self.roles.iter().flat_map(|role| &role.keys.key_ids);
        let named: BTreeSet<&KeyId> = of_roles.chain(self.bins.iter().flat_map(|bins| &bins.keys.key_ids)).collect();
        self.keys.retain(|key_id, _| named.contains(key_id));
    }

    /// Lets the roles of these names, which are there already and next to each other, be believed only when `roles_min` of them list
    /// the same. An agreement that one of them was part of is replaced.
    ///
    /// # Errors
    /// [`MetadataError`] when there are not at least two such roles, when their delegations differ, or when so many cannot agree.
    pub fn require_agreement(&mut self, names: &[&str], roles_min: u64) -> Result<(), MetadataError> {
        let is_named = |role: &DelegatedRole| names.contains(&role.name.as_str());
        let members: Vec<DelegatedRole> = self.roles.iter().filter(|role| is_named(role)).cloned().collect();
        let at = self.roles.iter().position(is_named).unwrap_or_default();
        let agreement = Agreement { roles: members.iter().map(|role| role.name.clone()).collect(), roles_min, extra: BTreeMap::new() };
        agreement.check(&members)?;
        let (keys, agreements) = (self.keys.clone(), Vec::from([agreement.clone()]));
        Self { keys, roles: members.clone(), agreements, ..Self::default() }.check_agreements()?;
        // One entry of the file: at the place of the first, which lets none of them be more important than it was.
        self.roles.retain(|role| !is_named(role));
        self.roles.splice(at..at, members);
        self.agreements.retain(|other| !other.roles.iter().any(|name| names.contains(&name.as_str())));
        self.agreements.push(agreement);
        Ok(())
    }

    /// That no key counts for two of the roles that must agree: whoever has it would be believed as both, and the word of the other, who
    /// is there to be asked, would not be needed.
    ///
    /// # Errors
    /// [`MetadataError`] when two roles of an agreement share a key, under whatever ids.
    pub fn check_agreements(&self) -> Result<(), MetadataError> {
        let by_name: BTreeMap<&str, &DelegatedRole> = self.roles.iter().map(|role| (role.name.as_str(), role)).collect();
        for agreement in &self.agreements {
            let mut seen = BTreeSet::new();
            for role in agreement.roles.iter().filter_map(|name| by_name.get(name.as_str())) {
                let keys = role.keys.key_ids.iter().filter_map(|id| self.keys.get(id)?.public_key());
                let keys: BTreeSet<&PublicKey> = keys.collect();
                if !keys.is_disjoint(&seen) {
                    return Err(wrong(
                        "signed.delegations.roles[].roles",
                        "a list of roles that share no key: one key would count for two",
                    ));
                }
                seen.extend(keys);
            }
        }
        Ok(())
    }

    /// The agreement that a role is part of.
    pub fn agreement_of(&self, role: &str) -> Option<&Agreement> {
        self.agreements.iter().find(|agreement| agreement.roles.iter().any(|name| name == role))
    }

    fn read(mut fields: Fields) -> Result<Self, MetadataError> {
        let keys = read_keys(fields.fields("keys")?)?;
        let bins = fields.optional_fields("succinct_roles")?.map(SuccinctRoles::read).transpose()?;
        let place = fields.place_of("roles");
        let entries = match fields.optional_array("roles")? {
            Some(entries) if bins.is_none() => entries,
            None if bins.is_some() => Vec::new(),
            _ => return Err(wrong(&place, "given, or else succinct_roles, and not both")),
        };
        let (mut roles, mut agreements): (Vec<DelegatedRole>, Vec<Agreement>) = (Vec::new(), Vec::new());
        for entry in entries {
            if entry.member(ROLES_MIN).is_none() {
                roles.push(DelegatedRole::read(entry)?);
                continue;
            }
            let (members, agreement) = Agreement::read(entry)?;
            roles.extend(members);
            agreements.push(agreement);
        }
        let mut times = BTreeMap::new();
        roles.iter().for_each(|role| *times.entry(&role.name).or_insert(0) += 1);
        if agreements.iter().flat_map(|agreement| &agreement.roles).any(|name| times.get(name) != Some(&1)) {
            return Err(wrong(&place, "a list that names each role of an agreement once"));
        }
        let delegations = Self { keys, roles, agreements, bins, extra: fields.rest() };
        delegations.check_agreements()?;
        Ok(delegations)
    }

    fn write(&self) -> Json {
        let entry = |role: &DelegatedRole| match self.agreement_of(&role.name) {
            None => Some(role.write()),
            Some(agreement) if agreement.roles.first() == Some(&role.name) => {
                let members = self.roles.iter().filter(|role| agreement.roles.contains(&role.name));
                Some(agreement.write(role, members))
            }
            Some(_) => None,
        };
        let roles = self.bins.is_none().then(|| Json::Array(self.roles.iter().filter_map(entry).collect()));
        ObjectWriter::new(&self.extra)
            .put("keys", write_keys(&self.keys))
            .put_some("roles", roles)
            .put_some("succinct_roles", self.bins.as_ref().map(SuccinctRoles::write))
            .finish()
    }
}

impl DelegatedRole {
    /// A role that may list the files of these patterns, not terminating, for any hardware.
    pub fn new(name: impl Into<String>, threshold: u64, keys: &[PublicKey], patterns: &[&str]) -> Self {
        Self {
            name: name.into(),
            keys: RoleKeys::new(keys.iter().map(PublicKey::key_id).collect(), threshold),
            terminating: false,
            paths: PathSet::Patterns(patterns.iter().map(ToString::to_string).collect()),
            hardware_ids: Vec::new(),
            extra: BTreeMap::new(),
        }
    }

    fn read(json: Json) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(json, "signed.delegations.roles[]")?;
        Ok(Self {
            name: read_name(&mut fields)?,
            keys: RoleKeys::read(&mut fields)?,
            terminating: fields.boolean("terminating")?,
            paths: PathSet::read(&mut fields)?,
            hardware_ids: fields.optional_parsed_list("hardwareIds", "a list of hardware ids")?,
            extra: fields.rest(),
        })
    }

    fn write(&self) -> Json {
        self.write_condition(self.keys.write(ObjectWriter::new(&self.extra)).put("name", Json::string(&self.name)))
    }

    /// For what the role is.
    fn write_condition(&self, writer: ObjectWriter) -> Json {
        let hardware_ids = (!self.hardware_ids.is_empty()).then(|| strings(&self.hardware_ids));
        let (paths_name, paths) = match &self.paths {
            PathSet::Patterns(patterns) => ("paths", patterns),
            PathSet::HashPrefixes(prefixes) => ("path_hash_prefixes", prefixes),
        };
        writer
            .put("terminating", Json::Bool(self.terminating))
            .put(paths_name, strings(paths))
            .put_some("hardwareIds", hardware_ids)
            .finish()
    }
}

fn read_name(fields: &mut Fields) -> Result<String, MetadataError> {
    let place = fields.place_of("name");
    let name = fields.string("name")?;
    if name.is_empty() || RootRole::ALL.iter().any(|role| role.name() == name) {
        return Err(wrong(&place, "the name of a delegated role"));
    }
    Ok(name)
}

impl Agreement {
    fn read(json: Json) -> Result<(Vec<DelegatedRole>, Self), MetadataError> {
        let mut fields = Fields::new(json, "signed.delegations.roles[]")?;
        let roles_min = fields.positive(ROLES_MIN)?;
        let (terminating, paths) = (fields.boolean("terminating")?, PathSet::read(&mut fields)?);
        let hardware_ids = fields.optional_parsed_list("hardwareIds", "a list of hardware ids")?;
        let member = |json| {
            let mut fields = Fields::new(json, "signed.delegations.roles[].roles[]")?;
            let (name, keys) = (read_name(&mut fields)?, RoleKeys::read(&mut fields)?);
            let (paths, hardware_ids) = (paths.clone(), hardware_ids.clone());
            Ok(DelegatedRole { name, keys, terminating, paths, hardware_ids, extra: fields.rest() })
        };
        let members = fields.array("roles")?;
        if members.len() > AGREEMENT_ROLES_MAX || paths.len() > AGREEMENT_PATHS_MAX {
            return Err(wrong("signed.delegations.roles[]", "an agreement of at most 16 roles over 1000 patterns"));
        }
        let members: Vec<DelegatedRole> = members.into_iter().map(member).collect::<Result<_, MetadataError>>()?;
        let agreement = Self { roles: members.iter().map(|role| role.name.clone()).collect(), roles_min, extra: fields.rest() };
        agreement.check(&members)?;
        Ok((members, agreement))
    }

    /// That the roles can agree, and are delegated the same.
    fn check(&self, members: &[DelegatedRole]) -> Result<(), MetadataError> {
        let place = "signed.delegations.roles[]";
        let condition = |role: &DelegatedRole| (role.terminating, role.paths.clone(), role.hardware_ids.clone());
        if members.len() < 2 {
            return Err(wrong(&alloc::format!("{place}.roles"), "a list of at least two roles"));
        }
        if self.roles_min == 0 || self.roles_min > members.len() as u64 {
            return Err(wrong(&alloc::format!("{place}.{ROLES_MIN}"), "an integer from 1 to the number of roles"));
        }
        if members.iter().any(|role| condition(role) != condition(&members[0])) {
            return Err(wrong(&alloc::format!("{place}.roles"), "a list of roles with the same paths, hardware and end"));
        }
        Ok(())
    }

    fn write<'a>(&self, condition: &DelegatedRole, members: impl Iterator<Item = &'a DelegatedRole>) -> Json {
        let member = |role: &DelegatedRole| role.keys.write(ObjectWriter::new(&role.extra)).put("name", Json::string(&role.name)).finish();
        let writer = ObjectWriter::new(&self.extra).put(ROLES_MIN, integer(self.roles_min));
        condition.write_condition(writer.put("roles", Json::Array(members.map(member).collect())))
    }
}

impl SuccinctRoles {
    /// The bin that a path belongs to.
    pub fn name_of(&self, path: &str) -> String {
        let [first, second, third, fourth, ..] = *Sha256Digest::of(path.as_bytes()).as_bytes();
        let number = u32::from_be_bytes([first, second, third, fourth]) >> (32 - self.bit_length);
        // As many digits as the highest number has.
        let digits = usize::try_from(self.bit_length.div_ceil(4)).unwrap_or_default();
        format!("{}-{number:0digits$x}", self.name_prefix)
    }

    fn read(mut fields: Fields) -> Result<Self, MetadataError> {
        let place = fields.place_of("bit_length");
        let bit_length = u32::try_from(fields.positive("bit_length")?).ok().filter(|bits| *bits <= 32);
        Ok(Self {
            keys: RoleKeys::read(&mut fields)?,
            bit_length: bit_length.ok_or_else(|| wrong(&place, "an integer from 1 to 32"))?,
            name_prefix: fields.string("name_prefix")?,
            extra: fields.rest(),
        })
    }

    fn write(&self) -> Json {
        self.keys
            .write(ObjectWriter::new(&self.extra))
            .put("bit_length", integer(self.bit_length.into()))
            .put("name_prefix", Json::string(&self.name_prefix))
            .finish()
    }
}

impl PathSet {
    /// Whether the set contains a target path.
    pub fn contains(&self, path: &str) -> bool {
        match self {
            Self::Patterns(patterns) => patterns.iter().any(|pattern| matches_path(pattern, path)),
            Self::HashPrefixes(prefixes) => {
                let digest = Sha256Digest::of(path.as_bytes()).to_hex();
                prefixes.iter().any(|prefix| digest.starts_with(prefix.as_str()))
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Patterns(list) | Self::HashPrefixes(list) => list.len(),
        }
    }

    fn read(fields: &mut Fields) -> Result<Self, MetadataError> {
        let place = fields.place_of("paths");
        let patterns = fields.optional_strings("paths")?;
        let prefixes = fields.optional_strings("path_hash_prefixes")?;
        match (patterns, prefixes) {
            (Some(patterns), None) => Ok(Self::Patterns(patterns)),
            (None, Some(prefixes)) => Ok(Self::HashPrefixes(prefixes)),
            _ => Err(wrong(&place, "given, or else path_hash_prefixes, and not both")),
        }
    }
}

/// Whether a pattern matches a path, segment by segment, so that no wildcard crosses a `/`.
fn matches_path(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut segments) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if matches_segment(pattern, segment) => {}
            _ => return false,
        }
    }
}

/// Shell-style matching without backtracking further than the last `*`: a longer match of an earlier `*` can never be needed.
fn matches_segment(pattern: &str, segment: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), segment.chars().collect());
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(&wanted) if wanted == '?' || wanted == text[read] => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((star_at, star_read)) = star else { return false };
                star = Some((star_at, star_read + 1));
                (at, read) = (star_at + 1, star_read + 1);
            }
        }
    }
    pattern[at..].iter().all(|&rest| rest == '*')
}

impl Document for Targets {
    const TYPE: &'static str = "targets";

    fn from_json(signed: Json) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(signed, "signed")?;
        check_spec_version(&mut fields)?;
        let entries = fields.fields("targets")?.entries();
        let targets = entries.map(|(place, path, json)| Ok((path, TargetMeta::read(json, place)?)));
        let targets = targets.collect::<Result<_, MetadataError>>()?;
        let delegations = fields.optional_fields("delegations")?.map(Delegations::read).transpose()?;
        let mut custom = fields.optional_fields("custom")?;
        let vehicle_id = custom.as_mut().map(|custom| custom.optional_parsed("vehicleId", "a vehicle id")).transpose()?;
        Ok(Self {
            version: fields.positive("version")?,
            expires: fields.time("expires")?,
            targets,
            delegations,
            vehicle_id: vehicle_id.flatten(),
            custom: custom.map(Fields::rest).unwrap_or_default(),
            extra: fields.rest(),
        })
    }

    fn to_json(&self) -> Json {
        let targets = self.targets.iter().map(|(path, meta)| (path.clone(), meta.write())).collect();
        let vehicle_id = self.vehicle_id.as_ref().map(|id| Json::string(id.as_str()));
        let custom = ObjectWriter::new(&self.custom).put_some("vehicleId", vehicle_id).finish();
        let custom = (custom != Json::Object(BTreeMap::new())).then_some(custom);
        write_header(&self.extra, self.version, self.expires)
            .put("targets", Json::Object(targets))
            .put_some("delegations", self.delegations.as_ref().map(Delegations::write))
            .put_some("custom", custom)
            .finish()
    }
}

impl Role for Targets {
    fn version(&self) -> u64 {
        self.version
    }

    fn expires(&self) -> UnixTime {
        self.expires
    }
}

fn some_object(members: &BTreeMap<String, Json>) -> Option<Json> {
    (!members.is_empty()).then(|| Json::Object(members.clone()))
}

#[cfg(test)]
mod tests;
