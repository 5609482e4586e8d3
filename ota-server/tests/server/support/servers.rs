//! A server inside the test, with a clock that the test turns, and the real program.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
};

use switchback_ota_server::{
    api::{self, ConnectionLimits},
    jobs,
    server::{Clock, Config, Server},
};
use switchback_signing::time::UnixTime;
use tokio::sync::{oneshot, watch};

use super::{Control, START};

/// The time of a test.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub(crate) fn now(&self) -> UnixTime {
        UnixTime::from_seconds(self.0.load(Ordering::SeqCst))
    }

    pub(crate) fn turn(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

/// A server in this process.
pub(crate) struct TestServer {
    pub(crate) clock: TestClock,
    pub(crate) server: Arc<Server>,
    pub(crate) runtime: tokio::runtime::Handle,
    address: String,
    token: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_at(data, START)
    }

    /// With other limits on connections.
    pub(crate) fn start_limited(data: &Path, limits: ConnectionLimits) -> Self {
        Self::start_with(data, START, limits)
    }

    /// On a folder that another server used before.
    pub(crate) fn start_at(data: &Path, now: UnixTime) -> Self {
        Self::start_with(data, now, ConnectionLimits::default())
    }

    fn start_with(data: &Path, now: UnixTime, limits: ConnectionLimits) -> Self {
        let clock = TestClock(Arc::new(AtomicI64::new(now.seconds())));
        let mut config = Config::new(data.to_owned());
        let source = clock.clone();
        config.clock = Clock::of(move || source.now());
        config.target_bytes_max = 16 << 20;
        let (stop, stopped) = oneshot::channel();
        let (started, ready) = mpsc::channel();
        let thread = std::thread::spawn(move || run(config, limits, stopped, &started));
        let (server, address, runtime) = ready.recv().unwrap();
        let token = std::fs::read_to_string(data.join("admin.token")).unwrap().trim().to_owned();
        Self { clock, server, runtime, address, token, stop: Some(stop), thread: Some(thread) }
    }
}

impl Control for TestServer {
    fn address(&self) -> &str {
        &self.address
    }

    fn token(&self) -> &str {
        &self.token
    }

    fn now(&self) -> UnixTime {
        self.clock.now()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn run(
    config: Config,
    limits: ConnectionLimits,
    stopped: oneshot::Receiver<()>,
    started: &mpsc::Sender<(Arc<Server>, String, tokio::runtime::Handle)>,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (server, work) = Server::open(config).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (stop_jobs, stop) = watch::channel(false);
        let mut jobs = jobs::start(&server, work, &stop);
        let address = listener.local_addr().unwrap().to_string();
        started.send((Arc::clone(&server), address, runtime.handle().clone())).unwrap();
        let shutdown = async {
            let _ = stopped.await;
        };
        api::serve(listener, api::router(&server), limits, shutdown).await.unwrap();
        stop_jobs.send_replace(true);
        while jobs.join_next().await.is_some() {}
        server.close().await;
    });
}

/// The real program.
pub(crate) struct Program {
    child: Child,
    address: String,
    token: String,
}

impl Program {
    pub(crate) fn start(data: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_switchback-server"))
            .args(["serve", "--listen", "127.0.0.1:0", "--poll-after-s", "5", "--data-dir"])
            .arg(data)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        let token = std::fs::read_to_string(data.join("admin.token")).unwrap().trim().to_owned();
        Self { child, address, token }
    }

    /// Ends it as a power cut would: without a chance to do anything more.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, and returns whether it stopped with success.
    pub(crate) fn terminate(mut self) -> bool {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Without effect on one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Control for Program {
    fn address(&self) -> &str {
        &self.address
    }

    fn token(&self) -> &str {
        &self.token
    }

    fn now(&self) -> UnixTime {
        super::system_now()
    }
}
