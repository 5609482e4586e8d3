"""What `tuf-client uptane` must do with repositories that are in honest hands."""

import base64
import functools
import hashlib
import json
import os
from urllib.parse import quote

from uptane_world import CLIENT, HARDWARE, PATH, PRIMARY, V1, V2, VEHICLE, Case, CryptoSigner, Repository, run, status


class Works(Case):
    def test_a_release_its_successor_and_nothing_new(self):
        world = self.start()
        self.installs([])
        world.release(PATH, V2, 2, role="supplier")
        self.installs([PATH])
        self.assertEqual(world.installed(), [V2])
        self.installs([])

    def test_an_image_that_was_lost_or_altered_on_the_disk_is_brought_again(self):
        world = self.start()
        [path] = [path for path in world.target_dir.iterdir()]
        path.write_bytes(b"altered")
        self.installs([PATH])
        path.unlink()
        self.installs([PATH])
        self.assertEqual(world.installed(), [V1])

    def test_every_place_where_metadata_and_images_lie(self):
        for consistent in [True, False]:
            for layout in [{"director": "metadata/", "image": "metadata/"}, {"images": ""}]:
                with self.subTest(f"{consistent} {layout}"):
                    world = self.fresh(consistent=consistent)
                    world.layout.update(layout)
                    self.assertTrue(world.run("init")["ok"])
                    self.installs([PATH])

    def test_consistent_snapshots_with_images_under_their_plain_names_or_another_digest(self):
        world = self.fresh()
        world.contents = {PATH: V1}
        self.assertTrue(world.run("init")["ok"])
        self.installs([PATH])
        world.release(PATH, V2, 2, role="supplier", hashes=["sha256", "sha512"])
        world.contents = {path: data for path, data in world.contents.items() if len(path) > 128}
        self.installs([PATH])

    def test_every_kind_of_key(self):
        for generate in [CryptoSigner.generate_ed25519, CryptoSigner.generate_ecdsa, CryptoSigner.generate_rsa]:
            with self.subTest(generate.__name__):
                self.fresh(generate=generate)
                self.assertTrue(self.world.run("init")["ok"])
                self.installs([PATH])

    def test_every_way_to_name_ecu_hardware_counter_and_vehicle(self):
        director = [
            {"ecuIdentifiers": {PRIMARY: {"hardwareId": HARDWARE}}},
            {"ecuIdentifiers": {PRIMARY: {"hardwareId": HARDWARE}}, "releaseCounter": 3},
            {"ecu_serial": PRIMARY, "hardware_id": HARDWARE, "release_counter": 3},
            {"ecu_identifier": PRIMARY, "hardware_identifier": HARDWARE},
            {"ecu_serial": PRIMARY},
        ]
        image = [{"releaseCounter": 3, "hardwareIds": [HARDWARE, "orin"]}, {"hardware_ids": [HARDWARE]}, {}]
        for vehicle in [{"custom": {"vehicleId": "v-1"}}, {"vin": "v-1"}, {"vehicle_identifier": "v-1"}, {}]:
            for custom in director:
                world = self.fresh()
                listed = world.image.delegated["supplier"].targets[PATH]
                with self.subTest(f"{vehicle} {custom}"):
                    listed.unrecognized_fields["custom"] = image[director.index(custom) % len(image)]
                    world.director.targets.unrecognized_fields = dict(vehicle)
                    world.assign(PATH, listed, custom=custom)
                    world.image.publish()
                    world.director.publish()
                    self.assertTrue(world.run("init")["ok"])
                    self.installs([PATH])

    def test_a_block_that_must_match_is_taken_where_both_have_it(self):
        world = self.fresh()
        block = {"shallMatch": {"releaseCounter": 1, "hardwareIds": [HARDWARE]}}
        listed = world.image.delegated["supplier"].targets[PATH]
        listed.unrecognized_fields["custom"] = block
        world.assign(PATH, listed, custom=block | {"ecuIdentifiers": {PRIMARY: {"hardwareId": HARDWARE}}})
        world.image.publish()
        world.director.publish()
        self.assertTrue(world.run("init")["ok"])
        self.installs([PATH])

    def test_several_ecus_and_a_serial_that_is_a_network_address(self):
        world = self.fresh()
        secondary = ("CA:FE:A6:D2:84:9D", "imx")
        world.ecus.append(secondary)
        world.release("camera.bin", b"camera", 7, ecu=secondary)
        self.assertTrue(world.run("init")["ok"])
        self.installs([PATH, "camera.bin"])
        world.release("camera.bin", b"camera 2", 8, ecu=secondary)
        self.installs(["camera.bin"])
        world.release("camera.bin", b"camera 0", 6, ecu=secondary)
        self.refuses("release_below_floor", "rollback")

    def test_a_vehicle_without_an_assignment_has_nothing_to_do(self):
        world = self.start()
        world.director.targets.targets = {}
        world.director.publish()
        self.installs([])
        self.assertEqual(world.installed(), [V1])

    def test_names_that_are_no_file_names(self):
        world = self.start()
        for path in ["firmware/a b?#%2e.bin", "firmware/\u00e9"]:
            world.release(path, V2, 2, role="supplier")
            world.contents = {quote(name, safe="/"): data for name, data in world.contents.items()}
            self.installs([path])
        self.assertEqual(sorted(os.listdir(world.folder.name)), ["metadata", "targets"])

    def test_provisioned_roots_are_anchors_and_init_does_not_replace_them(self):
        world = self.fresh()
        director, image = (world.target_dir.parent / name for name in ("d.json", "i.json"))
        director.write_bytes(world.director.files["1.root.json"])
        image.write_bytes(world.image.files["1.root.json"])
        world.faults = {"root.json": status(500)}
        self.assertTrue(world.run("init", "--director-root", director, "--image-root", image)["ok"])
        self.assertTrue(world.run("init")["ok"])
        director.write_bytes(Repository().files["1.root.json"])
        self.assertEqual(world.run("init", "--director-root", director)["error"]["name"], "provisioned_otherwise")
        world.faults = {}
        self.installs([PATH])

    def test_roots_that_lie_in_the_folder_need_no_init(self):
        world = self.fresh()
        for name, repository in [("director", world.director), ("image", world.image)]:
            (world.metadata_dir / name).mkdir(parents=True)
            (world.metadata_dir / name / "root.json").write_bytes(repository.files["1.root.json"])
        self.installs([PATH])

    def test_the_repository_map_says_which_paths_may_be_installed_and_where_the_repositories_are(self):
        world = self.start()
        path = world.metadata_dir / "map.json"
        map = json.loads(path.read_text())
        self.assertEqual(map["repositories"], {"director": [world.url + "/director"], "image": [world.url + "/image"]})
        self.assertEqual([entry["threshold"] for entry in map["mapping"]], [2])
        said = run([CLIENT, "uptane", "update", "--metadata-dir", world.metadata_dir, "--target-dir", world.target_dir, "--ecu", PRIMARY, "--hardware-id", HARDWARE])
        self.assertTrue(said["ok"], said)
        map["mapping"][0]["paths"] = ["drive/*"]
        path.write_text(json.dumps(map))
        self.refuses("path_unmapped", "arbitrary")
        map["mapping"][0]["threshold"] = 1
        path.write_text(json.dumps(map))
        self.refuses("repository_map", None)
        path.unlink()
        self.installs([])

    def test_what_the_command_line_lacks_is_said_in_the_same_line(self):
        world = self.fresh()
        self.refuses("not_initialized", None)
        for words in [[], ["update"], ["wrong"], ["update", "--ecu", "../x"], ["update", "--wrong"], ["init", "--director-url", "no address"]]:
            with self.subTest(str(words)):
                said = run([CLIENT, "uptane", *words])
                self.assertEqual((said["ok"], said["error"]["attack"]), (False, None))
        self.assertTrue(world.run("init")["ok"])
        self.refuses("usage", None, "--ecu", "ecu-2")

    def test_the_vehicle_is_learned_and_held_to(self):
        world = self.start()
        self.refuses("usage", None, "--vehicle-id", "v-2")
        self.installs([], "--vehicle-id", VEHICLE)

    def test_the_files_of_uptane_generator_are_read(self):
        """Capital letters, no schemes, base64, JSON with its escapes as what is signed: as aktualizr's tool writes it."""
        for generate in [CryptoSigner.generate_ed25519, functools.partial(CryptoSigner.generate_rsa, scheme="rsassa-pss-sha256")]:
            world = self.fresh(consistent=False, generate=generate)
            for repository in (world.director, world.image):
                translate(repository)
            self.assertTrue(world.run("init")["ok"])
            self.installs([PATH])
            file = json.loads(world.image.files["timestamp.json"])
            file["signed"]["expires"] = "2999-01-01T00:00:00Z"
            world.image.files["timestamp.json"] = json.dumps(file).encode()
            self.refuses("threshold_not_met", "arbitrary")


def translate(repository):
    """Rewrites a repository as `uptane-generator` would have written it."""
    listed = {}
    for name in ["1.root.json", "supplier.json", "targets.json", "snapshot.json", "timestamp.json"]:
        if name not in repository.files:
            continue
        role = name.removesuffix(".json").removeprefix("1.")
        signed = json.loads(repository.files.pop(name))["signed"]
        signed["_type"] = signed["_type"].capitalize()
        for field in ["spec_version", "consistent_snapshot"]:
            signed.pop(field, None)
        keys = (signed if role == "root" else signed.get("delegations", {})).get("keys", {})
        for key in keys.values():
            key["keytype"] = key["keytype"].upper()
            del key["scheme"]
        if role == "timestamp":
            data = listed["snapshot"]
            signed["meta"]["snapshot.json"] |= {"length": len(data), "hashes": {"sha256": hashlib.sha256(data).hexdigest()}}
        message = json.dumps(signed, sort_keys=True, separators=(",", ":")).encode()
        signatures = [
            {"keyid": s.public_key.keyid, "method": "any", "sig": base64.b64encode(bytes.fromhex(s.sign(message).signature)).decode()}
            for s in repository.signers[role]
        ]
        listed[role] = json.dumps({"signatures": signatures, "signed": signed}, sort_keys=True, separators=(",", ":")).encode()
        folder = "delegations/" if role == "supplier" else ""
        repository.files[folder + name] = listed[role]
