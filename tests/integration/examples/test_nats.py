"""The examples for NATS print what they say, run as their readers run them."""

import asyncio
import shutil
import sys
from pathlib import Path

import pytest

from streams import replay
from tests.system import System
from workers import gateway

EXAMPLES = Path(__file__).parents[3] / "examples" / "nats"

node = pytest.mark.skipif(
    shutil.which("node") is None or not (EXAMPLES / "node_modules").is_dir(),
    reason="needs node, and `npm install` in examples/nats",
)
nats = pytest.mark.skipif(shutil.which("nats") is None, reason="needs the `nats` command")
COMMANDS = [
    pytest.param(sys.executable, "py", id="python"),
    pytest.param("node", "mjs", id="javascript", marks=node),
    pytest.param("sh", "sh", id="nats", marks=nats),
]


async def run(system: System, command: str, name: str, task: str) -> tuple[int, str, str]:
    """Exit code, output and errors of an example, called with the input "hello"."""
    process = await asyncio.create_subprocess_exec(
        command,
        str(EXAMPLES / name),
        task,
        '"hello"',
        system.broker.url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    return process.returncode or 0, output.decode().strip(), errors.decode().strip()


@pytest.mark.parametrize(("command", "ending"), COMMANDS)
async def test_a_call_prints_its_result(system: System, command: str, ending: str) -> None:
    """Of a task with a dot in its name; an error is told, too."""
    await system.start_pool(gateway)
    await system.create("to.upper")

    code, output, errors = await run(system, command, f"call.{ending}", "to.upper")
    assert (code, errors) == (0, "")
    assert "HELLO" in output
    code, output, errors = await run(system, command, f"call.{ending}", "nobody")
    assert "TASK_NOT_FOUND" in output + errors


@pytest.mark.parametrize(("command", "ending"), COMMANDS)
async def test_a_publish_is_stored_and_recorded(system: System, command: str, ending: str) -> None:
    """With the acknowledgement of the stream; in Python and JavaScript with the answer."""
    await system.create()

    code, output, errors = await run(system, command, f"publish.{ending}", "upper")

    assert code == 0, errors
    assert "EXECUTE" in output + errors
    if ending != "sh":
        assert output == 'success "HELLO"'
        (record,) = [r async for r in replay.records(system.bus, tenant="default")]
        assert record.id in errors
