"""Reads an encrypted secret key as python-tuf's users would, signs with it, and prints its key id.

usage: read_key.py KEY.pem PASSPHRASE-FILE
"""

import pathlib
import sys

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

key_file, passphrase_file = map(pathlib.Path, sys.argv[1:])
passphrase = passphrase_file.read_bytes().splitlines()[0]
signer = CryptoSigner(load_pem_private_key(key_file.read_bytes(), passphrase))
signer.public_key.verify_signature(signer.sign(b"message"), b"message")
print(signer.public_key.keyid)
