"""UUIDv7 (RFC 9562, section 5.7): ids that sort by time and tell when to look for them."""

import os
import time
import uuid


def new() -> str:
    """A UUIDv7 of now."""
    return at(time.time_ns() // 1_000_000, os.urandom(10))


def at(unix_ms: int, randomness: bytes) -> str:
    """The UUIDv7 of *unix_ms* with 10 bytes of *randomness* (74 bits of it are used)."""
    value = (unix_ms & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(randomness)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def unix_ms(identifier: str) -> int:
    """The time in *identifier*, a UUIDv7. ValueError when it is anything else."""
    parsed = uuid.UUID(identifier)
    if parsed.version != 7:  # noqa: PLR2004
        raise ValueError(f"not a UUIDv7: {identifier}")
    return parsed.int >> 80
