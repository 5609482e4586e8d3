//! What marks the metadata of an offline update: of one that travels in a file and lives longer than a poll.
//!
//! The mark is in the Timestamp, through which all else is reached. A vehicle takes marked metadata from a file alone and unmarked
//! metadata from the network alone: whoever copies a file could otherwise show its long-lived Timestamp to vehicles that are on line, and
//! hold them at an old release until it expires.

use alloc::string::{String, ToString};

use super::{
    MetadataError, Region, Targets, Tier, Timestamp,
    json::Json,
    object::{Fields, wrong},
};

const OFFLINE_UPDATE: &str = "offlineUpdate";

/// The vehicles that the Director's Targets of an offline update are for, when they are for more than one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfflineScope {
    /// Their tier.
    pub tier: Tier,
    /// The region in which the release is approved for them.
    pub region: Region,
}

impl Timestamp {
    /// The same for an offline update.
    #[must_use]
    pub fn for_offline_update(mut self) -> Self {
        self.extra.insert(OFFLINE_UPDATE.to_string(), Json::Bool(true));
        self
    }

    /// Whether this belongs to an offline update. Anything but the mark's absence counts: who does not know what it says must not take
    /// it for a Timestamp of a repository.
    pub fn is_for_offline_update(&self) -> bool {
        self.extra.contains_key(OFFLINE_UPDATE)
    }
}

impl Targets {
    /// The same for all vehicles of a scope.
    #[must_use]
    pub fn for_scope(mut self, scope: &OfflineScope) -> Self {
        let OfflineScope { tier, region } = scope;
        let scope = Json::object([("tier", Json::string(tier.as_str())), ("region", Json::string(region.as_str()))]);
        self.custom.insert(OFFLINE_UPDATE.to_string(), scope);
        self
    }

    /// The vehicles that these are for, when they name a scope in place of one vehicle.
    ///
    /// # Errors
    /// [`MetadataError`] when the scope cannot be read.
    pub fn scope(&self) -> Result<Option<OfflineScope>, MetadataError> {
        let Some(scope) = self.custom.get(OFFLINE_UPDATE) else { return Ok(None) };
        let mut fields = Fields::new(scope.clone(), String::from("custom.offlineUpdate"))?;
        let (tier, region) = (fields.parsed("tier", "the name of a tier")?, fields.parsed("region", "a region")?);
        // A condition that is not understood must not be ignored.
        match fields.rest().keys().next() {
            Some(unknown) => Err(wrong(unknown, "known to this version; update the vehicle's software first")),
            None => Ok(Some(OfflineScope { tier, region })),
        }
    }
}
