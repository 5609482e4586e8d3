//! The command that comes next, as it can be typed.

use std::path::Path;

use switchback_signing::{metadata::Targets, trust::Repository};

use crate::base::{Base, tier_of};

/// Sends what is complete.
pub(crate) fn publish(base: &Base) -> String {
    format!("switchback publish {}", base.argument())
}

/// Signs the draft of a root; `cross-sign` for those who leave.
pub(crate) fn sign_root(base: &Base, repository: Repository, verb: &str) -> String {
    format!("switchback root {verb} {} {} --key NAME", base.argument(), repository_argument(repository))
}

/// Signs the draft of the top-level targets.
pub(crate) fn sign_targets(base: &Base) -> String {
    format!("switchback targets sign {} --key NAME", base.argument())
}

/// Signs the draft of a release role that lists a new bundle.
pub(crate) fn sign_release(base: &Base, role: &str, targets: Option<&Targets>, bundle: Option<&Path>) -> String {
    let role = match co_signs(role, targets) {
        Some(_) => format!(" --role {role}"),
        None => String::new(),
    };
    let bundle = bundle.map_or_else(|| "BUNDLE".into(), quoted);
    format!("switchback sign {} --key NAME{role} {bundle}", base.argument())
}

/// Signs what a release role lists again, with a later expiry.
pub(crate) fn renew_release(base: &Base, role: &str, targets: Option<&Targets>) -> String {
    let tier = match co_signs(role, targets) {
        Some(of) => format!("{} --role {role}", tier_of(of)),
        None => tier_of(role).to_owned(),
    };
    format!("switchback sign {} --key NAME --renew {tier}", base.argument())
}

/// `--repository image`.
pub(crate) fn repository_argument(repository: Repository) -> &'static str {
    match repository {
        Repository::Image => "--repository image",
        Repository::Director => "--repository director",
    }
}

/// A path as a shell reads it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The tier's own role, when `role` co-signs what that one lists.
fn co_signs<'a>(role: &str, targets: Option<&'a Targets>) -> Option<&'a str> {
    let agreement = targets?.delegations.iter().find_map(|delegations| delegations.agreement_of(role))?;
    agreement.roles.first().map(String::as_str).filter(|first| *first != role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_quoted_where_a_shell_would_take_it_apart() {
        for (path, expected) in [
            ("release", "release"),
            ("/media/stick-1/b_2.d", "/media/stick-1/b_2.d"),
            ("my base", "'my base'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(Path::new(path)), expected);
        }
    }
}
