"""A running stack to measure: real processes, one program that does next to nothing."""

import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from loopai.embedded.broker import Sync
from loopai.embedded.stack import Options, Stack

CODE = "def run(input):\n    return input['a'] + 1\n"
INPUT = {"a": 1}
TASK = "bench"
EXECUTE = f"/api/v1/tasks/{TASK}/execute"


@contextlib.asynccontextmanager
async def running(sync: Sync) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a fresh stack with an active program, on one warm connection."""
    async with stack(sync) as (_, http):
        yield http


@contextlib.asynccontextmanager
async def stack(sync: Sync, workers: int = 1) -> AsyncIterator[tuple[Stack, httpx.AsyncClient]]:
    """The same and the stack itself, with so many executors."""
    async with contextlib.AsyncExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="loopai-bench-"))
        options = Options(
            http="127.0.0.1:0", data_dir=Path(folder), nats_port=None, sync=sync, workers=workers
        )
        started = await opened.enter_async_context(Stack(options, lambda *_: None))
        http = await opened.enter_async_context(httpx.AsyncClient(base_url=started.url, timeout=60))
        task = {"name": TASK, "input_schema": {"type": "object"}}
        (await http.post("/api/v1/tasks", json=task)).raise_for_status()
        program = {"code": CODE, "activate": True}
        answer = await http.post(f"/api/v1/tasks/{TASK}/artifacts", json=program)
        answer.raise_for_status()
        for _ in range(50):
            (await http.post(EXECUTE, json={"input": INPUT})).raise_for_status()
        yield started, http
