//! `switchback status`: what expires when, and who must sign before that.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use switchback_signing::{
    metadata::{Root, RootRole, Targets},
    time::UnixTime,
    trust::Repository,
};

use crate::{
    base::{Base, parse},
    ceremony::{Ceremony, Deliberate, Report, Subject},
    changes::Names,
    client::ServerArguments,
    clock,
    commands::online::ServerKeys,
    failure::failure,
    keyholders::Keyholders,
    next_step,
    output::{Output, table},
};

const DAY_S: i64 = 24 * 60 * 60;

/// Show what expires when and who must sign, soonest first
///
/// Exit status 0 when nothing that people sign expires within --days, 1 otherwise. What the server signs, snapshots and timestamps, it
/// renews by itself: with --server its online keys and what they have signed are listed too, and a server that cannot sign, because the
/// roots name other keys than it holds, is exit status 1.
#[derive(Args)]
#[command(after_help = "Example, for a daily job that mails when it fails:\n  switchback --json status --base release --days 14")]
pub(crate) struct Arguments {
    /// Base directory
    #[arg(long, value_name = "DIR")]
    base: PathBuf,
    /// Days before an expiry from which on it is urgent
    #[arg(long, value_name = "DAYS", default_value_t = 14)]
    days: u16,
    #[command(flatten)]
    server: ServerArguments,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Urgency {
    Valid,
    Soon,
    Expired,
}

#[derive(Serialize)]
struct Status {
    urgent: usize,
    roles: Vec<RoleStatus>,
    drafts: Vec<Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<ServerKeys>,
}

#[derive(Serialize)]
struct RoleStatus {
    role: String,
    version: u64,
    expires: String,
    days_left: i64,
    urgency: Urgency,
    threshold: u64,
    signers: Vec<String>,
    /// The command that renews it.
    renew: String,
    /// What it takes to renew it, or to complete the draft that does.
    steps: String,
    #[serde(skip)]
    at: UnixTime,
}

pub(crate) fn run(arguments: Arguments, output: &Output) -> anyhow::Result<()> {
    let (base, now) = (Base::open(&arguments.base)?, clock::now());
    let calendar = Calendar { names: base.key_names()?, base: &base, now, days: arguments.days };
    let mut roles = vec![calendar.root(Repository::Image)?, calendar.root(Repository::Director)?];
    roles.extend(calendar.targets()?);
    roles.sort_by_key(|role| role.at);
    let urgent = roles.iter().filter(|role| role.urgency != Urgency::Valid).count();
    let server = if arguments.server.is_named() { Some(ServerKeys::ask(&arguments.server)?) } else { None };
    let drafts = calendar.drafts()?;
    for role in &mut roles {
        if let Some(draft) = drafts.iter().find(|draft| draft.document == role.role) {
            role.steps = draft.steps();
        }
    }
    let status = Status { urgent, drafts, roles, server };
    output.show(&status, describe)?;
    if let Some(difference) = status.server.as_ref().map(|server| calendar.other_server(server)).transpose()?.flatten() {
        return Err(failure(
            difference,
            "is --server (SWITCHBACK_SERVER) this base's server? If it is, somebody has published from another copy of this base: bring the \
             two together first",
        ));
    }
    if let Some(problem) = status.server.as_ref().and_then(ServerKeys::problem) {
        return Err(failure(
            format!("the server cannot sign: {problem}"),
            format!(
                "have the root name the server's keys: `switchback root online-keys {} --repository image` (or director), the signatures, `{}`",
                base.argument(),
                next_step::publish(&base)
            ),
        ));
    }
    match status.roles.first().filter(|_| urgent > 0) {
        Some(first) => Err(failure(
            format!(
                "{urgent} of {} roles expire within {} days or have expired, first {} at {}",
                status.roles.len(),
                arguments.days,
                first.role,
                first.expires
            ),
            first.steps.clone(),
        )),
        None => Ok(()),
    }
}

/// How a role is renewed.
struct Renewal {
    /// What begins a draft, where the first signature does not.
    begin: Option<String>,
    sign: String,
}

struct Calendar<'a> {
    base: &'a Base,
    names: Names,
    now: UnixTime,
    days: u16,
}

impl Calendar<'_> {
    fn root(&self, repository: Repository) -> anyhow::Result<RoleStatus> {
        let root = parse::<Root>(&self.base.root(repository)?)?.signed;
        let holders = Keyholders::of_root(&root, RootRole::Root, &self.names);
        let (base, of) = (self.base.argument(), next_step::repository_argument(repository));
        let renew = Renewal {
            begin: Some(format!("switchback root expire {base} {of} --days {}", Root::DAYS)),
            sign: next_step::sign_root(self.base, repository, "sign"),
        };
        Ok(self.status(Subject::Root(repository).title(), (root.version, root.expires), &holders, renew))
    }

    /// The top-level targets and every role that they delegate to and that has signed something.
    fn targets(&self) -> anyhow::Result<Vec<RoleStatus>> {
        let root = parse::<Root>(&self.base.root(Repository::Image)?)?.signed;
        let Some(stored) = self.base.newest("targets")? else { return Ok(Vec::new()) };
        let targets = parse::<Targets>(&stored)?.signed;
        let holders = Keyholders::of_root(&root, RootRole::Targets, &self.names);
        let renew = Renewal {
            begin: Some(format!("switchback targets expire {} --days {}", self.base.argument(), Targets::DAYS)),
            sign: next_step::sign_targets(self.base),
        };
        let mut found = vec![self.status("targets".into(), (targets.version, targets.expires), &holders, renew)];
        for delegated in targets.delegations.iter().flat_map(|delegations| &delegations.roles) {
            let Some(stored) = self.base.newest(&delegated.name)? else { continue };
            let release = parse::<Targets>(&stored)?.signed;
            let holders = Keyholders::of_release_role(&targets, &delegated.name, &self.names)?;
            let renew = Renewal { begin: None, sign: next_step::renew_release(self.base, &delegated.name, Some(&targets)) };
            found.push(self.status(delegated.name.clone(), (release.version, release.expires), &holders, renew));
        }
        Ok(found)
    }

    fn status(&self, role: String, (version, at): (u64, UnixTime), holders: &Keyholders, renew: Renewal) -> RoleStatus {
        let signers: Vec<String> = holders.names().into_iter().map(ToOwned::to_owned).collect();
        let Renewal { begin, sign } = renew;
        let first = begin.iter().map(|begin| format!("`{begin}`, then ")).collect::<String>();
        let who = format!("{} of {}", holders.threshold, signers.join(", "));
        let steps = format!("renew it: {first}{who}: `{sign}`, then `{}`", next_step::publish(self.base));
        RoleStatus {
            role,
            version,
            expires: at.to_string(),
            days_left: (at.seconds() - self.now.seconds()).div_euclid(DAY_S),
            urgency: urgency(at, self.now, self.days),
            threshold: holders.threshold,
            signers,
            renew: begin.unwrap_or(sign),
            steps,
            at,
        }
    }

    /// How the server's roots differ from those of the base, when they are not the same or older.
    fn other_server(&self, server: &ServerKeys) -> anyhow::Result<Option<String>> {
        for repository in [Repository::Image, Repository::Director] {
            let root = parse::<Root>(&self.base.root(repository)?)?.signed;
            if let Some(difference) = server.difference(repository, &root) {
                return Ok(Some(difference));
            }
        }
        Ok(None)
    }

    fn drafts(&self) -> anyhow::Result<Vec<Report>> {
        let mut drafts = Vec::new();
        for repository in [Repository::Image, Repository::Director] {
            drafts.extend(Ceremony::<Root>::open(self.base, Subject::Root(repository), self.now)?.report()?);
        }
        drafts.extend(Ceremony::<Targets>::open(self.base, Subject::Targets, self.now)?.report()?);
        for role in self.base.drafted_roles()? {
            drafts.extend(Ceremony::<Targets>::open(self.base, Subject::Release(role), self.now)?.report()?);
        }
        Ok(drafts)
    }
}

fn urgency(expires: UnixTime, now: UnixTime, days: u16) -> Urgency {
    if expires <= now {
        Urgency::Expired
    } else if expires <= now.plus_days(days.into()) {
        Urgency::Soon
    } else {
        Urgency::Valid
    }
}

fn describe(status: &Status) -> String {
    let row = |role: &RoleStatus| {
        let left = match role.urgency {
            Urgency::Expired => "EXPIRED".to_owned(),
            Urgency::Soon => format!("{} days (soon)", role.days_left),
            Urgency::Valid => format!("{} days", role.days_left),
        };
        let signers = format!("{} of {}", role.threshold, role.signers.join(", "));
        vec![role.expires.clone(), left, format!("{} {}", role.role, role.version), signers, role.renew.clone()]
    };
    let mut text = table(&["EXPIRES", "LEFT", "ROLE", "MUST SIGN", "RENEW WITH"], &status.roles.iter().map(row).collect::<Vec<_>>());
    for draft in &status.drafts {
        let state = match draft.complete {
            true => format!("complete, `{}` sends it", draft.next),
            false => format!("{}\n  next: {}", draft.waiting(), draft.next),
        };
        text.push_str(&format!("draft of {} version {}: {state}\n", draft.document, draft.version));
    }
    text.extend(status.server.as_ref().map(ServerKeys::describe));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_urgent_from_the_first_of_the_last_days_on() {
        let now = UnixTime::from_seconds(1_800_000_000);
        for (seconds, expected) in [
            (-1, Urgency::Expired),
            (0, Urgency::Expired),
            (1, Urgency::Soon),
            (14 * DAY_S, Urgency::Soon),
            (14 * DAY_S + 1, Urgency::Valid),
        ] {
            assert!(urgency(now.plus_seconds(seconds), now, 14) == expected, "{seconds}");
        }
    }
}
