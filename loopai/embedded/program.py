"""One of our own programs as a child process, with its output handed on line by line."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Final

from loopai.embedded import process

LINE_BYTES_MAX: Final = 1024 * 1024
OUTPUT_END_S_MAX: Final = 1.0
"""How long output may still come after the process has ended: a grandchild may hold the pipe."""

Say = Callable[[str, str], None]
"""Takes the name of who speaks and one line of text."""


class Program:
    """`python -m` of *module*, startable again after it ended. Output goes to *say*."""

    def __init__(
        self, name: str, module: tuple[str, ...], environment: Mapping[str, str], say: Say
    ) -> None:
        self.name = name
        self.reason = "it gave no reason"
        """The last line of its output: where it did not start, what is wrong."""
        self._module = module
        self._environment = environment
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the latest start."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        # -P keeps the working directory off sys.path: it may hold a folder called `workers`.
        # A session of its own keeps Ctrl-C at the terminal from reaching it before its turn.
        self._process = subprocess.Popen(  # noqa: ASYNC220 (a fork takes about a millisecond)
            [sys.executable, "-P", "-m", *self._module],
            env={**os.environ, "PYTHONUNBUFFERED": "1", **self._environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=process.dies_with_parent(),  # noqa: PLW1509 (it only calls prctl)
        )
        self._reading = asyncio.create_task(self._read(self._process))

    async def exited(self) -> int:
        """Wait until it ends and its output is read; the exit status, negative for a signal."""
        if self._process is None or self._reading is None:
            return 0
        status = await process.exited(self._process)
        await asyncio.wait({self._reading}, timeout=OUTPUT_END_S_MAX)
        self._reading.cancel()
        return status

    async def stop(self, grace_s: float) -> None:
        if self._process:
            await process.stop(self._process, grace_s)
            await self.exited()

    def kill(self) -> None:
        if self._process:
            self._process.kill()

    async def _read(self, child: subprocess.Popen[bytes]) -> None:
        assert child.stdout is not None  # noqa: S101 (it was opened as a pipe)
        reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), child.stdout
        )
        try:
            while line := await _line(reader):
                if text := line.decode(errors="replace").rstrip():
                    self.reason = text.removeprefix("error: ")
                    # With nobody to say it to, read on: a full pipe would stop the child.
                    with contextlib.suppress(OSError):
                        self._say(self.name, text)
        finally:
            transport.close()


async def _line(reader: asyncio.StreamReader) -> bytes:
    """The next line with its end; b"" at the end of the output."""
    try:
        return await reader.readline()
    except ValueError:
        return b"(a line over the limit is left out)\n"
