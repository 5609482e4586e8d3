"""Judges a repository's metadata with python-tuf, the reference implementation of TUF.

usage: accept_metadata.py DIRECTORY

DIRECTORY holds metadata files as a TUF client fetches them (`1.root.json`, `timestamp.json`, `1.targets.json`, ...).
Every file must load, and every role must be signed by a threshold of the keys that its delegator names.
Prints one line a file; the exit code is 1 when one of them was not accepted.
"""

import pathlib
import re
import sys

from tuf.api.metadata import Metadata, Root, Targets


def newest(files, role):
    """The file of `role` with the highest version, or the one without a version."""
    versions = {}
    for path in files:
        match = re.fullmatch(rf"(?:(\d+)\.)?{re.escape(role)}\.json", path.name)
        if match:
            versions[int(match.group(1) or 0)] = path
    return versions[max(versions)] if versions else None


def verify_delegations(delegator, role_names, files, accepted, required):
    for role in role_names:
        path = newest(files, role)
        if path is None and not required:
            continue  # A client fetches delegated roles lazily: those of other tiers are not here.
        if path is None:
            raise ValueError(f"there is no file of the role {role}")
        metadata = Metadata.from_file(str(path))
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        accepted[path.name] = f"{role} version {metadata.signed.version}, signed by its threshold"
        if isinstance(metadata.signed, Targets) and metadata.signed.delegations:
            nested = list(metadata.signed.delegations.roles)
            verify_delegations(metadata.signed, nested, files, accepted, required=False)


def main(directory):
    files = sorted(pathlib.Path(directory).glob("*.json"))
    if not files:
        print(f"{directory}: no metadata", file=sys.stderr)
        return 1
    accepted = {}
    for path in files:
        metadata = Metadata.from_file(str(path))
        accepted[path.name] = f"{metadata.signed.type} version {metadata.signed.version}, loads"
    roots = [Metadata[Root].from_file(str(path)) for path in files if path.name.endswith(".root.json")]
    roots.sort(key=lambda metadata: metadata.signed.version)
    for older, newer in zip(roots, roots[1:]):
        older.signed.verify_delegate("root", newer.signed_bytes, newer.signatures)
    root = roots[-1].signed
    verify_delegations(root, ["root", "timestamp", "snapshot", "targets"], files, accepted, required=True)
    for name, verdict in accepted.items():
        print(f"{name}: {verdict}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
