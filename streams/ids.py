"""UUIDv7 (RFC 9562, section 5.7): ids that sort by time and tell when to look for them."""

import os
import re
import time
from datetime import UTC, datetime
from typing import Final

_YEAR_10000: Final = "e677d21f-dc00"
"""How ids of that time begin: later than every library can tell. Digits sort as numbers do."""


_VARIANTS: Final = {f"{digit:x}": "89ab"[digit & 3] for digit in range(16)}
_UUID7: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII
)


def new() -> str:
    """A UUIDv7 of now."""
    return at(time.time_ns() // 1_000_000, os.urandom(10))


def at(unix_ms: int, randomness: bytes) -> str:
    """The UUIDv7 of *unix_ms* with 10 bytes of *randomness* (74 bits of it are used)."""
    # Digits, not the bits of one large number: that takes half the time.
    moment, rest = f"{unix_ms:012x}", randomness.hex()
    variant = "89ab"[randomness[2] >> 4 & 3]
    return f"{moment[:8]}-{moment[8:]}-7{rest[1:4]}-{variant}{rest[5:8]}-{rest[8:]}"


def several(unix_ms: int, count: int) -> list[str]:
    """*count* UUIDv7 of *unix_ms*: half the time of `at` for each, and one call of the kernel."""
    digits = os.urandom(10 * count).hex()
    moment = f"{unix_ms:012x}"
    head = f"{moment[:8]}-{moment[8:]}-7"
    return [
        f"{head}{digits[at + 1 : at + 4]}-{_VARIANTS[digits[at + 4]]}{digits[at + 5 : at + 8]}"
        f"-{digits[at + 8 : at + 20]}"
        for at in range(0, 20 * count, 20)
    ]


def is_id(text: str) -> bool:
    """Whether *text* is a UUIDv7 of a time before the year 10000, in lower case with hyphens."""
    return _UUID7.fullmatch(text) is not None and text < _YEAR_10000


def minted_ms(identifier: str) -> int:
    """The Unix time in ms of *identifier*, a UUIDv7."""
    return int(identifier[:8] + identifier[9:13], 16)


def minted_at(identifier: str) -> datetime:
    """The time of *identifier*, a UUIDv7."""
    return datetime.fromtimestamp(minted_ms(identifier) / 1000, UTC)
