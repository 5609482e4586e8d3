//! What differs between two versions of metadata, in lines that a keyholder reads before signing.
//!
//! Nothing may differ without a line: what the lines below do not name is compared as a whole at the end.

use std::collections::BTreeMap;

use switchback_signing::{
    keys::{KeyId, KeyObject, PublicKey},
    metadata::{
        Agreement, Companion, DelegatedRole, Delegations, HardwareId, PathSet, Role, RoleKeys, Root, RootRole, TargetMeta, Targets,
    },
};

/// Names of keys by their computed ids.
pub(crate) type Names = BTreeMap<KeyId, String>;

/// What is said when something differs that has no line of its own.
const OTHER: &str = "fields that this program does not show differ: compare the files themselves";

/// What a root changes.
pub(crate) fn of_root(before: &Root, after: &Root, names: &Names) -> Vec<String> {
    let mut lines = header(before, after);
    for role in RootRole::ALL {
        let (Some(old), Some(new)) = (before.roles.get(&role), after.roles.get(&role)) else { continue };
        lines.extend(of_keys(role.name(), (old, &before.keys), (new, &after.keys), names));
    }
    let mut same = before.clone();
    (same.version, same.expires, same.keys) = (after.version, after.expires, after.keys.clone());
    for (role, keys) in &after.roles {
        if let Some(old) = same.roles.get_mut(role) {
            let extra = std::mem::take(&mut old.extra);
            *old = RoleKeys { extra, ..keys.clone() };
        }
    }
    close(lines, &same, after)
}

/// What top-level or delegated Targets metadata changes.
pub(crate) fn of_targets(before: &Targets, after: &Targets, names: &Names) -> Vec<String> {
    let mut lines = header(before, after);
    let nobody = Delegations::default();
    let (old, new) = (before.delegations.as_ref().unwrap_or(&nobody), after.delegations.as_ref().unwrap_or(&nobody));
    lines.extend(of_delegations(old, new, names));
    for (path, target) in &after.targets {
        match before.targets.get(path) {
            None => lines.push(format!("+ {path}: {}", describe(target))),
            Some(old) if old != target => lines.push(format!("! {path} was {}, becomes {}", describe(old), describe(target))),
            Some(_) => {}
        }
    }
    let gone = before.targets.iter().filter(|(path, _)| !after.targets.contains_key(*path));
    lines.extend(gone.map(|(path, target)| format!("- {path}: {}", describe(target))));
    let same = Targets {
        version: after.version,
        expires: after.expires,
        targets: after.targets.clone(),
        delegations: after.delegations.clone(),
        ..before.clone()
    };
    close(lines, &same, after)
}

/// All that a root says about keys, in as many lines as it has roles.
pub(crate) fn all_of_root(root: &Root, names: &Names) -> Vec<String> {
    root.roles.iter().map(|(role, keys)| format!("{}: {}", role.name(), holders(keys, &root.keys, names))).collect()
}

/// All that Targets metadata lists and delegates.
pub(crate) fn all_of_targets(targets: &Targets, names: &Names) -> Vec<String> {
    let nobody = Delegations::default();
    let delegations = targets.delegations.as_ref().unwrap_or(&nobody);
    let role = |role: &DelegatedRole| {
        let terminating = if role.terminating { ", and nobody after it" } else { "" };
        format!("role {} for {}{terminating}: {}", role.name, paths(role), holders(&role.keys, &delegations.keys, names))
    };
    let mut lines: Vec<String> = delegations.roles.iter().map(role).collect();
    lines.extend(delegations.agreements.iter().map(|agreement| format!("believed only together: {}", together(agreement))));
    if delegations.bins.is_some() {
        lines.push("hash bins, which this program does not show".into());
    }
    lines.extend(targets.targets.iter().map(|(path, target)| format!("{path}: {}", describe(target))));
    lines
}

/// Who may sign, and how many must.
fn holders(keys: &RoleKeys, known: &BTreeMap<KeyId, KeyObject>, names: &Names) -> String {
    let labels: Vec<String> = keys.key_ids.iter().map(|id| label(id, known.get(id), names)).collect();
    format!("{} of {}", keys.threshold, if labels.is_empty() { "nobody".into() } else { labels.join(", ") })
}

fn header<T: Role>(before: &T, after: &T) -> Vec<String> {
    // There is no version 0: this is the first.
    if before.version() == 0 {
        return vec![format!("version {}, the first", after.version()), format!("expires {}", after.expires())];
    }
    let mut lines = vec![format!("version {} -> {}", before.version(), after.version())];
    if before.expires() != after.expires() {
        lines.push(format!("expires {} -> {}", before.expires(), after.expires()));
    }
    lines
}

fn close<T: PartialEq>(mut lines: Vec<String>, expected: &T, after: &T) -> Vec<String> {
    if expected != after {
        lines.push(OTHER.into());
    }
    lines
}

fn of_delegations(before: &Delegations, after: &Delegations, names: &Names) -> Vec<String> {
    let role = |delegations: &Delegations, name: &str| delegations.roles.iter().find(|role| role.name == name).cloned();
    let mut lines = Vec::new();
    for new in &after.roles {
        let nobody = RoleKeys::new(Vec::new(), 0);
        let old = role(before, &new.name);
        let keys = old.as_ref().map_or(&nobody, |old| &old.keys);
        match &old {
            None => lines.push(format!("+ role {} for {}", new.name, paths(new))),
            Some(old) if old.paths != new.paths => lines.push(format!("{}: paths {} -> {}", new.name, paths(old), paths(new))),
            Some(_) => {}
        }
        lines.extend(of_keys(&new.name, (keys, &before.keys), (&new.keys, &after.keys), names));
        let same = |old: DelegatedRole| DelegatedRole { keys: new.keys.clone(), paths: new.paths.clone(), ..old };
        if old.is_some_and(|old| same(old) != *new) {
            lines.push(format!("{}: {OTHER}", new.name));
        }
    }
    let gone = before.roles.iter().filter(|old| role(after, &old.name).is_none());
    lines.extend(gone.map(|old| format!("- role {} for {}", old.name, paths(old))));
    let order = |delegations: &Delegations| delegations.roles.iter().map(|role| role.name.clone()).collect::<Vec<_>>();
    let (old, new) = (order(before), order(after));
    // The first role that lists a file wins, so the order of those that stay is content.
    let stays = |names: &[String], others: &[String]| names.iter().filter(|name| others.contains(name)).cloned().collect::<Vec<_>>();
    if stays(&old, &new) != stays(&new, &old) {
        lines.push(format!("priority of the roles: {}", new.join(", ")));
    }
    let changed = |these: &Delegations, those: &Delegations| -> Vec<String> {
        these.agreements.iter().filter(|agreement| !those.agreements.contains(agreement)).map(together).collect()
    };
    lines.extend(changed(after, before).iter().map(|together| format!("+ believed only together: {together}")));
    lines.extend(changed(before, after).iter().map(|together| format!("- no longer believed only together: {together}")));
    if (&before.bins, &before.extra) != (&after.bins, &after.extra) {
        lines.push(OTHER.into());
    }
    lines
}

fn together(agreement: &Agreement) -> String {
    format!("{} of {} that list a file alike", agreement.roles_min, agreement.roles.join(", "))
}

fn label(id: &KeyId, object: Option<&KeyObject>, names: &Names) -> String {
    match object.and_then(KeyObject::public_key).map(PublicKey::key_id) {
        // The whole id: a name is what somebody calls the key, the id is the key.
        Some(id) => format!("{} (key id {id})", names.get(&id).map_or("a key without a name", String::as_str)),
        None => format!("key {id}, which cannot sign here"),
    }
}

fn of_keys(
    role: &str,
    (old, old_keys): (&RoleKeys, &BTreeMap<KeyId, KeyObject>),
    (new, new_keys): (&RoleKeys, &BTreeMap<KeyId, KeyObject>),
    names: &Names,
) -> Vec<String> {
    let objects = |keys: &RoleKeys, known: &BTreeMap<KeyId, KeyObject>| -> Vec<(KeyId, Option<KeyObject>)> {
        keys.key_ids.iter().map(|id| (id.clone(), known.get(id).cloned())).collect()
    };
    let (old_objects, new_objects) = (objects(old, old_keys), objects(new, new_keys));
    let label = |(id, object): &(KeyId, Option<KeyObject>)| label(id, object.as_ref(), names);
    let added = new_objects.iter().filter(|key| !old_objects.contains(key)).map(|key| format!("{role}: + {}", label(key)));
    let removed = old_objects.iter().filter(|key| !new_objects.contains(key)).map(|key| format!("{role}: - {}", label(key)));
    let mut lines: Vec<String> = added.chain(removed).collect();
    if old.threshold != new.threshold {
        lines.push(format!("{role}: threshold {} -> {} of {}", old.threshold, new.threshold, new.key_ids.len()));
    }
    lines
}

fn paths(role: &DelegatedRole) -> String {
    match &role.paths {
        PathSet::Patterns(patterns) => patterns.join(", "),
        PathSet::HashPrefixes(prefixes) => format!("paths whose hash begins with {}", prefixes.join(", ")),
    }
}

/// What a release is and for whom; the bytes of a bundle by their hash alone.
fn describe(target: &TargetMeta) -> String {
    let sha256 = target.hashes.sha256.map_or_else(|| "no SHA-256".into(), |sha256| format!("SHA-256 {sha256}"));
    let bytes = format!("{} bytes, {sha256}", target.length);
    if target.shall_match().is_none() {
        return bytes;
    }
    let list = |values: Vec<String>, all: &str| if values.is_empty() { all.to_owned() } else { values.join(" ") };
    let hardware = |ids: &[HardwareId]| list(ids.iter().map(ToString::to_string).collect(), "none");
    if !target.is_release() {
        let Ok(image) = target.ecu_image() else { return format!("{bytes}, with a block that cannot be read") };
        return format!("image for {}, counter {}; {bytes}", hardware(&image.hardware_ids), image.release_counter);
    }
    let Ok(release) = target.release() else { return format!("{bytes}, with a release block that cannot be read") };
    let hardware = hardware(&release.hardware_ids);
    let regions = list(release.regions.iter().map(ToString::to_string).collect(), "all");
    let mut text = format!(
        "{} counter {}, hardware {hardware}, regions {regions}, library {} and ONNX Runtime {} or newer, bundle SHA-256 {}; {bytes}",
        release.title(),
        release.release_counter,
        release.sdk_min,
        release.onnxruntime_min,
        release.bundle.sha256
    );
    // Who is asked to sign a release that everybody may read, or nobody any more, sees it.
    if let Some(method) = release.bundle.encryption {
        text.push_str(&format!("; encrypted, {method}"));
    }
    for companion in &release.companions {
        let Companion { hardware_id, path, sha256, release_counter, .. } = companion;
        text.push_str(&format!("; needs {path} on {hardware_id}, counter {release_counter}, SHA-256 {sha256}"));
    }
    if !release.extra.is_empty() {
        text.push_str("; with further fields");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use switchback_signing::{
        digest::Sha256Digest,
        keys::{Ed25519Signer, Signer},
        metadata::{EcuImage, json::Json},
        time::UnixTime,
    };

    use super::*;

    fn key(seed: u8) -> PublicKey {
        Ed25519Signer::from_seed([seed; 32]).public_key()
    }

    fn targets() -> Targets {
        let mut delegations = Delegations::default();
        delegations.add(DelegatedRole::new("vla-ultra", 1, &[key(1)], &["ultra/*"]), &[key(1)]);
        delegations.add(DelegatedRole::new("vla-lite", 1, &[key(1)], &["lite/*"]), &[key(1)]);
        Targets { delegations: Some(delegations), ..Targets::new(1, UnixTime::MAX) }
    }

    /// The lines for a change, without the versions' line.
    fn lines(change: impl FnOnce(&mut Targets)) -> Vec<String> {
        let before = targets();
        let mut after = Targets { version: 2, ..before.clone() };
        change(&mut after);
        let names = Names::from([(key(1).key_id(), "alice".into()), (key(2).key_id(), "dora".into())]);
        of_targets(&before, &after, &names).split_off(1)
    }

    #[test]
    fn nothing_differs_without_a_line() {
        let delegations = |change: fn(&mut Delegations)| lines(|targets| change(targets.delegations.as_mut().unwrap()));
        assert_eq!(lines(|_| {}), Vec::<String>::new());
        let dora = format!("vla-ultra: + dora (key id {})", key(2).key_id());
        assert_eq!(delegations(|it| assert!(it.add_key("vla-ultra", &key(2)))), [dora]);
        let alice = format!("vla-ultra: - alice (key id {})", key(1).key_id());
        assert_eq!(delegations(|it| assert!(it.remove_key("vla-ultra", &key(1)))), [alice]);
        assert_eq!(delegations(|it| it.roles[0].keys.threshold = 2), ["vla-ultra: threshold 1 -> 2 of 1"]);
        assert_eq!(delegations(|it| it.roles[0].paths = PathSet::Patterns(vec!["*".into()])), ["vla-ultra: paths ultra/* -> *"]);
        assert_eq!(delegations(|it| it.roles[0].terminating = true), [format!("vla-ultra: {OTHER}")]);
        assert_eq!(delegations(|it| it.roles.reverse()), ["priority of the roles: vla-lite, vla-ultra"]);
        assert_eq!(delegations(|it| drop(it.roles.pop())), ["- role vla-lite for lite/*"]);
        let cosigned = delegations(|it| {
            it.add(DelegatedRole::new("oem-brand", 1, &[key(2)], &["ultra/*"]), &[key(2)]);
            it.require_agreement(&["vla-ultra", "oem-brand"], 2).unwrap();
        });
        let dora = format!("oem-brand: + dora (key id {})", key(2).key_id());
        let together = "+ believed only together: 2 of vla-ultra, oem-brand that list a file alike";
        assert_eq!(cosigned, ["+ role oem-brand for ultra/*", &dora, "oem-brand: threshold 0 -> 1 of 1", together]);
        let note = |extra: &mut BTreeMap<String, Json>| drop(extra.insert("x-note".into(), Json::Bool(true)));
        assert_eq!(lines(|targets| note(&mut targets.extra)), [OTHER]);
        assert_eq!(lines(|targets| note(&mut targets.custom)), [OTHER]);
        assert_eq!(lines(|targets| note(&mut targets.delegations.as_mut().unwrap().extra)), [OTHER]);
        let sha256 = Sha256Digest::of(b"a");
        let added = lines(|targets| drop(targets.targets.insert("ultra/a".into(), TargetMeta::of_digest(1, sha256))));
        assert_eq!(added, [format!("+ ultra/a: 1 bytes, SHA-256 {sha256}")]);
        let block = EcuImage { release_counter: 7, hardware_ids: vec![HardwareId::new("cam-a").unwrap()] };
        let added = lines(|targets| drop(targets.targets.insert("ultra/a".into(), TargetMeta::of_image(b"a", &block))));
        assert_eq!(added, [format!("+ ultra/a: image for cam-a, counter 7; 1 bytes, SHA-256 {sha256}")]);
    }

    #[test]
    fn all_that_a_draft_says_is_told_whatever_it_changes() {
        let names = Names::from([(key(1).key_id(), "alice".into())]);
        let mut targets = targets();
        let delegations = targets.delegations.as_mut().unwrap();
        delegations.add(DelegatedRole::new("oem", 1, &[key(2)], &["ultra/*"]), &[key(2)]);
        delegations.require_agreement(&["vla-ultra", "oem"], 2).unwrap();
        targets.targets.insert("lite/a".into(), TargetMeta::of_digest(1, Sha256Digest::of(b"a")));
        let [alice, nobody] = [format!("alice (key id {})", key(1).key_id()), format!("a key without a name (key id {})", key(2).key_id())];
        let expected = [
            format!("role vla-ultra for ultra/*: 1 of {alice}"),
            format!("role oem for ultra/*: 1 of {nobody}"),
            format!("role vla-lite for lite/*: 1 of {alice}"),
            "believed only together: 2 of vla-ultra, oem that list a file alike".to_owned(),
            format!("lite/a: 1 bytes, SHA-256 {}", Sha256Digest::of(b"a")),
        ];
        assert_eq!(all_of_targets(&targets, &names), expected);
        let mut root = Root::new(1, UnixTime::MAX);
        root.set_role(RootRole::Root, 1, &[key(1), key(2)]);
        assert_eq!(all_of_root(&root, &names), [format!("root: 1 of {alice}, {nobody}")]);
        let first = of_targets(&Targets::new(0, UnixTime::MIN), &targets, &names);
        assert_eq!(first[..2], ["version 1, the first".to_owned(), format!("expires {}", UnixTime::MAX)]);
    }

    #[test]
    fn a_field_of_a_root_that_nobody_shows_is_mentioned() {
        let mut before = Root::new(1, UnixTime::MAX);
        RootRole::ALL.iter().for_each(|role| before.set_role(*role, 1, &[key(1)]));
        let mut after = before.clone();
        after.version = 2;
        assert_eq!(of_root(&before, &after, &Names::new()), ["version 1 -> 2"]);
        after.consistent_snapshot = false;
        assert_eq!(of_root(&before, &after, &Names::new()), ["version 1 -> 2", OTHER]);
    }
}
