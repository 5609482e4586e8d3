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
    base::{Base, parse, tier_of},
    ceremony::{Ceremony, Deliberate, Report, Subject},
    changes::Names,
    client::ServerArguments,
    clock,
    commands::online::ServerKeys,
    failure::failure,
    keyholders::Keyholders,
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
    let status = Status { urgent, drafts: calendar.drafts()?, roles, server };
    output.show(&status, describe)?;
    if let Some(problem) = status.server.as_ref().and_then(ServerKeys::problem) {
        return Err(failure(
            format!("the server cannot sign: {problem}"),
            "have the root name the server's keys (`switchback root online-keys`, the signatures, `switchback publish`)",
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
            format!("renew it: `{}`", first.renew),
        )),
        None => Ok(()),
    }
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
        let name = if repository == Repository::Image { "image" } else { "director" };
        let renew = format!("switchback root expire --repository {name} --days {}", Root::DAYS);
        Ok(self.status(Subject::Root(repository).title(), (root.version, root.expires), &holders, renew))
    }

    /// The top-level targets and every role that they delegate to and that has signed something.
    fn targets(&self) -> anyhow::Result<Vec<RoleStatus>> {
        let root = parse::<Root>(&self.base.root(Repository::Image)?)?.signed;
        let Some(stored) = self.base.newest("targets")? else { return Ok(Vec::new()) };
        let targets = parse::<Targets>(&stored)?.signed;
        let holders = Keyholders::of_root(&root, RootRole::Targets, &self.names);
        let renew = format!("switchback targets expire --days {}", Targets::DAYS);
        let mut found = vec![self.status("targets".into(), (targets.version, targets.expires), &holders, renew)];
        for delegated in targets.delegations.iter().flat_map(|delegations| &delegations.roles) {
            let Some(stored) = self.base.newest(&delegated.name)? else { continue };
            let release = parse::<Targets>(&stored)?.signed;
            let holders = Keyholders::of_release_role(&targets, &delegated.name, &self.names)?;
            let agreement = targets.delegations.iter().find_map(|delegations| delegations.agreement_of(&delegated.name));
            let renew = match agreement.and_then(|agreement| agreement.roles.first()).filter(|first| **first != delegated.name) {
                Some(first) => format!("switchback sign --renew {} --role {}", tier_of(first), delegated.name),
                None => format!("switchback sign --renew {}", tier_of(&delegated.name)),
            };
            found.push(self.status(delegated.name.clone(), (release.version, release.expires), &holders, renew));
        }
        Ok(found)
    }

    fn status(&self, role: String, (version, at): (u64, UnixTime), holders: &Keyholders, renew: String) -> RoleStatus {
        RoleStatus {
            role,
            version,
            expires: at.to_string(),
            days_left: (at.seconds() - self.now.seconds()).div_euclid(DAY_S),
            urgency: urgency(at, self.now, self.days),
            threshold: holders.threshold,
            signers: holders.names().into_iter().map(ToOwned::to_owned).collect(),
            renew,
            at,
        }
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
        let state = if draft.complete { "complete, `switchback publish` sends it".to_owned() } else { draft.waiting() };
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
