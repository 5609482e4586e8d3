//! The server's online keys, which the roots certify.

use std::{path::Path, slice};

use anyhow::Context;
use serde_json::Value;
use switchback_signing::{
    keys::{PublicKey, file::parse_public},
    metadata::{Root, RootRole},
};

use crate::{
    client::{Client, ServerArguments},
    failure::Hint,
    files,
};

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
