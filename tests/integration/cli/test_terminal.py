"""What only people see: how far something is, and the question before something is deleted."""

import asyncio
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system import System
from tests.wait import until
from workers import executor


class Terminal:
    """A `loopai …` whose stdin and stderr are a terminal, and whose stdout is a pipe."""

    def __init__(self, process: asyncio.subprocess.Process, end: int) -> None:
        self._process = process
        self._end = end
        self.shown = b""
        os.set_blocking(end, False)
        asyncio.get_running_loop().add_reader(end, self._read)

    def _read(self) -> None:
        try:
            self.shown += os.read(self._end, 65_536)
        except OSError:  # the other end is closed
            asyncio.get_running_loop().remove_reader(self._end)

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    async def ended(self) -> tuple[int | None, bytes]:
        out, _ = await asyncio.wait_for(self._process.communicate(), 60)
        asyncio.get_running_loop().remove_reader(self._end)
        os.close(self._end)
        return self._process.returncode, out


async def at_terminal(system: System, folder: Path, *arguments: str) -> Terminal:
    ours, theirs = pty.openpty()
    url = str(system.http.base_url).rstrip("/")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "loopai.cli.main",
        *arguments,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd=folder,
        env={**os.environ, "LOOPAI_URL": url, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    return Terminal(process, ours)


async def test_what_takes_long_shows_how_far_it_is(system: System, tmp_path: Path) -> None:
    """An execution that waits, and a batch: on the terminal only, results alone are in the pipe."""
    await system.create()
    await system.stop_pool(executor)
    asked = await system.http.post("/api/v1/tasks/upper/execute?wait=0", json={"input": "a"})
    waiting = await at_terminal(system, tmp_path, "execution", "wait", asked.json()["id"])
    await until(lambda: b"queued" in waiting.shown, within_s=60)
    await system.start_pool(executor)
    assert await waiting.ended() == (0, b'"A"\n')

    (tmp_path / "items").write_bytes(b'{"input":"a"}\n' * 3_000)
    batch = await at_terminal(system, tmp_path, "batch", "upper", "items")
    code, out = await batch.ended()
    assert (code, out.count(b"\n")) == (0, 3_000)
    assert b"3,000 items: 3,000 succeeded, 0 failed" in batch.shown


@pytest.mark.parametrize(("answer", "code", "left"), [("y", 0, []), ("n", 1, ["upper"])])
async def test_a_person_is_asked_before_a_task_is_deleted(
    system: System, tmp_path: Path, answer: str, code: int, left: list[str]
) -> None:
    """Only yes deletes."""
    await system.create()
    asking = await at_terminal(system, tmp_path, "task", "delete", "upper")
    await until(lambda: b"Delete the task upper with all its versions?" in asking.shown, 60)
    asking.type(f"{answer}\n")
    assert (await asking.ended())[0] == code
    found = (await system.http.get("/api/v1/tasks")).json()["tasks"]
    assert [each["name"] for each in found] == left
