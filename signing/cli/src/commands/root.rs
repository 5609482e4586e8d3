//! `switchback root`: the ceremonies of both roots.

use std::{fmt::Write as _, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use switchback_signing::{
    metadata::{Root, RootRole},
    time::UnixTime,
    trust::Repository,
};

use super::online::OnlineKeys;
use crate::{
    base::Base,
    ceremony::{Ceremony, Part, Report, Subject},
    client::ServerArguments,
    clock,
    failure::failure,
    keyholders::Keyholders,
    keys::SigningKey,
    output::{Output, table},
};

/// Replace keys and renew the roots of the Image repository and of the Director
///
/// Changes collect in a draft of the next version, BASE/drafts/image.root.json or director.root.json. Version N+1 must be signed by a
/// threshold of version N's keys and by a threshold of its own; `switchback publish` sends it when it is. Vehicles walk from root to
/// root, so no version is ever left out.
#[derive(Subcommand)]
#[command(after_help = "Example: carol hands over to dora
  switchback root add-key --base release --repository image --role root \\
      dora/image-root-dora.pub.json
  switchback root remove-key --base release --repository image --role root \\
      image-root-carol
  switchback root show --base release
  switchback root sign --base release --repository image --key alice
  switchback root sign --base release --repository image \\
      --key /media/stick/image-root-dora.pem
  switchback root cross-sign --base release --repository image --key carol
  switchback publish --base release")]
pub(crate) enum Command {
    /// Show roles, keys and expiry, and of a draft what it changes, who has signed and who must still sign
    Show {
        /// Base directory
        #[arg(long, value_name = "DIR")]
        base: PathBuf,
        /// One repository only
        #[arg(long)]
        repository: Option<RepositoryName>,
    },
    /// Let one more key sign for a role of the next root
    AddKey {
        #[command(flatten)]
        place: Place,
        /// Role that the key signs for
        #[arg(long)]
        role: RoleName,
        /// File of a public key, or name of a key that the base knows
        key: String,
    },
    /// Let a key no longer sign for a role
    RemoveKey {
        #[command(flatten)]
        place: Place,
        /// Role that the key signed for
        #[arg(long)]
        role: RoleName,
        /// Name of the key, or the beginning of its id
        key: String,
    },
    /// Say how many keys of a role must sign
    SetThreshold {
        #[command(flatten)]
        place: Place,
        /// The role
        #[arg(long)]
        role: RoleName,
        /// How many
        threshold: u64,
    },
    /// Replace the server's online keys by those that it has now
    ///
    /// With --new it makes new ones first. Until the root that names them is published the old ones sign; with it the server signs
    /// everything anew, forgets the old ones, and vehicles refuse what those sign. `switchback status --server` shows which keys it has.
    ///
    /// After a theft: --new --replace for the first repository, this without --new for the other one, the signatures, and `publish`. If
    /// the server itself cannot be trusted any more, set up another one on a copy of its data without DATA/keys: it makes its own keys.
    OnlineKeys {
        #[command(flatten)]
        place: Place,
        /// File with the server's online keys, as `GET /v1/online-keys` gives them; goes before --server
        #[arg(long, value_name = "FILE")]
        online_keys: Option<PathBuf>,
        /// Have the server make new keys first
        #[arg(long, conflicts_with = "online_keys")]
        new: bool,
        /// Have it drop new keys that no root names yet, and make others
        #[arg(long, requires = "new")]
        replace: bool,
        #[command(flatten)]
        server: ServerArguments,
    },
    /// Give the next root its expiry; without another change, renew the root
    Expire {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        expiry: Expiry,
    },
    /// Sign the draft as a keyholder of the next root
    Sign {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        key: SigningKey,
    },
    /// Sign the draft as a keyholder of the root before it, who is leaving
    CrossSign {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        key: SigningKey,
    },
    /// Throw the draft away with its signatures
    Discard {
        #[command(flatten)]
        place: Place,
    },
}

/// Which root.
#[derive(Args)]
pub(crate) struct Place {
    /// Base directory
    #[arg(long, value_name = "DIR")]
    base: PathBuf,
    /// Which repository's root
    #[arg(long)]
    repository: RepositoryName,
}

/// When the next version expires.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Expiry {
    /// Days from now
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..))]
    days: Option<u16>,
    /// The time, such as 2028-01-01T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = UnixTime::parse_rfc3339)]
    at: Option<UnixTime>,
}

impl Expiry {
    pub(crate) fn time(&self, now: UnixTime) -> UnixTime {
        self.at.unwrap_or_else(|| now.plus_days(self.days.unwrap_or_default().into()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RepositoryName {
    /// The same for every vehicle
    Image,
    /// Per vehicle
    Director,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleName {
    Root,
    Targets,
    Snapshot,
    Timestamp,
}

impl From<RepositoryName> for Repository {
    fn from(name: RepositoryName) -> Self {
        match name {
            RepositoryName::Image => Self::Image,
            RepositoryName::Director => Self::Director,
        }
    }
}

impl From<RoleName> for RootRole {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Root => Self::Root,
            RoleName::Targets => Self::Targets,
            RoleName::Snapshot => Self::Snapshot,
            RoleName::Timestamp => Self::Timestamp,
        }
    }
}

pub(crate) fn run(command: Command, output: &Output) -> anyhow::Result<()> {
    let now = clock::now();
    match command {
        Command::Show { base, repository } => show(&Base::open(&base)?, repository, now, output),
        Command::AddKey { place, role, key } => edit(&place, now, output, |root, base| add_key(root, base, role.into(), &key)),
        Command::RemoveKey { place, role, key } => edit(&place, now, output, |root, base| remove_key(root, base, role.into(), &key)),
        Command::SetThreshold { place, role, threshold } => {
            edit(&place, now, output, |root, base| set_threshold(root, base, role.into(), threshold))
        }
        Command::OnlineKeys { place, online_keys, new, replace, server } => {
            // Before the server is asked for anything that stays.
            Base::open(&place.base)?;
            let keys = if new { OnlineKeys::make(&server, replace)? } else { OnlineKeys::read(online_keys.as_deref(), &server)? };
            edit(&place, now, output, |root, _| {
                match place.repository {
                    RepositoryName::Image => keys.certify_in_image(root),
                    RepositoryName::Director => keys.certify_in_director(root),
                }
                Ok(())
            })
        }
        Command::Expire { place, expiry } => {
            let base = Base::open(&place.base)?;
            let mut ceremony = open(&base, place.repository, now)?;
            let dropped = ceremony.expire(expiry.time(now))?;
            report(&ceremony, output, None, Some(dropped))
        }
        Command::Sign { place, key } => sign(&place, &key, Part::Keeping, now, output),
        Command::CrossSign { place, key } => sign(&place, &key, Part::Leaving, now, output),
        Command::Discard { place } => {
            let base = Base::open(&place.base)?;
            open(&base, place.repository, now)?.discard()?;
            show(&base, Some(place.repository), now, output)
        }
    }
}

fn open(base: &Base, repository: RepositoryName, now: UnixTime) -> anyhow::Result<Ceremony<'_, Root>> {
    Ceremony::open(base, Subject::Root(repository.into()), now)
}

fn edit(place: &Place, now: UnixTime, output: &Output, change: impl FnOnce(&mut Root, &Base) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let base = Base::open(&place.base)?;
    let mut ceremony = open(&base, place.repository, now)?;
    let dropped = ceremony.edit(change)?;
    report(&ceremony, output, None, Some(dropped))
}

fn sign(place: &Place, key: &SigningKey, part: Part, now: UnixTime, output: &Output) -> anyhow::Result<()> {
    let base = Base::open(&place.base)?;
    let mut ceremony = open(&base, place.repository, now)?;
    let by = ceremony.sign(key, part)?;
    report(&ceremony, output, Some(by), None)
}

fn report(ceremony: &Ceremony<'_, Root>, output: &Output, signed_now_by: Option<String>, dropped: Option<usize>) -> anyhow::Result<()> {
    let Some(report) = ceremony.report()? else { return Ok(()) };
    output.show(&Report { signed_now_by, signatures_dropped: dropped, ..report }, Report::describe)
}

fn holders(root: &Root, base: &Base, role: RootRole) -> anyhow::Result<Keyholders> {
    Ok(Keyholders::of_root(root, role, &base.key_names()?))
}

fn add_key(root: &mut Root, base: &Base, role: RootRole, name: &str) -> anyhow::Result<()> {
    let file = base.remember_key(name)?;
    if root.add_key(role, &file.key) {
        return Ok(());
    }
    Err(already(&file.name, role.name()))
}

/// A key that signs for the role already.
pub(crate) fn already(key: &str, role: &str) -> anyhow::Error {
    failure(format!("{key} is a key of {role} already"), "a key counts once, however often it is named")
}

/// A name that no key of the role has.
pub(crate) fn unknown(name: &str, holders: &Keyholders) -> anyhow::Error {
    failure(format!("no key of {} is called {name:?}", holders.role), format!("its keys are: {}", holders.names().join(", ")))
}

/// A threshold that cannot be reached, or that asks for nothing.
pub(crate) fn check_threshold(threshold: u64, holders: &Keyholders) -> anyhow::Result<()> {
    let keys = holders.usable();
    if threshold == 0 || threshold > keys {
        return Err(failure(format!("{threshold} of {keys} keys can never sign"), format!("choose 1 to {keys}, or add keys first")));
    }
    Ok(())
}

fn remove_key(root: &mut Root, base: &Base, role: RootRole, name: &str) -> anyhow::Result<()> {
    let holders = holders(root, base, role)?;
    let key = holders.find(name).ok_or_else(|| unknown(name, &holders))?;
    root.remove_key(role, key);
    Ok(())
}

fn set_threshold(root: &mut Root, base: &Base, role: RootRole, threshold: u64) -> anyhow::Result<()> {
    check_threshold(threshold, &holders(root, base, role)?)?;
    if let Some(keys) = root.roles.get_mut(&role) {
        keys.threshold = threshold;
    }
    Ok(())
}

#[derive(Serialize)]
struct Shown {
    repository: String,
    version: u64,
    expires: String,
    roles: Vec<ShownRole>,
    draft: Option<Report>,
}

#[derive(Serialize)]
pub(crate) struct ShownRole {
    role: String,
    threshold: u64,
    keys: Vec<ShownKey>,
}

#[derive(Serialize)]
struct ShownKey {
    name: String,
    key_id: String,
}

impl ShownRole {
    pub(crate) fn new(holders: &Keyholders) -> Self {
        let key = |(name, id): (&str, &switchback_signing::keys::KeyId)| ShownKey { name: name.to_owned(), key_id: id.to_string() };
        Self { role: holders.role.clone(), threshold: holders.threshold, keys: holders.entries().map(key).collect() }
    }

    /// Roles with their keys, one a row.
    pub(crate) fn table(roles: &[Self]) -> String {
        let row = |role: &Self| {
            let names: Vec<&str> = role.keys.iter().map(|key| key.name.as_str()).collect();
            vec![role.role.clone(), format!("{} of {}", role.threshold, names.len()), names.join(", ")]
        };
        table(&["ROLE", "MUST SIGN", "KEYS"], &roles.iter().map(row).collect::<Vec<_>>())
    }
}

fn show(base: &Base, repository: Option<RepositoryName>, now: UnixTime, output: &Output) -> anyhow::Result<()> {
    let repositories = repository.map_or_else(|| vec![RepositoryName::Image, RepositoryName::Director], |one| vec![one]);
    let shown = |repository: RepositoryName| {
        let ceremony = open(base, repository, now)?;
        let root = &ceremony.current;
        anyhow::Ok(Shown {
            repository: Repository::from(repository).to_string(),
            version: root.version,
            expires: root.expires.to_string(),
            roles: RootRole::ALL.map(|role| ShownRole::new(&Keyholders::of_root(root, role, ceremony.names()))).into(),
            draft: ceremony.report()?,
        })
    };
    let roots = repositories.into_iter().map(shown).collect::<anyhow::Result<Vec<_>>>()?;
    output.show(&roots, |roots| {
        roots.iter().fold(String::new(), |mut text, shown| {
            let _ = writeln!(text, "{} root version {}, valid until {}", shown.repository, shown.version, shown.expires);
            text.push_str(&ShownRole::table(&shown.roles));
            text.extend(shown.draft.as_ref().map(Report::describe));
            text.push('\n');
            text
        })
    })
}
