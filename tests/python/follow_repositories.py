"""Follows the two repositories of a running server with python-tuf's client, as anybody's TUF client would.

usage: follow_repositories.py ORDER.json

ORDER.json: {"server": URL, "folder": where the client keeps what it knows, "image_root" and "director_root": files of the first roots,
"vehicle": {"id", "key_id", "seed"}, "targets": [paths to download from the Image repository]}. Prints what was found as JSON.

The Image repository needs nothing but the client. The Director answers signed requests only (RFC 9421), so its client has a fetcher that
signs; all that it verifies is python-tuf's own.
"""

import base64
import hashlib
import json
import pathlib
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

# The server is on this machine, whatever proxy the environment names.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Fetcher(FetcherInterface):
    """Plain requests, signed when there is a vehicle to sign them."""

    def __init__(self, vehicle=None):
        self.vehicle = vehicle

    def _fetch(self, url):
        request = urllib.request.Request(url, headers=self.signature(url))
        try:
            with OPENER.open(request, timeout=120) as response:
                return iter([response.read()])
        except urllib.error.HTTPError as error:
            raise DownloadHTTPError(str(error), error.code) from error

    def signature(self, url):
        if self.vehicle is None:
            return {}
        target = urllib.parse.urlsplit(url).path
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self.vehicle["seed"]))
        parameters = (
            f'("@method" "@request-target");created={int(time.time())};keyid="{self.vehicle["key_id"]}"'
            ';alg="ed25519";tag="switchback-vehicle"'
        )
        base = f'"@method": GET\n"@request-target": {target}\n"@signature-params": {parameters}'
        signature = base64.b64encode(key.sign(base.encode())).decode()
        return {"Signature-Input": f"sig1={parameters}", "Signature": f"sig1=:{signature}:"}


def follow(folder, url, root, fetcher, target_url=None):
    """A client that knows only the first root, or what it found the last time, and comes up to date."""
    folder.mkdir(parents=True, exist_ok=True)
    files = folder / "targets"
    files.mkdir(exist_ok=True)
    bootstrap = pathlib.Path(root).read_bytes()
    updater = Updater(str(folder), url, str(files), target_url, fetcher=fetcher, bootstrap=bootstrap)
    updater.refresh()
    return updater


def versions(folder):
    return {role: Metadata.from_file(str(folder / f"{role}.json")).signed.version for role in ["root", "timestamp", "snapshot", "targets"]}


def image(order):
    folder, base = pathlib.Path(order["folder"]) / "image", order["server"] + "/v1/image/"
    updater = follow(folder, base + "metadata/", order["image_root"], Fetcher(), base + "targets/")
    found = {}
    for path in order["targets"]:
        info = updater.get_targetinfo(path)
        if info is None:
            raise SystemExit(f"{path} is not found along the delegations")
        data = pathlib.Path(updater.download_target(info)).read_bytes()
        found[path] = {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    unlisted = updater.get_targetinfo("ultra/nobody-lists-this.index")
    return {"versions": versions(folder), "targets": found, "unlisted": unlisted is not None}


def director(order):
    folder, vehicle = pathlib.Path(order["folder"]) / "director", order["vehicle"]
    url = f'{order["server"]}/v1/director/{vehicle["id"]}/metadata/'
    updater = follow(folder, url, order["director_root"], Fetcher(vehicle))
    targets = Metadata.from_file(str(folder / "targets.json")).signed
    found = {path: updater.get_targetinfo(path).hashes["sha256"] for path in targets.targets}
    return {"versions": versions(folder), "targets": found}


def main():
    order = json.loads(pathlib.Path(sys.argv[1]).read_text())
    print(json.dumps({"image": image(order), "director": director(order)}))


main()
