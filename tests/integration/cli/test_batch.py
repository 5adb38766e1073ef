"""`loopai batch`: lines in and lines out at the same time, whatever becomes of them."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from loopai.embedded.broker import Broker
from streams import connection
from tests.integration.cli.conftest import Start
from tests.system import System

HALF = "def run(input):\n    return 10 // input\n"
BEGUN = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_results_come_while_items_are_still_written(
    loopai: Start, at: dict[str, str], system: System
) -> None:
    """Then Ctrl-C: 130 at once though stdin is open, with how many there are."""
    await system.create()
    command = await loopai("batch", "upper", "-", **at)
    for number in range(3):
        await command.write(b'{"input": "a%d"}\n' % number)
        assert f'"output":"A{number}"' in await command.out('"id"')
    command.signal(signal.SIGINT)
    command.lines.clear()
    assert await command.ended() == 130
    assert command.lines == [
        "3 results were printed; what had been sent may still run, the rest does not"
    ]


async def test_many_items_keep_their_order_and_their_names(
    loopai: Start, at: dict[str, str], system: System, tmp_path: Path
) -> None:
    """More than are on their way at once; what failed and what is no item is told by its line."""
    await system.create("half", HALF, input_schema={}, output_schema={})
    lines = [b'{"input":%d}' % (number % 9) for number in range(5_000)]
    lines[4_500] = b"nope"
    (tmp_path / "items").write_bytes(b"\n".join(lines))
    command = await loopai("batch", "half", "items", "--concurrency", "1000", **at)
    assert await command.ended() == 1
    results = [msgspec.json.decode(line) for line in command.stdout.splitlines()]
    assert [each["id"] for each in results] == [str(number) for number in range(1, 5_001)]
    assert results[4_500]["error_message"].startswith("line 4501: ")
    failed = sum(each["status"] != "success" for each in results)
    assert failed > 500
    assert f"5,000 items: {5_000 - failed:,} succeeded, {failed} failed, in " in command.lines[0]
    assert command.lines[1:] == [f"error: {failed} of 5000 items failed"]


async def test_the_first_error_stops_it(
    loopai: Start, at: dict[str, str], system: System, tmp_path: Path
) -> None:
    """What was not sent by then is not run; the summary is the last line of `--json`."""
    await system.create("half", HALF, input_schema={}, output_schema={})
    (tmp_path / "items").write_bytes(b'{"input":0}\n' * 100)
    command = await loopai(
        "batch", "half", "items", "--stop-on-first-error", "--concurrency", "1", "--json", **at
    )
    assert await command.ended() == 1
    *results, last = [msgspec.json.decode(line) for line in command.stdout.splitlines()]
    assert last["summary"]["total"] == len(results) == 100
    assert {each["status"] for each in results} == {"error", "cancelled"}


async def test_items_that_do_not_come_end_it(
    loopai: Start, broker: Broker, bus: connection.Connection, tmp_path: Path
) -> None:
    """The server says why, and what there was is told."""
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(stack, broker, bus, tmp_path / "data", batch_idle_s=1)
        await system.create()
        url = str(system.http.base_url).rstrip("/")
        command = await loopai("batch", "upper", "-", LOOPAI_URL=url)
        await command.write(b'{"input": "a"}\n')
        await command.line("error: ")
    assert command.lines[0].startswith("1 items: 1 succeeded, 0 failed, in ")
    said = "error: INPUT_IDLE: no item came for 1 s; 1 results were printed"
    assert command.lines[1:] == [said]


async def test_what_cannot_be_done_is_one_line(
    loopai: Start, at: dict[str, str], system: System, tmp_path: Path
) -> None:
    """Nothing on stdout, also where the server answers before it has all."""
    await system.create()
    (tmp_path / "items").write_bytes(b'{"input":"a"}\n' * 10_000)
    nobody = "http://127.0.0.1:9"
    for arguments, status, message in (
        (("nobody", "items"), 1, "TASK_NOT_FOUND: "),
        (("upper", "items", "--version", "9"), 1, "ARTIFACT_NOT_FOUND: "),
        (("upper", "gone"), 2, "gone: No such file or directory"),
        (("upper", "."), 2, "the items cannot be read: Is a directory"),
        (("upper", "items", "--url", nobody), 1, f"no Loopai at {nobody};"),
        (("upper", "items", "--url", "ftp://x"), 1, "'ftp://x' is not a URL"),
    ):
        command = await loopai("batch", *arguments, **at)
        assert await command.ended() == status, command.lines
        assert command.stdout == ""
        [line] = command.lines
        assert line.startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (BEGUN + b'a\r\n{"id":"1"}\r\n', "the answer broke off; 0 results were printed"),
        (BEGUN + b'b\r\n{"id":"1"}\n\r\n', "the answer broke off; 1 results were printed"),
        (BEGUN + b'e\r\n{"summary":0}\n\r\n0\r\n\r\n', "the server's answer is not Loopai's: "),
        (b"hello\r\n\r\n", "the server's answer is not Loopai's: "),
        (b"HTTP/1.1 502 No\r\nContent-Length: 2\r\n\r\nno", "the server answered 502, and not as"),
        (b"", "the answer broke off; 0 results were printed"),
    ],
)
async def test_an_answer_that_breaks_off_is_no_success(
    loopai: Start, tmp_path: Path, said: bytes, message: str
) -> None:
    """Also from what is not Loopai at all."""
    (tmp_path / "items").write_bytes(b'{"input":"a"}\n')
    async with answering(said) as url:
        command = await loopai("batch", "upper", "items", LOOPAI_URL=url)
        assert await command.ended() == 1
    assert command.lines[-1].startswith(f"error: {message}"), command.lines


@contextlib.asynccontextmanager
async def answering(said: bytes) -> AsyncIterator[str]:
    """The URL of a server that says this to everybody, and hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
