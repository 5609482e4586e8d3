"""A Director and an Image repository made with python-tuf, served on the loopback interface, and the client that is run against them."""

import copy
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest
from datetime import datetime, timedelta, timezone

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

ROLES = ["root", "timestamp", "snapshot", "targets"]
FUTURE = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=30)
PAST = datetime.now(timezone.utc).replace(microsecond=0) - timedelta(days=1)
CLIENT = os.path.abspath(sys.argv[1])
PRIMARY, HARDWARE, VEHICLE = "ecu-1", "thor", "v-1"


class Repository:
    """Metadata of one repository. Change what is to be signed, then `publish`."""

    def __init__(self, consistent=True, generate=CryptoSigner.generate_ed25519):
        self.signers = {role: [generate()] for role in ROLES}
        self.root = Root(expires=FUTURE, consistent_snapshot=consistent)
        self.timestamp, self.snapshot, self.targets = (unpublished(role) for role in (Timestamp, Snapshot, Targets))
        self.delegated = {}
        self.files = {}
        for role in ROLES:
            for signer in self.signers[role]:
                self.root.add_key(signer.public_key, role)
        self.publish_root()

    def sign(self, role, signed, signers=None):
        metadata = Metadata(copy.deepcopy(signed))
        for signer in self.signers[role] if signers is None else signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def publish_root(self, signers=None):
        self.files[f"{self.root.version}.root.json"] = self.sign("root", self.root, signers)

    def rotate(self, role):
        """The next root, in which `role` has another key; it carries the signatures of the old and the new root keys."""
        old, new = self.signers[role][0], CryptoSigner.generate_ed25519()
        self.root.revoke_key(old.public_key.keyid, role)
        self.root.add_key(new.public_key, role)
        self.root.version += 1
        roots = self.signers["root"] + ([new] if role == "root" else [])
        self.publish_root(roots)
        self.signers[role] = [new]

    def delegate(self, name, paths, delegator=None, terminating=False, signer=None, unrecognized=None):
        signer = signer or CryptoSigner.generate_ed25519()
        delegator = self.targets if delegator is None else delegator
        if delegator.delegations is None:
            delegator.delegations = Delegations({}, {})
        role = DelegatedRole(name, [], 1, terminating, paths, unrecognized_fields=unrecognized)
        delegator.delegations.roles[name] = role
        delegator.add_key(signer.public_key, name)
        self.signers[name] = [signer]
        return self.delegated.setdefault(name, unpublished(Targets))

    def publish(self):
        for name, targets in [*self.delegated.items(), ("targets", self.targets)]:
            targets.version += 1
            self.put(name, targets)
            self.snapshot.meta[f"{name}.json"] = MetaFile(targets.version)
        self.publish_snapshot()

    def publish_snapshot(self):
        self.snapshot.version += 1
        data = self.put("snapshot", self.snapshot)
        self.timestamp.snapshot_meta = MetaFile.from_data(self.snapshot.version, data, ["sha256"])
        self.publish_timestamp()

    def publish_timestamp(self):
        self.timestamp.version += 1
        self.files["timestamp.json"] = self.sign("timestamp", self.timestamp)

    def put(self, role, signed, data=None):
        data = data or self.sign(role, signed)
        name = role.replace("/", "%2F")
        self.files[f"{signed.version}.{name}.json" if self.root.consistent_snapshot else f"{name}.json"] = data
        return data

    def sign_falsely(self, file_name, change):
        """Changes the signatures of a published file and leaves what they sign as it is."""
        file = json.loads(self.files[file_name])
        file["signatures"] = change(file["signatures"])
        self.files[file_name] = json.dumps(file).encode()

    def resign(self, file_name, role, change):
        """Changes the signed part of a published file as it stands and signs it again."""
        signed = json.loads(self.files[file_name])["signed"]
        change(signed)
        message = canonical(signed)
        signatures = [{"keyid": s.public_key.keyid, "sig": s.sign(message).signature} for s in self.signers[role]]
        self.files[file_name] = json.dumps({"signatures": signatures, "signed": signed}, separators=(",", ":")).encode()
        return self.files[file_name]


def unpublished(role):
    signed = role(expires=FUTURE)
    signed.version = 0
    return signed


def canonical(signed):
    return encode_canonical(signed).encode()


class World:
    """Two repositories, their server, and a vehicle with an empty disk."""

    def __init__(self, consistent=True, generate=CryptoSigner.generate_ed25519):
        self.director, self.image = Repository(consistent, generate), Repository(consistent, generate)
        self.director.targets.unrecognized_fields["custom"] = {"vehicleId": VEHICLE}
        self.contents = {}
        self.faults = {}
        self.layout = {"director": "", "image": "", "images": "targets/"}
        self.folder = tempfile.TemporaryDirectory()
        base = pathlib.Path(self.folder.name)
        self.metadata_dir, self.target_dir = base / "metadata", base / "targets"
        self.ecus = [(PRIMARY, HARDWARE)]
        world = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                world.requests.append(self.path)
                answer = next((fault for part, fault in world.faults.items() if part in self.path), None)
                if answer is None:
                    data = world.files().get(self.path)
                    answer = (lambda handler: respond(handler, 200, data)) if data is not None else (lambda handler: respond(handler, 404))
                answer(self)

            def log_message(self, *_):
                pass

        self.requests = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.folder.cleanup()

    def files(self):
        files = {f"/director/{self.layout['director']}{name}": data for name, data in self.director.files.items()}
        files |= {f"/image/{self.layout['image']}{name}": data for name, data in self.image.files.items()}
        return files | {f"/image/{self.layout['images']}{name}": data for name, data in self.contents.items()}

    def release(self, path, content, counter, ecu=(PRIMARY, HARDWARE), role=None, hashes=("sha256",), custom=None):
        """Lists an image in the Image repository, lets the Director assign it, and publishes both."""
        custom = {"releaseCounter": counter, "hardwareIds": [ecu[1]]} if custom is None else custom
        image = TargetFile.from_data(path, content, list(hashes))
        image.unrecognized_fields["custom"] = custom
        (self.image.targets if role is None else self.image.delegated[role]).targets[path] = image
        self.assign(path, image, ecu)
        self.store(path, content, hashes)
        self.image.publish()
        self.director.publish()

    def assign(self, path, image, ecu=(PRIMARY, HARDWARE), custom=None):
        assigned = copy.deepcopy(image)
        assigned.unrecognized_fields["custom"] = custom or {"ecuIdentifiers": {ecu[0]: {"hardwareId": ecu[1]}}}
        # An ECU has one image.
        others = {p: t for p, t in self.director.targets.targets.items() if ecu[0] not in json.dumps(t.to_dict())}
        self.director.targets.targets = others | {path: assigned}

    def store(self, path, content, hashes=("sha256",)):
        folder, _, name = path.rpartition("/")
        for algorithm in hashes if self.image.root.consistent_snapshot else []:
            digest = TargetFile.from_data(path, content, [algorithm]).hashes[algorithm]
            self.contents[f"{folder}/{digest}.{name}".lstrip("/")] = content
        if not self.image.root.consistent_snapshot:
            self.contents[path] = content

    def run(self, command, *more):
        words = [CLIENT, "uptane", command, "--director-url", self.url + "/director", "--image-url", self.url + "/image"]
        words += ["--metadata-dir", self.metadata_dir, "--target-dir", self.target_dir]
        for serial, hardware in self.ecus:
            words += ["--ecu", serial, "--hardware-id", hardware]
        return run([*words, *more])

    def installed(self):
        found = self.target_dir.rglob("*") if self.target_dir.exists() else []
        return sorted(path.read_bytes() for path in found if path.is_file())


def run(words):
    """Runs the client and holds it to its protocol: one line of JSON, and the exit code that it says."""
    finished = subprocess.run([str(word) for word in words], capture_output=True, timeout=300, check=False)
    lines = finished.stdout.decode().splitlines()
    assert len(lines) == 1, (lines, finished.stderr.decode())
    said = json.loads(lines[0])
    assert set(said) == {"ok", "error", "installed"}, said
    assert finished.returncode == (0 if said["ok"] else 1), (said, finished.returncode)
    assert (said["error"] is None) == said["ok"], said
    if said["error"]:
        assert set(said["error"]) == {"number", "name", "attack", "text"}, said
    return said


def respond(handler, status, data=b"", headers=()):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data)))
    for name, value in headers:
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def status(code):
    return lambda handler: respond(handler, code)


def redirect(location):
    return lambda handler: respond(handler, 302, headers=[("Location", location)])


def endless(handler):
    """Bytes without an announced length, until the other side hangs up."""
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(100_000):
            handler.wfile.write(b" " * 65_536)
    except OSError:
        pass
    handler.close_connection = True


def dripping(stop):
    """A byte now and then."""

    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while not stop.wait(0.2):
                handler.wfile.write(b" ")
                handler.wfile.flush()
        except OSError:
            pass
        handler.close_connection = True

    return answer


ATTACKS = {
    "freeze": "freeze attack", "rollback": "rollback attack", "drop": "drop-request attack", "slow": "slow retrieval attack",
    "endless": "endless data attack", "mix": "mix-and-match attack", "arbitrary": "arbitrary software attack",
}
V1, V2 = b"version 1", b"version 2, longer"
PATH = "firmware/image.bin"


class Case(unittest.TestCase):
    world = None

    def fresh(self, **words):
        """A vehicle with version 1 in two repositories, of which the Image repository delegates `firmware/*`."""
        self.close()
        self.world = World(**words)
        self.world.image.delegate("supplier", ["firmware/*"])
        self.world.release(PATH, V1, 1, role="supplier")
        return self.world

    def close(self):
        if self.world:
            self.world.close()
        self.world = None

    tearDown = close

    def start(self, **words):
        """The same, after its first update."""
        world = self.fresh(**words)
        self.assertTrue(world.run("init")["ok"])
        self.installs([PATH])
        self.assertEqual(world.installed(), [V1])
        return world

    def installs(self, expected, *more):
        said = self.world.run("update", *more)
        self.assertEqual((said["ok"], said["error"]), (True, None))
        self.assertEqual(sorted(said["installed"]), sorted(expected))

    def refuses(self, name, attack, *more):
        """Refused under this name, with nothing changed among the images."""
        before = self.world.installed()
        said = self.world.run("update", *more)
        found = said["error"] or {}
        self.assertEqual((found.get("name"), found.get("attack")), (name, attack and ATTACKS[attack]), said)
        self.assertEqual((said["installed"], self.world.installed()), ([], before))
        return found["text"]

    def attacked(self, name, attack, change, prepare=None, recovers=True):
        """An attack on a vehicle with version 1, after which an honest release of version 2 still arrives."""
        world = self.start()
        if prepare:
            prepare(world)
        honest = [copy.deepcopy((r.root, r.timestamp, r.snapshot, r.targets, r.delegated, r.signers, r.files)) for r in (world.director, world.image)]
        change(world)
        text = self.refuses(name, attack)
        if recovers:
            world.faults.clear()
            for repository, held in zip((world.director, world.image), honest):
                (repository.root, repository.timestamp, repository.snapshot, repository.targets, repository.delegated, repository.signers,
                 repository.files) = held
                for _ in range(4):
                    repository.publish()
            world.release(PATH, V2, 2, role="supplier")
            self.installs([PATH])
            self.assertEqual(world.installed(), [V2])
        return text
