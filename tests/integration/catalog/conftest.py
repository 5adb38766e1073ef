"""Places that a catalogue may keep its texts in, each a real one."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests import stores


@pytest.fixture
async def endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[stores.Endpoint]:
    """An S3 endpoint with an empty bucket, and the credentials for it."""
    stores.credentials(monkeypatch)
    async with stores.endpoint(tmp_path / "s3") as started:
        yield started


@pytest.fixture(params=["folder", "s3", "minio"])
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[stores.Place]:
    """Each kind of store in turn, empty."""
    stores.credentials(monkeypatch)
    async with contextlib.AsyncExitStack() as stack:
        match request.param:
            case "folder":
                yield stores.Place((tmp_path / "texts").as_uri())
            case "s3":
                started = await stack.enter_async_context(stores.endpoint(tmp_path / "s3"))
                yield stores.Place(started.store_url())
            case "minio":
                yield await stack.enter_async_context(stores.minio())
