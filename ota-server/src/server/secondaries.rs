//! What a vehicle's other ECUs say, and what their Primary says of those that said nothing. Pure.

use std::collections::BTreeMap;

use switchback_signing::{
    metadata::{
        EcuSerial,
        vehicle::{EcuReport, UpdateState},
    },
    trust::report::VerifiedManifest,
};

use super::reports::{ReportError, installed};
use crate::{fleet::SecondaryState, registry::NewEvent};

/// What a manifest changed.
pub(super) struct Heard {
    /// ECUs of which something is to be written down.
    pub(super) changed: Vec<EcuSerial>,
    /// What is new and wrong.
    pub(super) troubles: Vec<Trouble>,
}

/// An ECU that refused an image, or gave no report.
pub(super) struct Trouble {
    ecu_serial: EcuSerial,
    text: String,
}

/// Takes the Secondaries' part of a manifest, or nothing when a report of it was seen before: the check against the inventory looked at
/// the counters before this report's turn came.
pub(super) fn hear(known: &mut BTreeMap<EcuSerial, SecondaryState>, manifest: &VerifiedManifest) -> Result<Heard, ReportError> {
    for report in manifest.secondaries() {
        let last = known.get(&report.ecu_serial).map_or(0, |state| state.report_counter);
        if report.counter <= last {
            return Err(ReportError::Replayed { counter: report.counter, last });
        }
    }
    let mut heard = Heard { changed: Vec::new(), troubles: Vec::new() };
    for report in manifest.secondaries() {
        let trouble = trouble(report);
        heard.note(known, &report.ecu_serial, |_| SecondaryState { report_counter: report.counter, installed: installed(report), trouble });
    }
    for silent in manifest.silent() {
        let trouble = format!("no report: {}", silent.reason.text);
        // What it said before stays what is known of it.
        heard.note(known, &silent.ecu_serial, |before| SecondaryState { trouble: Some(trouble), ..before.clone() });
    }
    Ok(heard)
}

impl Heard {
    fn note(
        &mut self,
        known: &mut BTreeMap<EcuSerial, SecondaryState>,
        ecu_serial: &EcuSerial,
        after: impl FnOnce(&SecondaryState) -> SecondaryState,
    ) {
        let state = known.entry(ecu_serial.clone()).or_default();
        let after = after(state);
        if let Some(text) = after.trouble.clone().filter(|_| after.trouble != state.trouble) {
            self.troubles.push(Trouble { ecu_serial: ecu_serial.clone(), text });
        }
        if after != *state {
            *state = after;
            self.changed.push(ecu_serial.clone());
        }
    }
}

impl Trouble {
    pub(super) fn event(self, vehicle_id: &str) -> NewEvent {
        let Self { ecu_serial, text } = self;
        NewEvent {
            kind: "secondary_trouble",
            rollout: None,
            vehicle_id: Some(vehicle_id.to_owned()),
            text: format!("ECU {ecu_serial} of vehicle {vehicle_id}: {text}"),
        }
    }
}

/// What is wrong by the ECU's own word.
fn trouble(report: &EcuReport) -> Option<String> {
    let refused = matches!(report.payload.update, UpdateState::Refused | UpdateState::RolledBack);
    let reason = report.attack_detected.as_ref().or(report.payload.reason.as_ref().filter(|_| refused))?;
    Some(format!("{} ({})", reason.text, reason.number))
}
