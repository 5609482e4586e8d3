"""Runs the client tests of python-tuf, the reference implementation of TUF, against another client.

    run.py CLIENT SUITE KEYS [pytest arguments]

CLIENT is a program that speaks the protocol of tuf-conformance, SUITE an unpacked source distribution of python-tuf, KEYS the kind of
keys with which the simulated repository signs: ed25519, ecdsa or rsa. Python-tuf's tests drive
`tuf.ngclient.Updater` over a simulated repository. Here a class of the same name serves that repository over HTTP on the loopback
interface and runs CLIENT in the place of python-tuf's own client. The tests themselves are not changed. `test_client.py` beside
this file asks what they do not.
"""

import functools
import itertools
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib import parse

import freezegun.api
import pytest
import tuf.ngclient
from securesystemslib.signer import CryptoSigner
from tuf.api import exceptions
from tuf.ngclient.config import UpdaterConfig

CLIENT, SUITE, KEYS = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3]
OURS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "test_client.py")

# The client's errors by name, as python-tuf calls them. What is missing here is a RepositoryError to both.
EXCEPTIONS = {
    "threshold_not_met": exceptions.UnsignedMetadataError,
    "root_version": exceptions.BadVersionNumberError,
    "older_version": exceptions.BadVersionNumberError,
    "other_version": exceptions.BadVersionNumberError,
    "other_length": exceptions.LengthOrHashMismatchError,
    "other_digest": exceptions.LengthOrHashMismatchError,
    "expired": exceptions.ExpiredMetadataError,
    "endless_data": exceptions.DownloadLengthMismatchError,
    "unreachable": exceptions.DownloadError,
    "file_missing": exceptions.DownloadError,
}

FILES = ["top_level_update", "delegation_graphs", "key_rotations", "consistent_snapshot", "fetch_target"]

# What only python-tuf can be asked, with the reason.
LEFT_OUT = {
    "test_intermediate_root_cache": "python-tuf's own cache of old roots, seen through its calls of open()",
    "test_intermediate_root_cache_poisoning": "python-tuf's own cache of old roots",
    "test_load_metadata_from_cache": "counts python-tuf's calls of open()",
    "test_not_loading_targets_twice": "counts python-tuf's calls of open()",
    "test_max_metadata_lengths": "sets limits in python-tuf's configuration",
    "test_max_root_rotations": "sets limits in python-tuf's configuration",
}
LEFT_OUT_CASES = {
    "max number of delegations": "sets limits in python-tuf's configuration",
    "consistent_snaphot enabled without prefixed targets": "a deviation from the specification that only python-tuf can be told to make",
}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        # The simulated repository expects target paths as they are and role names quoted, as python-tuf's client passes them on.
        path = parse.unquote(self.path) if self.path.startswith("/targets/") else self.path
        try:
            data = b"".join(self.server.repository.fetch("https://example.com" + path))
        except exceptions.DownloadHTTPError as error:
            self.send_error(error.status_code)
            return
        except Exception:  # noqa: BLE001: whatever a simulated repository cannot answer
            self.send_error(500)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


SERVER = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
SERVER.daemon_threads = True
threading.Thread(target=SERVER.serve_forever, daemon=True).start()
BASE = f"http://127.0.0.1:{SERVER.server_port}"


class Updater:
    """Stands in for `tuf.ngclient.Updater`."""

    def __init__(self, metadata_dir, metadata_base_url, target_dir=None, target_base_url=None, fetcher=None, config=None, bootstrap=None):
        self.config = config or UpdaterConfig()
        self._metadata_dir, self._target_dir, self._repository = metadata_dir, target_dir, fetcher
        self._is_fresh = False
        root = os.path.join(metadata_dir, "root.json")
        if not os.path.exists(root):
            if bootstrap is None:
                raise FileNotFoundError(root)
            with tempfile.TemporaryDirectory() as folder:
                trusted = os.path.join(folder, "root.json")
                with open(trusted, "wb") as file:
                    file.write(bootstrap)
                self._run("init", trusted)

    def refresh(self):
        if not self._is_fresh:
            self._checked("--metadata-url", BASE + "/metadata/", "refresh")
            self._is_fresh = True

    def get_targetinfo(self, target_path):
        """The protocol knows no search without a download: download to nowhere, and see whether the target was found."""
        tracker = self._repository.fetch_tracker
        targets = len(tracker.targets)
        with tempfile.TemporaryDirectory() as folder:
            try:
                self._download(target_path, folder)
            except exceptions.RepositoryError as error:
                if "is listed by no role" in str(error):
                    self._is_fresh = True
                    return None
                if target_path not in self._repository.target_files:
                    raise
        self._is_fresh = True
        del tracker.targets[targets:]
        info = self._repository.target_files[target_path].target_file
        return info

    def find_cached_target(self, targetinfo, filepath=None):
        filepath = filepath or os.path.join(self._target_dir, parse.quote(targetinfo.path, ""))
        try:
            with open(filepath, "rb") as file:
                targetinfo.verify_length_and_hashes(file.read())
        except (OSError, exceptions.LengthOrHashMismatchError):
            return None
        return filepath

    def download_target(self, targetinfo, filepath=None, target_base_url=None):
        """Python-tuf's client always downloads here; the protocol's does not download what it has."""
        found = os.path.join(self._target_dir, parse.quote(targetinfo.path, ""))
        if os.path.exists(found):
            os.remove(found)
        self._download(targetinfo.path, self._target_dir)
        return filepath or found

    def _download(self, target_path, folder):
        paths = [target_path] if isinstance(target_path, str) else target_path
        urls = ["--metadata-url", BASE + "/metadata/", "--target-base-url", BASE + "/targets/"]
        self._checked(*urls, "--target-dir", folder, *(f"--target-name={path}" for path in paths), "download")

    def _checked(self, *arguments):
        result = self._run(*arguments)
        if result.returncode == 0:
            return
        name = re.search(r"\(\d+ ([a-z_]+)", result.stderr)
        raise EXCEPTIONS.get(name and name.group(1), exceptions.RepositoryError)(result.stderr)

    def _run(self, *arguments):
        SERVER.repository = self._repository
        tracker = self._repository.fetch_tracker
        before = len(tracker.metadata)
        # freezegun moves this process's clock; faketime the client's.
        is_frozen = abs(time.time() - freezegun.api.real_time()) > 60
        now = datetime.fromtimestamp(time.time(), timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        command = ["faketime", now] if is_frozen else []
        command += [CLIENT, "--metadata-dir", self._metadata_dir, *arguments]
        environment = {**os.environ, "TZ": "UTC"}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        if self._is_fresh:
            # One updater is one refresh; every run of the client is one more, which the tests do not know.
            again = [entry for entry in tracker.metadata[before:] if entry[0] not in ("root", "timestamp")]
            tracker.metadata[before:] = again
        return result


class LeaveOut:
    """A pytest plugin."""

    def pytest_collection_modifyitems(self, config, items):
        out = [item for item in items if item.name in LEFT_OUT]
        items[:] = [item for item in items if item.name not in LEFT_OUT]
        config.hook.pytest_deselected(items=out)
        for test in {item.cls for item in items}:
            for cases in vars(test).values():
                for case in LEFT_OUT_CASES:
                    if isinstance(cases, dict):
                        cases.pop(case, None)


def use_other_keys(generate):
    """Lets python-tuf's simulated repository, which makes Ed25519 keys, sign with keys of another kind."""
    # More keys than a test has, made once: an RSA key takes a while.
    keys = itertools.cycle([generate() for _ in range(32)])
    CryptoSigner.generate_ed25519 = staticmethod(lambda: next(keys))
    # The simulated repository signs a file whenever it is asked for and expects the same bytes; these schemes take random numbers.
    sign = CryptoSigner.sign
    CryptoSigner.sign = functools.cache(lambda signer, payload: sign(signer, payload))


tuf.ngclient.Updater = Updater
if KEYS != "ed25519":
    use_other_keys({"ecdsa": CryptoSigner.generate_ecdsa, "rsa": CryptoSigner.generate_rsa}[KEYS])
os.chdir(SUITE)
sys.path.insert(0, SUITE)
files = [*(f"tests/test_updater_{name}.py" for name in FILES), OURS]
options = ["-p", "no:cacheprovider", "-W", "ignore::pytest.PytestCollectionWarning", "--rootdir", SUITE]
sys.exit(pytest.main([*options, *sys.argv[4:], *files], plugins=[LeaveOut()]))
