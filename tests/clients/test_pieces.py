"""What the Python client is made of: signatures, pauses, and the mirror of its two faces."""

import base64
import hashlib
import hmac
import importlib.util
import time
from pathlib import Path

import pytest
from loopai_client import errors, retries, verify_webhook

ROOT = Path(__file__).parents[2]
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
BODY = b'{"type":"webhook.ping"}'


def signed(at: float, secret: str = SECRET, body: bytes = BODY) -> dict[str, str]:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"id-1.{int(at)}.".encode() + body
    made = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return {
        "Webhook-Id": "id-1",
        "Webhook-Timestamp": str(int(at)),
        "Webhook-Signature": f"v1,AAAA v1,{made}",
    }


def test_a_signature_is_known():
    """Among several, and whatever the case of the headers."""
    assert verify_webhook(signed(time.time()), BODY, SECRET)


def test_what_is_not_signed_is_not_believed():
    """Another body, another time, another key, nothing, nonsense."""
    now = time.time()
    other = "whsec_" + base64.b64encode(b"x" * 32).decode()
    for headers, body in (
        (signed(now), BODY + b" "),
        (signed(now - 400), BODY),
        (signed(now + 400), BODY),
        (signed(now, other), BODY),
        ({}, BODY),
        ({**signed(now), "Webhook-Timestamp": "9" * 5000}, BODY),
        ({**signed(now), "Webhook-Timestamp": "²"}, BODY),
        ({**signed(now), "Webhook-Signature": "v1,é"}, BODY),
    ):
        assert not verify_webhook(headers, body, SECRET), headers


def test_a_secret_that_is_none_is_told():
    """A wrong setting is not taken for a forged post."""
    with pytest.raises(ValueError, match="whsec_"):
        verify_webhook(signed(time.time()), BODY, "whsec_?")


def test_pauses_grow_and_are_bounded():
    """Chosen between nothing and twice as much each time, eight seconds at most."""
    attempts = retries.Attempts(1_000, 1e9)
    pauses = [attempts.pause_s(errors.ConnectionFailed("x")) for _ in range(1_000)]
    for number, pause in enumerate(pauses[:10]):
        assert 0 <= pause <= min(8, 0.25 * 2**number)
    assert max(pauses) > 7
    assert min(pauses[10:]) < 1


@pytest.mark.parametrize("header", [None, "", "soon", "-1", "1.5"])
def test_a_retry_after_that_says_nothing_is_none(header):
    """Then the client chooses its own pause."""
    assert retries.retry_after_s(header) is None


def test_both_faces_are_one():
    """`blocking` is what `mirror.py` makes of `aio`; run it after a change there."""
    path = ROOT / "clients" / "python" / "mirror.py"
    spec = importlib.util.spec_from_file_location("mirror", path)
    assert spec is not None
    assert spec.loader is not None
    mirror = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mirror)
    assert mirror.stale() == []
