//! Whether the network may be used for a release, as the program says: asked before a download begins and before every chunk.

use super::{Install, Setback, Worker, offline::OfflineSource};
use crate::vehicle::network::{NETWORK_INTERVAL, Transfer};

impl Worker {
    /// How many bytes may be asked for now; `None` while the download waits. A file is no network.
    pub(super) fn network_allows(&mut self) -> Option<u64> {
        let is_file = self.offline.as_ref().and_then(OfflineSource::link).is_some();
        let (Some(ask), Some(target), false) = (&self.callbacks.network, &self.target, is_file) else {
            return Some(u64::MAX);
        };
        let release = target.release();
        self.network.begin(release.release_counter);
        // What is at hand is not known before the index is here, which comes first.
        let begins = (target.length(), release.bundle.length);
        let (next, missing_bytes) = self.install.as_ref().map_or(begins, |install| (install.next_bytes(), install.missing_bytes()));
        let transfer = Transfer {
            model: release.model.clone(),
            version: release.version.clone(),
            release_counter: release.release_counter,
            missing_bytes,
            metered_bytes: self.network.metered_bytes(),
        };
        match self.network.allow(ask(&transfer), next) {
            Ok(left) => {
                self.network.waits = false;
                Some(left)
            }
            Err(reason) => {
                let saved = self.install.as_mut().map_or(Ok(()), |install: &mut Install| install.pause(&mut self.store));
                if !self.network.waits {
                    self.network.waits = true;
                    self.pause_download(None, reason);
                }
                self.download.after(NETWORK_INTERVAL);
                if let Err(Setback::Failed(reason, blame, attack)) = saved {
                    self.download_failed(Setback::Failed(reason, blame, attack));
                }
                None
            }
        }
    }
}
