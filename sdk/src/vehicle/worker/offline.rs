//! Updates that come in a file instead of over the network.

use std::sync::Arc;

use switchback_signing::{
    digest::Sha256Digest,
    metadata::vehicle::UpdateState,
    trust::{MetadataCache, MetadataCheck, Outcome, TrustError, VerifiedImage, VerifiedTarget},
};

use super::Worker;
use crate::{
    fetch::{OfflineFile, RequestKey},
    vehicle::{
        EventKind, check,
        link::Link,
        reason::{self, OFFLINE_NOTHING_NEW},
    },
};

/// What an update that came in a file goes on from.
pub(super) struct OfflineSource {
    /// The release by its chunk index.
    index_sha256: Sha256Digest,
    /// The file, until all of it is in the slot: a stick shall not be kept from being taken out.
    contents: Option<Contents>,
}

/// A file, as far as it was believed.
pub(super) struct Contents {
    pub(super) link: Link,
    /// The metadata in it.
    pub(super) metadata: MetadataCache,
}

impl OfflineSource {
    pub(super) fn contents(&mut self) -> Option<&mut Contents> {
        self.contents.as_mut()
    }

    pub(super) fn link(&self) -> Option<&Link> {
        self.contents.as_ref().map(|contents| &contents.link)
    }
}

impl Worker {
    /// Verifies an offline update as if the server had sent it, and offers its release.
    pub(super) fn take_offline(&mut self, file: &Arc<OfflineFile>) {
        self.look_at_clock();
        let now = self.now();
        let mut link = self.link.of_file(file);
        let (installed, secondaries) = (self.installed(), self.secondaries.ecus());
        let check = MetadataCheck::of_offline_update(self.cache.clone(), self.identity.clone(), installed, secondaries, now);
        let mut check = check.with_map(self.config.repository_map.clone());
        let key = RequestKey { signer: &*self.key, now };
        let checked = match check::run(&mut check, &mut link, &mut self.store, key) {
            Ok(checked) => checked,
            Err(error) => return self.not_stored(&error),
        };
        let contents = Contents { link, metadata: check.metadata().clone() };
        self.cache = check.into_cache();
        match (checked.outcome, checked.network) {
            (Outcome::Refused(TrustError::Unreachable { .. }), Some(error)) => self.check_failed(EventKind::CheckFailed, &error),
            (Outcome::Refused(error), _) => self.not_believed(&error, Some(&contents.metadata)),
            (Outcome::NothingNew, _) => self.nothing_for_the_primary(checked.images, contents),
            (Outcome::Install(target), _) => {
                self.verified(now);
                // Asked again by whoever gave the file: a refusal of a moment ago is not held against it.
                self.hold = None;
                let index_sha256 = target.sha256();
                self.secondaries.want(checked.images);
                self.offered(target);
                self.act();
                if self.is_about(index_sha256) {
                    self.offline = Some(OfflineSource { index_sha256, contents: Some(contents) });
                }
            }
        }
    }

    /// The file's release runs here already; an ECU that was exchanged may lack what belongs beside it.
    fn nothing_for_the_primary(&mut self, images: Vec<VerifiedImage>, mut contents: Contents) {
        let lacking = !images.is_empty() && !self.update.is_under_way();
        let text = if lacking {
            self.secondaries.want(images);
            if self.repair_secondaries(Some(&mut contents)) {
                return self.tell(EventKind::Checked, None, None);
            }
            "the offline update holds nothing for this computer that it does not run already, and the vehicle's other ECUs did not take \
             what is for them; give it again while the driving function is not engaged"
        } else {
            "the offline update holds nothing for this vehicle that it does not run already"
        };
        self.tell(EventKind::Checked, None, Some(reason::reason(OFFLINE_NOTHING_NEW, "offline_nothing_new", text)));
    }

    /// Whether the update that is under way came in a file.
    pub(super) fn is_offline(&self) -> bool {
        self.offline.as_ref().is_some_and(|source| self.is_about(source.index_sha256))
    }

    /// Whether an offline update goes on although the Director assigns `assigned`: unless that is newer.
    pub(super) fn stays_offline(&self, assigned: &VerifiedTarget) -> bool {
        let under_way = self.target.as_ref().filter(|_| self.is_offline());
        under_way.is_some_and(|target| target.release().release_counter > assigned.release().release_counter)
    }

    /// Closes the file when nothing more is read from it.
    pub(super) fn let_file_go(&mut self) {
        if !self.is_offline() {
            self.offline = None;
        }
        let reads = matches!(self.update.stage(), UpdateState::Offered | UpdateState::Consented | UpdateState::Downloading);
        if let Some(source) = self.offline.as_mut().filter(|_| !reads) {
            source.contents = None;
        }
    }

    fn is_about(&self, index_sha256: Sha256Digest) -> bool {
        self.update.is_under_way() && self.target.as_ref().is_some_and(|target| target.sha256() == index_sha256)
    }
}
