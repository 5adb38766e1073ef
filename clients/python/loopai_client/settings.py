"""What a client is opened with."""

import os
from typing import Final

import msgspec

URL: Final = "http://127.0.0.1:8080"
"""Where `loopai dev` listens."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    api_key: str | None
    max_retries: int
    deadline_s: float
    grpc: str | None = None
    """Where the server has gRPC, as `host:port`; with https:// before it, over TLS."""


def settings(
    url: str | None,
    api_key: str | None,
    max_retries: int,
    deadline_s: float,
    grpc: str | None = None,
) -> Settings:
    """Settings with what the environment says where nothing is given. ValueError."""
    found = (url or os.environ.get("LOOPAI_URL") or URL).rstrip("/")
    if not found.startswith(("http://", "https://")):
        raise ValueError(f"url {found!r}: begin with http:// or https:// (or set LOOPAI_URL)")
    if max_retries < 0:
        raise ValueError(f"max_retries {max_retries}: 0 or more")
    if not deadline_s > 0:
        raise ValueError(f"deadline_s {deadline_s}: more than 0")
    return Settings(
        url=found,
        api_key=api_key or os.environ.get("LOOPAI_API_KEY") or None,
        max_retries=max_retries,
        deadline_s=deadline_s,
        grpc=grpc or None,
    )
