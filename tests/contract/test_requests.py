"""schemathesis asks everything that /openapi.json allows, and much that it does not."""

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from loopai.embedded.broker import Broker
from streams import connection
from tests.system import System
from workers import executor, generator, recorder

HERE = Path(__file__).parent
REQUESTS_LEAST = 5_000
EXAMPLES = 95
"""For each of some forty operations, beside what covers each limit of its schema."""
TIME_S = 600
"""Longest run, on a busy machine; four minutes where there is nothing else to do."""
_COUNT = re.compile(r"^loopai_http_requests_total\{.*\} ([0-9.e+]+)$", re.MULTILINE)
_FAILED = re.compile(r'^loopai_http_requests_total\{.*status="500"\} .*$', re.MULTILINE)


@pytest.fixture
async def whole(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> AsyncIterator[System]:
    """Everything, with a short patience: many requests ask to wait for what will not come.

    It asks who one is, and `http` says an admin. Nobody posts to webhooks: their URLs are made up.
    """
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(
            stack,
            broker,
            bus,
            tmp_path / "data",
            pools=(executor, generator, recorder),
            timeout_ms=1_000,
            timeout_ms_max=2_000,
            run_ms_max=500,
            admit_ms_max=2_000,
            auth="required",
        )
        _, key = await system.services.keys.create(
            tenant="default",
            name="contract",
            scopes=("admin",),
            created_by="test",
            now=datetime.now(UTC),
        )
        system.http.headers["Authorization"] = f"Bearer {key}"
        yield system


@pytest.mark.timeout(TIME_S + 60)
async def test_no_request_gets_what_is_not_described(whole: System, tmp_path: Path) -> None:
    """No 5xx but the described, no status, header or body that the document does not have.

    What is asked once more without a credential, or with another one, gets 401.
    """
    await whole.create("tickets")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "schemathesis.cli",
        "--config-file",
        str(HERE / "schemathesis.toml"),
        "run",
        f"{whole.http.base_url}/openapi.json",
        "--checks=all",
        "--mode=all",
        f"--max-examples={EXAMPLES}",
        "--phases=examples,coverage,fuzzing,stateful",
        "--continue-on-failure",
        "--seed=1",
        "--request-timeout=30",
        "--suppress-health-check=all",
        "--warnings=off",
        "--no-color",
        f"--header=Authorization: {whole.http.headers['Authorization']}",
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(TIME_S):
        said, _ = await process.communicate()
    metrics = (await whole.http.get("/metrics")).text
    assert process.returncode == 0, said.decode()
    assert _FAILED.findall(metrics) == []
    assert 'status="401"' in metrics
    assert sum(map(float, _COUNT.findall(metrics))) >= REQUESTS_LEAST, said.decode()
