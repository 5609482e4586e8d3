//! Child processes: started with their output kept, watched by what they print, ended by their own id.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::interrupt;

/// How long a program may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// How often a wait looks up to see whether the user has interrupted the demo.
const HEARTBEAT: Duration = Duration::from_millis(200);
const TAIL_LINES: usize = 15;

/// What to start and where its output goes.
pub(crate) struct Launch<'a> {
    pub(crate) name: &'a str,
    pub(crate) program: &'a Path,
    pub(crate) arguments: Vec<String>,
    pub(crate) log_dir: &'a Path,
    /// Raised for the vehicles in the background: on two cores twenty vehicles share what is one computer each on the road. Below zero it
    /// is a wish: where the machine does not grant it, `nice` says so in the program's log and runs it as it is.
    pub(crate) niceness: i8,
}

/// A running program. Dropping it ends it.
pub(crate) struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
    stderr_path: PathBuf,
    ended: bool,
}

#[derive(Default)]
struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    texts: Vec<String>,
    closed: bool,
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    pub(crate) fn start(launch: Launch<'_>) -> Result<Self> {
        let stderr_path = launch.log_dir.join(format!("{}.stderr", launch.name));
        let stderr = File::create(&stderr_path).with_context(|| format!("create {}", stderr_path.display()))?;
        let stdout_copy = File::create(launch.log_dir.join(format!("{}.stdout", launch.name)))?;
        let mut command = command(launch.program, launch.niceness);
        command.args(&launch.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().with_context(|| format!("start {} ({})", launch.name, launch.program.display()))?;
        let stdout = child.stdout.take().context("the child has no stdout")?;
        let output = Arc::new(Output::default());
        let sink = Arc::clone(&output);
        thread::spawn(move || copy_lines(BufReader::new(stdout), stdout_copy, &sink));
        Ok(Self { name: launch.name.to_owned(), child, output, stderr_path, ended: false })
    }

    /// Waits until `pick` accepts a line that the program has printed, from its start on.
    pub(crate) fn wait_for_line<T>(&self, what: &str, timeout: Duration, pick: impl Fn(&str) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + timeout;
        let mut lines = self.output.lock();
        let mut seen = 0;
        loop {
            if let Some(found) = lines.texts[seen..].iter().find_map(|line| pick(line)) {
                return Ok(found);
            }
            seen = lines.texts.len();
            if lines.closed {
                drop(lines);
                bail!("{} ended before {what}\n{}", self.name, self.tail());
            }
            if Instant::now() >= deadline {
                drop(lines);
                bail!("{}: no {what} within {} s\n{}", self.name, timeout.as_secs(), self.tail());
            }
            interrupt::check()?;
            lines = self.output.changed.wait_timeout(lines, HEARTBEAT).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.output.lock().texts.clone()
    }

    /// Fails when the program has ended by itself, which none of them should.
    pub(crate) fn expect_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                self.ended = true; // Reaped: its id may belong to somebody else from now on.
                bail!("{} ended by itself ({status})\n{}", self.name, self.tail())
            }
        }
    }

    /// SIGTERM, a grace period, then SIGKILL; returns how it ended.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        self.wait_until_closed(Instant::now() + GRACE);
        if !self.output.lock().closed {
            self.signal(Signal::KILL);
        }
        let status = self.child.wait()?;
        self.ended = true;
        Ok(status)
    }

    /// Asks it to end without waiting, so that many can end together before each is waited for.
    pub(crate) fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    fn signal(&self, signal: Signal) {
        if self.ended {
            return;
        }
        // It may have ended meanwhile; it is not reaped yet, so that the id cannot be somebody else's.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    fn wait_until_closed(&self, deadline: Instant) {
        let mut lines = self.output.lock();
        while !lines.closed && Instant::now() < deadline {
            lines = self.output.changed.wait_timeout(lines, HEARTBEAT).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The end of what it has printed, for an error message.
    pub(crate) fn tail(&self) -> String {
        let stdout = self.lines();
        let stderr = std::fs::read_to_string(&self.stderr_path).unwrap_or_default();
        let stderr: Vec<&str> = stderr.lines().collect();
        let mut text = format!("--- last lines of {} on stdout\n", self.name);
        stdout.iter().skip(stdout.len().saturating_sub(TAIL_LINES)).for_each(|line| text.push_str(&format!("    {line}\n")));
        text.push_str(&format!("--- last lines of {}\n", self.stderr_path.display()));
        stderr.iter().skip(stderr.len().saturating_sub(TAIL_LINES)).for_each(|line| text.push_str(&format!("    {line}\n")));
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.stop();
        }
    }
}

/// The program with what goes before it: the order to end with the demo, also when that is killed, and its priority.
fn command(program: &Path, niceness: i8) -> Command {
    let nice = ["nice".to_owned(), "-n".to_owned(), niceness.to_string()];
    let words = END_WITH_PARENT.iter().filter(|_| can_end_with_parent()).map(|&word| word.to_owned());
    let words: Vec<String> = words.chain(nice.into_iter().filter(|_| niceness != 0)).collect();
    match words.split_first() {
        None => Command::new(program),
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    }
}

/// The kernel's parent-death signal, which outlives the exec. It is asked for by a program, because Rust has no safe way to do so
/// between fork and exec.
const END_WITH_PARENT: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];

/// Whether the machine has a `setpriv` that knows this. Without it, a demo that is killed with SIGKILL leaves its children behind.
fn can_end_with_parent() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    let try_it = || Command::new(END_WITH_PARENT[0]).args(&END_WITH_PARENT[1..]).arg("true").stderr(Stdio::null()).status();
    *CAN.get_or_init(|| try_it().is_ok_and(|status| status.success()))
}

fn copy_lines(reader: impl BufRead, mut copy: File, output: &Output) {
    for line in reader.lines().map_while(Result::ok) {
        let _ = writeln!(copy, "{line}");
        output.lock().texts.push(line);
        output.changed.notify_all();
    }
    output.lock().closed = true;
    output.changed.notify_all();
}
