//! A vehicle as a process of its own: the example program on the disk of a garage. It can be killed, which a car in this process cannot.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{car::Garage, programs::program};

/// The program ends by itself after this time, so that a scenario that waits in vain comes to an end and says for what.
const SECONDS: &str = "300";

/// A running `rust-vehicle`, killed when dropped.
pub struct VehicleProgram {
    child: Child,
    lines: Receiver<String>,
    told: Vec<String>,
}

impl VehicleProgram {
    /// Starts the vehicle of a garage. It ends by itself when `until_version` is confirmed.
    pub fn start(garage: &Garage, server: &str, until_version: &str) -> Self {
        Self::launch(Command::new(program("rust-vehicle")), garage, server, until_version)
    }

    /// As [`VehicleProgram::start`], with a command that ends by running `rust-vehicle` with the words that follow.
    pub fn launch(mut command: Command, garage: &Garage, server: &str, until_version: &str) -> Self {
        command.args(garage.words(server)).args(["--activate", "now", "--poll-ms", "200", "--seconds", SECONDS]);
        let mut child = command.args(["--until-version", until_version]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = follow(BufReader::new(child.stdout.take().unwrap()).lines());
        Self { child, lines, told: Vec::new() }
    }

    /// Waits for an event of this name whose line contains `words`, and returns the line.
    pub fn until(&mut self, event: &str, words: &str) -> String {
        while let Ok(line) = self.lines.recv() {
            self.told.push(line);
            if let Some(line) = self.told.last().filter(|line| event_of(line) == Some(event) && line.contains(words)) {
                return line.clone();
            }
        }
        panic!("the vehicle never said {event:?} with {words:?}, but:\n{}", self.told.join("\n"));
    }

    /// Lets the vehicle drive for so long, or until it ends.
    pub fn run_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.told.push(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// SIGKILL, as power loss would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // What it had said by then is still in the pipe.
        self.told.extend(self.lines.iter());
    }

    /// Waits until the version that it was started for is confirmed; returns its summary of the drive.
    pub fn until_reached(&mut self) -> Value {
        self.told.extend(self.lines.iter());
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}; the vehicle said\n{}", self.told.join("\n"));
        serde_json::from_str(self.told.last().unwrap()).unwrap()
    }

    /// Whether an event of this name was told so far.
    pub fn has_told(&self, event: &str) -> bool {
        self.told.iter().any(|line| event_of(line) == Some(event))
    }

    /// Everything that was told so far.
    pub fn told(&self) -> &[String] {
        &self.told
    }

    /// Process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for VehicleProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `shadow` of `   12.34 s  shadow       vla-2 2.0.0  text`.
fn event_of(line: &str) -> Option<&str> {
    line.split_whitespace().nth(2)
}

/// Lines as they come; the channel closes when the program ends.
fn follow(lines: Lines<BufReader<ChildStdout>>) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    receiver
}
