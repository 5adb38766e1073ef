"""Load by wrk: one thread, keep-alive, the next request after each answer or at a rate."""

import asyncio
import shutil
from pathlib import Path

import msgspec

from bench import report

SCRIPT = Path(__file__).with_name("execute.lua")
BODY = b'{"input": {"a": 1}}'
"""What the script sends."""
REQUEST_S_MAX = 10
EXIT_S_MAX = 30.0
"""How much longer than its load wrk may take."""


class Load(msgspec.Struct, frozen=True):
    requests: int
    duration_us: int
    p50_us: int
    p99_us: int
    refused: int
    """Answers with a status of 400 and above."""
    broken: int
    """Connections, reads and writes that failed, and requests over REQUEST_S_MAX."""

    @property
    def rate(self) -> float:
        return self.requests / (self.duration_us / 1e6)


def find() -> str:
    """The path of wrk. Unavailable says how to install it."""
    found = shutil.which("wrk")
    if found is None:
        raise report.Unavailable("wrk is not installed: apt-get install redis-server wrk")
    return found


async def run(url: str, connections: int, seconds: int, **arguments: float) -> Load:
    """Load *url*; *arguments* are those of the script."""
    command = [find(), "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={REQUEST_S_MAX}s"]
    command += [f"--script={SCRIPT}", url, "--"]
    command += [f"{name}={value:.0f}" for name, value in arguments.items()]
    started = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(seconds + EXIT_S_MAX):
            output, _ = await started.communicate()
    except BaseException:
        started.kill()
        raise
    if started.returncode:
        raise RuntimeError(f"wrk failed: {output.decode(errors='replace')}")
    # Its own summary comes first.
    return msgspec.json.decode(output.splitlines()[-1], type=Load)
