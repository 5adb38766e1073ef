"""UUIDv7 (RFC 9562, section 5.7): ids that sort by time and tell when to look for them."""

import os
import time
import uuid
from datetime import UTC, datetime
from typing import Final

_VERSION: Final = 7
_LAST_MS: Final = 253_402_300_799_999
"""The end of the year 9999: the last time that every library can tell."""


def new() -> str:
    """A UUIDv7 of now."""
    return at(time.time_ns() // 1_000_000, os.urandom(10))


def at(unix_ms: int, randomness: bytes) -> str:
    """The UUIDv7 of *unix_ms* with 10 bytes of *randomness* (74 bits of it are used)."""
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(randomness)
    value = value & ~(0xF << 76) | _VERSION << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def is_id(text: str) -> bool:
    """Whether *text* is a UUIDv7 of a time before the year 10000, in lower case with hyphens."""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        return False
    if parsed.version != _VERSION or str(parsed) != text:
        return False
    return parsed.int >> 80 <= _LAST_MS


def minted_ms(identifier: str) -> int:
    """The Unix time in ms of *identifier*, a UUIDv7."""
    return uuid.UUID(identifier).int >> 80


def minted_at(identifier: str) -> datetime:
    """The time of *identifier*, a UUIDv7."""
    return datetime.fromtimestamp(minted_ms(identifier) / 1000, UTC)
