//! A delta as a Director names it to one vehicle.

use alloc::{borrow::ToOwned, string::String};

use super::{
    MetadataError, TargetMeta,
    json::Json,
    object::{Fields, wrong},
};
use crate::digest::Sha256Digest;

const DELTA: &str = "delta";

/// How the path of a delta's index ends; its data lies beside it, under the path without the last part.
const INDEX_ENDS: &str = ".delta.index";

/// A way from the release that a vehicle has to the one that it is assigned. It saves bytes and is trusted with nothing: what it restores is
/// held against the full index, so that a wrong one costs its download.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaRef {
    /// SHA-256 of the chunk index of the release that it starts from.
    pub base_sha256: Sha256Digest,
    /// Path of its index among the targets of the Image repository.
    pub path: String,
    /// Length of its index, bytes.
    pub length: u64,
    /// SHA-256 of its index.
    pub sha256: Sha256Digest,
}

impl DeltaRef {
    /// Where its data lies among the targets, without digest.
    pub fn data_path(&self) -> &str {
        self.path.strip_suffix(".index").unwrap_or(&self.path)
    }

    /// Whether a path is one of a delta's index.
    pub fn is_index_path(path: &str) -> bool {
        path.strip_suffix(INDEX_ENDS).is_some_and(|stem| !stem.is_empty() && !stem.ends_with('/'))
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`MetadataError`] when something is missing or is not what it should be.
    pub fn from_json(json: Json, place: &str) -> Result<Self, MetadataError> {
        let mut fields = Fields::new(json, place)?;
        let base_sha256 = fields.fields("base")?.digest("sha256")?;
        let mut index = fields.fields("index")?;
        let (path, length, sha256) = (index.string("path")?, index.unsigned("length")?, index.digest("sha256")?);
        if !Self::is_index_path(&path) {
            return Err(wrong(&index.place_of("path"), "a path that ends in .delta.index"));
        }
        Ok(Self { base_sha256, path, length, sha256 })
    }

    /// Writes it.
    pub fn to_json(&self) -> Json {
        let base = Json::object([("sha256", Json::String(self.base_sha256.to_hex()))]);
        // Lengths are bounded far below what an integer of canonical JSON takes.
        let length = Json::Integer(i64::try_from(self.length).unwrap_or(i64::MAX));
        let index = [("path", Json::string(&self.path)), ("length", length), ("sha256", Json::String(self.sha256.to_hex()))];
        Json::object([("base", base), ("index", Json::object(index))])
    }
}

impl TargetMeta {
    /// The same file, with a delta for the one vehicle that it is assigned to. Beside the block that both repositories must say alike,
    /// because each vehicle has another base.
    #[must_use]
    pub fn with_delta(mut self, delta: &DeltaRef) -> Self {
        self.custom.insert(DELTA.to_owned(), delta.to_json());
        self
    }

    /// The delta, as it stands in a Director's metadata.
    pub fn delta(&self) -> Option<&Json> {
        self.custom.get(DELTA)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::metadata::json;

    #[test]
    fn a_delta_is_read_as_it_was_written_and_nothing_else_is() {
        let delta = DeltaRef {
            base_sha256: Sha256Digest::of(b"base"),
            path: "ultra/vla-2-2.0.0.from-1.delta.index".into(),
            length: 1234,
            sha256: Sha256Digest::of(b"index"),
        };
        let meta = TargetMeta::of_digest(1, Sha256Digest::of(b"")).with_delta(&delta);
        assert_eq!(DeltaRef::from_json(meta.delta().unwrap().clone(), "custom.delta").unwrap(), delta);
        assert_eq!(delta.data_path(), "ultra/vla-2-2.0.0.from-1.delta");
        let read = |text: &str| DeltaRef::from_json(json::parse(text.as_bytes(), 1000).unwrap(), "custom.delta").unwrap_err().to_string();
        let hash = "0".repeat(64);
        for (text, expected) in [
            ("7".to_owned(), "custom.delta is not an object"),
            ("{}".to_owned(), "custom.delta.base is missing"),
            (format!(r#"{{"base":{{"sha256":"{hash}"}}}}"#), "custom.delta.index is missing"),
            (
                format!(r#"{{"base":{{"sha256":"{hash}"}},"index":{{"path":"ultra/x.index","length":1,"sha256":"{hash}"}}}}"#),
                "custom.delta.index.path is not a path that ends in .delta.index",
            ),
        ] {
            assert_eq!(read(&text), expected, "{text}");
        }
        for path in [".delta.index", "ultra/.delta.index", "ultra/x.delta", ""] {
            assert!(!DeltaRef::is_index_path(path), "{path:?}");
        }
    }
}
