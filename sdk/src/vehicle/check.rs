//! One verification of both repositories' metadata, with the network and the disk that it asks for.

use switchback_signing::{
    metadata::{Custom, Signed, Targets, vehicle::ReleaseRef},
    trust::{Action, MetadataCache, MetadataCheck, Outcome, Repository, TrustAnchors, VerifiedImage},
};

use super::{
    link::{Link, failure},
    provisioned::ProvisionedFile,
};
use crate::{
    fetch::{FetchError, RequestKey},
    store::{Folder, Store, StoreError},
};

/// How a check ended.
pub(super) struct Checked {
    pub(super) outcome: Outcome,
    /// What the vehicle's other ECUs should install and do not run.
    pub(super) images: Vec<VerifiedImage>,
    /// Whether the Director was asked with a nonce.
    pub(super) asked: bool,
    /// What the network said last, when it failed; tells more than the outcome that follows from it.
    pub(super) network: Option<FetchError>,
}

/// Where metadata of a repository is kept.
pub(super) fn folder(repository: Repository) -> Folder {
    match repository {
        Repository::Director => Folder::Director,
        Repository::Image => Folder::Image,
    }
}

/// The metadata on the disk; what is not there is as the vehicle was provisioned with it.
pub(super) fn load_cache(store: &Store, anchors: &TrustAnchors, provisioned: &[ProvisionedFile]) -> Result<MetadataCache, StoreError> {
    let mut cache = MetadataCache::provision(anchors);
    for ProvisionedFile { repository, name, bytes } in provisioned {
        cache.insert(*repository, name, bytes.clone());
    }
    for repository in [Repository::Director, Repository::Image] {
        for name in store.documents(folder(repository))? {
            if let Some(bytes) = store.read_document(folder(repository), &name)? {
                cache.insert(repository, &name, bytes);
            }
        }
    }
    Ok(cache)
}

/// Asks both repositories, and believes what verifies. What the disk has then is what the check says that it has.
pub(super) fn run(check: &mut MetadataCheck, link: &mut Link, store: &mut Store, key: RequestKey<'_>) -> Result<Checked, StoreError> {
    let (mut network, mut asked) = (None, false);
    let outcome = loop {
        match check.next() {
            Action::Fetch(request) => {
                asked |= request.nonce.is_some();
                check.fetched(link.metadata(&request, key).map_err(|error| {
                    let failure = failure(&error);
                    network = Some(error);
                    failure
                }));
            }
            Action::Persist { repository, file_name, bytes } => {
                store.write_document(folder(repository), &file_name, &bytes)?;
                check.persisted();
            }
            Action::Remove { repository, file_name } => {
                store.remove_document(folder(repository), &file_name)?;
                check.persisted();
            }
            Action::Finished(outcome) => break outcome,
        }
    };
    if matches!(outcome, Outcome::Refused(_)) {
        link.forget_timestamp();
    }
    Ok(Checked { outcome, images: check.take_secondary_images(), asked, network })
}

/// The release that the verified metadata lists under this path.
pub(super) fn release_at(seen: &MetadataCache, path: &str) -> Option<ReleaseRef> {
    let bytes = seen.get(Repository::Director, "targets.json")?;
    let targets = Signed::<Targets>::parse(bytes, bytes.len()).ok()?.signed;
    let Custom { model, version, release_counter, .. } = targets.targets.get(path)?.release().ok()?;
    Some(ReleaseRef { model, version, release_counter })
}
