"""Shells complete commands, options and, where an API answers, names of tasks."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Start
from tests.system import System

NOBODY = {"LOOPAI_URL": "http://127.0.0.1:9"}  # the discard port, where nothing listens
TAB = """\
eval "$(_LOOPAI_COMPLETE=source_bash loopai)"
COMP_WORDS=({words} "{begun}"); COMP_CWORD={at}
_loopai_completion loopai
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


async def tab(folder: Path, environment: dict[str, str], *words: str, begun: str = "") -> list[str]:
    """What bash offers behind *words* of a command line, of which *begun* is the last."""
    script = TAB.format(words=" ".join(words), begun=begun, at=len(words))
    shell = await asyncio.create_subprocess_exec(
        "bash",
        "--norc",
        "-c",
        script,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment, "PATH": f"{folder}:{os.environ['PATH']}"},
    )
    out, err = await asyncio.wait_for(shell.communicate(), 60)
    assert err == b""
    return out.decode().split()


@pytest.mark.parametrize(
    ("shell", "said"),
    [
        ("bash", "complete -o default -F _loopai_completion loopai"),
        ("zsh", "#compdef loopai"),
        ("fish", "complete --command loopai"),
    ],
)
async def test_each_shell_gets_its_script(loopai: Start, shell: str, said: str) -> None:
    """As `--install-completion` puts it where the shell looks."""
    command = await loopai(_LOOPAI_COMPLETE=f"source_{shell}")
    assert await command.ended() == 0
    assert said in command.stdout
    assert command.lines == []


async def test_names_of_tasks_are_offered(
    system: System, on_path: Path, at: dict[str, str]
) -> None:
    """Those that begin so, of the API that the environment or the line names."""
    for name in ("spam", "spoken", "grade"):
        await system.create(name)
    line = ("loopai", "queues", "--url", at["LOOPAI_URL"])
    for where, words, begun, names in (
        (at, ("loopai", "run"), "", ["grade", "spam", "spoken"]),
        (at, ("loopai", "task", "show"), "sp", ["spam", "spoken"]),
        (NOBODY, line, "g", ["grade"]),
    ):
        # Again, as people do: a busy machine may take longer than is waited for.
        for _ in range(5):
            offered = await tab(on_path, where, *words, begun=begun)
            if offered:
                break
        assert offered == names


async def test_nothing_is_said_where_nobody_answers(on_path: Path) -> None:
    """No names and no error; commands are offered all the same."""
    assert await tab(on_path, NOBODY, "loopai", "run") == []
    assert await tab(on_path, NOBODY, "loopai", begun="exec") == ["execution"]


async def test_the_key_of_the_line_is_the_one_that_asks(on_path: Path) -> None:
    """Where callers need one, names need it too."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = {"LOOPAI_URL": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}
        words = ("loopai", "--api-key", "lpk_a", "task", "show")
        assert await tab(on_path, url, *words) == []
    assert b"authorization: bearer lpk_a\r\n" in asked[0].lower()


async def test_an_api_that_hangs_is_not_waited_for(on_path: Path) -> None:
    """It takes connections and answers nothing: after a moment there are no names."""

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        url = {"LOOPAI_URL": f"http://127.0.0.1:{port}"}
        assert await tab(on_path, url, "loopai", "run") == []
