//! What the network that the vehicle is on may be used for: the OEM knows its contract, and whether it is the owner's garage.

use std::time::Duration;

use switchback_signing::metadata::vehicle::Reason;

use super::reason::{self, NETWORK_BUDGET, NETWORK_NONE};

/// Time until the program is asked again that allowed no download: a vehicle that comes home should not wait long.
pub(super) const NETWORK_INTERVAL: Duration = Duration::from_secs(30);

/// What a network may be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetworkUse {
    /// Whatever is to be downloaded.
    #[default]
    Unmetered,
    /// This release at the cost of so many bytes. Counted are the bytes that came while this was the answer, since the vehicle was opened or
    /// another release was begun; [`Transfer::metered_bytes`] tells how many that are.
    Metered {
        /// Most bytes.
        bytes_max: u64,
    },
    /// Nothing large for now. Metadata and reports, which are some kilobytes, still come and go.
    None,
}

/// A download about which the program is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Name of the model.
    pub model: String,
    /// Version of the model.
    pub version: String,
    /// Release counter of the model.
    pub release_counter: u64,
    /// Bytes that are still to be downloaded at most: what is on the disk already is left out as soon as that is known.
    pub missing_bytes: u64,
    /// Bytes that came while the network was metered, since the vehicle was opened or another release was begun.
    pub metered_bytes: u64,
}

/// How the network is used for one release.
#[derive(Debug, Default)]
pub(super) struct NetworkBudget {
    release_counter: u64,
    metered_bytes: u64,
    /// The last answer.
    network: NetworkUse,
    /// It is on record that the download waits.
    pub(super) waits: bool,
}

impl NetworkBudget {
    /// Begins to count anew with another release.
    pub(super) fn begin(&mut self, release_counter: u64) {
        if self.release_counter != release_counter {
            *self = Self { release_counter, waits: self.waits, ..Self::default() };
        }
    }

    pub(super) fn metered_bytes(&self) -> u64 {
        self.metered_bytes
    }

    /// Takes the program's answer; returns how many bytes may be asked for, of which `next` at least are needed.
    pub(super) fn allow(&mut self, network: NetworkUse, next: u64) -> Result<u64, Reason> {
        self.network = network;
        let left = match network {
            NetworkUse::Unmetered => return Ok(u64::MAX),
            NetworkUse::None => {
                return Err(reason::reason(NETWORK_NONE, "network_not_allowed", "the vehicle's software allows no downloads for now"));
            }
            NetworkUse::Metered { bytes_max } => bytes_max.saturating_sub(self.metered_bytes),
        };
        if left < next {
            let text = format!(
                "{} bytes of this release came over a metered network and the next {next} are more than the vehicle's software allows there",
                self.metered_bytes
            );
            return Err(reason::reason(NETWORK_BUDGET, "network_budget_used", text));
        }
        Ok(left)
    }

    /// Counts what came since the last answer.
    pub(super) fn came(&mut self, bytes: u64) {
        if matches!(self.network, NetworkUse::Metered { .. }) {
            self.metered_bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_metered_bytes_count_and_the_next_ones_must_fit() {
        let mut budget = NetworkBudget::default();
        budget.begin(7);
        assert_eq!(budget.allow(NetworkUse::Unmetered, 900).unwrap(), u64::MAX);
        budget.came(900);
        let metered = NetworkUse::Metered { bytes_max: 100 };
        assert_eq!(budget.allow(metered, 60).unwrap(), 100);
        budget.came(60);
        assert_eq!(budget.metered_bytes(), 60);
        let reason = budget.allow(metered, 60).unwrap_err();
        assert_eq!((reason.number, reason.name.as_str()), (506, "network_budget_used"));
        assert!(reason.text.starts_with("60 bytes of this release") && reason.text.contains("next 60"), "{}", reason.text);
        assert_eq!(budget.allow(metered, 40).unwrap(), 40);
        let reason = budget.allow(NetworkUse::None, 0).unwrap_err();
        assert_eq!((reason.number, reason.name.as_str()), (505, "network_not_allowed"));
        budget.begin(7);
        assert_eq!(budget.metered_bytes(), 60, "the same release goes on");
        budget.begin(8);
        assert_eq!(budget.allow(metered, 100).unwrap(), 100);
    }
}
