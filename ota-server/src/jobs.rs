//! What goes on without being asked: the writer, batched last-seen times, fresh Image metadata.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::server::{Server, WriterWork};

/// Reports and renewals of one transaction. A flush is paid once for all of them.
const BATCH_MAX: usize = 512;
/// Last-seen times of one transaction.
const LAST_SEEN_MAX: usize = 1_000;
/// How often last-seen times are written: the most that a kill can lose.
const LAST_SEEN_PERIOD: Duration = Duration::from_secs(1);
/// How often the age of the Image repository's Timestamp is looked at.
const REFRESH_PERIOD: Duration = Duration::from_secs(10);

/// How often records that are older than they are kept are looked for.
const FORGET_PERIOD: Duration = Duration::from_secs(3600);
/// Old records of one transaction; reports of vehicles wait no longer for it than for each other.
const FORGET_MAX: u32 = 1_000;

/// Starts all jobs. They end, with their work done, when `stop` turns true.
pub fn start(server: &Arc<Server>, work: mpsc::Receiver<WriterWork>, stop: &watch::Receiver<bool>) -> JoinSet<()> {
    let mut jobs = JoinSet::new();
    jobs.spawn(writer(Arc::clone(server), work, stop.clone()));
    jobs.spawn(last_seen(Arc::clone(server), stop.clone()));
    jobs.spawn(refresh(Arc::clone(server), stop.clone()));
    jobs.spawn(forget(Arc::clone(server), stop.clone()));
    jobs
}

/// Writes what waits, as much as there is at a time.
async fn writer(server: Arc<Server>, mut work: mpsc::Receiver<WriterWork>, mut stop: watch::Receiver<bool>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        tokio::select! {
            // What waits comes before the wish to stop: nobody who was let in goes without an answer.
            biased;
            count = work.recv_many(&mut batch, BATCH_MAX) => {
                if count == 0 {
                    return;
                }
                server.write(std::mem::take(&mut batch)).await;
            }
            () = stopped(&mut stop) => return,
        }
    }
}

/// Writes last-seen times, many at once; the last ones when the server stops.
async fn last_seen(server: Arc<Server>, mut stop: watch::Receiver<bool>) {
    let mut period = interval(LAST_SEEN_PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let stopping = tokio::select! {
            _ = period.tick() => false,
            () = stopped(&mut stop) => true,
        };
        // What polls bring meanwhile waits for the next time; this ends.
        let mut more = true;
        while more {
            more = match server.save_last_seen(LAST_SEEN_MAX).await {
                Ok(count) => count == Some(LAST_SEEN_MAX),
                Err(error) => {
                    tracing::error!(%error, "last-seen times could not be written");
                    false
                }
            };
        }
        if stopping {
            return;
        }
    }
}

/// Signs the Image repository's Snapshot and Timestamp anew before they grow old.
async fn refresh(server: Arc<Server>, mut stop: watch::Receiver<bool>) {
    let mut period = interval(REFRESH_PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = period.tick() => {}
            () = stopped(&mut stop) => return,
        }
        if let Err(error) = server.refresh_image_metadata().await {
            tracing::error!(%error, "the Image repository's metadata could not be renewed");
        }
    }
}

/// Forgets records that are older than they are kept, a few at a time.
async fn forget(server: Arc<Server>, mut stop: watch::Receiver<bool>) {
    let mut period = interval(FORGET_PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = period.tick() => {}
            () = stopped(&mut stop) => return,
        }
        let mut more = true;
        while more && !*stop.borrow() {
            more = server.forget_old_records(FORGET_MAX).await.unwrap_or_else(|error| {
                tracing::error!(%error, "old records could not be forgotten");
                false
            });
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that whoever could ask us to stop is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}
