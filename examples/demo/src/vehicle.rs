//! A vehicle of the fleet as a running program.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;

use crate::fleet::{HARDWARE_ID, Spec};
use crate::frames::FrameLog;
use crate::process::{Launch, Process};

/// What all vehicles are told at the factory.
pub(crate) struct Factory {
    /// Folder of the programs.
    pub(crate) programs: PathBuf,
    pub(crate) c_vehicle: PathBuf,
    /// Folder of this run: logs and stores go below it.
    pub(crate) run_dir: PathBuf,
    pub(crate) server: String,
    pub(crate) director_root: PathBuf,
    pub(crate) image_root: PathBuf,
    pub(crate) runtime: PathBuf,
}

/// One vehicle that drives.
pub(crate) struct Vehicle {
    pub(crate) spec: Spec,
    pub(crate) process: Process,
    pub(crate) log: FrameLog,
    /// Its own time counts from here.
    pub(crate) started: Instant,
    /// Why the server withholds the newest release from it, in the server's words.
    pub(crate) withheld: Option<String>,
}

/// One line in which a vehicle told what happened to an update.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// Since the start of the vehicle's program.
    pub(crate) time_s: f64,
    pub(crate) name: String,
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) text: String,
}

impl Event {
    /// `   12.34 s  shadow       vla-2 2.0.0  text`, as both programs print it.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let time_s = words.next()?.parse().ok()?;
        (words.next()? == "s").then_some(())?;
        let [name, model, version] = [words.next()?, words.next().unwrap_or(""), words.next().unwrap_or("")].map(str::to_owned);
        let text = words.map(shortened).collect::<Vec<_>>().join(" ");
        Some(Self { time_s, name, model, version, text })
    }

    /// The release does not drive, or not any more, and the text says why.
    pub(crate) fn is_refusal(&self) -> bool {
        self.name == "refused" || self.name == "rolled-back"
    }
}

/// A hash by its first digits; any other word as it is.
fn shortened(word: &str) -> String {
    let digits = word.trim_end_matches(',');
    let is_hash = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hash { word.replace(digits, &format!("{}\u{2026}", &digits[..12])) } else { word.to_owned() }
}

impl Vehicle {
    pub(crate) fn events(&self) -> Vec<Event> {
        self.process.lines().iter().filter_map(|line| Event::parse(line)).collect()
    }

    pub(crate) fn last_line(&self) -> String {
        self.process.lines().pop().unwrap_or_else(|| "(nothing yet)".to_owned())
    }

    /// No update is on its way.
    pub(crate) fn is_settled(&self) -> bool {
        self.events().last().is_none_or(|event| event.is_refusal() || event.name == "confirmed" || event.name == "idle")
    }

    /// The newest event about a release.
    pub(crate) fn last_event(&self, (model, version): (&str, &str)) -> Option<Event> {
        self.events().into_iter().rfind(|event| event.model == model && event.version == version)
    }
}

/// Steps per second of the vehicles in the background: slower than the camera, so that twenty share two cores. Simulated time is the same.
const BACKGROUND_HZ: &str = "10";
const BACKGROUND_NICENESS: i8 = 10;
/// Of the one that keeps the camera's pace: no other program of this machine may make it miss a frame, as none could on the road.
const REAL_TIME_NICENESS: i8 = -10;

impl Factory {
    /// Builds the vehicle and lets it drive off.
    pub(crate) fn build(&self, spec: Spec, token: &str) -> Result<Vehicle> {
        let csv = self.log_dir().join(format!("{}.csv", spec.id));
        let arguments = if spec.in_c { self.c_arguments(&spec, token, &csv) } else { self.rust_arguments(&spec, token, &csv) };
        let program = if spec.in_c { self.c_vehicle.clone() } else { self.programs.join("rust-vehicle") };
        let niceness = if spec.in_c { REAL_TIME_NICENESS } else { BACKGROUND_NICENESS };
        let launch = Launch { name: &spec.id, program: &program, arguments, log_dir: &self.log_dir(), niceness };
        Ok(Vehicle { started: Instant::now(), withheld: None, process: Process::start(launch)?, log: FrameLog::new(&csv), spec })
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.run_dir.join("logs")
    }

    pub(crate) fn store_of(&self, vehicle_id: &str) -> PathBuf {
        self.run_dir.join("vehicles").join(vehicle_id)
    }

    /// The simulator's own record of the C vehicle's drive.
    pub(crate) fn simulator_log(&self) -> PathBuf {
        self.log_dir().join("c-vehicle-road.json")
    }

    fn common(&self, spec: &Spec, token: &str, csv: &Path) -> Vec<String> {
        let mut words = Vec::new();
        let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
        add("--server", self.server.clone());
        add("--store", self.store_of(&spec.id).display().to_string());
        add("--director-root", self.director_root.display().to_string());
        add("--image-root", self.image_root.display().to_string());
        add("--runtime", self.runtime.display().to_string());
        add("--token", token.to_owned());
        add("--vehicle-id", spec.id.clone());
        add("--ecu-serial", spec.ecu_serial());
        add("--tier", spec.tier.name().to_owned());
        add("--region", spec.region.to_owned());
        add("--model-line", spec.model_line.to_owned());
        add("--seed", spec.seed.to_string());
        add("--log", csv.display().to_string());
        add("--activate", "now".to_owned());
        if spec.at_night {
            words.push("--night".to_owned());
        }
        words
    }

    fn c_arguments(&self, spec: &Spec, token: &str, csv: &Path) -> Vec<String> {
        let mut words = self.common(spec, token, csv);
        let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
        add("--hardware", HARDWARE_ID.to_owned());
        add("--road-sim", self.programs.join("road-sim").display().to_string());
        add("--sim-log", self.simulator_log().display().to_string());
        add("--length", crate::fleet::C_ROAD_LENGTH_M.to_string());
        add("--poll", "1".to_owned());
        words
    }

    fn rust_arguments(&self, spec: &Spec, token: &str, csv: &Path) -> Vec<String> {
        let mut words = self.common(spec, token, csv);
        let mut add = |name: &str, value: String| words.extend([name.to_owned(), value]);
        add("--hardware-id", HARDWARE_ID.to_owned());
        add("--hz", BACKGROUND_HZ.to_owned());
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_from_its_line() {
        let event = Event::parse("    3.20 s  refused      vla-3 3.0.0  shadow: the output is not finite");
        let expected = Event {
            time_s: 3.2,
            name: "refused".to_owned(),
            model: "vla-3".to_owned(),
            version: "3.0.0".to_owned(),
            text: "shadow: the output is not finite".to_owned(),
        };
        assert_eq!(event, Some(expected));
        assert_eq!(Event::parse("{\"frames\": 3}"), None);
    }

    #[test]
    fn a_hash_is_told_by_its_first_digits() {
        let hash = "0123456789ab".repeat(5) + "cdef";
        assert_eq!(shortened(&format!("{hash},")), "0123456789ab\u{2026},");
        assert_eq!(shortened("SHA-256"), "SHA-256");
    }
}
