"""Ingresses without workers: what is refused, queued or only kept needs none."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loopai.embedded.broker import Broker
from streams import connection
from tests.system import System
from workers import executor


@pytest.fixture
async def front(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> AsyncIterator[System]:
    """An ingress that no worker stands behind."""
    async with contextlib.AsyncExitStack() as stack:
        yield await System.started(stack, broker, bus, tmp_path / "data", pools=())


@pytest.fixture
async def worker(front: System) -> None:
    """An executor behind `front`: uploads are checked by one."""
    await front.start_pool(executor)


@pytest.fixture
async def other(
    front: System, broker: Broker, bus: connection.Connection, tmp_path: Path
) -> AsyncIterator[System]:
    """A second ingress on the same broker and store as `front`."""
    async with contextlib.AsyncExitStack() as stack:
        yield await System.started(stack, broker, bus, tmp_path / "data", pools=())
