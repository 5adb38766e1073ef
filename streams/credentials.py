"""Who a process is to the broker: a creds file or an nkey, and whom it trusts with TLS.

nats-py would need the package `nkeys` for the first two; signing is all that it takes.
"""

import base64
import binascii
import re
import ssl
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

_USER: Final = 20 << 3
"""First byte of a user's public key, which reads as `U` in base32."""
_SEED: Final = bytes(((18 << 3) | (_USER >> 5), (_USER & 31) << 3))
"""First bytes of a user's seed, which read as `SU`."""
_SEED_BYTES: Final = 32
_BLOCK: Final = re.compile(r"-+BEGIN ([A-Z ]+)-+\s+(\S+)\s+-+END [A-Z ]+-+")


class BadCredentials(ValueError):  # noqa: N818 (it says what is the matter)
    """A file of credentials cannot be used; the message names it, and never a secret."""


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Paths of files; empty where there is none. A user and a password stand in the URL instead."""

    creds: str = ""
    """With a user's JWT and seed, as `nsc` writes it."""
    nkey: str = ""
    """With a user's seed alone."""
    ca: str = ""
    """With the certificates of those who may sign the broker's, for tls:// URLs."""

    def signer(self) -> "Signer | None":
        """What proves who this is; None where nothing is given. BadCredentials."""
        if self.creds:
            blocks = dict(_BLOCK.findall(_read(self.creds)))
            try:
                token, seed = blocks["NATS USER JWT"], blocks["USER NKEY SEED"]
            except KeyError as error:
                raise BadCredentials(f"{self.creds}: no block {error} in it") from error
            return Signer(seed, self.creds, jwt=token)
        if self.nkey:
            return Signer(_read(self.nkey).strip(), self.nkey)
        return None

    def tls(self) -> ssl.SSLContext | None:
        """Trust `ca` rather than those whom the system trusts. BadCredentials."""
        if not self.ca:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise BadCredentials(f"{self.ca}: no certificates to be read: {error}") from error


class Signer:
    """A user's key pair, from its *seed*; *path* is where it was read."""

    def __init__(self, seed: str, path: str, *, jwt: str | None = None) -> None:
        self._key = ed25519.Ed25519PrivateKey.from_private_bytes(_raw(seed, path))
        self.jwt = jwt

    @property
    def public(self) -> str:
        """The public key as the broker's configuration has it: `U…`."""
        raw = self._key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        return encoded(bytes((_USER,)) + raw)

    def sign(self, nonce: str) -> bytes:
        """The broker's *nonce*, signed, in base64."""
        return base64.b64encode(self._key.sign(nonce.encode()))


def encoded(raw: bytes) -> str:
    """*raw* with its checksum, in base32, as nkeys are written."""
    checksum = binascii.crc_hqx(raw, 0).to_bytes(2, "little")
    return base64.b32encode(raw + checksum).decode().rstrip("=")


def seed(raw: bytes) -> str:
    """The 32 bytes *raw* as a user's seed: `SU…`."""
    return encoded(_SEED + raw)


def _raw(text: str, path: str) -> bytes:
    try:
        known = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        known = b""
    body, checksum = known[:-2], known[-2:]
    if (
        len(body) != len(_SEED) + _SEED_BYTES
        or not body.startswith(_SEED)
        or binascii.crc_hqx(body, 0).to_bytes(2, "little") != checksum
    ):
        raise BadCredentials(f"{path}: no seed of a user in it; expected 58 characters from SU… on")
    return body[len(_SEED) :]


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadCredentials(f"{path}: cannot be read: {error}") from error
