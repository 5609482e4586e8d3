//! The accept loop. axum's own sets no limit on the number and size of headers and on the time that a client takes to send them.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};

/// Open connections. Each costs a file descriptor and some 10 KiB.
const CONNECTIONS_MAX: usize = 16_384;
/// Request line and headers together; ours have under 2 KiB.
const HEADER_BYTES_MAX: usize = 16 * 1_024;
/// Headers of one request; a proxy adds a dozen.
const HEADERS_MAX: usize = 64;
/// From the end of one request to the last header of the next: how long an idle connection is kept.
const HEADER_TIME_MAX: Duration = Duration::from_secs(75);
/// How long running requests may take once the server was asked to stop.
const GRACE: Duration = Duration::from_secs(10);
/// Rest after `accept` failed, as it does when file descriptors run out.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Serves `app` until `shutdown` comes true, then lets running requests finish.
pub async fn serve(listener: TcpListener, app: Router, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME_MAX).max_headers(HEADERS_MAX).max_buf_size(HEADER_BYTES_MAX);
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = &mut shutdown => break,
        };
        let Some((stream, slot)) = accepted else { continue };
        let service = TowerToHyperService::new(app.clone());
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // Errors here are the peer's: it hung up, or did not speak HTTP.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still running when the server stopped");
    }
    Ok(())
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<(tokio::net::TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => {
            // Answers are small and complete; waiting for more to send only delays them.
            let _ = stream.set_nodelay(true);
            Some((stream, slot))
        }
        Err(error) => {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_REST).await;
            None
        }
    }
}
