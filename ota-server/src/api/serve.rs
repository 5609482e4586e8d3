//! The accept loop. axum's own sets no limit on the number of connections, on what a peer takes of them, and on the time it takes.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::Service};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};

use super::{
    admission::{Admission, ConnectionLimits, Full, Lane, Peer},
    stall::StallLimit,
};

/// Request line and headers together; ours have under 2 KiB.
const HEADER_BYTES_MAX: usize = 16 * 1_024;
/// Headers of one request; a proxy adds a dozen.
const HEADERS_MAX: usize = 64;
/// How long running requests may take once the server was asked to stop.
const GRACE: Duration = Duration::from_secs(10);
/// Rest after `accept` failed, as it does when file descriptors run out.
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// Pause between two log lines about connections that found no place.
const FULL_LOG_PAUSE: Duration = Duration::from_secs(10);

/// Serves `app` until `shutdown` comes true, then lets running requests finish.
pub async fn serve(listener: TcpListener, app: Router, limits: ConnectionLimits, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let graceful = GracefulShutdown::new();
    let admission = Arc::new(Mutex::new(Admission::new(limits)));
    let mut log = FullLog::new(limits);
    tokio::pin!(shutdown);
    loop {
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => (stream, address.ip()),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_REST).await;
                    continue;
                }
            },
            () = &mut shutdown => break,
        };
        let (slot, full) = Slot::take(&admission, address.into());
        if let Some(full) = full {
            log.note(full, address);
        }
        // Without a slot the stream is dropped: the peer sees its connection closed.
        let Some(slot) = slot else { continue };
        spawn(stream, slot, &app, limits, &graceful);
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still running when the server stopped");
    }
    Ok(())
}

/// Serves one connection, to its end or to the end of the time that it has for its first request.
fn spawn(stream: TcpStream, slot: Slot, app: &Router, limits: ConnectionLimits, graceful: &GracefulShutdown) {
    // Answers are small and complete; waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    // hyper's limit also runs while a connection is idle, so that it is the one for the requests after the first.
    builder.timer(TokioTimer::new()).header_read_timeout(limits.idle).max_headers(HEADERS_MAX).max_buf_size(HEADER_BYTES_MAX);
    builder.keep_alive(slot.lane == Lane::Shared);
    let requested = Arc::new(Notify::new());
    let service = Requests { app: TowerToHyperService::new(app.clone()), lane: slot.lane, requested: Arc::clone(&requested) };
    let stream = TokioIo::new(StallLimit::new(stream, limits.stall));
    let connection = graceful.watch(builder.serve_connection(stream, service));
    tokio::spawn(async move {
        tokio::select! {
            // Errors here are the peer's: it hung up, did not read, or did not speak HTTP.
            ended = connection => if let Err(error) = ended {
                tracing::debug!(%error, "connection ended");
            },
            () = nothing_comes(&requested, limits.first_request) => tracing::debug!("connection without a request closed"),
        }
        drop(slot);
    });
}

/// Ends when no request was complete in time; never, when one was.
async fn nothing_comes(requested: &Notify, first_request: Duration) {
    if tokio::time::timeout(first_request, requested.notified()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}

/// Tells the routes which lane a request came by, and the connection that one came.
struct Requests {
    app: TowerToHyperService<Router>,
    lane: Lane,
    requested: Arc<Notify>,
}

impl Service<Request<Incoming>> for Requests {
    type Response = axum::response::Response<Body>;
    type Error = Infallible;
    type Future = <TowerToHyperService<Router> as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.requested.notify_one();
        request.extensions_mut().insert(self.lane);
        self.app.call(request)
    }
}

/// One counted connection.
struct Slot {
    admission: Arc<Mutex<Admission>>,
    peer: Peer,
    lane: Lane,
}

impl Slot {
    fn take(admission: &Arc<Mutex<Admission>>, peer: Peer) -> (Option<Self>, Option<Full>) {
        let (lane, full) = admission.lock().unwrap_or_else(PoisonError::into_inner).admit(peer);
        (lane.map(|lane| Self { admission: Arc::clone(admission), peer, lane }), full)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner).release(self.peer, self.lane);
    }
}

/// Says that a limit bites: at once, and then no oftener than whoever opens the connections can be read.
struct FullLog {
    limits: ConnectionLimits,
    last: Option<Instant>,
    unsaid: u64,
}

impl FullLog {
    const fn new(limits: ConnectionLimits) -> Self {
        Self { limits, last: None, unsaid: 0 }
    }

    fn note(&mut self, full: Full, peer: IpAddr) {
        self.unsaid += 1;
        if self.last.is_some_and(|last| last.elapsed() < FULL_LOG_PAUSE) {
            return;
        }
        let connections = std::mem::take(&mut self.unsaid);
        self.last = Some(Instant::now());
        let hint = "further ones serve the control plane only, or are closed";
        match full {
            Full::Peer => {
                tracing::warn!(%peer, connections, limit = self.limits.per_peer_max, "a peer holds all connections that one may: {hint}");
            }
            Full::Server => tracing::warn!(%peer, connections, limit = self.limits.connections_max, "all connections are in use: {hint}"),
        }
    }
}
