//! Where figures go, and how times become figures.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    time::Duration,
};

use serde_json::json;
use switchback_tests::workspace;

/// The table on the screen and the file of results.
pub(crate) struct Report {
    file: File,
}

impl Report {
    pub(crate) fn open() -> Self {
        let folder = workspace().join("target/bench");
        std::fs::create_dir_all(&folder).unwrap();
        let file = OpenOptions::new().create(true).append(true).open(folder.join("results.jsonl")).unwrap();
        Self { file }
    }

    pub(crate) fn add(&mut self, name: &str, value: f64, unit: &str, note: &str) {
        println!("{name:<28} {value:>12.3} {unit:<10} {note}");
        writeln!(self.file, "{}", json!({ "name": name, "value": value, "unit": unit, "note": note })).unwrap();
    }
}

/// The value below which `share` of the samples lie.
pub(crate) fn percentile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[((samples.len() - 1) as f64 * share).round() as usize]
}

/// Processor time of this process so far.
pub(crate) fn cpu_time() -> Duration {
    cpu_time_of("self")
}

/// Processor time of a process so far.
pub(crate) fn cpu_time_of(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The program's name may hold spaces; what follows its closing parenthesis does not. User and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // The kernel reports hundredths of a second whatever its own tick is.
    Duration::from_millis(ticks * 10)
}

/// Processor time of the calling thread so far, ns.
pub(crate) fn thread_cpu_ns() -> u64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    schedstat.split_whitespace().next().unwrap().parse().unwrap()
}

/// Largest resident memory since the last [`forget_peak`], bytes.
pub(crate) fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Lets the peak begin at what is resident now.
pub(crate) fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}
