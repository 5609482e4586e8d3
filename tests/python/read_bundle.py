"""Decrypts a bundle by the description of its index's format and with nothing of ours, and prints the SHA-256 of what it would be unencrypted.

usage: read_bundle.py INDEX BUNDLE CONTENT-KEY.jwk
"""

import base64
import hashlib
import json
import pathlib
import struct
import sys

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

index, bundle, key = (pathlib.Path(argument).read_bytes() for argument in sys.argv[1:])
jwk = json.loads(key)
assert (jwk["kty"], jwk["alg"]) == ("oct", "A256GCM")
cipher = AESGCM(base64.urlsafe_b64decode(jwk["k"] + "="))
magic, version, method, rows = struct.unpack_from("<4sHHI", index)
assert (magic, version, method) == (b"SWBX", 1, 1)
plain, offset = hashlib.sha256(), 0
for number in range(rows):
    (stored,) = struct.unpack_from("<I", index, 96 + 73 * number)
    plain.update(cipher.decrypt(number.to_bytes(12, "big"), bundle[offset : offset + stored], None))
    offset += stored
assert offset == len(bundle)
print(plain.hexdigest())
