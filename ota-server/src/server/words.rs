//! Slips of the pen: words that nothing else has, and by which a vehicle or a rollout would never match anything.

use std::collections::BTreeSet;

use crate::rollout::{Rollout, Rules, Selector, Vehicle};

/// A warning of a `word` that none of `known` is. It is only missed when others of its kind are known.
pub(super) fn unknown(who: &str, kind: &str, word: &str, known: &BTreeSet<&str>) -> Option<String> {
    let missed = !known.is_empty() && !known.contains(word);
    let known = || known.iter().copied().collect::<Vec<_>>().join(", ");
    missed.then(|| format!("no {who} knows the {kind} {word}; they know {}", known()))
}

/// The words that vehicles, releases and approvals have.
#[derive(Default)]
pub(super) struct Known<'a> {
    tenants: BTreeSet<&'a str>,
    tiers: BTreeSet<&'a str>,
    hardware_ids: BTreeSet<&'a str>,
    model_lines: BTreeSet<&'a str>,
    regions: BTreeSet<&'a str>,
}

impl<'a> Known<'a> {
    pub(super) fn of(vehicles: impl Iterator<Item = &'a Vehicle>, rules: &'a Rules) -> Self {
        let mut known = Self::default();
        for vehicle in vehicles {
            known.tenants.insert(&vehicle.tenant);
            known.tiers.insert(&vehicle.tier);
            known.hardware_ids.insert(&vehicle.hardware_id);
            known.model_lines.insert(&vehicle.model_line);
            known.regions.insert(&vehicle.region);
        }
        for release in &rules.releases {
            known.tiers.insert(&release.tier);
            known.hardware_ids.extend(release.hardware_ids.iter().map(String::as_str));
            known.regions.extend(release.regions.iter().map(String::as_str));
        }
        for approval in &rules.approvals {
            known.regions.insert(&approval.region);
            known.model_lines.extend(approval.model_lines.iter().map(String::as_str));
        }
        known
    }

    /// Warnings of the words in a rollout that are none of these.
    pub(super) fn missed_by(&self, rollout: &Rollout) -> Vec<String> {
        let Selector { tenants, tiers, hardware_ids, model_lines, regions } = &rollout.selector;
        let lines: BTreeSet<&String> = model_lines.iter().chain(rollout.waves.iter().flat_map(|wave| &wave.model_lines)).collect();
        let lists: [(&str, Vec<&String>, &BTreeSet<&str>); 5] = [
            ("tenant", tenants.iter().collect(), &self.tenants),
            ("tier", tiers.iter().collect(), &self.tiers),
            ("hardware", hardware_ids.iter().collect(), &self.hardware_ids),
            ("model line", lines.into_iter().collect(), &self.model_lines),
            ("region", regions.iter().collect(), &self.regions),
        ];
        let who = "vehicle, release or approval";
        let missed =
            lists.into_iter().flat_map(|(kind, words, known)| words.into_iter().filter_map(move |word| unknown(who, kind, word, known)));
        missed.collect()
    }
}
