"""Signatures in the form of Standard Webhooks (https://www.standardwebhooks.com), symmetric v1."""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
KEY_BYTES: Final = 32
KEY_BYTES_LEAST, KEY_BYTES_MOST = 24, 64
"""What Standard Webhooks asks of a key."""


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def is_secret(text: str) -> bool:
    try:
        key = _key(text)
    except ValueError:
        return False
    return text.startswith(PREFIX) and KEY_BYTES_LEAST <= len(key) <= KEY_BYTES_MOST


def headers(keys: Sequence[str], delivery_id: str, unix_s: int, body: bytes) -> dict[str, str]:
    """What a post of *body* is signed with: one signature for each of *keys*."""
    signed = f"{delivery_id}.{unix_s}.".encode() + body
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(unix_s),
        "webhook-signature": " ".join(f"v1,{_signature(key, signed)}" for key in keys),
    }


def _signature(secret: str, signed: bytes) -> str:
    return base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
