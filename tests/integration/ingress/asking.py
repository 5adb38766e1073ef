"""Ingresses that ask who their callers are, and callers with keys of their own."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx

from streams.messages import ApiKey
from tests.system import System


async def key_for(
    system: System, *scopes: str, tenant: str = "default", **fields: Any
) -> tuple[ApiKey, dict[str, str]]:
    """A key of *scopes*, and the header that has it."""
    made, secret = await system.services.keys.create(
        tenant=tenant,
        name="test-key",
        scopes=scopes,
        created_by="test",
        now=datetime.now(UTC),
        **fields,
    )
    return made, {"Authorization": f"Bearer {secret}"}


@contextlib.asynccontextmanager
async def calling(system: System, *scopes: str, **fields: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of *system* with a key of its own."""
    _, headers = await key_for(system, *scopes, **fields)
    url = system.http.base_url
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        yield client
