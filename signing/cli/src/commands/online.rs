//! The server's online keys, which the roots certify.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    slice,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use switchback_signing::{
    keys::{KeyId, PublicKey, file::parse_public},
    metadata::{Root, RootRole},
    trust::Repository,
};

use crate::{
    client::{Client, ServerArguments},
    failure::Hint,
    files,
    output::table,
};

/// As much of a key id as tells keys apart, and as `root remove-key` takes.
const KEY_ID_CHARS: usize = 12;

/// Longest file of online keys, bytes.
const ONLINE_KEYS_BYTES_MAX: usize = 64 << 10;

/// The server's public keys that the roots certify.
pub(crate) struct OnlineKeys {
    image_snapshot: PublicKey,
    image_timestamp: PublicKey,
    director_targets: PublicKey,
    director_snapshot: PublicKey,
    director_timestamp: PublicKey,
}

impl OnlineKeys {
    /// New ones of the running server.
    pub(crate) fn make(server: &ServerArguments, replace: bool) -> anyhow::Result<Self> {
        let client = Client::new(server)?;
        Self::parse(&client.post("/v1/online-keys", &json!({ "replace": replace }))?, &client.url("/v1/online-keys"))
    }

    /// From a file that the server's operator handed over, or else from the running server.
    pub(crate) fn read(file: Option<&Path>, server: &ServerArguments) -> anyhow::Result<Self> {
        let (json, origin): (Value, String) = match file {
            Some(path) => {
                let bytes = files::read(path, ONLINE_KEYS_BYTES_MAX)?;
                (serde_json::from_slice(&bytes).with_context(|| format!("{} is no JSON", path.display()))?, path.display().to_string())
            }
            None => {
                let client = Client::new(server).hint(
                    "the roots certify the server's online keys: name the server with --server and --token-file, or a file with --online-keys",
                )?;
                (client.get("/v1/online-keys")?, client.url("/v1/online-keys"))
            }
        };
        Self::parse(&json, &origin)
    }

    fn parse(json: &Value, origin: &str) -> anyhow::Result<Self> {
        let key = |repository: &str, role: &str| {
            let place = || format!("{origin}: the key of {repository}.{role}");
            let object =
                json.get(repository).and_then(|repository| repository.get(role)).with_context(|| format!("{} is missing", place()))?;
            parse_public(&serde_json::to_vec(object)?).with_context(place)
        };
        Ok(Self {
            image_snapshot: key("image", "snapshot")?,
            image_timestamp: key("image", "timestamp")?,
            director_targets: key("director", "targets")?,
            director_snapshot: key("director", "snapshot")?,
            director_timestamp: key("director", "timestamp")?,
        })
    }

    /// Image repository: the server signs Snapshot and Timestamp.
    pub(crate) fn certify_in_image(&self, root: &mut Root) {
        root.set_role(RootRole::Snapshot, 1, slice::from_ref(&self.image_snapshot));
        root.set_role(RootRole::Timestamp, 1, slice::from_ref(&self.image_timestamp));
    }

    /// Director: the server signs everything but the root.
    pub(crate) fn certify_in_director(&self, root: &mut Root) {
        root.set_role(RootRole::Targets, 1, slice::from_ref(&self.director_targets));
        root.set_role(RootRole::Snapshot, 1, slice::from_ref(&self.director_snapshot));
        root.set_role(RootRole::Timestamp, 1, slice::from_ref(&self.director_timestamp));
    }
}

/// The online keys that a server holds and what they have signed, as `GET /v1/keys` gives it.
#[derive(Deserialize, Serialize)]
pub(crate) struct ServerKeys {
    image: RepositoryKeys,
    director: RepositoryKeys,
    sets: Sets,
}

#[derive(Deserialize, Serialize)]
struct RepositoryKeys {
    root: Option<RootVersion>,
    problem: Option<String>,
    roles: BTreeMap<String, RoleKeys>,
}

#[derive(Deserialize, Serialize)]
struct RootVersion {
    version: u64,
    expires: String,
}

#[derive(Deserialize, Serialize)]
struct RoleKeys {
    named: Vec<String>,
    held: Vec<HeldKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct HeldKey {
    key_id: String,
    r#use: String,
}

#[derive(Deserialize, Serialize)]
struct Sets {
    vehicles: u64,
    signed: u64,
    by_other_keys: u64,
    expired: u64,
    targets_expire: Option<String>,
    timestamp_expires: Option<String>,
}

impl ServerKeys {
    pub(crate) fn ask(server: &ServerArguments) -> anyhow::Result<Self> {
        Client::new(server)?.get("/v1/keys")
    }

    /// Why the server cannot sign, if it cannot.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.image.problem.as_deref().or(self.director.problem.as_deref())
    }

    /// How the root that the server has differs from `root`, the newest of the base; nothing when it is the same, or one before it.
    pub(crate) fn difference(&self, repository: Repository, root: &Root) -> Option<String> {
        let keys = if repository == Repository::Image { &self.image } else { &self.director };
        let there = keys.root.as_ref()?.version;
        if there > root.version {
            return Some(format!("the server has version {there} of the {repository} root, the base has version {}", root.version));
        }
        let named = |role: &str| {
            let keys = root.roles.iter().find(|(known, _)| known.name() == role)?.1;
            Some(keys.key_ids.iter().map(KeyId::as_str).collect::<BTreeSet<_>>())
        };
        let same = |(role, keys): &(&String, &RoleKeys)| {
            named(role).is_none_or(|named| keys.named.iter().map(String::as_str).collect::<BTreeSet<_>>() == named)
        };
        let (role, _) = keys.roles.iter().filter(|_| there == root.version).find(|role| !same(role))?;
        Some(format!("version {there} of the {repository} root names other keys for {role} on the server than in the base"))
    }

    pub(crate) fn describe(&self) -> String {
        let repositories = [("image", &self.image), ("director", &self.director)];
        let rows = repositories.iter().flat_map(|(name, repository)| repository.roles.iter().map(move |(role, keys)| keys.row(name, role)));
        let mut text = format!("\nthe server's online keys\n{}", table(&["ROLE", "EXPIRES", "KEYS"], &rows.collect::<Vec<_>>()));
        let Sets { vehicles, signed, by_other_keys, expired, targets_expire, .. } = &self.sets;
        text.push_str(&format!("metadata of the Director for {signed} of {vehicles} vehicles"));
        text.extend(targets_expire.iter().map(|time| format!(", the first expires at {time}")));
        if *by_other_keys + *expired > 0 {
            text.push_str(&format!("; of {by_other_keys} by older keys and of {expired} expired, to be renewed when they ask"));
        }
        text.push('\n');
        text
    }
}

impl RoleKeys {
    fn row(&self, repository: &str, role: &str) -> Vec<String> {
        let version = self.version.map_or_else(String::new, |version| format!(" {version}"));
        let keys: Vec<String> = self.held.iter().map(HeldKey::describe).collect();
        vec![format!("{repository} {role}{version}"), self.expires.clone().unwrap_or_default(), keys.join(", ")]
    }
}

impl HeldKey {
    fn describe(&self) -> String {
        let short: String = self.key_id.chars().take(KEY_ID_CHARS).collect();
        let word = match self.r#use.as_str() {
            "waits" => "waits for its root",
            "not_named" => "named by no root",
            used => used,
        };
        format!("{short} {word}")
    }
}
