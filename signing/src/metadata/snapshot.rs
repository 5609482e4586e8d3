use alloc::{collections::BTreeMap, format, string::String};

use super::{
    Document, Hashes, MetadataError, Role, SPEC_VERSION,
    envelope::check_spec_version,
    json::Json,
    object::{Fields, ObjectWriter, integer},
};
use crate::time::UnixTime;

const SNAPSHOT_FILE: &str = "snapshot.json";

/// What one metadata file says about another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaFile {
    /// Version of the file, from 1 on.
    pub version: u64,
    /// Length of the file, bytes. Optional in TUF.
    pub length: Option<u64>,
    /// Digests of the file; empty when none is given. Optional in TUF; Uptane requires one of the Timestamp (5.2.5).
    pub hashes: Hashes,
    /// Unknown fields.
    pub extra: BTreeMap<String, Json>,
}

/// Timestamp metadata: what the newest snapshot is (TUF specification, section 4.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timestamp {
    /// Version, from 1 on.
    pub version: u64,
    /// When this timestamp expires.
    pub expires: UnixTime,
    /// The newest snapshot.
    pub snapshot: MetaFile,
    /// Unknown fields.
    pub extra: BTreeMap<String, Json>,
}

/// Snapshot metadata: which versions of all Targets metadata belong together (TUF specification, section 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Version, from 1 on.
    pub version: u64,
    /// When this snapshot expires.
    pub expires: UnixTime,
    /// Targets metadata by file name without version, such as `targets.json`.
    pub meta: BTreeMap<String, MetaFile>,
    /// Unknown fields.
    pub extra: BTreeMap<String, Json>,
}

impl MetaFile {
    /// Describes a file by version, length and digest.
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        Self { version, length: Some(bytes.len() as u64), hashes: Hashes::of(bytes), extra: BTreeMap::new() }
    }

    fn read(json: Json, place: String) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(json, place)?;
        let (version, length) = (fields.positive("version")?, fields.optional_unsigned("length")?);
        let hashes = fields.optional_fields("hashes")?.map(Hashes::read).transpose()?.unwrap_or_default();
        Ok(Self { version, length, hashes, extra: fields.rest() })
    }

    fn write(&self) -> Json {
        ObjectWriter::new(&self.extra)
            .put("version", integer(self.version))
            .put_some("length", self.length.map(integer))
            .put_some("hashes", (!self.hashes.is_empty()).then(|| self.hashes.write()))
            .finish()
    }
}

impl Timestamp {
    /// A timestamp of this snapshot.
    pub fn new(version: u64, expires: UnixTime, snapshot: MetaFile) -> Self {
        Self { version, expires, snapshot, extra: BTreeMap::new() }
    }
}

impl Snapshot {
    /// A snapshot that lists nothing yet.
    pub fn new(version: u64, expires: UnixTime) -> Self {
        Self { version, expires, meta: BTreeMap::new(), extra: BTreeMap::new() }
    }
}

impl Document for Timestamp {
    const TYPE: &'static str = "timestamp";

    fn from_json(signed: Json) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(signed, "signed")?;
        check_spec_version(&mut fields)?;
        let mut meta = fields.fields("meta")?;
        let snapshot = MetaFile::read(meta.required(SNAPSHOT_FILE)?, meta.place_of(SNAPSHOT_FILE))?;
        let (version, expires) = (fields.positive("version")?, fields.time("expires")?);
        Ok(Self { version, expires, snapshot, extra: fields.rest() })
    }

    fn to_json(&self) -> Json {
        let meta = Json::object([(SNAPSHOT_FILE, self.snapshot.write())]);
        write_header(&self.extra, self.version, self.expires).put("meta", meta).finish()
    }
}

impl Document for Snapshot {
    const TYPE: &'static str = "snapshot";

    fn from_json(signed: Json) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(signed, "signed")?;
        check_spec_version(&mut fields)?;
        let entries = fields.fields("meta")?.entries();
        let meta = entries.map(|(place, name, json)| Ok((name, MetaFile::read(json, place)?)));
        Ok(Self {
            meta: meta.collect::<Result<_, MetadataError>>()?,
            version: fields.positive("version")?,
            expires: fields.time("expires")?,
            extra: fields.rest(),
        })
    }

    fn to_json(&self) -> Json {
        let meta = self.meta.iter().map(|(name, file)| (name.clone(), file.write())).collect();
        write_header(&self.extra, self.version, self.expires).put("meta", Json::Object(meta)).finish()
    }
}

impl Role for Timestamp {
    fn version(&self) -> u64 {
        self.version
    }

    fn expires(&self) -> UnixTime {
        self.expires
    }
}

impl Role for Snapshot {
    fn version(&self) -> u64 {
        self.version
    }

    fn expires(&self) -> UnixTime {
        self.expires
    }
}

pub(super) fn write_header(extra: &BTreeMap<String, Json>, version: u64, expires: UnixTime) -> ObjectWriter {
    ObjectWriter::new(extra)
        .put("spec_version", Json::string(SPEC_VERSION))
        .put("version", integer(version))
        .put("expires", Json::String(format!("{expires}")))
}
