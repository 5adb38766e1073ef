"""Whole commands as processes, followed line by line."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

LINE_S = 60.0
"""Longest wait for a line; a busy machine may take many times as long as an idle one."""


class Command:
    """A running `loopai …`. `stop` it, or see it end."""

    def __init__(self, process):
        self._process = process
        self.pid = process.pid
        self.lines = []
        self.stdout = ""

    async def line(self, text):
        """Read on until a line of stderr holds *text*, and return it."""
        return await self._until(self._process.stderr, text)

    async def out(self, text):
        """The same for stdout."""
        return await self._until(self._process.stdout, text)

    async def _until(self, stream, text):
        async with asyncio.timeout(LINE_S):
            while raw := await stream.readline():
                self.lines.append(raw.decode().rstrip())
                if text in self.lines[-1]:
                    return self.lines[-1]
        self.lines += (await self._process.stderr.read()).decode().splitlines()
        raise AssertionError(f"no line with {text!r} in {self.lines}")

    async def write(self, content):
        """Give *content* to its stdin, which stays open."""
        self._process.stdin.write(content)
        await self._process.stdin.drain()

    def signal(self, number):
        self._process.send_signal(number)

    async def ended(self, stdin=b""):
        """Exit status, once it has ended; its output is then in `stdout` and `lines`."""
        async with asyncio.timeout(LINE_S):
            out, err = await self._process.communicate(stdin)
        self.stdout = out.decode()
        self.lines += err.decode().splitlines()
        return self._process.returncode

    def children(self):
        """Process ids of its children by the last words of their command lines.

        A second one of the same word has its number behind it.
        """
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        text = listed.read_text() if listed.exists() else ""
        found = {}
        for pid in map(int, text.split()):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            word = Path(words[0]).name if "-m" not in words else words[-2]
            found[f"{word} {pid}" if word in found else word] = pid
        return found


@pytest.fixture
async def loopai(tmp_path):
    """Starts `loopai …` in a folder of the test; everything ends with the test."""
    started = []
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    async def start(*arguments, **environment):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "loopai.cli.main",
            *arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(temporary), **environment},
        )
        started.append(process)
        return Command(process)

    yield start
    for process in started:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.communicate()


async def gone(pid):
    """Return when the process *pid*, which need not be a child of this one, has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, over.set)
    try:
        await asyncio.wait_for(over.wait(), LINE_S)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


@pytest.fixture
def has_ended():
    return gone
