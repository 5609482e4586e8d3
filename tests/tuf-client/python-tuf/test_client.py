"""What a TUF client must do beyond python-tuf's own tests: kinds of keys and digests, bad signatures, odd names, exit codes.

`run.py` runs it with python-tuf's simulated repository and its stand-in for `tuf.ngclient.Updater`.
"""

import datetime
import json
import os
import tempfile
import unittest
from urllib import parse

import freezegun
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner, SSlibKey
from tests.repository_simulator import RepositorySimulator, RepositoryTarget
from tuf.api.exceptions import DownloadError, DownloadHTTPError, ExpiredMetadataError, RepositoryError, UnsignedMetadataError
from tuf.api.metadata import DelegatedRole, TargetFile, Targets
from tuf.ngclient import Updater

KEYS = {
    # Made from the library's own key generator, because run.py may have replaced the short cut.
    "ed25519": (lambda: CryptoSigner(Ed25519PrivateKey.generate()), 64),
    "ecdsa-sha2-nistp256": (CryptoSigner.generate_ecdsa, 71),
    "rsassa-pss-sha256": (CryptoSigner.generate_rsa, 384),
}


class TestClient(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.metadata_dir = os.path.join(self.folder.name, "metadata")
        self.targets_dir = os.path.join(self.folder.name, "targets")
        self.sim = RepositorySimulator()

    def tearDown(self):
        self.folder.cleanup()

    def updater(self, root=None):
        root = root or self.sim.signed_roots[0]
        return Updater(self.metadata_dir, "https://example.com/metadata/", self.targets_dir, "https://example.com/targets/", self.sim, bootstrap=root)

    def versions(self):
        """The trusted roles by the names of their files."""
        found = {}
        for name in sorted(os.listdir(self.metadata_dir)):
            with open(os.path.join(self.metadata_dir, name), "rb") as file:
                found[name.removesuffix(".json")] = json.load(file)["signed"]["version"]
        return found

    def downloads(self):
        found = []
        for name in os.listdir(self.targets_dir) if os.path.isdir(self.targets_dir) else []:
            with open(os.path.join(self.targets_dir, name), "rb") as file:
                found.append(file.read())
        return sorted(found)

    def tamper(self, role, change):
        """Changes a role's file after it was signed."""
        fetch = self.sim.fetch_metadata

        def fetch_metadata(name, version=None):
            data = fetch(name, version)
            if name != role:
                return data
            file = json.loads(data)
            change(file)
            return json.dumps(file).encode()

        self.sim.fetch_metadata = fetch_metadata

    def delegate(self, role, paths, expires=None):
        targets = Targets(expires=expires or self.sim.safe_expiry)
        self.sim.add_delegation("targets", DelegatedRole(role, [], 1, False, paths), targets)

    def test_every_kind_of_key_of_the_specification_counts_and_its_wrong_signature_does_not(self):
        for scheme, (generate, length) in KEYS.items():
            with self.subTest(scheme):
                self.tearDown()
                self.setUp()
                signer = generate()
                self.assertEqual(signer.public_key.scheme, scheme)
                self.sim.root.add_key(signer.public_key, "root")
                self.sim.root.roles["root"].threshold = 2
                self.sim.add_signer("root", signer)
                self.sim.root.version += 1
                self.sim.publish_root()
                self.updater().refresh()
                self.assertEqual(self.versions()["root"], 2)

                self.sim.root.version += 1
                self.sim.publish_root()
                root = json.loads(self.sim.signed_roots[-1])
                other = generate().sign(b"another message").signature
                for signature in [other, "00" * length, "", "not hexadecimal"]:
                    for entry in root["signatures"]:
                        if entry["keyid"] == signer.public_key.keyid:
                            entry["sig"] = signature
                    self.sim.signed_roots[-1] = json.dumps(root).encode()
                    with self.assertRaises(UnsignedMetadataError):
                        self.updater().refresh()
                    self.assertEqual(self.versions()["root"], 2)

    def test_a_bad_signature_beside_enough_good_ones_spoils_nothing(self):
        bad = next(iter(self.sim.signers["timestamp"]))
        signer = CryptoSigner.generate_ed25519()
        self.sim.root.add_key(signer.public_key, "timestamp")
        self.sim.add_signer("timestamp", signer)
        self.sim.root.version += 1
        self.sim.publish_root()
        for version, signature in enumerate(["00" * 64, "", "?"], start=2):
            self.sim.timestamp.version = version
            self.sim.__dict__.pop("fetch_metadata", None)

            def change(file, signature=signature):
                for entry in file["signatures"]:
                    if entry["keyid"] == bad:
                        entry["sig"] = signature

            self.tamper("timestamp", change)
            self.updater().refresh()
            self.assertEqual(self.versions()["timestamp"], version)

    def test_two_signatures_under_one_key_id_are_refused(self):
        self.tamper("snapshot", lambda file: file["signatures"].append(file["signatures"][0]))
        with self.assertRaises(RepositoryError):
            self.updater().refresh()
        self.assertNotIn("snapshot", self.versions())

    def test_a_key_of_an_unknown_kind_is_ignored_and_one_key_under_two_names_counts_once(self):
        unknown = SSlibKey("a" * 64, "lattice", "lattice-2040", {"public": "00"})
        self.sim.root.add_key(unknown, "snapshot")
        self.sim.root.version += 1
        self.sim.publish_root()
        self.updater().refresh()

        signer = next(iter(self.sim.signers["snapshot"].values()))
        key = SSlibKey("b" * 64, signer.public_key.keytype, signer.public_key.scheme, dict(signer.public_key.keyval))
        self.sim.root.add_key(key, "snapshot")
        self.sim.root.roles["snapshot"].threshold = 2
        self.sim.root.version += 1
        self.sim.publish_root()
        self.sim.update_snapshot()
        self.tamper("snapshot", lambda file: file["signatures"].append({**file["signatures"][0], "keyid": "b" * 64}))
        with self.assertRaises(UnsignedMetadataError):
            self.updater().refresh()

    def test_what_is_trusted_stops_before_the_role_that_is_not_signed(self):
        for role, trusted in [("timestamp", ["root"]), ("snapshot", ["root", "timestamp"]), ("targets", ["root", "snapshot", "timestamp"])]:
            with self.subTest(role):
                self.tearDown()
                self.setUp()
                self.sim.signers[role].clear()
                with self.assertRaises(UnsignedMetadataError):
                    self.updater().refresh()
                self.assertEqual(list(self.versions()), trusted)

    def test_nothing_is_asked_for_with_an_initial_root_that_is_not_sound(self):
        root = json.loads(self.sim.signed_roots[0])
        for change in [lambda: root["signed"].pop("version"), lambda: root["signatures"].clear()]:
            change()
            self.tearDown()
            self.folder = tempfile.TemporaryDirectory()
            self.metadata_dir = os.path.join(self.folder.name, "metadata")
            with self.assertRaises(RepositoryError):
                self.updater(json.dumps(root).encode()).refresh()
            self.assertEqual(self.sim.fetch_tracker.metadata, [])

    def test_only_the_word_that_there_is_none_ends_the_chain_of_roots(self):
        fetch = self.sim.fetch_metadata
        for status, ends in [(404, True), (403, True), (500, False), (503, False), (418, False)]:
            with self.subTest(status):

                def fetch_metadata(role, version=None, status=status):
                    if role == "root":
                        raise DownloadHTTPError("no", status)
                    return fetch(role, version)

                self.sim.fetch_metadata = fetch_metadata
                if ends:
                    self.updater().refresh()
                else:
                    with self.assertRaises(DownloadError):
                        self.updater().refresh()

    def test_a_role_name_stays_one_name_in_addresses_and_in_the_folder(self):
        for role in ["?", "#", "/role", "../role", "%2e", "a b", "\u00fc"]:
            with self.subTest(role):
                self.tearDown()
                self.setUp()
                self.delegate(role, ["*"])
                self.sim.update_snapshot()
                self.assertIsNone(self.updater().get_targetinfo("nothing"))
                self.assertIn((parse.quote(role, ""), 1), self.sim.fetch_tracker.metadata)
                self.assertEqual(len(self.versions()), 5)
                self.assertEqual(os.listdir(self.folder.name), ["metadata"])

    def test_every_listed_digest_that_is_known_is_checked(self):
        content = b"content"
        for hashes, wrong in [(["sha256"], None), (["sha512"], None), (["sha256", "sha512"], None), (["sha256", "sha512"], "sha512")]:
            with self.subTest(f"{hashes} {wrong}"):
                self.tearDown()
                self.setUp()
                target = TargetFile.from_data("file", content, hashes)
                if wrong:
                    target.hashes[wrong] = TargetFile.from_data("file", b"another", [wrong]).hashes[wrong]
                self.sim.targets.targets["file"] = target
                self.sim.target_files["file"] = RepositoryTarget(content, target)
                self.sim.update_snapshot()
                if wrong:
                    with self.assertRaises(RepositoryError):
                        self.updater().download_target(target)
                    self.assertEqual(self.downloads(), [])
                else:
                    self.updater().download_target(target)
                    self.assertEqual(self.downloads(), [content])

    def test_a_target_with_unknown_digests_only_is_refused(self):
        target = TargetFile.from_data("file", b"content", ["sha512"])
        target.hashes["unknown"] = target.hashes.pop("sha512")
        self.sim.targets.targets["file"] = target
        self.sim.target_files["file"] = RepositoryTarget(b"content", target)
        self.sim.update_snapshot()
        with self.assertRaises(RepositoryError):
            self.updater().download_target(target)
        self.assertEqual(self.downloads(), [])

    def test_a_target_that_is_there_is_not_fetched_again_and_a_false_one_not_kept(self):
        self.sim.add_target("targets", b"content", "file")
        self.sim.update_snapshot()
        updater = self.updater()
        updater._download("file", self.targets_dir)
        updater._download("file", self.targets_dir)
        self.assertEqual(len(self.sim.fetch_tracker.targets), 1)
        self.sim.add_target("targets", b"content 2", "file")
        self.sim.targets.version += 1
        self.sim.update_snapshot()
        self.sim.target_files["file"].data = b"conten! 2"
        with self.assertRaises(RepositoryError):
            updater._download("file", self.targets_dir)
        self.assertEqual(self.downloads(), [b"content"])

    def test_several_targets_go_in_order_and_stop_at_the_first_that_fails(self):
        for path in ["a", "b", "d"]:
            self.sim.add_target("targets", path.encode(), path)
        self.sim.update_snapshot()
        with self.assertRaises(RepositoryError):
            self.updater()._download(["b", "a", "c", "d"], self.targets_dir)
        self.assertEqual([path for path, _ in self.sim.fetch_tracker.targets], ["b", "a"])
        self.assertEqual(self.sim.fetch_tracker.metadata.count(("timestamp", None)), 1)

    def test_an_expired_delegated_role_is_not_used_and_its_successor_is(self):
        now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        self.delegate("role", ["folder/*"], now + datetime.timedelta(days=7))
        self.sim.add_target("role", b"1", "folder/1")
        self.sim.add_target("role", b"2", "folder/2")
        self.sim.update_snapshot()
        self.updater()._download("folder/1", self.targets_dir)
        with freezegun.freeze_time(now + datetime.timedelta(days=18)):
            with self.assertRaises(ExpiredMetadataError):
                self.updater()._download("folder/2", self.targets_dir)
            self.sim.md_delegates["role"].signed.expires = now + datetime.timedelta(days=21)
            self.sim.md_delegates["role"].signed.version += 1
            self.sim.update_snapshot()
            self.updater()._download("folder/2", self.targets_dir)
        self.assertEqual(self.downloads(), [b"1", b"2"])

    def test_every_failure_is_exit_code_1(self):
        updater = self.updater()
        for arguments in [[], ["--wrong"], ["refresh"], ["download"], ["--metadata-url", "no address", "refresh"]]:
            with self.subTest(str(arguments)):
                self.assertEqual(updater._run(*arguments).returncode, 1)
        for arguments in [["--help"], ["refresh", "--help"]]:
            self.assertEqual(updater._run(*arguments).returncode, 0)
