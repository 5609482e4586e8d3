"""The attacks that a repository's metadata and images can carry, each under its number in docs/lessons.md.

Not here, because no repository does them: A1 (eavesdropping), A25 (between check and use), A26 (manifests).
Each is refused under its name, changes no image, and an honest release arrives afterwards.
"""

import copy
import json
import os
import threading

from uptane_world import (
    FUTURE, HARDWARE, PAST, PATH, PRIMARY, V1, V2, Case, CryptoSigner, MetaFile, Repository, Root, TargetFile, dripping, endless, redirect, status,
)


def new_image(world, content=V2, counter=2, **words):
    world.release(PATH, content, counter, role="supplier", **words)


def newest(repository, role):
    """The name of a role's newest file."""
    versions = [int(name.split(".")[0]) for name in repository.files if name.endswith(f".{role}.json")]
    return f"{max(versions)}.{role}.json"


class Attacks(Case):
    def test_a02_requests_that_are_dropped(self):
        for part, name in [("director/timestamp", "file_missing"), ("image/timestamp", "file_missing")]:
            self.attacked(name, "drop", lambda world: world.faults.update({part: status(404)}))
        self.attacked("unreachable", "drop", lambda world: world.faults.update({"image/timestamp": lambda handler: handler.connection.close()}))
        self.attacked("file_missing", "drop", lambda world: (new_image(world), world.faults.update({"image.bin": status(404)})))

    def test_a03_slow_retrieval_of_metadata_and_of_an_image(self):
        stop = threading.Event()
        self.addCleanup(stop.set)
        for part in ["image/timestamp", "image.bin"]:
            def change(world):
                new_image(world, V2 * 1_000)
                world.faults[part] = dripping(stop)
            self.attacked("slow_retrieval", "slow", change)

    def test_a04_a_frozen_repository_is_noticed_when_its_metadata_expires(self):
        for repository in ["director", "image"]:
            for role in ["root", "timestamp", "snapshot", "targets"]:
                def change(world):
                    frozen = getattr(world, repository)
                    getattr(frozen, role).expires = PAST
                    if role == "root":
                        frozen.root.version += 1
                        frozen.publish_root()
                    frozen.publish()
                with self.subTest(f"{repository} {role}"):
                    self.attacked("expired", "freeze", change, recovers=role != "root")
        def delegated(world):
            world.image.delegated["supplier"].expires = PAST
            world.image.publish()
        self.attacked("expired", "freeze", delegated)

    def test_a05_of_several_images_none_is_installed_without_the_others(self):
        world = self.start()
        ecus = [("ecu-2", "imx"), ("ecu-3", "imx")]
        world.ecus += ecus
        for number, ecu in enumerate(ecus):
            world.release(f"camera-{number}.bin", b"camera", 1, ecu=ecu)
        new_image(world)
        held = dict(world.contents)
        for missing in ["camera-0.bin", "camera-1.bin", "image.bin"]:
            world.contents = {path: data for path, data in held.items() if missing not in path}
            self.refuses("file_missing", "drop")
            self.assertEqual(os.listdir(world.target_dir), ["firmware%2Fimage.bin"])
        world.contents = held
        self.installs([PATH, "camera-0.bin", "camera-1.bin"])

    def test_a06_a_repository_that_is_down_is_not_taken_for_one_without_news(self):
        for code in [500, 503, 429, 418]:
            self.attacked("unreachable", "drop", lambda world: world.faults.update({"/": status(code)}))

    def test_a07_what_was_newer_before_does_not_come_back(self):
        for name in ["director", "image"]:
            def older_timestamp(world):
                getattr(world, name).files["timestamp.json"] = self.old[name]["timestamp.json"]
            def older_snapshot(world):
                repository = getattr(world, name)
                repository.snapshot.version -= 2
                repository.publish_snapshot()
            def older_targets(world):
                repository = getattr(world, name)
                repository.targets.version -= 2
                repository.publish()
            for change in [older_timestamp, older_snapshot, older_targets]:
                with self.subTest(f"{name} {change.__name__}"):
                    self.attacked("older_version", "rollback", change, prepare=self.go_on)
        def older_role(world):
            world.image.delegated["supplier"].version -= 2
            world.image.publish()
        self.attacked("older_version", "rollback", older_role, prepare=self.go_on)
        def older_root(world):
            world.director.root.version = 1
            world.director.files["2.root.json"] = world.director.files["1.root.json"]
        self.attacked("root_version", "rollback", older_root, recovers=False)

    def go_on(self, world):
        """The vehicle has met older files of both repositories, which are kept here."""
        self.old = {name: dict(getattr(world, name).files) for name in ("director", "image")}
        for _ in range(3):
            world.director.publish()
            world.image.publish()
        self.installs([])

    def test_a07_an_older_image_is_not_installed(self):
        for custom in [None, {"shallMatch": {"releaseCounter": 1, "hardwareIds": [HARDWARE]}}, {}]:
            world = self.start()
            new_image(world)
            self.installs([PATH])
            new_image(world, V1, 1, custom=custom)
            if custom and "shallMatch" in custom:
                image = world.image.delegated["supplier"].targets[PATH]
                world.assign(PATH, image, custom=custom | {"ecuIdentifiers": {PRIMARY: {"hardwareId": HARDWARE}}})
                world.director.publish()
            self.refuses("release_below_floor", "rollback")
            new_image(world, b"version 3", 3)
            self.installs([PATH])

    def test_a08_data_without_end(self):
        for part in ["director/timestamp", "image/timestamp", "director/2.root", "image/2.root"]:
            self.attacked("endless_data", "endless", lambda world: world.faults.update({part: endless}))
        for part in ["snapshot", "targets", "supplier"]:
            def change(world):
                new_image(world)
                world.faults[f"image/{newest(world.image, part)}"] = endless
            self.attacked("endless_data", "endless", change)
        def endless_image(world):
            new_image(world)
            world.faults["image.bin"] = endless
        self.attacked("answer_too_long", "endless", endless_image)
        def longer_image(world):
            new_image(world)
            world.contents = {path: data + b"!" for path, data in world.contents.items()}
        self.attacked("wrong_range", "endless", longer_image)
        def shorter_image(world):
            new_image(world)
            world.contents = {path: data[:-1] for path, data in world.contents.items()}
        self.attacked("wrong_range", None, shorter_image)

    def test_a09_metadata_that_never_was_together(self):
        def other_snapshot(world):
            world.director.publish()
            change = lambda signed: signed.update(expires=signed["expires"].replace("20", "21", 1))
            world.director.resign(newest(world.director, "snapshot"), "snapshot", change)
        self.attacked("other_digest", "mix", other_snapshot)
        def other_targets(world):
            world.image.publish()
            name = newest(world.image, "targets")
            world.image.resign(name, "targets", lambda signed: signed.update(version=signed["version"] + 1))
        self.attacked("other_version", "mix", other_targets)
        def role_removed(world):
            del world.image.snapshot.meta["supplier.json"]
            world.image.publish_snapshot()
        self.attacked("file_removed", "rollback", role_removed)
        def without_digest(world):
            world.image.publish()
            world.image.timestamp.snapshot_meta = MetaFile(world.image.snapshot.version)
            world.image.publish_timestamp()
        self.attacked("digest_missing", "mix", without_digest)
        def other_counter(world):
            new_image(world)
            image = copy.deepcopy(world.director.targets.targets[PATH])
            world.assign(PATH, image, custom=image.custom | {"releaseCounter": 9})
            world.director.publish()
        self.attacked("custom_differs", "mix", other_counter)
        def block_of_one(world):
            new_image(world, custom={"shallMatch": {"releaseCounter": 2, "hardwareIds": [HARDWARE]}})
        self.attacked("custom_differs", "mix", block_of_one)

    def test_a10_the_director_alone(self):
        def malware(world, **words):
            image = TargetFile.from_data(words.get("path", "malware.bin"), b"malware", ["sha256"])
            world.assign(words.get("path", "malware.bin"), image)
            world.store(words.get("path", "malware.bin"), b"malware")
            world.director.publish()
        self.attacked("target_unknown", "arbitrary", malware)
        self.attacked("target_length_differs", "arbitrary", lambda world: malware(world, path=PATH))
        def same_length(world):
            world.assign(PATH, TargetFile.from_data(PATH, b"VERSION 1", ["sha256"]))
            world.director.publish()
        self.attacked("target_digest_differs", "arbitrary", same_length)
        def other_algorithm(world):
            world.assign(PATH, TargetFile.from_data(PATH, V1, ["sha512"]))
            world.director.publish()
        self.attacked("target_digest_missing", "arbitrary", other_algorithm)

    def test_a10_the_image_repository_alone(self):
        world = self.start()
        image = TargetFile.from_data("malware.bin", b"malware", ["sha256"])
        world.image.targets.targets["malware.bin"] = image
        world.store("malware.bin", b"malware")
        world.image.publish()
        self.installs([])

    def test_a10_bytes_that_nobody_signed(self):
        def altered(world):
            new_image(world)
            world.contents = {path: data.replace(b"version", b"malware") for path, data in world.contents.items()}
        self.attacked("file_digest_differs", "arbitrary", altered)
        def one_digest_wrong(world):
            new_image(world, hashes=("sha256", "sha512"))
            image = world.image.delegated["supplier"].targets[PATH]
            image.hashes["sha512"] = "0" * 128
            world.assign(PATH, image)
            world.image.publish()
            world.director.publish()
        self.attacked("file_digest_differs", "arbitrary", one_digest_wrong)

    def test_a10_a_supplier_beyond_its_paths(self):
        for path in ["drive/image.bin", "firmware/deeper/image.bin", "firmwares"]:
            self.attacked("target_unknown", "arbitrary", lambda world: world.release(path, V2, 2, role="supplier"))
        def other_hardware(world):
            roles = world.image.targets.delegations.roles
            roles["supplier"].unrecognized_fields["hardwareIds"] = ["orin"]
            new_image(world)
        self.attacked("target_unknown", "arbitrary", other_hardware)

    def test_a11_after_a_fast_forward_a_new_key_recovers_the_vehicle(self):
        for role in ["timestamp", "snapshot"]:
            world = self.start()
            held = getattr(world.image, role).version
            getattr(world.image, role).version = 2**62
            world.image.publish_snapshot()
            self.installs([])
            getattr(world.image, role).version = held
            world.image.publish()
            self.refuses("older_version", "rollback")
            world.image.rotate(role)
            new_image(world)
            self.installs([PATH])

    def test_a12_thresholds(self):
        def raise_threshold(world, threshold, signers=1):
            root = world.image.root
            more = [CryptoSigner.generate_ed25519() for _ in range(signers - 1)]
            for signer in more:
                root.add_key(signer.public_key, "timestamp")
            root.roles["timestamp"].threshold = threshold
            root.version += 1
            world.image.publish_root()
            return more
        def unmet(world):
            raise_threshold(world, 2, signers=2)
            world.image.publish()
        self.attacked("threshold_not_met", "arbitrary", unmet, recovers=False)
        def twice(world):
            world.image.publish()
            world.image.sign_falsely("timestamp.json", lambda signatures: signatures * 2)
        self.attacked("metadata_malformed", "arbitrary", twice)
        def zero(world):
            root = world.image.root
            root.version += 1
            world.image.publish_root()
            change = lambda signed: signed["roles"]["timestamp"].update(threshold=0)
            world.image.resign(f"{root.version}.root.json", "root", change)
        self.attacked("metadata_malformed", "arbitrary", zero)

    def under_two_names(self, world):
        """A threshold of two that one key meets under two key ids."""
        root, signer = world.image.root, world.image.signers["timestamp"][0]
        twin = copy.deepcopy(signer.public_key)
        twin.keyid = "f" * 64
        root.add_key(twin, "timestamp")
        root.roles["timestamp"].threshold = 2
        root.version += 1
        world.image.publish_root()
        world.image.publish()
        world.image.sign_falsely("timestamp.json", lambda signatures: [*signatures, signatures[0] | {"keyid": twin.keyid}])

    def test_a12_one_key_under_two_names_counts_once(self):
        self.attacked("threshold_not_met", "arbitrary", self.under_two_names, recovers=False)

    def test_a13_a_key_id_that_lies_lends_no_trust(self):
        def lie(world):
            thief, honest = CryptoSigner.generate_ed25519(), world.image.signers["timestamp"][0]
            world.image.publish()
            lies = [{"keyid": honest.public_key.keyid, "sig": thief.sign(b"{}").signature}]
            world.image.sign_falsely("timestamp.json", lambda _: lies)
        self.attacked("threshold_not_met", "arbitrary", lie)

    def test_a14_one_role_in_the_place_of_another(self):
        def snapshot_as_targets(world):
            world.image.publish()
            world.image.files[newest(world.image, "targets")] = world.image.files[newest(world.image, "snapshot")]
        self.attacked("metadata_malformed", "arbitrary", snapshot_as_targets)
        def other_repository(world):
            world.image.files = world.director.files
        self.attacked("threshold_not_met", "arbitrary", other_repository)
        world = self.fresh()
        for name, repository in [("director", world.image), ("image", world.director)]:
            (world.metadata_dir / name).mkdir(parents=True)
            (world.metadata_dir / name / "root.json").write_bytes(repository.files["1.root.json"])
        self.refuses("threshold_not_met", "arbitrary")

    def test_a15_metadata_for_another_vehicle(self):
        def other(world):
            world.director.targets.unrecognized_fields["custom"] = {"vehicleId": "v-2"}
            world.director.publish()
        self.attacked("other_vehicle", "mix", other)
        def empty_and_nameless(world):
            world.director.targets.unrecognized_fields = {}
            world.director.targets.targets = {}
            world.director.publish()
        self.attacked("vehicle_unnamed", "mix", empty_and_nameless)

    def test_a16_other_hardware(self):
        self.attacked("wrong_hardware", "arbitrary", lambda world: new_image(world, custom={"releaseCounter": 2, "hardwareIds": ["orin"]}))
        def director_errs(world):
            new_image(world)
            world.assign(PATH, world.image.delegated["supplier"].targets[PATH], ecu=(PRIMARY, "orin"))
            world.director.publish()
        self.attacked("other_ecu_hardware", "arbitrary", director_errs)

    def test_a17_an_ecu_twice_and_an_ecu_of_nobody(self):
        def twice(world):
            world.director.targets.targets["another.bin"] = copy.deepcopy(world.director.targets.targets[PATH])
            world.director.publish()
        self.attacked("ecu_twice", "mix", twice)
        def unknown(world):
            world.release("camera.bin", b"camera", 1, ecu=("ecu-9", "imx"))
        self.attacked("unknown_ecu", "mix", unknown, recovers=False)
        def nameless(world):
            world.assign(PATH, world.image.delegated["supplier"].targets[PATH], custom={"other": 1})
            world.director.publish()
        self.attacked("custom_malformed", "arbitrary", nameless, recovers=False)

    def test_a18_a_director_that_delegates(self):
        def delegate(world):
            world.director.delegate("helper", ["*"])
            world.director.publish()
        self.attacked("director_delegates", "arbitrary", delegate, recovers=False)

    def test_a19_delegations_that_turn_or_never_end(self):
        def cycle(world):
            supplier = world.image.delegated["supplier"]
            world.image.delegate("supplier", ["firmware/*"], delegator=supplier, signer=world.image.signers["supplier"][0])
            del supplier.targets[PATH]
            world.image.publish()
        self.attacked("target_unknown", "arbitrary", cycle)
        def endless_chain(world):
            delegator = world.image.delegated["supplier"]
            del delegator.targets[PATH]
            for number in range(40):
                delegator = world.image.delegate(f"role-{number}", ["firmware/*"], delegator=delegator)
            world.image.publish()
        self.attacked("too_many_delegations", "endless", endless_chain, recovers=False)
        def terminating(world):
            image = world.image.delegated["supplier"].targets.pop(PATH)
            world.image.targets.delegations.roles["supplier"].terminating = True
            world.image.delegate("late", ["firmware/*"]).targets[PATH] = image
            world.image.publish()
        self.attacked("target_unknown", "arbitrary", terminating, recovers=False)
        def unlisted(world):
            world.image.targets.delegations.roles.clear()
            supplier = world.image.delegated.pop("supplier")
            world.image.delegate("unlisted", ["firmware/*"]).targets[PATH] = supplier.targets[PATH]
            unlisted = world.image.delegated.pop("unlisted")
            world.image.publish()
            unlisted.version = 1
            world.image.put("unlisted", unlisted)
        self.attacked("file_unlisted", "mix", unlisted)

    def test_a20_the_chain_of_roots(self):
        def next_root(world, version, signers):
            director = world.director
            director.root.version = version
            director.files["2.root.json"] = director.sign("root", director.root, signers)
        other = CryptoSigner.generate_ed25519()
        self.attacked("root_version", "rollback", lambda world: next_root(world, 3, None))
        self.attacked("threshold_not_met", "arbitrary", lambda world: next_root(world, 2, [other]))
        def only_old(world):
            root = world.director.root
            root.revoke_key(world.director.signers["root"][0].public_key.keyid, "root")
            root.add_key(other.public_key, "root")
            next_root(world, 2, None)
        self.attacked("threshold_not_met", "arbitrary", only_old)
        def only_new(world):
            only_old(world)
            next_root(world, 2, [other])
        self.attacked("threshold_not_met", "arbitrary", only_new)
        for code in [500, 503]:
            self.attacked("unreachable", "drop", lambda world: world.faults.update({"director/2.root": status(code)}))

    def test_a21_a_clock_that_is_behind_the_last_update_makes_nothing_fresh(self):
        world = self.start()
        path = world.metadata_dir / "installed"
        state = json.loads(path.read_text())
        path.write_text(json.dumps(state | {"verifiedAt": int(FUTURE.timestamp())}))
        self.refuses("expired", "freeze")
        path.write_text(json.dumps(state))
        self.installs([])

    def test_a22_names_that_climb(self):
        for path in ["../evil", "firmware/../../evil", "/etc/evil", "firmware//evil", "firmware/./evil", "firmware\\evil", "firmware/\x07evil"]:
            with self.subTest(path):
                self.attacked("target_path", "arbitrary", lambda world: world.release(path, V2, 2))
        world = self.start()
        image = world.image.delegated["supplier"].targets.pop(PATH)
        world.image.delegate("../../evil", ["firmware/*"]).targets[PATH] = image
        world.image.publish()
        world.image.files = {name.replace("%2F", "%252F"): data for name, data in world.image.files.items()}
        world.image.files |= {name.replace("%252F", "%2F"): data for name, data in world.image.files.items()}
        self.installs([])
        self.assertEqual(sorted(os.listdir(world.folder.name)), ["metadata", "targets"])

    def test_a23_json_that_two_readers_could_take_differently(self):
        altered = [
            lambda text: text.replace('"version":', '"version":1,"version":', 1),
            lambda text: text.replace('"spec_version"', '"more":1.5,"spec_version"', 1),
            lambda text: text.replace('"spec_version"', '"more":1e400,"spec_version"', 1),
            lambda text: text.replace('"spec_version"', '"more":123456789012345678901234567890,"spec_version"', 1),
            lambda text: text.replace('"spec_version"', '"more":' + "[" * 5000 + "]" * 5000 + ',"spec_version"', 1),
            lambda text: "\ufeff" + text,
            lambda text: text + "{}",
            lambda text: text[:-9],
            lambda text: "",
            lambda text: text.replace('"spec_version"', '"more":"\\ud800","spec_version"', 1),
        ]
        for change in altered:
            def alter(world):
                world.director.publish()
                text = json.dumps(json.loads(world.director.files["timestamp.json"]), separators=(",", ":"))
                self.assertNotEqual(change(text), text)
                world.director.files["timestamp.json"] = change(text).encode()
            self.attacked("metadata_malformed", "arbitrary", alter)
        def other_normal_form(world):
            world.director.targets.unrecognized_fields["note"] = "e\u0301"
            world.director.publish()
        self.attacked("metadata_malformed", "arbitrary", other_normal_form)
        def not_utf8(world):
            world.director.publish()
            world.director.files["timestamp.json"] = world.director.files["timestamp.json"].replace(b"timestamp", b"t\xff", 1)
        self.attacked("metadata_malformed", "arbitrary", not_utf8)

    def test_a24_files_that_a_power_cut_or_a_disk_has_damaged(self):
        for damage in [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: data.replace(b"1", b"2")]:
            for name in ["director", "image"]:
                for role in ["root", "timestamp", "snapshot", "targets"]:
                    world = self.start()
                    path = world.metadata_dir / name / f"{role}.json"
                    path.write_bytes(damage(path.read_bytes()))
                    (world.metadata_dir / name / f"{role}.json.part").write_bytes(b"half")
                    (world.target_dir / ".firmware%2Fimage.bin.part").write_bytes(b"half")
                    new_image(world)
                    with self.subTest(f"{name} {role}"):
                        self.installs([PATH])

    def test_a27_a_key_that_was_revoked_signs_no_more(self):
        for role in ["timestamp", "snapshot", "targets"]:
            world = self.start()
            old = world.director.signers[role]
            world.director.rotate(role)
            new = world.director.signers[role]
            world.director.signers[role] = old
            world.director.publish()
            self.refuses("threshold_not_met", "arbitrary")
            world.director.signers[role] = new
            new_image(world)
            self.installs([PATH])

    def test_a28_schemes_that_are_unknown_or_weaker_count_for_nothing(self):
        for scheme in ["ed25519-sha1", "none", "rsassa-pss-sha256", "ecdsa-sha2-nistp256", ""]:
            def weaker(world):
                root = world.image.root
                root.version += 1
                world.image.publish_root()
                def change(signed):
                    for keyid in signed["roles"]["timestamp"]["keyids"]:
                        signed["keys"][keyid]["scheme"] = scheme
                world.image.resign(f"{root.version}.root.json", "root", change)
                world.image.publish()
            with self.subTest(scheme):
                self.attacked("threshold_not_met", "arbitrary", weaker, recovers=False)

    def test_a29_a_redirect_leads_to_no_other_host(self):
        for location in ["http://127.0.0.2:1/x", "//127.0.0.2:1/x", "https://example.invalid/x"]:
            self.attacked("unreachable", "drop", lambda world: world.faults.update({"director/timestamp": redirect(location)}))
        def loop(world):
            world.faults["director/timestamp"] = redirect("/director/timestamp.json")
        self.attacked("unreachable", "drop", loop)

    def test_a30_a_signature_has_one_form(self):
        """The same signature with the order of the curve added to its scalar, with a bit changed, cut short, in another alphabet."""
        order = 2**252 + 27742317777372353535851937790883648493
        def plus_order(signature):
            scalar = int.from_bytes(bytes.fromhex(signature[64:]), "little") + order
            return signature[:64] + scalar.to_bytes(32, "little").hex()
        changes = [plus_order, lambda s: s[:-2], lambda s: s + "00", lambda s: "", lambda s: "zz", lambda s: ("0" if s[0] != "0" else "1") + s[1:]]
        for change in changes:
            def alter(world):
                world.director.publish()
                world.director.sign_falsely("timestamp.json", lambda signatures: [signatures[0] | {"sig": change(signatures[0]["sig"])}])
            self.attacked("threshold_not_met", "arbitrary", alter)
        def weak_key(world):
            """A point of small order, under which one signature fits every message."""
            root = world.image.root
            root.version += 1
            world.image.publish_root()
            def change(signed):
                for keyid in signed["roles"]["timestamp"]["keyids"]:
                    signed["keys"][keyid]["keyval"]["public"] = "01" + "00" * 31
            world.image.resign(f"{root.version}.root.json", "root", change)
            world.image.publish()
            world.image.sign_falsely("timestamp.json", lambda signatures: [signatures[0] | {"sig": "01" + "00" * 63}])
        self.attacked("threshold_not_met", "arbitrary", weak_key, recovers=False)
