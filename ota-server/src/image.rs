//! The Image repository's newest metadata, and the releases that it holds. Pure: what is published is checked and made elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use switchback_signing::{
    metadata::{Delegations, MetadataError, PathSet, Role, Signed, Targets},
    time::UnixTime,
    trust::{
        Repository,
        limits::TARGETS_BYTES_MAX,
        publish::{Publication, agreed_targets, check_delegated},
    },
};

use crate::{
    registry::StoredMetadata,
    rollout::{Content, Release, ReleaseName},
};

/// Name of the top-level role that delegates.
pub const TARGETS: &str = "targets";
/// Roles that list no targets.
pub const OTHER_ROLES: [&str; 3] = ["root", "snapshot", "timestamp"];

/// The newest file of a role.
#[derive(Clone, Debug)]
pub struct ImageFile {
    /// Role.
    pub role: String,
    /// Version.
    pub version: u64,
    /// The signed document.
    pub bytes: Arc<[u8]>,
}

impl From<StoredMetadata> for ImageFile {
    fn from(stored: StoredMetadata) -> Self {
        Self { role: stored.role, version: stored.version, bytes: stored.bytes.into() }
    }
}

/// What the Image repository says now.
#[derive(Clone, Debug, Default)]
pub struct ImageRepository {
    newest: BTreeMap<String, ImageFile>,
    releases: Vec<Arc<Release>>,
}

impl ImageRepository {
    /// From the newest file of each role. An error names the file that cannot be read.
    pub fn load(files: Vec<StoredMetadata>) -> Result<Self, (String, MetadataError)> {
        let newest = files.into_iter().map(|file| (file.role.clone(), ImageFile::from(file))).collect();
        let mut repository = Self { newest, releases: Vec::new() };
        repository.releases = repository.find_releases()?;
        Ok(repository)
    }

    /// With these files in place of those of the same roles.
    pub fn with(&self, files: &[StoredMetadata]) -> Result<Self, (String, MetadataError)> {
        let mut next = self.clone();
        next.newest.extend(files.iter().map(|file| (file.role.clone(), ImageFile::from(file.clone()))));
        next.releases = next.find_releases()?;
        Ok(next)
    }

    /// The newest file of a role.
    #[must_use]
    pub fn newest(&self, role: &str) -> Option<&ImageFile> {
        self.newest.get(role)
    }

    /// The newest files of all roles that list targets, `targets` among them.
    pub fn listings(&self) -> impl Iterator<Item = &ImageFile> {
        self.newest.values().filter(|file| !OTHER_ROLES.contains(&file.role.as_str()))
    }

    /// Releases that vehicles will find when they follow the delegations.
    #[must_use]
    pub fn releases(&self) -> &[Arc<Release>] {
        &self.releases
    }

    /// The bytes that a release consists of, one entry for each of its targets.
    pub fn contents(&self, name: &ReleaseName) -> impl Iterator<Item = Content> {
        self.releases.iter().filter(move |release| release.name == *name).map(|release| release.content())
    }

    /// The tiers for which there can be a release: the folders that the top-level Targets metadata delegates. Nothing when there is no
    /// such metadata yet, or when its patterns do not say.
    #[must_use]
    pub fn tiers(&self) -> Option<BTreeSet<String>> {
        let delegations = self.targets().ok()??.delegations?;
        let patterns = delegations.roles.iter().map(|role| match &role.paths {
            PathSet::Patterns(patterns) => Some(patterns),
            PathSet::HashPrefixes(_) => None,
        });
        let patterns = patterns.collect::<Option<Vec<_>>>()?;
        let folder = |pattern: &String| {
            let (folder, _) = pattern.split_once('/')?;
            (!folder.contains(['*', '?'])).then(|| folder.to_owned())
        };
        patterns.into_iter().flatten().map(folder).collect()
    }

    /// Roles that `targets` delegates to but whose metadata a vehicle would refuse, with the reason.
    pub fn broken_delegations(&self, now: UnixTime) -> Result<Vec<(String, String)>, (String, MetadataError)> {
        let Some(targets) = self.targets()? else { return Ok(Vec::new()) };
        let broken = delegated(&targets).filter_map(|role| {
            let error = self.check(role, &targets, now)?.err()?;
            Some((role.to_owned(), error.to_string()))
        });
        Ok(broken.collect())
    }

    fn find_releases(&self) -> Result<Vec<Arc<Release>>, (String, MetadataError)> {
        let Some(top) = self.targets()? else { return Ok(Vec::new()) };
        let (top_role, top_expires): (Arc<str>, _) = (TARGETS.into(), top.expires());
        let mut releases = releases_of(TARGETS, &top, &top_role, top_expires)?;
        // Keys may have been replaced since the role was published; then a vehicle finds nothing there. Expiry is looked at when a
        // release is assigned, because it comes with time.
        let checked = |role: &str| self.check(role, &top, UnixTime::MIN)?.ok();
        for role in delegated(&top) {
            let targets = match top.delegations.iter().find_map(|delegations| delegations.agreement_of(role)) {
                None => checked(role),
                // A release that an automaker must co-sign is one when all of these roles are there and enough of them list it.
                Some(agreement) if agreement.roles.first().is_some_and(|first| first == role) => {
                    let roles: Option<Vec<_>> = agreement.roles.iter().map(|role| checked(role)).collect();
                    roles.and_then(|roles| agreed_targets(agreement, &roles))
                }
                Some(_) => None,
            };
            let Some(targets) = targets else { continue };
            let own: Arc<str> = role.into();
            let (first, expires) = if targets.expires() < top_expires { (&own, targets.expires()) } else { (&top_role, top_expires) };
            releases.extend(releases_of(role, &targets, first, expires)?);
        }
        Ok(releases)
    }

    fn check(&self, role: &str, delegator: &Targets, now: UnixTime) -> Option<Result<Targets, switchback_signing::trust::TrustError>> {
        let (root, file) = (self.newest("root")?, self.newest(role)?);
        let to = Publication { repository: Repository::Image, root: &root.bytes, previous: None, now };
        Some(check_delegated(role, delegator, &file.bytes, &to))
    }

    /// The top-level Targets metadata.
    pub fn targets(&self) -> Result<Option<Targets>, (String, MetadataError)> {
        let Some(file) = self.newest(TARGETS) else { return Ok(None) };
        // The limit fits every machine that a server runs on.
        let signed = Signed::<Targets>::parse(&file.bytes, TARGETS_BYTES_MAX as usize);
        Ok(Some(signed.map_err(|error| (TARGETS.to_owned(), error))?.signed))
    }
}

fn delegated(targets: &Targets) -> impl Iterator<Item = &str> {
    let roles = targets.delegations.iter().flat_map(|delegations: &Delegations| &delegations.roles);
    roles.map(|role| role.name.as_str())
}

/// The releases that `role` lists, and which role is the first to expire of those that a vehicle needs for them.
fn releases_of(
    role: &str,
    targets: &Targets,
    expiring_role: &Arc<str>,
    expires: UnixTime,
) -> Result<Vec<Arc<Release>>, (String, MetadataError)> {
    let release = |path: &String| Release::from_target(path, targets, expiring_role, expires).transpose();
    let releases = targets.targets.keys().filter_map(release).map(|release| release.map_err(|error| (role.to_owned(), error)));
    releases.map(|release| release.map(Arc::new)).collect()
}
