//! The online keys in use: which of them the newest roots name, and what they have signed.

use std::sync::Arc;

use switchback_signing::{
    keys::KeyId,
    metadata::{MetadataError, Root, Signed},
    time::UnixTime,
    trust::{Repository, limits::ROOT_BYTES_MAX},
};

use super::{PollError, PublishError, Server, to_the_end};
use crate::{
    keys::{DirectorSigners, ImageSigners, KeyError, NotCertified, OnlineKeys, Pending, RoleKeys},
    registry::{NewEvent, RegistryError},
};

/// Why the server has no new online keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NewKeysError {
    /// They could not be made.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The database failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// The keys that the server holds, and who of them signs.
#[derive(Clone, Debug)]
pub(crate) struct Signing {
    pub(super) keys: OnlineKeys,
    image: Newest<ImageSigners>,
    director: Newest<DirectorSigners>,
}

/// A repository's newest root, and who signs under it. Nothing before the first root.
type Newest<S> = Option<(Root, Result<S, NotCertified>)>;

impl Signing {
    pub(super) fn new(keys: OnlineKeys, image: Option<Root>, director: Option<Root>) -> Self {
        let mut signing = Self { keys, image: None, director: None };
        for (repository, root) in [(Repository::Image, image), (Repository::Director, director)] {
            if let Some(root) = root {
                signing = signing.under(repository, root);
            }
        }
        signing
    }

    /// As it is once `root` is the newest of its repository.
    pub(super) fn under(&self, repository: Repository, root: Root) -> Self {
        let mut next = self.clone();
        match repository {
            Repository::Image => {
                let signers = next.keys.image_signers(&root);
                next.image = Some((root, signers));
            }
            Repository::Director => {
                let signers = next.keys.director_signers(&root);
                next.director = Some((root, signers));
            }
        }
        next
    }

    /// Once the newest roots are durable: new keys that they name take the place of the old ones.
    pub(super) fn settled(mut self) -> Self {
        for repository in [Repository::Image, Repository::Director] {
            let Some(root) = self.root(repository).cloned() else { continue };
            if let Err(error) = self.keys.settle(repository, &root) {
                // The key that the root names signs all the same; its file gets its name at the next start.
                tracing::error!(%error, "new online keys could not take the place of the old ones");
            }
            if let Some(problem) = self.problem(repository) {
                tracing::warn!(%problem, "this server cannot sign");
            }
        }
        self
    }

    fn with_keys(&self, keys: OnlineKeys) -> Self {
        let root = |newest: Option<&Root>| newest.cloned();
        Self::new(keys, root(self.root(Repository::Image)), root(self.root(Repository::Director)))
    }

    fn root(&self, repository: Repository) -> Option<&Root> {
        match repository {
            Repository::Image => self.image.as_ref().map(|(root, _)| root),
            Repository::Director => self.director.as_ref().map(|(root, _)| root),
        }
    }

    fn problem(&self, repository: Repository) -> Option<&NotCertified> {
        match repository {
            Repository::Image => self.image.as_ref()?.1.as_ref().err(),
            Repository::Director => self.director.as_ref()?.1.as_ref().err(),
        }
    }

    /// Who signs for the Director.
    pub(crate) fn director_signers(&self) -> Result<&DirectorSigners, PollError> {
        let (_, signers) = self.director.as_ref().ok_or(PollError::NoRoot)?;
        signers.as_ref().map_err(|error| PollError::NotCertified(error.clone()))
    }

    /// Who signs for the Image repository.
    pub(super) fn image_signers(&self) -> Result<&ImageSigners, PublishError> {
        let (_, signers) = self.image.as_ref().ok_or(PublishError::RootMissing("the root metadata"))?;
        signers.as_ref().map_err(|error| PublishError::KeysNotCertified(error.clone()))
    }
}

/// A root that was checked before it was stored.
pub(super) fn parse_root(bytes: &[u8]) -> Result<Root, MetadataError> {
    Ok(Signed::<Root>::parse(bytes, ROOT_BYTES_MAX as usize)?.signed)
}

/// What the server holds and has signed, as the control plane shows it.
#[derive(Clone, Debug)]
pub struct KeysView {
    /// The Image repository and the Director.
    pub repositories: [RepositoryKeysView; 2],
    /// What the Director has signed for vehicles.
    pub sets: SetsView,
}

/// The online keys of one repository.
#[derive(Clone, Debug)]
pub struct RepositoryKeysView {
    /// Which.
    pub repository: Repository,
    /// Version and expiry of its newest root.
    pub root: Option<(u64, UnixTime)>,
    /// Why the server can sign nothing for it, if it cannot.
    pub problem: Option<String>,
    /// Its online roles.
    pub roles: Vec<RoleKeysView>,
}

/// The keys of one online role.
#[derive(Clone, Debug)]
pub struct RoleKeysView {
    /// The role.
    pub role: &'static str,
    /// Keys that the newest root names.
    pub named: Vec<KeyId>,
    /// Keys that the server holds.
    pub held: Vec<(KeyId, KeyUse)>,
    /// Version and expiry of what is published, for roles that are the same for all vehicles.
    pub published: Option<(u64, UnixTime)>,
}

/// What a held key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// The newest root names it, and it signs.
    Signs,
    /// It is to be named by the next root.
    Waits,
    /// The newest root does not name it, or there is none yet.
    NotNamed,
}

impl KeyUse {
    /// As the API calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Signs => "signs",
            Self::Waits => "waits",
            Self::NotNamed => "not_named",
        }
    }
}

/// What the Director has signed for vehicles. A vehicle that does not ask keeps what it has, expired or not; it is renewed when it asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetsView {
    /// Enrolled vehicles.
    pub vehicles: u64,
    /// Of these, the ones for which something was signed.
    pub signed: u64,
    /// Of these, by other keys than those of now.
    pub by_other_keys: u64,
    /// Of these, with Targets and Snapshot that have expired.
    pub expired: u64,
    /// When the first Targets and Snapshot expire that have not expired.
    pub targets_expire: Option<UnixTime>,
    /// Likewise the first Timestamp.
    pub timestamp_expires: Option<UnixTime>,
}

impl Server {
    /// The public keys that the next roots are to name, for the root ceremonies.
    #[must_use]
    pub fn online_keys(&self) -> serde_json::Value {
        self.signing.load().keys.public_json()
    }

    /// Makes new online keys for the next roots to name.
    pub async fn make_online_keys(self: &Arc<Self>, pending: Pending) -> Result<serde_json::Value, NewKeysError> {
        let server = Arc::clone(self);
        to_the_end(async move {
            let _control = server.control.lock().await;
            let (signing, now) = (server.signing.load_full(), server.now());
            let mut keys = signing.keys.clone();
            let made = keys.make_next(pending);
            // Also after half of them: what is on the disk counts at the next start.
            server.signing.store(Arc::new(signing.with_keys(keys)));
            made?;
            let mut change = server.registry.change().await?;
            let text = "made new online keys for the next roots".to_owned();
            change.add_event(&NewEvent { kind: "online_keys_made", rollout: None, vehicle_id: None, text }, now).await?;
            change.commit().await?;
            tracing::info!("new online keys made");
            Ok(server.online_keys())
        })
        .await
    }

    /// The keys that the server holds, and what they have signed.
    #[must_use]
    pub fn keys_view(&self) -> KeysView {
        let signing = self.signing.load();
        let repositories = [Repository::Image, Repository::Director].map(|repository| self.repository_keys(&signing, repository));
        KeysView { repositories, sets: self.sets(&signing) }
    }

    fn repository_keys(&self, signing: &Signing, repository: Repository) -> RepositoryKeysView {
        let root = signing.root(repository);
        let roles = signing.keys.roles().iter().filter(|keys| keys.role.repository == repository);
        RepositoryKeysView {
            repository,
            root: root.map(|root| (root.version, root.expires)),
            problem: signing.problem(repository).map(ToString::to_string),
            roles: roles.map(|keys| self.role_keys(keys, root)).collect(),
        }
    }

    fn role_keys(&self, keys: &RoleKeys, root: Option<&Root>) -> RoleKeysView {
        let role = keys.role.role;
        let named = root.and_then(|root| root.roles.get(&role)).map(|named| named.key_ids.to_vec());
        let held = |key: &Arc<_>, waits| {
            let key_use = match root {
                Some(root) if keys.is_certified(key, root) => KeyUse::Signs,
                _ if waits => KeyUse::Waits,
                _ => KeyUse::NotNamed,
            };
            (crate::keys::id(key), key_use)
        };
        let next = keys.next.iter().map(|key| held(key, true));
        RoleKeysView {
            role: role.name(),
            named: named.unwrap_or_default(),
            held: [held(&keys.current, false)].into_iter().chain(next).collect(),
            published: (keys.role.repository == Repository::Image).then(|| self.image_expiry(role)).flatten(),
        }
    }

    fn sets(&self, signing: &Signing) -> SetsView {
        let signers = signing.director_signers().map(|signers| signers.id).ok();
        let (now, mut sets) = (self.now().seconds(), SetsView::default());
        let sooner = |one: Option<UnixTime>, other: i64| {
            let other = (other > now).then(|| UnixTime::from_seconds(other));
            one.into_iter().chain(other).min()
        };
        for vehicle in self.fleet.all() {
            sets.vehicles += 1;
            let state = vehicle.state.load();
            let Some(held) = &state.held else { continue };
            sets.signed += 1;
            sets.by_other_keys += u64::from(Some(held.signers) != signers);
            sets.expired += u64::from(held.expires <= now);
            sets.targets_expire = sooner(sets.targets_expire, held.expires);
            sets.timestamp_expires = sooner(sets.timestamp_expires, held.timestamp_expires);
        }
        sets
    }
}
