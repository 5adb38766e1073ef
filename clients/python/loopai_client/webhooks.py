"""Signatures of webhooks, in the form of Standard Webhooks (https://www.standardwebhooks.com)."""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Final

TOLERANCE_S: Final = 300
"""A post older or newer than this may be one that somebody sends again."""


def verify_webhook(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Whether Loopai has signed *body*, the bytes as they came, within the last five minutes."""
    given = {name.lower(): value for name, value in headers.items()}
    sent_at = given.get("webhook-timestamp", "")
    if not (sent_at.isascii() and sent_at.isdecimal() and len(sent_at) <= len(str(2**63))):
        return False
    if abs(time.time() - int(sent_at)) > TOLERANCE_S:
        return False
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise ValueError("secret is not `whsec_` and base64: give it as Loopai did") from error
    signed = f"{given.get('webhook-id', '')}.{sent_at}.".encode() + body
    wanted = base64.b64encode(hmac.digest(key, signed, hashlib.sha256))
    return any(
        hmac.compare_digest(wanted, each.removeprefix("v1,").encode())
        for each in given.get("webhook-signature", "").split()
        if each.startswith("v1,")
    )
