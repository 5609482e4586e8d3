//! The vehicles that a rollout is for.

use serde::{Deserialize, Serialize};

use super::Vehicle;

/// Lists of words; an empty list allows every vehicle, a filled one only those it names. All lists must allow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selector {
    /// Automakers.
    pub tenants: Vec<String>,
    /// Product levels.
    pub tiers: Vec<String>,
    /// Driving computers.
    pub hardware_ids: Vec<String>,
    /// Model lines.
    pub model_lines: Vec<String>,
    /// Markets.
    pub regions: Vec<String>,
}

impl Selector {
    /// Whether the rollout is for `vehicle`.
    #[must_use]
    pub fn selects(&self, vehicle: &Vehicle) -> bool {
        allows(&self.tenants, &vehicle.tenant)
            && allows(&self.tiers, &vehicle.tier)
            && allows(&self.hardware_ids, &vehicle.hardware_id)
            && allows(&self.model_lines, &vehicle.model_line)
            && allows(&self.regions, &vehicle.region)
    }

    /// All its words, for checks of their form and number.
    pub fn words(&self) -> impl Iterator<Item = &String> {
        let lists = [&self.tenants, &self.tiers, &self.hardware_ids, &self.model_lines, &self.regions];
        lists.into_iter().flatten()
    }
}

pub(super) fn allows(list: &[String], word: &str) -> bool {
    list.is_empty() || list.iter().any(|allowed| allowed == word)
}
