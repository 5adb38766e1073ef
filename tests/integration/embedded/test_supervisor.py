"""Children come and go: real processes, written into a folder of the test."""

import asyncio
import os
import signal
import socket

import pytest

from loopai import errors
from loopai.embedded import broker, program, supervisor

WAIT_S = 10.0

LIVES = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("drained", flush=True), sys.exit(0)))
print("up", flush=True)
time.sleep(60)
"""
FAILS = """
import sys
print("warming up")
sys.exit("error: nothing to stand on")
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""
NOISY = """
import sys, time
sys.stdout.write("x" * 3_000_000 + "\\n")
sys.stdout.buffer.write(b"caf\\xe9\\n\\n")
print("up", flush=True)
time.sleep(60)
"""


class Heard:
    """What was said, and a way to wait for a line."""

    def __init__(self):
        self.lines = []
        self._more = asyncio.Event()

    def say(self, name, text):
        self.lines.append((name, text))
        self._more.set()

    async def line(self, name, text, times=1):
        """Return when *name* has said a line with *text* so many *times*."""
        async with asyncio.timeout(WAIT_S):
            while sum(each == name and text in line for each, line in self.lines) < times:
                self._more.clear()
                await self._more.wait()


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def child(tmp_path, heard):
    """Makes children out of the text of a program."""

    def make(name, text):
        (tmp_path / f"child_{name}.py").write_text(text)
        return program.Program(name, (f"child_{name}",), {"PYTHONPATH": str(tmp_path)}, heard.say)

    return make


async def test_a_child_that_does_not_start_says_why_once(heard, child):
    """Before `settle` the end of a child is a StartupError with its last line, and no restart."""
    group = supervisor.Supervisor(heard.say)
    await group.start(child("steady", LIVES), child("broken", FAILS))
    with pytest.raises(errors.StartupError, match=r"^broken did not start: nothing to stand on$"):
        await asyncio.wait_for(group.watch(), WAIT_S)
    await group.stop(WAIT_S)
    assert heard.lines.count(("broken", "warming up")) == 1


async def test_a_child_that_dies_later_is_started_again_and_said(heard, child):
    """After `settle` a killed child comes back with another pid; the delay grows."""
    group = supervisor.Supervisor(heard.say)
    one = child("one", LIVES)
    await group.start(one)
    await heard.line("one", "up")
    group.settle()
    first = one.pid
    os.kill(first, signal.SIGKILL)
    await heard.line("loopai", "one ended (killed by SIGKILL); it starts again in 0.5 s")
    await heard.line("one", "up", times=2)
    assert one.pid != first
    os.kill(one.pid, signal.SIGKILL)
    await heard.line("loopai", "one ended (killed by SIGKILL); it starts again in 1 s")
    await heard.line("one", "up", times=3)
    await group.stop(WAIT_S)


async def test_groups_stop_in_reverse_order_and_drain(heard, child):
    """What was started last has drained before what it stands on is told to stop."""
    group = supervisor.Supervisor(heard.say)
    await group.start(child("base", LIVES))
    await group.start(child("left", LIVES), child("right", LIVES))
    await group.start(child("top", LIVES))
    for name in ("base", "left", "right", "top"):
        await heard.line(name, "up")
    await group.stop(WAIT_S)
    drained = [name for name, text in heard.lines if text == "drained"]
    assert (drained[0], {*drained[1:3]}, drained[3]) == ("top", {"left", "right"}, "base")


async def test_what_ignores_sigterm_is_killed_after_its_grace(heard, child):
    """A stop is bounded."""
    group = supervisor.Supervisor(heard.say)
    stubborn = child("stubborn", STUBBORN)
    await group.start(stubborn)
    await heard.line("stubborn", "up")
    await group.stop(0.1)
    assert await stubborn.exited() == -signal.SIGKILL


async def test_kill_cuts_a_stop_short(heard, child):
    """The second Ctrl-C need not wait for anybody's grace."""
    group = supervisor.Supervisor(heard.say)
    await group.start(child("stubborn", STUBBORN))
    await heard.line("stubborn", "up")
    stopping = asyncio.create_task(group.stop(60))
    await asyncio.sleep(0)
    group.kill()
    await asyncio.wait_for(stopping, WAIT_S)


async def test_odd_output_is_passed_on_without_harm(heard, child):
    """A line over the limit, bytes that are not UTF-8 and empty lines stop nothing."""
    group = supervisor.Supervisor(heard.say)
    await group.start(child("noisy", NOISY))
    await heard.line("noisy", "up")
    await group.stop(WAIT_S)
    texts = [text for _, text in heard.lines]
    assert "caf\ufffd" in texts
    assert "" not in texts
    assert max(map(len, texts)) < program.LINE_BYTES_MAX


async def test_a_cancelled_stop_can_be_finished_by_another(heard, child):
    """After a stop that was cut off, `kill` and one more stop leave nobody running."""
    group = supervisor.Supervisor(heard.say)
    stubborn = child("stubborn", STUBBORN)
    await group.start(stubborn)
    await heard.line("stubborn", "up")
    stopping = asyncio.create_task(group.stop(60))
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait({stopping})
    assert stopping.cancelled()
    group.kill()
    await asyncio.wait_for(group.stop(60), WAIT_S)
    assert await stubborn.exited() == -signal.SIGKILL


async def test_a_child_that_nobody_listens_to_is_not_stopped_by_that(tmp_path):
    """Where the output of all was a pipe that is closed, the child still writes what it likes."""

    def say(_name, _text):
        raise BrokenPipeError

    (tmp_path / "chatty.py").write_text("for _ in range(10_000):\n    print('x' * 100)\n")
    chatty = program.Program("chatty", ("chatty",), {"PYTHONPATH": str(tmp_path)}, say)
    await chatty.start()
    assert await asyncio.wait_for(chatty.exited(), WAIT_S) == 0


async def test_a_signal_without_a_name_is_told_by_its_number(heard, child):
    """Most real-time signals have none."""
    group = supervisor.Supervisor(heard.say)
    one = child("one", LIVES)
    await group.start(one)
    await heard.line("one", "up")
    group.settle()
    os.kill(one.pid, signal.SIGRTMIN + 1)
    await heard.line("loopai", f"one ended (killed by signal {signal.SIGRTMIN + 1}); it starts")
    await heard.line("one", "up", times=2)
    await group.stop(WAIT_S)


async def test_a_restart_that_fails_is_said_and_tried_again(heard, tmp_path):
    """With the reason, and without a word about an end that there was not."""
    server = broker.Broker(tmp_path / "store")
    group = supervisor.Supervisor(heard.say)
    await group.start(server)
    group.settle()
    with socket.create_server((broker.HOST, 0)) as taken:
        server.port = taken.getsockname()[1]
        server.kill()
        await heard.line("loopai", "--nats-port; it is tried again in 1 s")
    await group.stop(WAIT_S)
    assert [text for _, text in heard.lines if "exit code" in text] == []
